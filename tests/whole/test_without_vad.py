"""Long recordings without a VAD are cut at pauses; all that is no longer than the limit is not."""

from __future__ import annotations

import re

import numpy as np
import pytest
import soundfile
import torch
from rapidfuzz.distance import Levenshtein

from paraformer import AutoModel
from paraformer.data.audio.read import read_audio
from paraformer.data.inputs.blocks import read_up_to
from paraformer.data.inputs.sources import Cache, Item
from paraformer.decode.longform import (
    Cutting,
    LongRecognizer,
    PauseSegmenter,
    read_sources,
)
from paraformer.decode.recognize import Recognizer
from paraformer.options import CallOptions
from paraformer.output.result import recording_result
from tests.conftest import ROOT, SHARED, needs_shared
from tests.whole.test_long_audio import RATE, check, noise
from tests.whole.test_long_audio import alone as alone
from tests.whole.test_long_audio import speech as speech

CLIPS = sorted((ROOT / "paraformer/bundled/paraformer-zh-mini/example").glob("*.wav"))
CUT = {"max_whole_s": 10, "max_segment_s": 5}
LINE = "there is no detector"


@pytest.fixture(scope="module")
def mini():
    return AutoModel("paraformer-zh-mini", device="cpu", disable_pbar=True)


def spans(found):
    return [(segment["start"], segment["end"]) for segment in found["segments"]]


@pytest.mark.parametrize("kind", ["speech", "noise", "silence"])
def test_parts_say_what_they_say_alone_and_hold_all_of_it(alone, speech, kind, caplog):
    wave = {"speech": speech.repeat(3), "noise": noise(0.1, 23), "silence": torch.zeros(23 * RATE)}
    wave = wave[kind].float()
    (found,) = alone.generate(wave.numpy(), **CUT)
    check(found, wave, alone)
    parts = spans(found)
    assert parts[0][0] == 0 and parts[-1][1] == len(wave) * 1000 // RATE
    assert all(a[1] == b[0] and a[1] - a[0] <= 5000 for a, b in zip(parts, parts[1:], strict=False))
    assert [LINE in text for text in caplog.messages] == [True]


def test_what_is_no_longer_than_the_limit_is_heard_as_one(alone, speech, caplog):
    wave = speech.repeat(3).numpy()
    (found,) = alone.generate(wave, max_whole_s=len(wave) / RATE)
    assert found == alone.generate(wave)[0] and "segments" not in found
    assert not caplog.messages


@needs_shared
def test_ten_times_the_example_is_heard_as_one():
    """So that none of its tokens differs from the reading of the whole."""
    seconds = 10 * soundfile.info(SHARED / "audio" / "vad_example.wav").duration
    assert CallOptions().max_whole_s == Cutting().max_whole_s >= seconds


def test_sentences_are_read_as_each_alone_at_their_times(mini, tmp_path):
    """The pauses between are where it is cut, and subtitles are those of the words. What stands
    beside a sentence tells this small model of characters that sound alike: it is cut or not.
    """
    clips = [read_audio(path) for path in CLIPS if path.stem != "demo_5"]  # hard for it, real
    waves = [part for clip in clips * 3 for part in (clip, torch.zeros(RATE // 2))]
    starts = np.cumsum([0, *(len(wave) for wave in waves)])[:-1:2] * 1000 // RATE
    single = mini.generate([clip.numpy() for clip in clips]) * 3
    soundfile.write(tmp_path / "long.wav", torch.cat(waves).numpy(), RATE, subtype="PCM_16")
    options = {"max_whole_s": 20, "max_segment_s": 8, "output_dir": str(tmp_path)}
    (found,) = mini.generate(str(tmp_path / "long.wav"), output_format="srt", **options)
    tokens = [token for each in single for token in each["tokens"]]
    assert Levenshtein.distance(found["tokens"], tokens) <= 0.2 * len(tokens)
    first = {  # of each sentence whose beginning is read alike
        int(at) + each["words"][0]["start"]
        for at, each in zip(starts, single, strict=True)
        if " ".join(each["tokens"][:3]) in found["text"]
    }
    begins = np.array([word["start"] for word in found["words"]])
    assert all(np.abs(begins - at).min() <= 120 for at in first) and len(first) >= 3
    assert (np.diff(begins) >= 0).all()
    assert found["words"][-1]["end"] <= 1000 * found["audio_seconds"]
    cues = re.findall(r"(\d+):(\d+):(\d+),", next(tmp_path.glob("*.srt")).read_text("utf8"))
    times = [3600 * int(h) + 60 * int(m) + int(s) for h, m, s in cues]
    assert times == sorted(times) and times[-1] == pytest.approx(found["audio_seconds"], abs=3)


def test_no_batch_has_more_than_a_part_of_a_long_recording(alone, speech, monkeypatch):
    """So time is proportional to length: as many frames a minute, and no more of them at once."""
    sizes: list[list[int]] = []
    decode = Recognizer._decode

    def watch(self, feats, search):
        sizes.append([len(x) for x in feats])
        return decode(self, feats, search)

    monkeypatch.setattr(Recognizer, "_decode", watch)
    frames = []
    for times in (4, 8, 16):
        sizes.clear()
        alone.generate(speech.repeat(times).numpy(), **CUT)
        assert max(size for batch in sizes for size in batch) <= 5000 / 60 + 1
        frames.append(sum(size for batch in sizes for size in batch))
    assert frames[1] / frames[0] == pytest.approx(2, abs=0.05)
    assert frames[2] / frames[0] == pytest.approx(4, abs=0.1)


@pytest.mark.parametrize("most", [10, 1000])
def test_a_short_one_does_not_wait_for_a_long_one_behind_it(alone, speech, monkeypatch, most):
    """Cut or not."""
    heard: list[int] = []
    decode = Recognizer._decode

    def watch(self, feats, search):
        heard.extend(len(x) for x in feats)
        return decode(self, feats, search)

    monkeypatch.setattr(Recognizer, "_decode", watch)
    short, long = speech[: 2 * RATE], speech.repeat(6)
    options = {"max_whole_s": most, "max_segment_s": 5, "batch_size": 1}
    results = alone.stream([short.numpy(), long.numpy()], **options)
    first = next(iter(results))
    assert first["audio_seconds"] == 2
    assert sum(heard) < 10 * RATE / 960
    assert len(list(results)) == 1


def test_a_list_keeps_its_order_and_is_warned_of_once(alone, speech, tmp_path, caplog):
    waves = [speech[: 2 * RATE], speech.repeat(2), speech[:RATE], speech.repeat(3)]
    names = []
    for number, wave in enumerate(waves):
        names.append(str(tmp_path / f"u{number}.wav"))
        soundfile.write(names[-1], wave.numpy(), RATE, subtype="PCM_16")
    found = alone.generate([*names, str(tmp_path / "missing.wav")], **CUT)
    assert [each["key"] for each in found] == ["u0", "u1", "u2", "u3", "missing"]
    assert ["segments" in each for each in found] == [False, True, False, True, False]
    assert "No such file" in found[4]["error"]
    (line,) = [text for text in caplog.messages if LINE in text]
    assert line.startswith("'u1': ") and "vad_model=fsmn-vad" in line


def test_several_readings_are_of_the_whole(alone, speech, caplog):
    (found,) = alone.generate(speech.repeat(2).numpy(), nbest=2, **CUT)
    assert len(found["nbest"]) == 2 and "segments" not in found
    (line,) = caplog.messages
    assert "nbest" in line and "square" in line


def test_segments_do_not_depend_on_the_blocks(speech):
    wave = speech.repeat(4)
    cut = PauseSegmenter(RATE, Cutting(5))
    whole = [(s.start_ms, s.end_ms) for s in cut.segments([wave])]
    assert len(whole) > 5
    for size in (RATE // 3, 7 * RATE):
        assert [(s.start_ms, s.end_ms) for s in cut.segments(wave.split(size))] == whole
    assert [*cut.segments([])] == [*cut.segments([torch.zeros(0)])] == []


@pytest.mark.parametrize("suffix", ["wav", "flac", "mp3"])
def test_blocks_of_a_long_file_are_the_file(speech, tmp_path, suffix):
    """mp3: its header does not tell its length for certain."""
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, speech.numpy(), RATE)
    item, cache = Item("a", path), Cache()
    whole = read_audio(path)
    short = read_up_to(60, item, RATE, None, cache)
    assert isinstance(short, torch.Tensor)
    torch.testing.assert_close(short, whole, atol=1e-6, rtol=0)
    long = read_up_to(2, item, RATE, None, cache)
    assert not isinstance(long, torch.Tensor)
    torch.testing.assert_close(torch.cat(list(long())), whole, atol=1e-6, rtol=0)


def test_parts_joined_are_one_reading(mini, speech):
    """As bin/decode.py writes it: the text as it is shown, and the sum of the scores."""
    clips = torch.cat([read_audio(path) for path in CLIPS])
    cutting, item = Cutting(5, max_whole_s=10), Item("a", clips)
    sources = read_sources([item], cutting, mini.recognizer.release.frontend)
    long = LongRecognizer(mini.recognizer, PauseSegmenter(RATE, cutting))
    ((back, recording),) = long.stream(sources)
    assert back is item
    result = recording_result(item, recording, timed=True)
    (found,) = mini.generate(clips.numpy(), max_whole_s=10, max_segment_s=5, lm_file="none")
    assert result.tokens == found["tokens"] and result.timestamp == found["timestamp"]
    (row,) = result.rows
    assert row["tight"] == "".join(segment["text"] for segment in found["segments"])
    best = [heard.outcome.best for heard in recording.segments]
    assert float(row["score"].split()[0]) == pytest.approx(sum(r.score for r in best), abs=1e-4)
