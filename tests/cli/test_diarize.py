"""diarize.py: from recordings to RTTM, and the same turns by `AutoModel` and `funasr`."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

pytest.importorskip("sklearn", reason="clustering is an extra: pip install scikit-learn scipy")

from paraformer.api import diarization  # noqa: E402
from paraformer.api.auto import AutoModel  # noqa: E402
from paraformer.cli.main import main  # noqa: E402
from paraformer.data.corpus.tables import read_table  # noqa: E402
from paraformer.errors import ConfigError  # noqa: E402
from paraformer.models.release import save_directory  # noqa: E402
from paraformer.output.timed_formats import format_timed  # noqa: E402
from paraformer.programs.decode import decode  # noqa: E402
from paraformer.programs.diarize import diarize  # noqa: E402
from tests import tiny  # noqa: E402
from tests.conftest import ROOT  # noqa: E402

CLIP = ROOT / "tests/fixtures/oracle/inputs/clip_b.flac"
VAD = str(ROOT / "tests/fixtures/oracle/fsmn_vad")


@pytest.fixture(scope="module")
def voices(tmp_path_factory):
    return str(save_directory(tmp_path_factory.mktemp("voices"), tiny.voices()))


@pytest.fixture
def data(tmp_path):
    """A clip, silence, and a file that is not there; the clip is channel 2 of a call."""
    folder = tmp_path / "data"
    folder.mkdir()
    soundfile.write(folder / "quiet.wav", np.zeros(16000), 16000)
    rows = [f"quiet {folder}/quiet.wav", f"clip {CLIP}", "lost missing.wav"]
    (folder / "wav.scp").write_text("\n".join(rows))
    (folder / "reco2file_and_channel").write_text("clip call B\nquiet quiet A\nlost lost A\n")
    return folder


def run(voices, data, out, **settings):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "diarize.yaml")
    given = {"model": voices, "vad_model": VAD, "data": str(data), "out": str(out)}
    given |= {"device": "cpu", "min_success": 0.6}
    return diarize(OmegaConf.merge(config, {**given, **settings}))


def two(rows, bounds):
    """The first window is one speaker's, the others are another's."""
    return np.minimum(np.arange(len(rows)), 1)


# Speech from 0 to 2.79 s has windows from 0, 0.75 and 1.29 s: the border between the first and
# the others is the middle of 0.75 and 1.5 s, rounded to 10 ms.
TURNS = [(0.0, 1.12, "SPK0"), (1.12, 2.79, "SPK1")]


def test_a_data_directory_becomes_rttm(voices, data, tmp_path, monkeypatch):
    rttm = pytest.importorskip("pyannote.database.util", reason="pip install pyannote.metrics")
    monkeypatch.setattr(diarization, "cluster", two)
    out = tmp_path / "out"
    assert run(voices, data, out) == 0
    found = rttm.load_rttm(str(out / "rttm"))
    assert list(found) == ["call"]
    told = [(*segment, name) for segment, _, name in found["call"].itertracks(yield_label=True)]
    for (start, end, name), (begin, stop, speaker) in zip(told, TURNS, strict=True):
        assert (start, end, name) == (pytest.approx(begin), pytest.approx(stop), speaker)
    assert all(line.split()[2] == "B" for line in (out / "rttm").read_text().splitlines())
    assert read_table(out / "reco2num_spk") == {"clip": "2", "quiet": "0"}
    assert list(read_table(out / "failed")) == ["lost"]


def test_a_run_that_goes_on_ends_as_one(voices, data, tmp_path):
    (data / "reco2file_and_channel").unlink()  # names of its own are gathered in results.jsonl
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert run(voices, data, whole) == 0
    kept = (data / "wav.scp").read_text()
    (data / "wav.scp").write_text(kept.splitlines()[1])  # the clip, which has turns
    assert run(voices, data, part) == 0
    assert (part / "rttm").read_text()
    (data / "wav.scp").write_text(kept)
    assert run(voices, data, part, resume=True) == 0
    for name in ("rttm", "reco2num_spk", "failed"):
        assert (part / name).read_text() == (whole / name).read_text()


def test_textgrid_has_a_tier_a_speaker(voices, data, tmp_path, monkeypatch):
    textgrid = pytest.importorskip("praatio.textgrid")
    monkeypatch.setattr(diarization, "cluster", two)
    run(voices, data, tmp_path / "out", output_format="textgrid")
    grid = textgrid.openTextgrid(str(tmp_path / "out" / "clip.TextGrid"), False)
    assert grid.tierNames == ("SPK0", "SPK1")
    spans = [tuple(entry) for name in grid.tierNames for entry in grid.getTier(name).entries]
    assert spans == [(start, end, name) for start, end, name in TURNS]


def test_json_and_a_command_say_the_same(voices, data, tmp_path, capsys):
    run(voices, data, tmp_path / "out", output_format="json", preset_spk_num=2)
    rows = [json.loads(x) for x in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    command = [sys.executable, "-m", "paraformer", f"+model={voices}", f"+vad_model={VAD}"]
    command += [f"+input={CLIP}", "+preset_spk_num=2", "+device=cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert json.loads(done.stdout) == rows[0]["turns"]
    assert len({turn["spk"] for turn in rows[0]["turns"]}) == 2


def test_the_command_line_gives_options_of_the_speaker_model(voices, capsys):
    oracle = ROOT / "tests/fixtures/oracle/bicif"
    command = [f"+model={oracle}", f"+vad_model={VAD}", f"+spk_model={voices}", "+device=cpu"]
    command += [str(CLIP), "+output_format=json"]
    assert main([*command, "+spk_kwargs.cb_kwargs.merge_thr=0.5"]) == 0
    assert json.loads(capsys.readouterr().out)["spk_num_confidence"] == 1.0
    assert main([*command, "+spk_kwargs.cb_kwargs.merge=0.5"]) == 1
    assert "spk_kwargs: unknown key 'cb_kwargs.merge'" in capsys.readouterr().err


def test_a_data_directory_is_decoded_with_speakers(voices, data, tmp_path, monkeypatch):
    monkeypatch.setattr(diarization, "cluster", two)
    oracle, out = ROOT / "tests/fixtures/oracle/bicif", tmp_path / "out"
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "decode.yaml")
    given = {"model": str(oracle), "vad_model": VAD, "spk_model": voices, "device": "cpu"}
    given |= {"data": str(data), "out": str(out), "min_success": 0.6}
    assert decode(OmegaConf.merge(config, {**given, "output_format": "stm"})) == 0
    lines = [line.split() for line in (out / "stm").read_text("utf-8").splitlines()]
    assert [line[:3] for line in lines] == [["call", "B", "SPK0"], ["call", "B", "SPK1"]]
    more = {"output_format": "json", "return_spk_center": True}
    assert decode(OmegaConf.merge(config, {**given, **more})) == 0
    rows = [json.loads(x) for x in (out / "results.jsonl").read_text("utf-8").splitlines()]
    auto = AutoModel(str(oracle), vad_model=VAD, spk_model=voices, device="cpu")
    (expected,) = auto.generate(str(CLIP), key="clip", return_spk_center=True)
    assert rows[0] == expected
    assert len(rows[0]["spk_embedding_center"]) == 2


def test_faults_are_one_line(voices, data, tmp_path):
    with pytest.raises(ConfigError, match="channel=split: turns are of recordings"):
        run(voices, data, tmp_path / "out", channel="split")
    with pytest.raises(ConfigError, match="is a VAD .*, not a speaker model such as cam"):
        run(VAD, data, tmp_path / "out")
    with pytest.raises(ConfigError, match="output_format=srt: not known; use text, json, rttm"):
        run(voices, data, tmp_path / "out", output_format="srt")
    with pytest.raises(ConfigError, match="vad_model: .*is a speaker model"):
        AutoModel(voices, vad_model=voices)


@pytest.fixture
def spoken():
    words = [("你", 0, 400, "Ann B"), ("好", 400, 900, "Ann B"), ("在", 1000, 1400, "C")]
    rows = [dict(zip(("text", "start", "end", "speaker"), word, strict=True)) for word in words]
    return {"key": "a b", "text": "你好在", "audio_seconds": 2.0, "words": rows}


def test_blanks_in_names_are_replaced_and_said(spoken, caplog):
    assert format_timed(spoken, "rttm").splitlines() == [
        "SPEAKER a_b 1 0.000 0.900 <NA> <NA> Ann_B <NA> <NA>",
        "SPEAKER a_b 1 1.000 0.400 <NA> <NA> C <NA> <NA>",
    ]
    assert "'Ann B' is written as 'Ann_B'" in caplog.text


def test_names_that_differ_by_a_blank_alone_are_refused(spoken):
    spoken["words"][2]["speaker"] = "Ann_B"
    with pytest.raises(Exception, match="have one name in rttm"):
        format_timed(spoken, "rttm")


def test_turns_go_before_words(spoken):
    turns = [{"start": 0, "end": 1500, "spk": 0}, {"start": 900, "end": 2000, "spk": 1}]
    assert format_timed({**spoken, "turns": turns}, "rttm").splitlines() == [
        "SPEAKER a_b 1 0.000 1.500 <NA> <NA> SPK0 <NA> <NA>",
        "SPEAKER a_b 1 0.900 1.100 <NA> <NA> SPK1 <NA> <NA>",
    ]
