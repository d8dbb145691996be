"""Recordings of any length: segments cut, limited, merged; results joined in order."""

from __future__ import annotations

import itertools

import pytest
import torch

from paraformer.data.features.frontend import Frontend
from paraformer.decode.endpoint import OPEN, Span
from paraformer.decode.longform import Cutting, LongRecognizer, Segmenter, _pause
from paraformer.decode.recognize import Recognizer
from paraformer.errors import AudioError, ConfigError
from tests import tiny

RATE = 16000


class Script:
    """A detector that reports given spans when the audio has come so far."""

    def __init__(self, *spans):
        self.spans, self.frontend = spans, Frontend(lfr_m=5)

    def initial_state(self):
        return 0  # ms heard

    def feed(self, samples, state, final=False):
        now = state + 1000 * len(samples) // RATE
        found = []
        for start, end in self.spans:
            begins = state < start <= now
            ends = state < end <= now or (final and start <= now < end)
            if begins and ends:
                found.append(Span(start, end))
            elif begins:
                found.append(Span(start, OPEN))
            elif ends:
                found.append(Span(OPEN, min(end, now)))
        return found, now


def ramp(seconds):
    """Each sample says where it stands."""
    return torch.arange(seconds * RATE, dtype=torch.float32)


def cut(script, wave, cutting=None, block=RATE):
    return list(Segmenter(script, cutting).segments(wave.split(block)))


@pytest.mark.parametrize("block", [160, 7000, RATE, 60 * RATE])
def test_segments_hold_their_audio(block):
    spans = [(1000, 2500), (4010, 9990), (12_000, 31_000)]
    found = cut(Script(*spans), ramp(40), block=block)
    assert [(s.start_ms, s.end_ms) for s in found] == spans
    for segment in found:
        assert segment.wave[0] == segment.start_ms * 16
        assert segment.wave[-1] == segment.end_ms * 16 - 1


def test_a_long_segment_is_cut_where_it_is_quietest():
    wave = torch.ones(30 * RATE)
    wave[8 * RATE : 8 * RATE + 1600] = 0.01  # inside the last 30 % before 10 s
    found = cut(Script((0 + 1, 30_000)), wave, Cutting(max_segment_s=10))
    assert found[0].end_ms == pytest.approx(8050, abs=30)
    assert all(a.end_ms == b.start_ms for a, b in itertools.pairwise(found))
    assert all(s.end_ms - s.start_ms <= 10_000 for s in found)
    assert sum(len(s.wave) for s in found) == 30 * RATE - 16


def test_the_pause_by_arithmetic():
    wave = torch.ones(RATE)
    wave[4000:4800] = 0.0  # 250 to 300 ms
    assert _pause(wave, RATE, 5000) == pytest.approx(5275, abs=10)


def test_merged_pieces_end_before_they_are_too_long():
    """The reference's rule: a piece closes at the last begin or end of speech that fits."""
    spans = [(1000, 4000), (5000, 9000), (11_000, 14_000), (16_000, 19_000), (40_000, 42_000)]
    found = cut(Script(*spans), ramp(50), Cutting(merge_vad=True, merge_length_s=15))
    points = [ms for span in spans for ms in span]
    begun, expected = 0, []
    for now, following in itertools.pairwise(points):
        if following - begun >= 15_000:
            expected.append((begun, now))
            begun = now
    expected.append((begun, points[-1]))
    assert [(s.start_ms, s.end_ms) for s in found] == expected
    assert all(s.wave[0] == s.start_ms * 16 for s in found)
    assert all(len(s.wave) == (s.end_ms - s.start_ms) * 16 for s in found)


def test_audio_behind_the_last_segment_is_dropped(monkeypatch):
    """An hour of silence keeps no more than the last seconds."""
    segmenter, kept = Segmenter(Script((1000, 2000))), []
    forget = segmenter._forget

    def watch(held, open_ms):
        forget(held, open_ms)
        kept.append(len(held.tape.wave))

    monkeypatch.setattr(segmenter, "_forget", watch)
    silence = torch.zeros(30 * RATE)
    assert len(list(segmenter.segments(itertools.repeat(silence, 120)))) == 1
    assert max(kept) <= 10 * RATE


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer(tiny.release())


def test_results_come_by_recording_and_equal_each_segment_alone(recognizer):
    torch.manual_seed(0)
    waves = [0.1 * torch.randn(n * RATE) for n in (12, 3, 20)]
    spans = [(500, 4000), (5000, 8000), (13_000, 19_000)]
    segmenter = Segmenter(Script(*spans))
    makers = [lambda wave=wave: iter(wave.split(RATE)) for wave in waves]
    found = list(LongRecognizer(recognizer, segmenter).stream(enumerate(makers)))
    assert [payload for payload, _ in found] == [0, 1, 2]
    results = [recording for _, recording in found]
    assert [r.seconds for r in results] == [12, 3, 20]
    assert [len(r.segments) for r in results] == [2, 1, 3]
    for wave, result in zip(waves, results, strict=True):
        for start, end, outcome in result.segments:
            (alone,) = recognizer.recognize([wave[start * 16 : end * 16]])
            assert outcome.best.ids == alone.best.ids


def test_a_recording_that_breaks_off_keeps_what_was_heard(recognizer):
    def broken():
        yield 0.1 * torch.randn(6 * RATE)
        raise AudioError("x.wav: cut off; record it again")

    makers = [broken, lambda: iter([0.1 * torch.randn(6 * RATE)])]
    segmenter = Segmenter(Script((500, 2000), (3000, 5000)))
    found = LongRecognizer(recognizer, segmenter).stream(enumerate(makers))
    first, second = (recording for _, recording in found)
    assert (len(first.segments), str(first.error)) == (2, "x.wav: cut off; record it again")
    assert (len(second.segments), second.error) == (2, None)


def test_silence_is_a_recording_without_segments(recognizer):
    makers = [lambda: iter([torch.zeros(RATE)]), lambda: iter([])]
    found = LongRecognizer(recognizer, Segmenter(Script())).stream(enumerate(makers))
    results = [recording for _, recording in found]
    assert [r.segments for r in results] == [[], []]
    assert [r.seconds for r in results] == [1, 0]


def test_rates_must_agree(recognizer):
    script = Script()
    script.frontend = Frontend(fs=8000)
    with pytest.raises(ConfigError, match="8000 Hz"):
        LongRecognizer(recognizer, Segmenter(script))


@pytest.mark.parametrize("bad", [{"max_segment_s": 0.5}, {"merge_length_s": 0}])
def test_cutting_that_makes_no_sense_is_refused(bad):
    with pytest.raises(ConfigError, match=f"{next(iter(bad))}=0.*: give a number"):
        Cutting(**bad)
