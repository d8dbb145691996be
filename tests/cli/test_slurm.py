"""utils/slurm.py keeps the contract of utils/run.py, on a real Slurm of this machine."""

from __future__ import annotations

import importlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.slurm import cluster, hurry_once, needs_slurm, wait_and_hurry

pytestmark = pytest.mark.cli
SLURM = [sys.executable, str(ROOT / "utils" / "slurm.py")]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    with cluster(tmp_path_factory.mktemp("slurm") / "cluster") as env:
        yield env


def run(*arguments, cwd, env=None):
    return subprocess.run(
        [*SLURM, *arguments], cwd=cwd, env=env, capture_output=True, encoding="utf-8", timeout=300
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
    _, err = process.communicate(timeout=300)
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


def signalled(slurm, folder, script: str, *options: str) -> tuple[int, str]:
    """Exit code and stderr of a job that gets SIGUSR1 at each of its starts, once `on` is there."""
    with subprocess.Popen(
        [*SLURM, *options, "x.log", "bash", "-c", script],
        cwd=folder,
        env=slurm,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        while process.poll() is None:
            hurry_once(slurm)
            if (folder / "on").exists():
                job = (folder / "on").read_text().strip()
                (folder / "on").unlink()
                subprocess.run(["scancel", "--batch", "--signal=USR1", job], env=slurm, check=True)
            time.sleep(0.2)
        return process.returncode, process.stderr.read()


ON = "echo $SLURM_JOB_ID > on.part; mv on.part on"


@needs_slurm
def test_a_job_is_queued_again_as_long_as_it_says_that_it_gets_further(slurm, tmp_path):
    """The third start is as far as the second, so the job has failed, and says how to help it."""
    script = f"echo x >> n; head -n 2 n | tee $JOB_PROGRESS; {ON}; {REST}"
    code, err = signalled(slurm, tmp_path, script)
    assert code == 1
    assert "slurm.py: job 1: stopped by SIGUSR1: no progress between two starts; give it " in err
    assert (tmp_path / "x.log").read_text().count("# Started at") == 3


@needs_slurm
def test_a_job_that_does_not_go_on_is_not_queued_again(slurm, tmp_path):
    code, err = signalled(slurm, tmp_path, f"{ON}; {REST}")
    assert code == 1
    assert "slurm.py: job 1: stopped by SIGUSR1: it does not go on when it is started again" in err
    assert (tmp_path / "x.log").read_text().count("# Started at") == 1


@needs_slurm
def test_close_to_its_time_limit_only_a_job_that_goes_on_is_stopped(slurm, tmp_path):
    """The others have all of their time: this one ends well after the signal."""
    script = f"{ON}; while [ -e on ]; do sleep 0.1; done; sleep 2; echo ended"
    code, err = signalled(slurm, tmp_path, script, "--time", "1")
    assert (code, err) == (0, "")
    assert body(tmp_path / "x.log") == ["ended"]


@pytest.mark.parametrize(
    ("limit", "notice"),
    [("2:00", 30), ("0:20", 15), ("1:0:0", 120), ("1-0", 120), ("UNLIMITED", 120)],
)
def test_a_short_time_limit_has_a_short_notice(tmp_path, limit, notice):
    """A quarter of it; sbatch is a stand-in that refuses, whose command is shown."""
    (tmp_path / "sbatch").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = run("--time", limit, "x.log", "true", cwd=tmp_path, env=env)
    assert done.returncode == 2
    assert f"--time {limit} --signal B:USR1@{notice} " in done.stderr


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("N/A PENDING PartitionTimeLimit", "Slurm would let it wait for ever (PartitionTimeLimit)"),
        ("N/A PENDING launch_failed_requeued_held", "wait for ever (launch failed requeued held)"),
        ("N/A TIMEOUT TimeLimit", "ended by Slurm, TIMEOUT, and it left no result"),
        ("", "Slurm has it no longer"),
        (None, "squeue does not answer"),
    ],
)
def test_it_always_comes_back(tmp_path, monkeypatch, line, reason):
    """Whatever squeue says of a job that leaves no result, or if it says nothing."""
    monkeypatch.syspath_prepend(str(ROOT / "utils"))
    slurm = importlib.import_module("slurm")
    for name in ("ASK_SECONDS", "LOST_SECONDS", "ENDED_SECONDS", "SILENT_SECONDS"):
        monkeypatch.setattr(slurm, name, 0.0)
    asked = []

    def answer(*command):
        asked.append(command[0])
        code = 1 if line is None else 0
        return subprocess.CompletedProcess(command, code, line or "", "down" if code else "")

    monkeypatch.setattr(slurm, "_ask", answer)
    monkeypatch.setattr(slurm, "GRACE_SECONDS", 0.0)
    plan = slurm.Plan("", 1, 1, str(tmp_path / "x.log"), ["true"], {})
    failed = slurm.watch(slurm.Array(plan, tmp_path, "7"), [])
    assert [job.number for job in failed] == [1] and reason in failed[0].reason
    assert "scancel" in asked


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
