"""The VAD recipe runs from clips, or sounds made by code, to scores; labels are in their place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.tables import read_table
from paraformer.decode.vad import VoiceActivity
from paraformer.models.release import load_vad
from paraformer.train.vad import read_spans
from tests.conftest import ROOT

pytestmark = pytest.mark.recipe
RECIPE = ROOT / "egs/vad/s0"
FIXTURE_VAD = ROOT / "tests/fixtures/oracle/fsmn_vad"


def run_recipe(work: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", str(RECIPE / "run.sh"), "--tiny", "true", "--work", str(work), "--nj", "1"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *options],
        cwd=RECIPE,
        env=env,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without corpora, so that it is the same everywhere."""
    folder = tmp_path_factory.mktemp("vad")
    absent = str(folder / "nothing")
    done = run_recipe(folder, "--corpora", absent, "--reference-vad", str(FIXTURE_VAD))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def local() -> object:
    """Modules beside the recipe, which is no package."""
    sys.path.insert(0, str(RECIPE / "local"))
    import labels

    sys.path.remove(str(RECIPE / "local"))
    return labels


def test_tables_agree(work: Path) -> None:
    for part in ("train", "dev", "test_clean", "test_noisy"):
        sources = read_table(work / "data" / part / "wav.scp")
        spans = read_spans(work / "data" / part / "segments")
        assert spans.keys() <= sources.keys() and spans
        for key, found in spans.items():
            size = len(read_audio(sources[key])) / 16000
            flat = [time for span in found for time in span]
            assert flat == sorted(flat) and flat[-1] <= size


def test_clean_recordings_are_loud_where_the_labels_say(work: Path) -> None:
    sources = read_table(work / "data/test_clean/wav.scp")
    for key, spans in read_spans(work / "data/test_clean/segments").items():
        wave = read_audio(sources[key]).numpy()
        spoken = np.zeros(len(wave), bool)
        for begin, end in spans:
            spoken[round(begin * 16000) : round(end * 16000)] = True
        power = [np.mean(np.square(wave[mask])) for mask in (spoken, ~spoken)]
        assert power[0] > 100 * power[1]


def test_the_tiny_model_learns_something(work: Path) -> None:
    lines = (work / "exp/train_tiny/epochs.jsonl").read_text("utf8").splitlines()
    records = [json.loads(line) for line in lines]
    assert records[-1]["loss"] < records[0]["loss"]
    assert max(record["f1"] for record in records) > 80
    clean = (work / "exp/train_tiny/scores/test_clean").read_text("utf8").splitlines()
    assert [line.split(":")[0] for line in clean] == ["labels"] * 2 + ["reference_vad"] * 2
    assert float(clean[0].split()[2]) > 85


def test_the_model_is_a_released_directory(work: Path) -> None:
    final = work / "exp/train_tiny/final"
    names = {path.name for path in final.iterdir()}
    assert names == {"config.yaml", "configuration.json", "model.pt", "am.mvn"}
    source = next(iter(read_table(work / "data/test_clean/wav.scp").values()))
    assert VoiceActivity(load_vad(final)).segments(read_audio(source))


def test_a_second_run_makes_the_same_recordings(work: Path, tmp_path: Path) -> None:
    again = run_recipe(tmp_path, "--corpora", str(work / "standin"), "--stop-stage", "0")
    assert again.returncode == 0, again.stderr[-2000:]
    old, new = work / "data/test_noisy", tmp_path / "data/test_noisy"
    assert (old / "segments").read_bytes() == (new / "segments").read_bytes()
    for path in (old / "audio").iterdir():
        assert path.read_bytes() == (new / "audio" / path.name).read_bytes()


def test_labels_by_energy(local) -> None:
    """A buzz between 0.5 and 1 s, and again 60 ms later: one span, held for a while."""
    time = np.arange(32000) / 16000
    wave = 0.3 * np.sign(np.sin(2 * np.pi * 150 * time))
    loud = (time >= 0.5) & (time < 1.0) | (time >= 1.06) & (time < 1.3)
    wave = np.where(loud, wave, 0) + 1e-4 * np.random.default_rng(0).standard_normal(len(time))
    ((begin, end),) = local.speech_spans(wave)
    assert abs(begin / 16000 - 0.5) < 0.025  # a frame
    assert abs(end / 16000 - 1.3 - local.Rule().hold_ms / 1000) < 0.025
    assert local.speech_spans(0.1 * np.random.default_rng(0).standard_normal(32000)) == []
    pieces = local.pauses(wave, [(begin, end)])
    assert len(pieces) == 2 and all(np.abs(piece).max() < 1e-3 for piece in pieces)


def test_missing_corpora_are_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run_recipe(tmp_path, "--corpora", str(tmp_path / "empty"), "--stop-stage", "0")
    assert done.returncode == 1
    assert "none of the corpora is here; see the README" in done.stderr
    assert "Traceback" not in done.stderr
