"""The speaker recipe runs from sounds made by code to scores; mixtures are what their RTTM says."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from paraformer.data.corpus.tables import read_table
from paraformer.models.release import load_speakers
from paraformer.programs.verify import read_trials
from tests.conftest import ROOT

pytestmark = pytest.mark.recipe
RECIPE = ROOT / "egs/speaker/s0"


def start(*command: object) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [str(word) for word in command]
    how = {"cwd": RECIPE, "env": env, "capture_output": True, "text": True, "timeout": 900}
    return subprocess.run(words, check=False, **how)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Without corpora, so that it is the same everywhere."""
    folder = tmp_path_factory.mktemp("speaker")
    given = ("--tiny", "true", "--work", folder, "--nj", "1", "--corpora", folder / "nothing")
    ran = start("bash", RECIPE / "run.sh", *given, "--stop-stage", "7")
    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-4000:]
    return folder, ran.stdout


def test_no_speaker_of_a_test_or_of_dev_is_trained_on(done: tuple[Path, str]) -> None:
    folder, _ = done
    sets = [
        {name.split("-", 1)[1] if name.startswith("sp") else name for name in table.values()}
        for table in (
            read_table(folder / "data" / part / "utt2spk")
            for part in ("train", "dev", "ocean_test")
        )
    ]
    assert all(sets)
    assert not sets[0] & sets[1] and not sets[0] & sets[2] and not sets[1] & sets[2]


def test_each_pair_of_clips_is_a_trial_once(done: tuple[Path, str]) -> None:
    folder, printed = done
    speakers = read_table(folder / "data/ocean_test/utt2spk")
    trials = read_trials(folder / "data/ocean_test/trials")
    count = len(speakers)
    assert len({frozenset(trial[:2]) for trial in trials}) == len(trials) == count * (count - 1) / 2
    for trial in trials:
        assert trial.target == (speakers[trial.enrol] == speakers[trial.test])
    assert printed.count("%EER") == 2  # by cosines and by a cohort


def test_speeds_are_speakers_and_the_model_is_a_released_directory(done: tuple[Path, str]) -> None:
    folder, _ = done
    names = set(read_table(folder / "data/train/utt2spk").values())
    assert names == {
        f"{way}{name}" for name in names if "sp0" not in name for way in ("", "sp0.9-")
    }
    assert load_speakers(folder / "exp/margin_tiny/final").model.embedding_size == 16


def test_a_mixture_is_loud_where_its_rttm_says(tmp_path: Path) -> None:
    """Two tones stand in for two speakers: each is heard in its own turns alone."""
    wave = np.sin(2 * np.pi * np.outer([440, 1000], np.arange(20000)) / 16000)
    quiet = np.zeros(4000)
    for name, tone in zip("ab", wave, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", np.r_[quiet, 0.2 * tone, quiet], 16000)
    tables = {"wav.scp": "{0} {1}/{0}.wav\n", "utt2spk": "{0} {0}\n"}
    for table, line in tables.items():
        (tmp_path / table).write_text("".join(line.format(name, tmp_path) for name in "ab"))
    mixed = ("--number", 1, "--seconds", 12, tmp_path, tmp_path / "out")
    ran = start(sys.executable, RECIPE / "local/mix_turns.py", *mixed)
    assert ran.returncode == 0, ran.stderr
    sound, _ = soundfile.read(tmp_path / "out/audio/mix2-000.wav")
    spoken = np.zeros(len(sound), bool)
    for line in (tmp_path / "out/rttm").read_text().splitlines():
        _, _, _, begin, size, _, _, speaker, *_ = line.split()
        first, last = round(float(begin) * 16000), round((float(begin) + float(size)) * 16000)
        spectrum = np.abs(np.fft.rfft(sound[first : first + 16000]))
        assert np.argmax(spectrum) == {"a": 440, "b": 1000}[speaker]
        spoken[first:last] = True
    assert sound[~spoken].std() < 0.005 < 0.03 < sound[spoken].std()
    again = start(sys.executable, RECIPE / "local/mix_turns.py", *mixed[:-1], tmp_path / "again")
    assert again.returncode == 0
    ours, theirs = (tmp_path / name / "audio/mix2-000.wav" for name in ("out", "again"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_turns_overlap_as_often_as_asked_and_nobody_speaks_twice_at_once(tmp_path: Path) -> None:
    wave = 0.2 * np.sin(2 * np.pi * 440 * np.arange(40000) / 16000)
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", wave, 16000)
    tables = {"wav.scp": "{0} {1}/{0}.wav\n", "utt2spk": "{0} {0}\n"}
    for table, line in tables.items():
        (tmp_path / table).write_text("".join(line.format(name, tmp_path) for name in "ab"))
    for share in (0, 1):
        out = tmp_path / f"out{share}"
        mixed = ("--number", 1, "--seconds", 60, "--overlap", share, tmp_path, out)
        ran = start(sys.executable, RECIPE / "local/mix_turns.py", *mixed)
        assert ran.returncode == 0, ran.stderr
        rows = [line.split() for line in (out / "rttm").read_text().splitlines()]
        spans = [(float(row[3]), float(row[3]) + float(row[4]), row[7]) for row in rows]
        early = [later[0] < before[1] for before, later in pairwise(spans)]
        assert all(early) if share else not any(early)
        for name in "ab":
            own = [span for span in spans if span[2] == name]
            assert all(before[1] <= later[0] + 1e-3 for before, later in pairwise(own))
