"""make_fbank and compute_cmvn: from a data directory to features and am.mvn."""

from __future__ import annotations

import errno
import logging
import shutil
import subprocess
import sys

import kaldiio
import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from paraformer.data.audio.read import read_audio, resample
from paraformer.data.corpus.tables import read_table
from paraformer.data.features.cmvn import read_cmvn
from paraformer.data.features.frontend import Frontend, low_frame_rate
from paraformer.errors import ConfigError, DataError
from paraformer.programs.compute_cmvn import compute_cmvn
from paraformer.programs.growing_archive import GrowingArchive
from paraformer.programs.make_fbank import make_fbank
from tests.conftest import ROOT

# What 16 bits a value may lose.
STORED = 1e-3


@pytest.fixture
def data(tmp_path):
    """Three utterances of 0.4, 0.8 and 1.2 s; the last at 8 kHz."""
    folder = tmp_path / "data"
    folder.mkdir()
    generator = np.random.default_rng(0)
    lines = []
    for number, rate in ((1, 16000), (2, 16000), (3, 8000)):
        path = folder / f"u{number}.wav"
        noise = 0.1 * generator.standard_normal(int(0.4 * number * rate))
        soundfile.write(path, noise, rate, subtype="PCM_16")
        lines.append(f"u{number} {path}\n")
    (folder / "wav.scp").write_text("".join(lines))
    return folder


def configured(program, **settings):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / f"{program}.yaml")
    return OmegaConf.merge(config, settings)


def features(folder, name="data"):
    table = read_table(folder / f"{name}.scp")
    return {key: torch.tensor(kaldiio.load_mat(place)) for key, place in table.items()}


def run(program, *arguments, cwd=None):
    command = [sys.executable, str(ROOT / "bin" / f"{program}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300)


def near(ours, expected, atol):
    torch.testing.assert_close(ours, expected, atol=atol, rtol=0)


def test_written_features_are_those_of_the_frontend(data, tmp_path):
    assert make_fbank(configured("fbank", data=str(data), out=str(tmp_path / "out"))) == 0
    frames = read_table(tmp_path / "out" / "data.utt2num_frames")
    written = features(tmp_path / "out")
    assert list(written) == ["u1", "u2", "u3"]
    for key, feats in written.items():
        near(feats, Frontend().fbank(read_audio(data / f"{key}.wav")), STORED)
        assert int(frames[key]) == len(feats)
    assert not list((tmp_path / "out").glob("*.part"))


def test_uncompressed_features_are_exact(data, tmp_path):
    config = configured("fbank", data=str(data), out=str(tmp_path), name="plain", compress=False)
    assert make_fbank(config) == 0
    for key, feats in features(tmp_path, "plain").items():
        near(feats, Frontend().fbank(read_audio(data / f"{key}.wav")), 1e-5)


def test_frontend_settings_arrive(data, tmp_path):
    out = str(tmp_path)
    config = configured("fbank", data=str(data), out=out, n_mels=40, window="povey", fs=8000)
    assert make_fbank(config) == 0
    frontend = Frontend(fs=8000, n_mels=40, window="povey")
    expected = frontend.fbank(read_audio(data / "u1.wav", target_fs=8000))
    near(features(tmp_path)["u1"], expected, STORED)


def test_threads_and_speeds_change_ids_and_lengths_only_as_said(data, tmp_path):
    speeds = {"data": str(data), "speeds": [0.9, 1.0, 1.1]}
    assert make_fbank(configured("fbank", out=str(tmp_path / "one"), **speeds)) == 0
    assert make_fbank(configured("fbank", out=str(tmp_path / "two"), num_threads=2, **speeds)) == 0
    one, two = features(tmp_path / "one"), features(tmp_path / "two")
    assert list(one) == sorted([f"{p}u{n}" for p in ("", "sp0.9-", "sp1.1-") for n in (1, 2, 3)])
    for key, feats in one.items():
        assert torch.equal(two[key], feats)
    slow = Frontend().fbank(resample(read_audio(data / "u2.wav"), 14400, 16000))
    assert len(slow) > len(one["u2"]) > len(one["sp1.1-u2"])
    near(one["sp0.9-u2"], slow, STORED)


def test_a_run_that_was_stopped_goes_on(data, tmp_path, monkeypatch):
    """Even where it was killed in the middle of a matrix, and what is there is not read again."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = {"data": str(data), "speeds": [1.0, 0.9]}
    make_fbank(configured("fbank", out=str(whole), **settings))
    add = GrowingArchive.add

    def stop_at_the_fourth(archive, utterance, feats):
        if len(archive) == 3:
            raise KeyboardInterrupt
        add(archive, utterance, feats)

    with monkeypatch.context() as patch:
        patch.setattr(GrowingArchive, "add", stop_at_the_fourth)
        with pytest.raises(KeyboardInterrupt):
            make_fbank(configured("fbank", out=str(parts), **settings))
    (first,) = (path for path in data.glob("*.wav") if path.stem == "u1")
    first.unlink()
    with pytest.raises(ConfigError, match=r"made otherwise \(n_mels was .*, is 40"):
        make_fbank(configured("fbank", out=str(parts), resume=True, n_mels=40, **settings))
    for path in (*parts.glob("*.ark.part"), *parts.glob("*.rows.part")):
        path.write_bytes(path.read_bytes() + b"u2 half")
    assert make_fbank(configured("fbank", out=str(parts), resume=True, **settings)) == 0
    assert {p.name for p in parts.iterdir()} == {p.name for p in whole.iterdir()}
    for path in whole.iterdir():
        theirs = path.read_bytes().replace(str(whole).encode(), str(parts).encode())
        assert (parts / path.name).read_bytes() == theirs, path


def test_features_stay_where_their_tables_find_no_room(data, tmp_path, monkeypatch):
    """On a full disk the work of hours is not lost: a later run goes on with it."""
    settings = {"data": str(data), "out": f"{tmp_path}/out"}

    def full(path, table):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("paraformer.programs.growing_archive.write_table", full)
        with pytest.raises(OSError, match="No space left"):
            make_fbank(configured("fbank", **settings))
    for path in data.glob("*.wav"):
        path.unlink()
    assert make_fbank(configured("fbank", resume=True, **settings)) == 0
    assert [*features(tmp_path / "out")] == ["u1", "u2", "u3"]


def test_segments_are_cut_from_their_recordings(data, tmp_path):
    (data / "segments").write_text(
        "a u3 0.0 0.5\nb u1 0.1 0.3\nc u3 0.5 -1\nd u3 1.0 1.3\ne u3 1.0 9.0\nf u9 0 1\n"
    )
    config = configured("fbank", data=str(data), out=str(tmp_path), min_success=0.6)
    assert make_fbank(config) == 0
    written, u1, u3 = features(tmp_path), *(read_audio(data / f"{u}.wav") for u in ("u1", "u3"))
    parts = {"a": u3[:8000], "b": u1[1600:4800], "c": u3[8000:], "d": u3[16000:]}
    assert list(written) == list(parts)
    for key, wave in parts.items():
        near(written[key], Frontend().fbank(wave), STORED)


@pytest.mark.parametrize(("min_success", "code"), [(0.6, 0), (0.95, 1)])
def test_bad_utterances_are_named_counted_and_skipped(data, tmp_path, caplog, min_success, code):
    caplog.set_level(logging.INFO)
    soundfile.write(data / "short.wav", np.zeros(1), 16000)
    with (data / "wav.scp").open("a") as file:
        file.write(f"bad missing.wav\nshort {data}/short.wav\n")
    config = configured("fbank", data=str(data), out=str(tmp_path), min_success=min_success)
    assert make_fbank(config) == code
    assert list(features(tmp_path)) == ["u1", "u2", "u3"]
    messages = [record.getMessage() for record in caplog.records]
    assert [m.split(":")[0] for m in messages[:2]] == ["utterance 'bad'", "utterance 'short'"]
    assert messages[2:] == ["wrote 3 of 5 utterances"]


def test_a_list_with_a_command_is_read_as_well(data, tmp_path):
    (tmp_path / "my.scp").write_text(f"u1 cat {data}/u1.wav |\n")
    assert make_fbank(configured("fbank", data=str(tmp_path / "my.scp"), out=str(tmp_path))) == 0
    near(features(tmp_path, "my")["u1"], Frontend().fbank(read_audio(data / "u1.wav")), STORED)


@pytest.mark.parametrize("wrong", [{"speeds": []}, {"speeds": [1, 1]}, {"num_threads": 0}])
def test_impossible_settings_are_refused(data, tmp_path, wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_fbank(configured("fbank", data=str(data), out=str(tmp_path), **wrong))


def test_a_wrong_segments_line_is_named(data, tmp_path):
    (data / "segments").write_text("a u3 0.5 0.1\n")
    with pytest.raises(DataError, match="segments: 'a'"):
        make_fbank(configured("fbank", data=str(data), out=str(tmp_path)))


def test_cmvn_is_that_of_the_stacked_features(data, tmp_path):
    make_fbank(configured("fbank", data=str(data), out=str(tmp_path)))
    out = tmp_path / "am.mvn"
    assert compute_cmvn(configured("cmvn", feats=str(tmp_path / "data.scp"), out=str(out))) == 0
    rows = torch.cat([low_frame_rate(x, 7, 6) for x in features(tmp_path).values()]).double()
    cmvn = read_cmvn(out)
    assert cmvn.shift.shape == (560,)
    near(cmvn.shift.double(), -rows.mean(0), 1e-5)
    near(cmvn.scale.double(), 1 / rows.std(0, correction=0), 1e-5)


def test_features_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "feats.scp").write_text("u1 nothing.ark:3\n")
    with pytest.raises(DataError, match="utterance 'u1': cannot read features at nothing.ark:3"):
        compute_cmvn(configured("cmvn", feats=str(tmp_path / "feats.scp"), out="x"))


@pytest.mark.cli
def test_both_commands_from_a_folder_of_their_own(data, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    done = run("make_fbank", f"data={data}", "out=fbank", "speeds=[1.0,0.9]", cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1].endswith("wrote 6 of 6 utterances")
    assert (here / "fbank" / "data.scp").read_text().startswith("sp0.9-u1 fbank/data.ark:")
    done = run("compute_cmvn", "feats=fbank/data.scp", "out=am.mvn", "lfr_m=1", "lfr_n=1", cwd=here)
    assert done.returncode == 0, done.stderr
    assert read_cmvn(here / "am.mvn").shift.shape == (80,)
    assert sorted(p.name for p in here.iterdir()) == ["am.mvn", "fbank"]


@pytest.mark.cli
def test_a_command_that_fails_ends_with_1_and_no_traceback(data, tmp_path):
    shutil.rmtree(data)
    done = run("make_fbank", f"data={data}", f"out={tmp_path}")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert str(data) in done.stderr


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.zeros((5, 0)), "no features"),
        (np.zeros((0, 80)), "no features"),
        (np.zeros(80), "no features"),
        (np.full((5, 80), np.nan), "NaN or infinity"),
        (np.full((5, 80), np.inf), "NaN or infinity"),
    ],
)
def test_no_statistics_come_from_what_are_no_features(tmp_path, matrix, message):
    place = {"u": matrix.astype(np.float32)}
    kaldiio.save_ark(str(tmp_path / "x.ark"), place, scp=str(tmp_path / "x.scp"))
    config = {"feats": str(tmp_path / "x.scp"), "out": str(tmp_path / "am.mvn")}
    with pytest.raises(DataError, match=f"'u': {message}"):
        compute_cmvn(OmegaConf.create({**config, "lfr_m": 7, "lfr_n": 6, "min_success": 1.0}))
    assert not (tmp_path / "am.mvn").exists()
