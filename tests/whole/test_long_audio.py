"""A VAD before a recogniser, on audio of all kinds: what a segment says is what its samples alone
say, and nothing is lost or invented between the segments.

With the project's own small networks (tests/fixtures); the released detector on the same kinds of
audio stands in tests/parity/test_fsmn_vad.py.
"""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from paraformer import AutoModel
from paraformer.data.audio.read import read_audio
from paraformer.data.audio.resample import resample
from paraformer.decode.longform import Cutting, Segmenter
from tests.conftest import ROOT

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
MODEL = ORACLE / "paraformer"
RATE = 16000


@pytest.fixture(scope="module")
def pipeline():
    vad = str(ORACLE / "fsmn_vad")
    return AutoModel(str(MODEL), vad_model=vad, device="cpu", disable_pbar=True)


@pytest.fixture(scope="module")
def alone():
    return AutoModel(str(MODEL), device="cpu", disable_pbar=True)


@pytest.fixture(scope="module")
def speech():
    """Three utterances and their pauses."""
    clips = [read_audio(ORACLE / "inputs" / f"clip_{name}.flac") for name in "abc"]
    return torch.cat([part for clip in clips for part in (clip, torch.zeros(14400))])


def noise(level, seconds=4):
    return level * torch.from_numpy(np.random.default_rng(0).standard_normal(seconds * RATE))


def music():
    """A chord with its overtones, struck twice a second."""
    time = np.arange(4 * RATE) / RATE
    tones = [np.sin(2 * np.pi * f * k * time) / k for f in (220, 277.18, 329.63) for k in (1, 2, 3)]
    return torch.from_numpy(0.1 * sum(tones) * np.exp(-4 * (time % 0.5)))


def check(found, wave, alone):
    """The segments lie in the audio, in order, and say what they say alone."""
    assert "error" not in found
    ends = [0]
    for segment in found["segments"]:
        start, end = segment["start"], segment["end"]
        assert ends[-1] <= start < end <= len(wave) * 1000 // RATE
        ends.append(end)
        (single,) = alone.generate(wave[start * 16 : end * 16].numpy())
        assert segment["text"] == single["text"]
    assert found["text"].split() == " ".join(s["text"] for s in found["segments"]).split()
    assert found["audio_seconds"] == pytest.approx(len(wave) / RATE, abs=1e-3)


@pytest.mark.parametrize("kind", ["speech", "cut", "noise", "loud noise", "music", "quiet"])
def test_segments_say_what_they_say_alone(pipeline, alone, speech, kind):
    """cut: speech to the last sample."""
    wave = {
        "speech": speech,
        "cut": speech[: 2 * RATE],
        "noise": noise(0.01),
        "loud noise": noise(0.5),
        "music": music(),
        "quiet": speech * 1e-3,
    }[kind].float()
    (found,) = pipeline.generate(wave.numpy())
    check(found, wave, alone)
    if kind == "speech":
        assert len(found["segments"]) >= 2
    if kind == "cut":
        assert found["segments"][-1]["end"] > 1950


@pytest.mark.parametrize("samples", [1, 399, 400, 5 * RATE])
def test_silence_is_an_empty_text_without_segments(pipeline, samples):
    (found,) = pipeline.generate(np.zeros(samples, np.float32))
    assert (found["text"], found["segments"]) == ("", []) and "error" not in found


def test_less_than_a_frame_of_speech_is_no_segment(pipeline, speech):
    (found,) = pipeline.generate(speech[RATE : RATE + 399].numpy())
    assert (found["text"], found["segments"]) == ("", [])


def test_no_samples_are_an_error_of_their_recording_alone(pipeline, speech, tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "speech.wav", speech.numpy(), RATE)
    names = [str(tmp_path / f"{name}.wav") for name in ("none", "speech")]
    none, found = pipeline.generate(names)
    assert (none["text"], none["segments"]) == ("", [])
    assert found["segments"]


@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (48000, 2)])
def test_files_of_other_rates_and_channels(pipeline, alone, speech, tmp_path, rate, channels):
    path = tmp_path / "other.wav"
    samples = resample(speech, RATE, rate)[:, None].expand(-1, channels)
    soundfile.write(path, samples.numpy(), rate, subtype="PCM_16")
    (found,) = pipeline.generate(str(path))
    check(found, read_audio(path), alone)
    assert len(found["segments"]) >= 2


def test_samples_without_a_header_have_the_rate_that_is_said(pipeline, speech, tmp_path):
    """By every road with a VAD: what the same samples behind a header give."""
    slow = (resample(speech, RATE, 8000) * 32767).round().clamp(-32768, 32767).short().numpy()
    soundfile.write(tmp_path / "a.wav", slow, 8000)
    (tmp_path / "a.pcm").write_bytes(slow.astype("<i2").tobytes())
    (tmp_path / "list.scp").write_text(f"a {tmp_path / 'a.pcm'}\n")
    vad = str(ORACLE / "fsmn_vad")
    live = AutoModel(str(ORACLE / "paraformer-streaming"), vad_model=vad, device="cpu")
    for model in (pipeline, AutoModel(vad), live):
        (expected,) = model.generate(str(tmp_path / "a.wav"))
        assert expected.get("segments", expected.get("value"))
        for source in (tmp_path / "a.pcm", str(tmp_path / "list.scp"), slow, slow.tobytes()):
            (found,) = model.generate(source, fs=8000)
            assert {**found, "key": "a"} == expected


@pytest.mark.parametrize("limit", [{"max_segment_s": 3}, {"max_single_segment_time": 3000}])
def test_minutes_without_a_pause_are_cut_and_nothing_between_is_lost(
    pipeline, alone, speech, limit
):
    """max_segment_s cuts where it is quietest, the detector's own limit a frame behind it."""
    wave = speech[: int(1.5 * RATE)].repeat(60)
    (found,) = pipeline.generate(wave.numpy(), max_end_silence_time=4000, **limit)
    check(found, wave, alone)
    spans = [(segment["start"], segment["end"]) for segment in found["segments"]]
    assert len(spans) >= 30 and all(end - start <= 3010 for start, end in spans)
    assert sum(end - start for start, end in spans) > 0.9 * len(wave) * 1000 // RATE
    if "max_segment_s" in limit:
        assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))


def test_segments_come_while_the_audio_does(pipeline, speech):
    """So that no more is held than the segment that is open."""
    heard = 0

    def blocks():
        nonlocal heard
        for block in speech[: int(1.5 * RATE)].repeat(80).split(RATE):
            heard += len(block)
            yield block

    vad = pipeline.task.vad.adjusted(max_single_segment_time=5000, max_end_silence_time=4000)
    for segment in Segmenter(vad, Cutting()).segments(blocks()):
        assert heard - segment.end_ms * 16 < 3 * RATE or heard == 120 * RATE


def test_settings_of_the_detector_arrive_by_the_call_and_by_its_keywords(speech):
    vad = str(ORACLE / "fsmn_vad")
    given = {"vad_model": vad, "device": "cpu", "disable_pbar": True}
    by_keywords = AutoModel(str(MODEL), vad_kwargs={"max_end_silence_time": 200}, **given)
    default = AutoModel(str(MODEL), **given)
    (one,) = by_keywords.generate(speech.numpy())
    (other,) = default.generate(speech.numpy(), max_end_silence_time=200)
    assert one["segments"] == other["segments"]
    (value,) = AutoModel(vad, max_end_silence_time=200).generate(speech.numpy())
    assert [[s["start"], s["end"]] for s in one["segments"]] == value["value"]
