"""Speakers beside recognition: sound answers for short, silent and broken input, and no state."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("sklearn", reason="clustering is an extra: pip install scikit-learn scipy")

from paraformer.api import diarization  # noqa: E402
from paraformer.api.auto import AutoModel  # noqa: E402
from paraformer.errors import ConfigError  # noqa: E402
from paraformer.models.release import save_directory  # noqa: E402
from paraformer.options import CallOptions  # noqa: E402
from paraformer.output.tables import format_result  # noqa: E402
from paraformer.output.timed_formats import format_timed  # noqa: E402
from tests import tiny  # noqa: E402
from tests.conftest import ROOT  # noqa: E402

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
CLIP = str(ORACLE / "inputs" / "clip_b.flac")
TIMED, PLAIN, VAD = (str(ORACLE / name) for name in ("bicif", "paraformer", "fsmn_vad"))


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return str(save_directory(tmp_path_factory.mktemp("voices"), tiny.voices()))


@pytest.fixture(scope="module")
def model(voices):
    return AutoModel(TIMED, vad_model=VAD, spk_model=voices, device="cpu")


def halves(rows, bounds):
    """The first windows are one speaker's and the others another's."""
    return np.arange(len(rows)) * 2 // max(1, len(rows))


def test_a_short_clip_is_one_speaker(model):
    (found,) = model.generate(CLIP)
    assert found["words"]
    assert {word["spk"] for word in found["words"]} == {0}
    assert [sentence["spk"] for sentence in found["sentence_info"]] == [0]


def test_two_speakers_part_words_and_lines(model, monkeypatch):
    monkeypatch.setattr(diarization, "cluster", halves)
    (found,) = model.generate(CLIP)
    speakers = [word["spk"] for word in found["words"]]
    assert speakers == sorted(speakers)
    assert set(speakers) == {0, 1}
    lines = format_timed(found, "tsv").splitlines()[1:]
    assert [line.split("\t")[2][:6] for line in lines] == ["SPK0: ", "SPK1: "]
    assert format_timed(found, "stm").splitlines()[1].split()[2] == "SPK1"


def test_without_times_the_segments_have_speakers(voices):
    plain = AutoModel(PLAIN, vad_model=VAD, spk_model=voices, device="cpu")
    (found,) = plain.generate(CLIP)
    assert "words" not in found
    assert [s["spk"] for s in found["sentence_info"]] == [0] * len(found["segments"])


@pytest.mark.parametrize("number", [1, 2, 50])
def test_a_given_number_never_asks_for_more_than_there_are_windows(model, number):
    (found,) = model.generate(CLIP, preset_spk_num=number, return_spk_center=True)
    centre = np.array(found["spk_embedding_center"])
    assert len(centre) == min(number, 3)  # 2.79 s of speech: windows at 0, 0.75 and 1.29 s
    assert centre.shape[1] == 24


def test_nothing_of_a_call_stays_for_the_next(model):
    before = model.generate(CLIP)
    model.generate(CLIP, preset_spk_num=2, return_spk_center=True)
    assert model.generate(CLIP) == before


def test_without_speakers_the_result_is_that_of_the_others(model):
    plain = AutoModel(TIMED, vad_model=VAD, device="cpu")
    assert model.generate(CLIP, return_spk_res=False) == plain.generate(CLIP)


def test_a_number_that_was_found_says_how_sure_it_is(model):
    assert model.generate(CLIP)[0]["spk_num_confidence"] == 1.0
    assert "spk_num_confidence" not in model.generate(CLIP, preset_spk_num=2)[0]


def test_the_likeness_of_speakers_is_the_models_own_unless_given(voices):
    heard = AutoModel(TIMED, vad_model=VAD, spk_model=voices, device="cpu").task.voices
    assert (heard.threshold(None), heard.threshold(0.5)) == (0.31, 0.5)
    given = {"cb_kwargs": {"merge_thr": 0.6}, "spk_threshold": 0.4}
    own = AutoModel(TIMED, vad_model=VAD, spk_model=voices, spk_kwargs=given, device="cpu")
    assert own.task.voices.threshold(None) == 0.4
    bounds = diarization.bounds_of(CallOptions(), own.task.voices.likeness)
    assert bounds.merge == 0.6


def test_silence_and_a_missing_file_between_others(model, tmp_path):
    soundfile.write(tmp_path / "quiet.wav", np.zeros(16000), 16000)
    quiet = str(tmp_path / "quiet.wav")
    found = model.generate([CLIP, quiet, str(tmp_path / "lost.wav"), CLIP])
    assert [len(result.get("sentence_info", ())) for result in found] == [1, 0, 0, 1]
    assert found[0]["words"] == found[3]["words"]
    assert "error" in found[2]
    assert json.loads(format_result(found[1], "json"))["sentence_info"] == []


def test_embeddings_that_are_no_numbers_are_one_line(tmp_path):
    release = tiny.voices()
    with torch.no_grad():
        release.model.xvector.dense.linear.weight.fill_(float("nan"))
    release.model.xvector.dense.linear.weight.data[0] = 1e38  # finite on disk, too large for use
    release.model.xvector.dense.linear.weight.data[1:] = 3e38
    folder = str(save_directory(tmp_path / "x", release))
    (found,) = AutoModel(TIMED, vad_model=VAD, spk_model=folder, device="cpu").generate(CLIP)
    assert found["error"] == (
        "spk_model: the speaker model's output is not finite; its weights are damaged"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vad_model": None}, "^spk_model: hears the segments of a VAD"),
        ({"spk_mode": "other"}, "^spk_mode=other: not known; use punc_segment"),
        ({"spk_kwargs": {"grow": 3}}, "unknown key 'grow'"),
        ({"spk_kwargs": {"spk_threshold": 3}}, "^config.yaml: spk_threshold=3: give "),
        (
            {"spk_mode": "channel"},
            "^spk_mode=channel: each channel is a speaker; leave out spk_model",
        ),
        ({"spk_model": VAD}, "^spk_model: .*is a VAD .*not a speaker model"),
        ({"preset_spk_num": 0}, "^preset_spk_num"),
    ],
)
def test_faults_are_one_line(voices, given, message):
    settings = {"vad_model": VAD, "spk_model": voices, "device": "cpu", **given}
    with pytest.raises(ConfigError, match=message):
        AutoModel(TIMED, **settings)


@pytest.fixture
def call(tmp_path):
    """A call: the clip in one channel and, from second 3 on, in the other."""
    wave, rate = soundfile.read(CLIP)
    sides = np.zeros((len(wave) + 3 * rate, 2))
    sides[: len(wave), 0] = sides[3 * rate :, 1] = wave
    (tmp_path / "calls").mkdir()
    soundfile.write(tmp_path / "calls" / "call.wav", sides, rate)
    return tmp_path / "calls" / "call.wav"


def test_each_channel_is_a_speaker(call, tmp_path):
    sides = AutoModel(TIMED, vad_model=VAD, spk_mode="channel", device="cpu")
    found = sides.generate(str(call), channel="split")
    assert [(r["key"], r["recording"], r["channel"]) for r in found] == [
        ("call_ch0", "call", 0),
        ("call_ch1", "call", 1),
    ]
    for number, result in enumerate(found):
        assert {word["spk"] for word in result["words"]} == {number}
        assert {turn["spk"] for turn in result["turns"]} == {number}
    out = tmp_path / "out"
    sides.generate(str(call), channel="split", output_dir=str(out), output_format="tsv")
    rows = [row.split("\t") for row in (out / "call.tsv").read_text("utf-8").splitlines()[1:]]
    assert {row[2][:6] for row in rows} == {"SPK0: ", "SPK1: "}
    assert [int(row[0]) for row in rows] == sorted(int(row[0]) for row in rows)
    sides.generate(str(call), channel="split", output_dir=str(out), output_format="rttm")
    rows = [row.split() for row in (out / "rttm").read_text("utf-8").splitlines()]
    assert {(row[1], row[2], row[7]) for row in rows} == {
        ("call", "1", "SPK0"),
        ("call", "2", "SPK1"),
    }
    with pytest.raises(ConfigError, match="spk_mode=channel: goes with channel=split"):
        sides.generate(str(call))


def test_channels_without_a_vad_and_without_times(call):
    found = AutoModel(PLAIN, spk_mode="channel", device="cpu").generate(str(call), channel="split")
    assert [{s["spk"] for s in r["sentence_info"]} for r in found] == [{0}, {1}]


def test_a_call_of_8_khz_has_speakers(model, tmp_path):
    wave, _ = soundfile.read(CLIP)
    soundfile.write(tmp_path / "call.wav", wave[::2], 8000)
    (found,) = model.generate(str(tmp_path / "call.wav"), preset_spk_num=2)
    assert {turn["spk"] for turn in found["turns"]} == {0, 1}
    assert found["turns"][-1]["end"] <= 1000 * found["audio_seconds"]
    assert all("spk" in word for word in found["words"])


def test_bounds_that_contradict_and_streams_are_refused(model):
    with pytest.raises(ConfigError, match="min_spk_num=4: is above max_spk_num=3"):
        model.generate(CLIP, min_spk_num=4, max_spk_num=3)
    with pytest.raises(ConfigError, match="rttm: is for recordings as a whole"):
        model.generate(CLIP, chunk_size=[0, 10, 5], rttm="x")
