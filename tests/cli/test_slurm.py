"""utils/slurm.py keeps the contract of utils/run.py, on a real Slurm of this machine."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slurm import cluster, needs_slurm, wait_and_hurry

pytestmark = pytest.mark.cli
SLURM = [sys.executable, str(ROOT / "utils" / "slurm.py")]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster") as env:
        yield env


def run(*arguments, cwd, env=None):
    return subprocess.run(
        [*SLURM, *arguments], cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=90
    )


def body(log: Path) -> list[str]:
    """The lines that the command itself wrote."""
    return [line for line in log.read_text("utf-8").splitlines() if not line.startswith("#")]


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.05)


# A shell that waits for one child ends with it, perhaps before the signal has reached the shell.
REST = "while true; do sleep 0.1; done"


@needs_slurm
def test_an_array_job_leaves_the_logs_of_run_py(slurm, tmp_path):
    """Three jobs in one array, one of which fails; arguments arrive as they are."""
    script = 'echo "$0" of $SLURM_ARRAY_JOB_ID; test N != 2'
    command = ["N=1:3", "--num-threads", "1", "log/x.N.log", "bash", "-c", script, "a 'b N"]
    done = run(*command, cwd=tmp_path, env=slurm)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("slurm.py: 1 / 3 failed (N 2), log is in log/x.*.log\n")
    assert "==> log/x.2.log <==" in done.stderr
    texts = [(tmp_path / f"log/x.{n}.log").read_text() for n in (1, 2, 3)]
    arrays = set()
    for number, text in enumerate(texts, 1):
        found = re.fullmatch(
            r"# bash -c .*\n# Started at .*\n#\n(.*) of (\d+)\n"
            r"# Accounting: time=\d+ threads=1\n"
            r"# Ended \(code (\d)\) at .*, elapsed time \d+ seconds\n",
            text,
        )
        assert found and found[1] == f"a 'b {number}" and found[3] == str(int(number == 2))
        arrays.add(found[2])
    assert len(arrays) == 1


@needs_slurm
def test_a_job_alone_has_its_options_from_the_configuration(slurm, tmp_path):
    conf = "command sbatch --export=ALL\noption mem=* --mem $0 --comment 'of $0'  # a remark\n"
    (tmp_path / "my.conf").write_text(conf)
    show = ["bash", "-c", "squeue -h -j $SLURM_JOB_ID -o '%m %k'"]
    done = run("--config", "my.conf", "--mem", "5M", "a.log", *show, cwd=tmp_path, env=slurm)
    assert (done.returncode, done.stderr) == (0, "")
    assert body(tmp_path / "a.log") == ["5M of 5M"]
    done = run("--config", "my.conf", "--time", "5", "b.log", "true", cwd=tmp_path, env=slurm)
    assert done.returncode == 2
    assert "unknown option --time 5; known to my.conf are --mem" in done.stderr


@needs_slurm
def test_ctrl_c_cancels_the_jobs(slurm, tmp_path):
    trap = "echo asked >> asked.JOB; sleep 0.5 && touch saved.JOB; exit 1"
    script = f"trap '{trap}' TERM; touch on.JOB; {REST}"
    process = subprocess.Popen(
        [*SLURM, "JOB=1:2", "x.JOB.log", "bash", "-c", script],
        cwd=tmp_path,
        env=slurm,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    for number in (1, 2):
        wait_for(tmp_path / f"on.{number}")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert "stopped by signal 2" in err
    for number in (1, 2):
        assert (tmp_path / f"asked.{number}").read_text() == "asked\n"
        assert (tmp_path / f"saved.{number}").exists()
    left = subprocess.run(["squeue", "-h", "-t", "PD,R"], env=slurm, capture_output=True, text=True)
    assert left.stdout == ""


@needs_slurm
@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_job_that_gets_a_signal_is_queued_again(slurm, tmp_path, name):
    """It may save first; its log keeps what it wrote before."""
    script = (
        "test -f saved && echo goes on && exit; trap 'sleep 0.3; touch saved; exit 0' TERM; "
        f"echo $SLURM_JOB_ID > id.part; mv id.part id; {REST}"
    )
    with subprocess.Popen(
        [*SLURM, "x.log", "bash", "-c", script],
        cwd=tmp_path,
        env=slurm,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        wait_for(tmp_path / "id")
        job = (tmp_path / "id").read_text().strip()
        subprocess.run(["scancel", "--batch", f"--signal={name}", job], env=slurm, check=True)
        err = wait_and_hurry(process, slurm, 60)
    assert (process.returncode, err) == (0, "")
    assert body(tmp_path / "x.log")[-1] == "goes on"  # behind bash's word on the end of its child
    assert (tmp_path / "x.log").read_text().count("# Started at") == 2


@needs_slurm
def test_a_job_that_somebody_cancels_is_missed(slurm, tmp_path):
    """It leaves no exit code and is not queued again: what Slurm knows of it is said."""
    done = run("x.log", "bash", "-c", "scancel $SLURM_JOB_ID; sleep 99", cwd=tmp_path, env=slurm)
    assert done.returncode == 1
    assert "slurm.py: job 1: ended by Slurm, CANCELLED, and it left no result" in done.stderr


def test_without_slurm_it_is_one_line(tmp_path):
    done = run("x.log", "true", cwd=tmp_path, env={"PATH": "/nowhere"})
    assert done.returncode == 2
    assert "slurm.py: sbatch: no such program" in done.stderr
    (tmp_path / "bad.conf").write_text("command sbatch\noptions gpu=1 -p gpu\n")
    done = run("--config", "bad.conf", "x.log", "true", cwd=tmp_path)
    assert done.returncode == 2
    assert "bad.conf:2: 'options gpu=1 -p gpu' is none of" in done.stderr
