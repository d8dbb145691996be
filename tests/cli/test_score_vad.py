"""score_vad.py and train_vad.py: figures against labels and against another detector."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

from paraformer.data.audio.read import read_audio
from paraformer.data.features.frontend import Frontend
from paraformer.decode.endpoint import Span
from paraformer.decode.vad import VoiceActivity
from paraformer.errors import ConfigError
from paraformer.hub.directories import find_model
from paraformer.models.fsmn_vad import VadOptions
from paraformer.models.release import load_vad
from paraformer.programs.score_vad import Finding, Score, boundary_errors, find, label, score_vad
from tests.conftest import ROOT

INPUTS = ROOT / "tests" / "fixtures" / "oracle" / "inputs"
MODEL = ROOT / "tests" / "fixtures" / "oracle" / "fsmn_vad"


def run(capsys, data, **settings):
    config = OmegaConf.load(ROOT / "paraformer" / "conf" / "score_vad.yaml")
    assert (
        score_vad(OmegaConf.merge(config, {"data": str(data), "model": str(MODEL), **settings}))
        == 0
    )
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def data(tmp_path):
    (tmp_path / "wav.scp").write_text(f"clip_b {INPUTS}/clip_b.flac\n")
    return tmp_path


def test_a_detector_agrees_with_itself(capsys, data):
    frames, bounds = run(capsys, data, reference_vad=str(MODEL))
    assert frames.startswith("reference_vad: %F1 100.00 [ miss 0.00 %, false alarm 0.00 %, ")
    assert bounds == (
        "reference_vad: boundaries median 0 ms, 90th percentile 0 ms, 100.0 % within 50 ms "
        "[ 1 segments for 1 ]"
    )


def test_frames_are_compared_with_the_labels(capsys, data, tmp_path):
    release = load_vad(MODEL)
    wave = read_audio(INPUTS / "clip_b.flac")
    with torch.no_grad():
        silent = release.model(release.frontend(wave)[None])[0, :, 0].double().numpy()
    found = 1 - silent >= silent + 0.6
    (data / "segments").write_text("s clip_b 0 1\n")
    right = 0.01 * np.arange(len(found)) + 0.0125 < 1.0
    hits = int((right & found).sum())
    f1 = 200 * hits / (right.sum() + found.sum())
    frames, _ = run(capsys, data, out=str(tmp_path / "out"))
    assert frames == (
        f"labels: %F1 {f1:.2f} [ miss {100 * (right & ~found).sum() / right.sum():.2f} %, "
        f"false alarm {100 * (found & ~right).sum() / (~right).sum():.2f} %, {len(found)} frames ]"
    )
    assert (tmp_path / "out").read_text().splitlines()[0] == frames


def test_segments_are_those_of_the_stream():
    release = load_vad(MODEL)
    for name in ("clip_a", "clip_b"):
        path = next(INPUTS.glob(f"{name}.*"))
        wave = read_audio(path)
        assert find(release, wave).segments == VoiceActivity(release).segments(wave)
    assert find(release, torch.zeros(399)) == (pytest.approx(np.zeros(0)), [])


def test_the_bundled_detector_finds_what_the_reference_finds_with_it():
    """Segments of funasr 1.4.16, given the bundled directory and max_end_silence_time=800."""
    folder = find_model("fsmn-vad-mini")
    wave = read_audio(folder / "example" / "vad_example.wav")
    found = VoiceActivity(load_vad(folder)).segments(wave)
    assert found == [Span(570, 3810), Span(4840, 7870)]


def test_labels_pass_through_the_segment_machine():
    right = label(VadOptions(), [(0.3, 0.8)], 179, Frontend())
    # Frames 29 to 78: the detector turns at the 15th of them, 40 frames before which it starts.
    assert np.flatnonzero(right.speech).tolist() == list(range(29, 79))
    assert right.segments == [Span(30, 950)]


def test_boundaries_count_from_both_sides():
    assert boundary_errors([], []) == ()
    assert boundary_errors([Span(0, 10)], []) == (math.inf, math.inf)
    none = np.zeros(0, bool)
    right = Finding(none, [Span(0, 900), Span(2000, 2500)])
    score = Score().add(right, Finding(none, [Span(30, 2400)]))
    assert score.lines("x")[1] == (
        "x: boundaries median 100 ms, 90th percentile 1970 ms, 33.3 % within 50 ms "
        "[ 1 segments for 2 ]"
    )


def test_without_labels_another_detector_is_needed(capsys, data):
    with pytest.raises(ConfigError, match="has no segments"):
        run(capsys, data)


def program(name, *arguments):
    command = [sys.executable, str(ROOT / "bin" / f"{name}.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_training_from_the_command_line(tmp_path):
    random = np.random.default_rng(0)
    wave = np.where(np.arange(48000) // 8000 % 2, 0.3, 0.001) * random.standard_normal(48000)
    soundfile.write(tmp_path / "a.wav", wave.clip(-0.99, 0.99), 16000)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.wav\n")
    (tmp_path / "segments").write_text("1 a 0.5 1.0\n2 a 1.5 2.0\n3 a 2.5 3.0\n")
    done = program(
        "train_vad",
        f"data={tmp_path}",
        f"dev={tmp_path}",
        f"dir={tmp_path}/exp",
        "training.max_steps=40",
        "optim.total_steps=40",
        "optim.warmup_steps=4",
        "optim.lr=0.01",
        "pieces.frames=100",
        "pieces.batch_frames=400",
        "pieces.gain_db=0.0",
        "model.encoder_conf.output_dim=2",
        "model.encoder_conf.fsmn_layers=1",
        "num_threads=1",
    )
    assert done.returncode == 0, done.stderr[-2000:]
    release = load_vad(tmp_path / "exp/final")
    assert release.config["encoder_conf"]["output_dim"] == 2
    loud = find(release, read_audio(tmp_path / "a.wav")).speech
    assert loud[60:90].all() and not loud[110:140].any()


def test_a_threshold_of_another_program_is_an_unknown_key(tmp_path):
    done = program("train_vad", "data=a", "dev=a", "dir=b", "piece.frames=3")
    assert done.returncode == 1
    assert "unknown key" in done.stderr and "Traceback" not in done.stderr
