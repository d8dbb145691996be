"""segment.py: from recordings to Kaldi segments, RTTM and labels.

The expected times are the reference's of the project's own VAD (tests/fixtures/make_vad.py).
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from omegaconf import OmegaConf

from paraformer.api import detection
from paraformer.data.corpus.datadir import DataDir
from paraformer.data.corpus.tables import read_table
from paraformer.errors import ConfigError, DataError
from paraformer.programs.segment import segment
from tests.conftest import ROOT
from tests.hub_server import files_of

INPUTS = ROOT / "tests" / "fixtures" / "oracle" / "inputs"
MODEL = ROOT / "tests" / "fixtures" / "oracle" / "fsmn_vad"
OFFLINE = json.loads((MODEL / "expected.json").read_text(encoding="utf-8"))["offline"]["clip_b"]


@pytest.fixture
def data(tmp_path):
    """clip_b, half a second of silence, and a file that is not there."""
    folder = tmp_path / "data"
    folder.mkdir()
    soundfile.write(folder / "quiet.wav", np.zeros(8000), 16000)
    rows = [f"quiet {folder}/quiet.wav", f"clip_b {INPUTS}/clip_b.flac", "lost missing.wav"]
    (folder / "wav.scp").write_text("\n".join(rows))
    return folder


def run(data, out, **settings):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "segment.yaml")
    given = {"model": str(MODEL), "data": str(data), "out": str(out), "device": "cpu"}
    return segment(OmegaConf.merge(config, {"min_success": 0.6, **given, **settings}))


def times(out):
    """Start and end in ms of each line of segments."""
    rows = [value.split()[1:] for value in read_table(out / "segments").values()]
    return [[round(1000 * float(time)) for time in row] for row in rows]


def test_segments_are_those_of_the_reference(data, tmp_path):
    out = tmp_path / "out"
    assert run(data, out) == 0
    assert times(out) == OFFLINE["max_end_silence_time=800"] == [[0, 2790]]
    assert (out / "segments").read_text() == "clip_b-0000000-0000279 clip_b 0.00 2.79\n"
    assert (out / "utt2dur").read_text() == "clip_b-0000000-0000279 2.79\n"
    assert read_table(out / "wav.scp") == {"clip_b": f"{INPUTS}/clip_b.flac"}
    assert list(read_table(out / "failed")) == ["lost"]
    assert not (out / "rttm").exists()
    assert not (out / "labels").exists()


def test_a_run_that_was_stopped_goes_on(data, tmp_path, monkeypatch):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run(data, whole) == 0
    blocks = detection.blocks_of

    def stop_behind_the_first(item, *rest):
        if item.key == "lost":
            raise KeyboardInterrupt
        return blocks(item, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(detection, "blocks_of", stop_behind_the_first)
        with pytest.raises(KeyboardInterrupt):
            run(data, parts)
    with pytest.raises(ConfigError, match=r"made otherwise \(max_end_silence_time was .*, is 300"):
        run(data, parts, resume=True, max_end_silence_time=300)
    keys = []
    monkeypatch.setattr(
        detection, "blocks_of", lambda item, *rest: keys.append(item.key) or blocks(item, *rest)
    )
    assert run(data, parts, resume=True) == 0
    assert keys == ["lost", "quiet"]
    assert files_of(parts) == files_of(whole)


def test_what_is_known_of_recordings_is_kept(data, tmp_path):
    """Without it no ctm of the segments would have NIST's names."""
    rows = "clip_b sw01 A\nlost sw02 A\nquiet sw01 B\n"
    (data / "reco2file_and_channel").write_text(rows)
    (data / "reco2dur").write_text("quiet 0.5\n")
    assert run(data, tmp_path / "out") == 0
    assert (tmp_path / "out" / "reco2file_and_channel").read_text() == "clip_b sw01 A\n"
    assert DataDir(tmp_path / "out").validate(text=False) == []
    assert not (tmp_path / "out" / "reco2dur").exists()


@pytest.mark.parametrize("silence", [200, 400])
def test_settings_arrive(data, tmp_path, silence):
    assert run(data, tmp_path / "out", max_end_silence_time=silence) == 0
    assert times(tmp_path / "out") == OFFLINE[f"max_end_silence_time={silence}"]


def test_the_limit_and_the_dynamic_rule_arrive(data, tmp_path):
    assert run(data, tmp_path / "limit", max_single_segment_time=1000) == 0
    assert times(tmp_path / "limit")[0] == [0, 1010]
    assert run(data, tmp_path / "dynamic", dynamic_silence=True) == 0
    assert times(tmp_path / "dynamic") == OFFLINE["default"]
    high = {"speech_noise_thres": 0.9}
    assert run(data, tmp_path / "high", **high) == 0
    assert times(tmp_path / "high") == OFFLINE["max_end_silence_time=800,speech_noise_thres=0.9"]


def test_rttm_and_labels(data, tmp_path):
    out = tmp_path / "out"
    assert run(data, out, rttm=True, audacity=True, max_end_silence_time=200) == 0
    (first, second) = OFFLINE["max_end_silence_time=200"]
    assert (first, second) == ([0, 1490], [1540, 2790])
    assert (out / "rttm").read_text().splitlines() == [
        "SPEAKER clip_b 1 0.000 1.490 <NA> <NA> speech <NA> <NA>",
        "SPEAKER clip_b 1 1.540 1.250 <NA> <NA> speech <NA> <NA>",
    ]
    labels = {path.name: path.read_text() for path in (out / "labels").iterdir()}
    assert labels == {
        "clip_b.txt": "0.000000\t1.490000\tspeech\n1.540000\t2.790000\tspeech\n",
        "quiet.txt": "",
    }


def test_the_result_is_a_data_directory(data, tmp_path):
    """All that validate finds is that nobody knows the speakers."""
    assert run(data, tmp_path / "out", max_end_silence_time=200) == 0
    faults = DataDir(tmp_path / "out").validate(text=False)
    assert {fault.path.name for fault in faults} <= {"utt2spk"}


@pytest.mark.parametrize(("min_success", "code"), [(0.6, 0), (0.95, 1)])
def test_bad_recordings_are_named_and_counted(data, tmp_path, caplog, min_success, code):
    caplog.set_level(logging.INFO)
    assert run(data, tmp_path / "out", min_success=min_success) == code
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0].startswith("recording 'lost': missing.wav: No such file")
    assert messages[1:] == ["1 segments, 2.8 s of 3.3 s", "segmented 2 of 3 recordings"]


def test_a_list_and_a_command_are_read_as_well(data, tmp_path):
    (tmp_path / "my.scp").write_text(f"b cat {INPUTS}/clip_b.flac |\n")
    assert run(tmp_path / "my.scp", tmp_path / "out") == 0
    assert times(tmp_path / "out") == [[0, 2790]]


def test_the_list_is_not_written_over(data):
    before = (data / "wav.scp").read_text()
    with pytest.raises(ConfigError, match="would be written over"):
        run(data, data)
    assert (data / "wav.scp").read_text() == before


def test_wrong_settings_are_refused(data, tmp_path):
    with pytest.raises(ConfigError, match="max_end_silence_time=-1"):
        run(data, tmp_path / "out", max_end_silence_time=-1)
    with pytest.raises(ConfigError, match="is a recogniser .Paraformer., not a VAD"):
        run(data, tmp_path / "out", model=str(MODEL.parent / "paraformer"))
    with pytest.raises(DataError, match="no such file"):
        run(tmp_path / "nothing", tmp_path / "out")


@pytest.mark.cli
def test_the_command(data, tmp_path):
    command = [sys.executable, str(ROOT / "bin" / "segment.py")]
    arguments = [f"model={MODEL}", f"data={data}", "out=out", "device=cpu"]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith("segmented 2 of 3 recordings")
    assert times(tmp_path / "out") == [[0, 2790]]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]
