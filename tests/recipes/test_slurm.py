"""The recipe through Slurm: features, training and decoding are its jobs; training that Slurm
interrupts, or that runs on two machines, ends as it would have.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
import torch

from paraformer.data.corpus.tables import read_table
from paraformer.train.snapshots import read_records
from tests import tiny
from tests.conftest import ROOT
from tests.recipes.tones import write_corpora
from tests.slurm import cluster, needs_slurm, wait_and_hurry

pytestmark = [pytest.mark.recipe, needs_slurm]
RECIPE = ROOT / "egs/mini_zh/s0"
STEPS = 40
SCHEDULE = ("max_steps: 400, log_interval: 20", f"max_steps: {STEPS}, log_interval: 5")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster", nodes=2) as env:
        jobs = "utils/slurm.py --mem 900M"
        yield {**env, "OMP_NUM_THREADS": "1", "train_cmd": jobs, "decode_cmd": jobs}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """The tiny configuration with fewer steps."""
    text = (RECIPE / "conf/train_tiny.yaml").read_text("utf8")
    assert SCHEDULE[0] in text
    path = tmp_path_factory.mktemp("conf") / "train_few.yaml"
    path.write_text(text.replace(*SCHEDULE))
    return path


def train(work: Path, config: Path, out: Path, cmd: str, env, *options: str) -> None:
    """As stage 3 does."""
    command = ["bash", "steps/train.sh", "--cmd", cmd, "--config", str(config), *options]
    command += ["--lang", str(work / "data/lang"), str(work / "data/train"), str(work / "data/dev")]
    command += [str(out), "seed=1", f"unit_ctc.units={work}/data/lang/units.txt"]
    done = subprocess.run(command, cwd=RECIPE, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def interrupt(log: Path, mark: str, env) -> None:
    """Tell the job of a log to make room, once a line of the log holds the mark."""
    deadline = time.monotonic() + 400
    while not log.is_file() or mark not in log.read_text("utf8"):
        assert time.monotonic() < deadline, f"no '{mark}' in {log}"
        time.sleep(0.1)
    listed = subprocess.run(
        ["squeue", "-h", "-t", "RUNNING", "-o", "%A"], env=env, capture_output=True, text=True
    )
    subprocess.run(["scancel", "--batch", "--signal=USR1", *listed.stdout.split()], env=env)


@pytest.fixture(scope="module")
def work(slurm, config, tmp_path_factory):
    """The folder of a run up to decoding, whose training was interrupted."""
    folder = tmp_path_factory.mktemp("work")
    corpora = write_corpora(tmp_path_factory.mktemp("corpora"))
    command = ["bash", "run.sh", "--tiny", "true", "--stop-stage", "6", "--config", str(config)]
    command += ["--work", str(folder), "--corpora", str(corpora)]
    with subprocess.Popen(
        command, cwd=RECIPE, env=slurm, stderr=subprocess.PIPE, text=True
    ) as process:
        interrupt(folder / "exp/train_few/log/train.log", "step 10:", slurm)
        err = wait_and_hurry(process, slurm, 500)
    assert process.returncode == 0, err[-3000:]
    return folder


def test_features_training_and_decoding_are_jobs_of_slurm(work):
    logs = [*work.glob("**/log/q/*/*.code"), *work.glob("**/log/q/*/slurm*.log")]
    names = {path.parent.name.split(".")[0] for path in logs}
    assert {"make_fbank_train", "train", "average", "decode"} <= names
    for part in ("test_dsp", "test_hsk", "test_synthetic", "test_read"):
        text = read_table(work / f"exp/train_few/decode_{part}/text")
        assert text.keys() == read_table(work / f"data/{part}/text").keys()


def test_a_training_that_slurm_interrupts_ends_with_the_same_result(work, config, tmp_path):
    """Bit for bit that of one on this machine that nothing interrupts."""
    log = (work / "exp/train_few/log/train.log").read_text("utf8")
    assert log.count("# Started at") == 2 and "continue at epoch" in log
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    train(work, config, tmp_path / "whole", "utils/run.py", env)
    folders = (work / "exp/train_few", tmp_path / "whole")
    ours, theirs = (torch.load(f / "last.pt", weights_only=True) for f in folders)
    assert ours["position"][2] == STEPS
    assert tiny.equal(ours, theirs)
    ours, theirs = (read_records(f / "epochs.jsonl") for f in folders)
    assert ours == theirs


def test_two_machines_train_together(work, config, slurm, tmp_path):
    """One process on each: all four parts of each batch are seen, and one of them writes."""
    options = ["--nodes", "2", "--nproc", "1", "--max-restarts", "1"]
    train(work, config, tmp_path / "exp", slurm["train_cmd"], slurm, *options)
    state = torch.load(tmp_path / "exp/last.pt", weights_only=True)
    assert state["position"][2] == STEPS and len(state["others"]) == 1
    (log,) = (tmp_path / "exp/log").glob("train.log")
    assert log.read_text("utf8").count(f"step {STEPS}: ") == 1
