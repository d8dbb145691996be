"""Live recognition: a final text is that of its segment's audio, however the stream comes.

The detectors are scripts, whose spans are known, and released VADs, whose segments are those of
`VoiceActivity.segments`; the texts are those of the models on the audio that lies in the segments.
"""

from __future__ import annotations

import itertools
import json
import pickle

import numpy as np
import pytest
import torch

from paraformer.api.auto import AutoModel
from paraformer.api.live import LivePipeline, LiveSession, _timed
from paraformer.data.audio.read import read_audio
from paraformer.decode.endpoint import OPEN, Span
from paraformer.decode.itn import shared_numerals
from paraformer.decode.pool import Done
from paraformer.decode.punctuate import Punctuator
from paraformer.decode.recognize import Reading, Recognizer
from paraformer.decode.streaming import Chunking, StreamingRecognizer, Token
from paraformer.decode.text import join_texts
from paraformer.decode.vad import LIVE_SCHEDULE, VoiceActivity
from paraformer.errors import AudioError, ConfigError
from paraformer.models.release import load_directory, load_punctuation, load_vad, save_directory
from paraformer.nn.chunks import streaming_rule
from tests import tiny
from tests.conftest import ROOT, SHARED, needs_shared

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
RATE = 16000
ONLINE = {"decoder_conf": {"sanm_shfit": 2}}
# The second begins where the first ends, the last is open when the stream ends.
SPANS = [(410, 2500), (2500, 3910), (4900, 8200), (9000, 99_000)]
SECONDS = 10
BLOCKS = [160, 1601, 9600, 16000 * 60]


class Script:
    """A detector that reports given spans, their begins and ends each so many ms too late."""

    def __init__(self, spans, late_start=300, late_end=900):
        self.spans, self.late = spans, (late_start, late_end)

    def initial_state(self):
        return 0  # samples heard

    def feed(self, samples, state, final=False, piece_ms=None):
        before, now = 1000 * state // RATE, 1000 * (state + len(samples)) // RATE
        found, ended = [], 0
        for start, end in self.spans:
            known, ended = max(start + self.late[0], ended), end + self.late[1]
            if before < known <= now:
                found.append(Span(start, OPEN))
            if before < ended <= now or (final and known <= now < ended):
                found.append(Span(OPEN, min(end, now)))
        return found, state + len(samples)


class Every:
    """A detector that hears a second of speech in every two, for ever."""

    def initial_state(self):
        return 0

    def feed(self, samples, state, final=False, piece_ms=None):
        now = state + len(samples)
        spans = Script([(n * 2000 + 100, n * 2000 + 1100) for n in (state // 32000, now // 32000)])
        return spans.feed(samples, state)[0] if len(samples) else [], now


def noise(seconds, seed=0):
    generator = torch.Generator().manual_seed(seed)
    size = round(seconds * RATE)
    loud = torch.rand(size // 1600 + 1, generator=generator).repeat_interleave(1600)[:size]
    return 0.3 * loud * torch.randn(size, generator=generator)


def cut(wave, start_ms, end_ms):
    return wave[start_ms * 16 : end_ms * 16]


def events(session, blocks):
    found = [event for block in blocks for event in session.feed(block)]
    return found + session.flush()


def finals(found):
    return [event for event in found if event.kind == "final"]


def shown(found):
    """What must not depend on how the audio came."""
    return [
        (e.start_ms, e.end_ms, e.text, [(t.text, t.start_ms, t.end_ms) for t in e.tokens])
        for e in finals(found)
    ]


@pytest.fixture(scope="module")
def recognizer():
    return StreamingRecognizer(tiny.release(ONLINE))


@pytest.fixture(scope="module")
def second():
    return Recognizer(tiny.release(seed=3))


@pytest.fixture(scope="module")
def punctuator():
    return Punctuator(load_punctuation(ORACLE / "ct_punc"))


@pytest.fixture(scope="module")
def wave():
    return noise(SECONDS)


def streamed(recognizer, wave, spans):
    """The model on the audio of each segment alone."""
    rows = []
    for start, end in spans:
        tokens, stream = recognizer.feed(recognizer.open(), cut(wave, start, end), final=True)
        times = [(t.text, t.start_ms + start, t.end_ms + start) for t in tokens]
        rows.append((start, end, stream.text.text, times))
    return rows


@pytest.mark.parametrize("chunking", [None, Chunking((5, 10, 5)), Chunking((0, 4, 0), 2, 0)])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_final_is_the_text_of_its_segment_alone(wave, chunking, block):
    model = StreamingRecognizer(tiny.release(ONLINE), chunking)
    expected = streamed(model, wave, [*SPANS[:-1], (9000, 10_000)])
    assert sum(len(tokens) for *_, tokens in expected) >= 2
    assert shown(events(LiveSession(model, Script(SPANS)), wave.split(block))) == expected


@pytest.mark.parametrize("late", [0, 60, 2000])
def test_how_late_an_end_is_known_does_not_matter(recognizer, wave, late):
    spans = [(500, 1700), (4000, 6010)]
    session = LiveSession(recognizer, Script(spans, late_end=late))
    assert shown(events(session, wave.split(800))) == streamed(recognizer, wave, spans)


def test_events_of_a_segment_come_in_order_and_grow(recognizer, wave):
    found = events(LiveSession(recognizer, Script(SPANS)), wave.split(1600))
    groups = [list(group) for _, group in itertools.groupby(found, key=lambda e: e.start_ms)]
    assert [group[0].start_ms for group in groups] == [start for start, _ in SPANS]
    for first, *partials, last in groups:
        assert (first.kind, last.kind) == ("start", "final")
        assert first.end_ms == first.start_ms
        assert {event.kind for event in partials} <= {"partial"}
        lengths = [len(event.tokens) for event in partials]
        assert lengths == sorted(set(lengths))
        for event in partials:
            assert event.tokens[-1].end_ms == event.end_ms
            assert event.tokens[0].start_ms >= event.start_ms
    assert sum(len(group) for group in groups) > 2 * len(groups)


def test_a_partial_comes_before_the_segment_has_ended(recognizer, wave):
    session = LiveSession(recognizer, Script(SPANS))
    assert "partial" in {event.kind for event in session.feed(wave[: 2400 * 16])}


def test_without_a_vad_the_stream_is_one_segment(recognizer, wave):
    (expected,) = streamed(recognizer, wave, [(0, SECONDS * 1000)])
    found = events(LiveSession(recognizer), wave.split(1000))
    assert shown(found) == [expected]
    assert [event.kind for event in found if event.kind != "partial"] == ["start", "final"]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_second_pass_writes_the_final_text(recognizer, second, wave, block):
    session = LiveSession(recognizer, Script(SPANS), second_pass=second)
    found = finals(events(session, wave.split(block)))
    waves = [cut(wave, start, end) for start, end in SPANS]
    best = [outcome.best for outcome in second.recognize(waves)]
    assert [event.text for event in found] == [reading.tight for reading in best]
    for event, reading in zip(found, best, strict=True):
        assert [token.text for token in event.tokens] == reading.tokens
        times = [t for token in event.tokens for t in (token.start_ms, token.end_ms)]
        assert times == sorted(times)
        assert not times or event.start_ms <= times[0] <= times[-1] <= event.end_ms


def test_a_segment_too_long_for_the_second_pass_is_read_in_parts(recognizer, second):
    """60 s is the most, as for recordings; the cut is where it is quietest."""
    loud = noise(70).sign() * 0.1
    loud[50 * RATE : 50 * RATE + 4800] = 0.0
    session = LiveSession(recognizer, second_pass=second)
    (found,) = finals(events(session, loud.split(16000)))
    frames = range(50_005, 50_300, 10)  # middles of those in the silence
    assert any(_is_cut(second, loud, ms, found.text) for ms in frames)
    assert not _is_cut(second, loud, 60_000, found.text)


def _is_cut(second, wave, ms, text):
    parts = second.recognize([wave[: ms * 16], wave[ms * 16 :]])
    return "".join(outcome.best.tight for outcome in parts) == text


def test_a_second_pass_that_fails_leaves_the_text_of_the_stream(
    recognizer, second, wave, monkeypatch, caplog
):
    fail = AudioError("no memory")
    monkeypatch.setattr(second, "stream", lambda jobs, _: (Done(j.payload, fail) for j in jobs))
    session = LiveSession(recognizer, Script(SPANS[:1]), second_pass=second)
    assert shown(events(session, [wave])) == streamed(recognizer, wave, SPANS[:1])
    assert "segment at 410 ms: no memory" in caplog.text


def test_times_of_the_second_pass_by_arithmetic():
    """b and e were heard, a lies before b, c and d share what lies between b and e."""
    heard = [Token("b", 200, 300, 0.5), Token("x", 350, 380, 0.5), Token("e", 500, 620, 0.5)]
    readings = [Reading([], ["a", "b", "c"], "", "", 0.0, [0.9, 0.8, 0.7])]
    readings.append(Reading([], ["d", "e", "f"], "", "", 0.0, [0.6, 0.5, 0.4]))
    tokens = _timed(readings, heard, Span(100, 700))
    spans = [(100, 200), (200, 300), (300, 400), (400, 500), (500, 620), (620, 700)]
    assert tokens == [
        Token(text, *span, c)
        for text, span, c in zip("abcdef", spans, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], strict=True)
    ]


@pytest.fixture(scope="module")
def exact():
    """A second pass that times its tokens, and hears hotwords."""
    return Recognizer(load_directory(ORACLE / "seaco"))


def test_a_second_pass_that_times_tokens_times_its_own(exact):
    stream = StreamingRecognizer(load_directory(ORACLE / "paraformer-streaming"))
    wave = read_audio(ORACLE / "inputs" / "clip_b.flac")
    spans = [(200, 900), (1100, 1000 * len(wave) // RATE)]
    session = LiveSession(stream, Script(spans), second_pass=exact)
    found = finals(events(session, wave.split(1600)))
    for event, (start, end) in zip(found, spans, strict=True):
        (outcome,) = exact.recognize([cut(wave, start, end)])
        expected = [[start + s, min(start + e, end)] for s, e in outcome.best.token_times]
        assert [[token.start_ms, token.end_ms] for token in event.tokens] == expected
        assert [token.text for token in event.tokens] == outcome.best.tokens
    assert sum(len(event.tokens) for event in found) > 5


def test_the_second_pass_hears_hotwords(exact):
    clip = str(ORACLE / "inputs" / "clip_a.flac")
    facts = json.loads((ORACLE / "seaco" / "expected.json").read_text("utf-8"))["hotword"]
    model = AutoModel(
        ORACLE / "paraformer-streaming", second_pass=str(ORACLE / "seaco"), disable_pbar=True
    )
    for name in ("none", "many"):
        (result,) = model.generate(clip, hotword=facts[name]["hotword"])
        expected = facts[name]["results"][0]
        assert [word["text"] for word in result["words"]] == expected["text"].split()
        times = [[word["start"], word["end"]] for word in result["words"]]
        assert times == [[start, min(end, 1850)] for start, end in expected["timestamp"]]


def test_finals_get_marks(recognizer, punctuator, wave):
    plain = finals(events(LiveSession(recognizer, Script(SPANS)), [wave]))
    marked = finals(events(LiveSession(recognizer, Script(SPANS), punctuator), [wave]))
    expected = [punctuator.punctuate(e.text).text if e.text else "" for e in plain]
    assert [event.text for event in marked] == expected != [event.text for event in plain]
    assert [event.tokens for event in marked] == [event.tokens for event in plain]


def test_finals_have_digits_and_nothing_else_has(recognizer, punctuator, wave):
    """What they become is that of `Numerals`, after the marks; what is shown before stays."""
    pytest.importorskip("jieba", reason="the extra itn is not installed")
    rewrite = shared_numerals().rewrite
    for marks in (None, punctuator):
        plain = events(LivePipeline(recognizer, Script(SPANS), marks).session(), [wave])
        found = events(LivePipeline(recognizer, Script(SPANS), marks, itn=True).session(), [wave])
        assert found == [
            e._replace(text=rewrite(e.text)) if e.kind == "final" else e for e in plain
        ]
        assert found != plain


def test_digits_of_a_stream_by_the_model(tmp_path, wave):
    pytest.importorskip("jieba", reason="the extra itn is not installed")
    rewrite = shared_numerals().rewrite
    folder = save_directory(tmp_path / "model", tiny.release(ONLINE))
    options = {"device": "cpu", "disable_pbar": True, "chunk_size": [0, 10, 5]}
    model = AutoModel(folder, punc_model=str(ORACLE / "ct_punc"), **options)
    plain, found = (
        [model.generate(part.numpy(), cache=cache, is_final=end, itn=itn) for part, end in parts]
        for itn, cache, parts in (
            (n, {}, [(wave[:80_000], False), (wave[80_000:], True)]) for n in (False, True)
        )
    )
    for (before,), (after,) in zip(plain, found, strict=True):
        assert after["text"] == rewrite(before["text"])
        assert after["partial"] == before["partial"]
    assert plain != found
    session = model.live(itn=True)
    assert finals(events(session, [wave]))[0].text == found[1][0]["text"]
    bare = AutoModel(folder, **options)
    with pytest.raises(ConfigError, match="^itn: a number may go on in the next piece"):
        bare.streamer(itn=True)
    with pytest.raises(ConfigError, match="^itn: a number may go on in the next piece"):
        bare.generate(wave.numpy(), cache={}, itn=True)


def test_sessions_side_by_side_give_what_each_gives_alone(recognizer, second):
    waves = [noise(seconds, seed) for seed, seconds in enumerate([10, 3, 0, 7.77])]
    pipeline = LivePipeline(recognizer, Script(SPANS), second_pass=second)
    alone = [shown(events(LiveSession(pipeline), [one])) for one in waves]
    sessions = [pipeline.session() for _ in waves]
    found = [[] for _ in waves]
    for parts in itertools.zip_longest(
        *(one.split(n) for one, n in zip(waves, [900, 7000, 1, 16000], strict=True))
    ):
        for session, part, own in zip(sessions, parts, found, strict=True):
            own += session.feed(part) if part is not None else []
    for session, own in zip(sessions, found, strict=True):
        own += session.flush()
    assert [shown(own) for own in found] == alone
    states = [pipeline.open() for _ in waves]
    together, states = pipeline.feed_all(states, waves, [True] * len(waves))
    assert [shown(own) for own in together] == alone
    assert all(len(state.waiting) == state.tape.end == 0 for state in states)


def test_a_state_may_be_stored_in_the_middle_of_a_segment(recognizer, second, wave):
    pipeline = LivePipeline(recognizer, Script(SPANS), second_pass=second)
    whole = shown(events(pipeline.session(), [wave]))
    first = pipeline.session()
    found = first.feed(wave[:70_001])
    stored = pickle.dumps(first.state)
    first.feed(noise(3, seed=5))  # leads nowhere
    other = pipeline.session()
    other.state = pickle.loads(stored)
    assert shown(found + events(other, [wave[70_001:]])) == whole


def test_after_flush_another_stream_begins_at_0(recognizer, wave):
    session = LiveSession(recognizer, Script(SPANS))
    assert shown(events(session, [wave])) == shown(events(session, wave.split(999)))


@pytest.mark.parametrize("with_second", [False, True])
def test_a_stream_of_hours_keeps_no_more_than_one_of_seconds(recognizer, second, with_second):
    session = LiveSession(recognizer, Every(), second_pass=second if with_second else None)
    sizes, block, count = {}, noise(2), 0
    for turn in range(80):
        count += len(finals(session.feed(block)))
        sizes[turn] = len(pickle.dumps(session.state))
    assert count == 79
    assert max(sizes.values()) <= max(sizes[turn] for turn in range(5, 15)) + 200
    assert len(session.state.tape.wave) <= 12 * RATE


def test_a_long_segment_keeps_little_without_a_second_pass(recognizer):
    detector = VoiceActivity(load_vad(ORACLE / "fsmn_vad"))
    session = LiveSession(recognizer, detector)
    alone = LiveSession(recognizer)
    for part in noise(30).split(1600):
        session.feed(part)
        alone.feed(part)
        assert session.state.segment is None or len(session.state.segment.marks) <= 6
        assert len(alone.state.segment.marks) <= 2
        assert len(alone.state.tape.wave) == 0
        assert len(session.state.tape.wave) <= 4 * RATE


def speech():
    """11 s of speech with pauses of 0.3, 0.9 and 2 s."""
    clips = [read_audio(ORACLE / "inputs" / f"clip_{name}.flac") for name in "abc"]
    quiet = [torch.zeros(samples) for samples in (4800, 14400, 32000)]
    return torch.cat([clips[0], quiet[0], clips[1], quiet[1], clips[2], quiet[2], clips[0]])


def check_with(detector, block, expected=None):
    wave = speech()
    model = StreamingRecognizer(load_directory(ORACLE / "paraformer-streaming"))
    found = shown(events(LiveSession(model, detector), wave.split(block)))
    spans = detector.segments(wave) if expected is None else expected
    assert len(spans) >= 2
    assert found == streamed(model, wave, spans)
    assert sum(len(row[3]) for row in found) > 10


@pytest.mark.parametrize("block", [160, 9600, 10**6])
def test_segments_are_those_of_the_vad(block):
    check_with(VoiceActivity(load_vad(ORACLE / "fsmn_vad")), block)


@pytest.mark.parametrize("block", [160, 9600, 10**6])
def test_dynamic_silence_does_not_depend_on_the_blocks(block):
    detector = VoiceActivity(load_vad(ORACLE / "fsmn_vad"))
    detector = detector.adjusted(silence_schedule=[(1500, 700), (float("inf"), 200)])
    check_with(detector, block, detector.segments(speech(), piece_ms=60))


@needs_shared
@pytest.mark.skipif(
    not (SHARED / "models/fsmn-vad").is_dir(), reason="the released VAD is not here"
)
@pytest.mark.parametrize("block", [160, 9600])
def test_segments_of_the_released_vad(block):
    detector = VoiceActivity(load_vad(SHARED / "models/fsmn-vad"))
    check_with(detector, block)
    check_with(
        detector.adjusted(silence_schedule=LIVE_SCHEDULE),
        block,
        detector.adjusted(silence_schedule=LIVE_SCHEDULE).segments(speech(), piece_ms=60),
    )


def test_models_by_name(recognizer, second, wave, tmp_path):
    folder = save_directory(tmp_path / "model", tiny.release(ONLINE))
    other = save_directory(tmp_path / "second", tiny.release(seed=3))
    session = LiveSession(
        model=folder,
        vad_model=ORACLE / "fsmn_vad",
        punc_model=str(ORACLE / "ct_punc"),
        second_pass=str(other),
        chunking=Chunking((0, 8, 4)),
    )
    assert session.pipeline.recognizer.engine.rule == streaming_rule((0, 8, 4), 4, 1)
    detector = VoiceActivity(load_vad(ORACLE / "fsmn_vad"))
    spans = detector.segments(wave)
    found = finals(events(session, [(wave * 32768).short().numpy().astype("<i2").tobytes()]))
    assert [(e.start_ms, e.end_ms) for e in found] == [tuple(span) for span in spans]


def test_auto_model_streams_recordings_in_segments(tmp_path):
    online = {**ONLINE, "model": "ParaformerStreaming"}
    folder = save_directory(tmp_path / "model", tiny.release(online))
    other = save_directory(tmp_path / "second", tiny.release(seed=3))
    vad, punc = str(ORACLE / "fsmn_vad"), str(ORACLE / "ct_punc")
    model = AutoModel(str(folder), vad_model=vad, second_pass=str(other), disable_pbar=True)
    wave = speech()
    (result,) = model.generate(wave.numpy())
    found = finals(events(model.live(), [wave]))
    assert len(found) >= 2
    assert result["segments"] == [
        {"start": e.start_ms, "end": e.end_ms, "text": e.text} for e in found
    ]
    assert result["text"] == join_texts(e.text for e in found)
    assert result["audio_seconds"] == pytest.approx(len(wave) / RATE, abs=1e-3)
    marked = AutoModel(str(folder), vad_model=vad, punc_model=punc, disable_pbar=True)
    (result,) = marked.generate(wave.numpy(), return_raw_text=True)
    punctuator = Punctuator(load_punctuation(ORACLE / "ct_punc"))
    assert result["text"] == punctuator.punctuate(result["raw_text"]).text
    assert max(len(event.tokens) for event in finals(events(marked.live(), [wave]))) > 0
    with pytest.raises(ConfigError, match="second_pass"):
        AutoModel(str(other), second_pass=str(other))


def test_pieces_with_a_cache_are_a_live_session(tmp_path):
    folder = save_directory(tmp_path, tiny.release({**ONLINE, "model": "ParaformerStreaming"}))
    models = {"vad_model": str(ORACLE / "fsmn_vad"), "punc_model": str(ORACLE / "ct_punc")}
    model = AutoModel(str(folder), **models, disable_pbar=True)
    wave, cache = speech(), {}
    expected = finals(events(model.live(), [wave]))
    pieces = wave.split(9600)
    found = []
    for n, piece in enumerate(pieces):
        last = n == len(pieces) - 1
        own = piece.numpy().copy()
        (result,) = model.generate(own, cache=cache, is_final=last)
        own.fill(np.nan)  # the caller's memory is the caller's again
        assert result["text"] == join_texts(s["text"] for s in result["segments"])
        found += result["segments"]
    assert found == [{"start": e.start_ms, "end": e.end_ms, "text": e.text} for e in expected]
    assert cache == {}
    raw, found = (wave * 32768).round().to(torch.int16).numpy().astype("<i2").tobytes(), []
    session = model.live()
    for start in range(0, len(raw), 19_201):
        found += session.feed(raw[start : start + 19_201])
    ended = zip(finals(found + session.flush()), expected, strict=True)
    assert all(ours[:4] == theirs[:4] for ours, theirs in ended)
    with pytest.raises(ConfigError, match="fs=8000: the pieces of a stream must have 16000 Hz"):
        model.generate(pieces[0].numpy(), cache={}, fs=8000)


@pytest.mark.parametrize("samples", [0, 1, 100])
def test_a_stream_of_nearly_nothing(recognizer, second, samples):
    for detector in (None, VoiceActivity(load_vad(ORACLE / "fsmn_vad"))):
        session = LiveSession(recognizer, detector, second_pass=second)
        found = events(session, [np.zeros(samples, np.float32)])
        assert len(finals(found)) == (1 if samples and detector is None else 0)
        assert all(event.end_ms <= 7 for event in found)


def test_two_rates_are_refused(recognizer, second):
    slow = tiny.release()
    slow.frontend.fs = 8000
    with pytest.raises(ConfigError, match=r"second_pass: works at 8000 Hz, the model at 16000 Hz"):
        LivePipeline(recognizer, second_pass=Recognizer(slow))
