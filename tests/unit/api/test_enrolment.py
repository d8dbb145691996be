"""Known voices get their names and others stay numbers; given turns come onto our words."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

pytest.importorskip("sklearn", reason="clustering is an extra: pip install scikit-learn scipy")

from paraformer.api import diarization  # noqa: E402
from paraformer.api.auto import AutoModel  # noqa: E402
from paraformer.api.diarization import named  # noqa: E402
from paraformer.api.enrolment import Clip, format_voices, known_of, read_voices  # noqa: E402
from paraformer.api.tellers import GivenTurns  # noqa: E402
from paraformer.decode.voices import Known  # noqa: E402
from paraformer.errors import ConfigError, DataError  # noqa: E402
from paraformer.models.release import save_directory  # noqa: E402
from paraformer.programs.enroll import enroll, measured  # noqa: E402
from tests import tiny  # noqa: E402
from tests.conftest import ROOT  # noqa: E402

ORACLE = ROOT / "tests" / "fixtures" / "oracle"
CLIP = str(ORACLE / "inputs" / "clip_b.flac")
TIMED, VAD = (str(ORACLE / name) for name in ("bicif", "fsmn_vad"))


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return str(save_directory(tmp_path_factory.mktemp("voices"), tiny.voices()))


@pytest.fixture(scope="module")
def model(voices):
    return AutoModel(TIMED, vad_model=VAD, spk_model=voices, device="cpu")


@pytest.fixture
def clips(tmp_path):
    """Anna says what the clip does, in a folder of her own."""
    folder = tmp_path / "clips"
    (folder / "Anna B").mkdir(parents=True)
    wave, rate = soundfile.read(CLIP)
    soundfile.write(folder / "Anna B" / "1.wav", wave, rate)
    return folder


def test_a_known_voice_gets_its_name_with_a_score(model, clips):
    (found,) = model.generate(CLIP, speakers=str(clips))
    # Enrolled from the very recording: its one speaker's centre is near the mean of its windows.
    for part in (*found["sentence_info"], *found["turns"]):
        assert (part["spk"], part["speaker"]) == (0, "Anna B")
        assert part["spk_score"] > 0.95
    assert {word["speaker"] for word in found["words"]} == {"Anna B"}
    (plain,) = model.generate(CLIP)
    assert "speaker" not in plain["words"][0]


def test_a_file_and_a_folder_name_alike(model, voices, clips, tmp_path, capsys):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "enroll.yaml")
    out = tmp_path / "voices.json"
    given = {"model": voices, "vad_model": VAD, "data": str(clips), "out": str(out)}
    assert enroll(OmegaConf.merge(config, {**given, "device": "cpu"})) == 0
    assert "%false accept - [ no clips to measure with ]" in capsys.readouterr().out
    (by_file,) = model.generate(CLIP, speakers=str(out))
    (by_folder,) = model.generate(CLIP, speakers=str(clips))
    assert by_file == by_folder


def test_strangers_stay_numbers(model, tmp_path):
    centre = np.array(model.generate(CLIP, return_spk_center=True)[0]["spk_embedding_center"][0])
    other = np.roll(centre, 1) - (np.roll(centre, 1) @ centre) / (centre @ centre) * centre
    (tmp_path / "db.json").write_text(json.dumps({"Bob": other.tolist()}))
    (found,) = model.generate(CLIP, speakers=str(tmp_path / "db.json"))
    assert {word.get("speaker") for word in found["words"]} == {None}
    assert {word["spk"] for word in found["words"]} == {0}
    (found,) = model.generate(CLIP, speakers=str(tmp_path / "db.json"), spk_threshold=-0.5)
    assert {word["speaker"] for word in found["words"]} == {"Bob"}


ROWS = np.array([[1.0, 0.2], [1.0, -0.1], [0.0, 1.0], [-1.0, 0.1]])


@pytest.mark.parametrize(
    ("merging", "labels", "names"),
    [
        (True, [0, 0, 1, 2], {0: "A"}),  # the first two are A's
        (False, [0, 1, 2, 3], {1: "A"}),  # of a given number the likest alone is
    ],
)
def test_two_speakers_of_one_name(merging, labels, names):
    known = Known(("A", "D"), np.array([[1.0, 0.0], [1.0, -9.0]]))
    found, told = named(ROWS, np.arange(4), known, 0.9, merging)
    assert found.tolist() == labels
    assert {number: name for number, (name, _) in told.items()} == names
    assert next(iter(told.values()))[1] == pytest.approx(1 / np.hypot(1, 0.1))


def test_rates_of_wrong_names_by_hand():
    def clip(name, *row):
        return Clip(name, name, np.array(row, float))

    clips = [clip("A", 1, 0), clip("A", 0, 1), clip("B", 1, 0.1), clip("C", -1, 0)]
    # Strangers: the first A is B's, B is A's (0.77 to their mean); those of A differ by 90 degrees.
    assert measured(clips, 0.5) == (
        "threshold 0.5: %false accept 50.00 [ 2 / 4 ], %false reject 100.00 [ 2 / 2 ]"
    )


def test_a_file_holds_what_was_written(tmp_path):
    known = known_of([Clip("安", "", np.array([3.0, 4.0])), Clip("b c", "", np.array([0.0, 1.0]))])
    (tmp_path / "x").write_text(format_voices(known), encoding="utf-8")
    back = read_voices(tmp_path / "x", 2)
    assert back.names == ("安", "b c")
    np.testing.assert_allclose(back.centres, [[0.6, 0.8], [0, 1]], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "no names in it"),
        ("{", "no file of bin/enroll.py"),
        ('{"A": ["x"]}', "no file of bin/enroll.py"),
        ('{"A": [1, 2, 3]}', "'A' has 3 numbers and spk_model's voices have 2; enrol with this"),
        ('{"A": [NaN, 1]}', "no voice|no file of bin/enroll.py"),
        ('{"A": [0, 0]}', "'A' is no voice"),
    ],
)
def test_files_that_are_none_are_one_line(tmp_path, content, message):
    (tmp_path / "x").write_text(content)
    with pytest.raises(DataError, match=message):
        read_voices(tmp_path / "x", 2)


def test_clips_without_speech_and_broken_models_are_one_line(model, clips, tmp_path):
    soundfile.write(clips / "Bob.wav", np.zeros(32000), 16000)
    with pytest.raises(DataError, match=r"speakers: 'Bob': .*Bob.wav: nobody speaks in it"):
        model.generate(CLIP, speakers=str(clips))
    with pytest.raises(DataError, match="speakers=nowhere: no such folder or file"):
        model.generate(CLIP, speakers="nowhere")
    plain = AutoModel(TIMED, vad_model=VAD, device="cpu")
    with pytest.raises(ConfigError, match="speakers: names of voices that spk_model hears"):
        plain.generate(CLIP, speakers=str(clips))
    (clips / "Bob.wav").unlink()
    release = tiny.voices()
    with torch.no_grad():  # finite on disk, too large for use
        release.model.xvector.dense.linear.weight.fill_(3e38)
    folder = str(save_directory(tmp_path / "broken", release))
    broken = AutoModel(TIMED, vad_model=VAD, spk_model=folder, device="cpu")
    with pytest.raises(DataError, match="'Anna B': .*the speaker model's output is not finite"):
        broken.generate(CLIP, speakers=str(clips))


def write_rttm(path, *rows):
    lines = [f"SPEAKER {f} 1 {s} {e - s} <NA> <NA> {n} <NA> <NA>\n" for f, s, e, n in rows]
    path.write_text("".join(lines))
    return str(path)


def test_given_speakers_come_onto_our_words(tmp_path):
    rttm = write_rttm(tmp_path / "x.rttm", ("clip_b", 0, 1.5, "joe"), ("clip_b", 1.5, 2.79, "ann"))
    plain = AutoModel(TIMED, vad_model=VAD, device="cpu")
    (without,) = plain.generate(CLIP)
    (found,) = plain.generate(CLIP, rttm=rttm)
    assert found["text"] == without["text"]
    for word in found["words"]:
        middle = (word["start"] + word["end"]) / 2
        assert word["speaker"] == ("joe" if middle < 1500 else "ann"), word
    assert [turn["speaker"] for turn in found["turns"]] == ["joe", "ann"]
    # Without a VAD they are what is heard: nothing of what comes behind them.
    (cut,) = AutoModel(TIMED, device="cpu").generate(CLIP, rttm=rttm)
    assert cut["segments"][0]["start"] == 0
    assert cut["segments"][-1]["end"] == 2790
    half = write_rttm(tmp_path / "half.rttm", ("other", 0.5, 1.5, "joe"))  # the only recording
    (cut,) = AutoModel(TIMED, device="cpu").generate(CLIP, rttm=half)
    assert [(s["start"], s["end"]) for s in cut["segments"]] == [(500, 1500)]


def test_beside_a_speaker_model_they_say_where_somebody_speaks(model, tmp_path, monkeypatch):
    monkeypatch.setattr(diarization, "cluster", lambda rows, bounds: np.arange(len(rows)))
    rttm = write_rttm(tmp_path / "x.rttm", ("clip_b", 0, 1.5, "a"), ("clip_b", 1.6, 2.7, "a"))
    (found,) = model.generate(CLIP, rttm=rttm)
    turns = [(turn["start"], turn["end"], turn["spk"]) for turn in found["turns"]]
    assert turns == [(0, 1500, 0), (1600, 2700, 1)]


def test_turns_of_a_stretch_begin_with_it(tmp_path, caplog):
    rttm = write_rttm(tmp_path / "x", ("call", 0, 2, "a"), ("call", 3, 5, "b"), ("c2", 0, 1, "a"))
    given = GivenTurns(rttm, alone=False)
    assert given.of("u1", "call", 4.0) == [(0.0, 1.0, "b")]
    assert given.of("lost", None, 0.0) == given.of("lost", None, 0.0) == []
    assert caplog.text.count("has no turns of 'lost'") == 1
