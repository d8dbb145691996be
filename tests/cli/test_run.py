"""utils/run.py keeps the contract of Kaldi's run.pl, and passes arguments on as they are."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.cli

RUN = [sys.executable, str(Path(__file__).resolve().parents[2] / "utils" / "run.py")]


def run(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )


def body(log: Path) -> list[str]:
    """The lines that the command itself wrote."""
    return [line for line in log.read_text("utf-8").splitlines() if not line.startswith("#")]


def test_the_log_holds_command_output_and_exit_code(tmp_path: Path) -> None:
    done = run("log/a.log", "bash", "-c", "echo out; echo err >&2", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert re.fullmatch(
        r"# bash -c 'echo out; echo err >&2'\n# Started at .*\n#\nout\nerr\n"
        r"# Accounting: time=\d+ threads=1\n# Ended \(code 0\) at .*, elapsed time \d+ seconds\n",
        (tmp_path / "log/a.log").read_text(),
    )


def test_each_job_has_its_number_and_its_log(tmp_path: Path) -> None:
    done = run("JOB=2:4", "log/x.JOB.log", "echo", "JOB", "part.JOB.scp", cwd=tmp_path)
    assert done.returncode == 0
    assert [body(tmp_path / f"log/x.{i}.log") for i in (2, 3, 4)] == [
        [f"{i} part.{i}.scp"] for i in (2, 3, 4)
    ]
    assert (
        run("--mem", "4G", "K=1:2", "--gpu", "0", "k.K.log", "echo", "K", cwd=tmp_path).returncode
        == 0
    )
    assert body(tmp_path / "k.2.log") == ["2"]


@pytest.mark.parametrize(
    "argument",
    [
        "a b",
        "$HOME",
        "`id`",
        "data=[1.0,(2)]",
        "x*",
        "it's",
        '"q"',
        "a;b",
        "你 好",
        "",
        "\\",
        "!x",
        "#",
        "~",
    ],
)
def test_an_argument_arrives_as_it_is(tmp_path: Path, argument: str) -> None:
    script = "import sys; print(ascii(sys.argv[1:]))"
    run("a.log", sys.executable, "-c", script, argument, "last", cwd=tmp_path)
    assert body(tmp_path / "a.log") == [ascii([argument, "last"])]


def test_shell_operators_work(tmp_path: Path) -> None:
    done = run(
        *[
            "JOB=1:2",
            "x.JOB.log",
            "printf",
            "b\na\n",
            "|",
            "sort",
            ">",
            "out JOB",
            "&&",
            "echo",
            "ok",
        ],
        cwd=tmp_path,
    )
    assert done.returncode == 0
    assert (tmp_path / "out 2").read_text() == "a\nb\n"
    assert body(tmp_path / "x.1.log") == ["ok"]


def test_a_pipe_fails_with_any_of_its_parts(tmp_path: Path) -> None:
    assert run("a.log", "false", "|", "cat", cwd=tmp_path).returncode == 1


def test_a_failing_job_is_shown_and_the_others_end(tmp_path: Path) -> None:
    script = "echo trouble in JOB; sleep 0.1; test JOB != 2"
    done = run("JOB=1:3", "log/y.JOB.log", "bash", "-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("run.py: 1 / 3 failed (JOB 2), log is in log/y.*.log\n")
    assert "==> log/y.2.log <==" in done.stderr
    assert "trouble in 2" in done.stderr
    assert "trouble in 3" not in done.stderr
    assert "# Ended (code 0)" in (tmp_path / "log/y.3.log").read_text()
    assert "# Ended (code 1)" in (tmp_path / "log/y.2.log").read_text()


def test_the_tail_of_a_long_log_is_shown(tmp_path: Path) -> None:
    done = run("a.log", "bash", "-c", "seq 1000; printf '\\xff\\n'; exit 7", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("run.py: job failed, log is in a.log\n")
    assert "\n1000\n" in done.stderr
    assert "\n900\n" not in done.stderr
    assert "(code 7)" in done.stderr


def test_an_unknown_command_and_a_killed_one_fail(tmp_path: Path) -> None:
    done = run("a.log", "no_such_program", cwd=tmp_path)
    assert (done.returncode, "command not found" in done.stderr) == (1, True)
    done = run("a.log", "bash", "-c", "kill -KILL $$", cwd=tmp_path)
    assert done.returncode == 1
    assert "# Ended (code 0; signal 9)" in (tmp_path / "a.log").read_text()


# Jobs 1 and 2 end when both have begun, however slow the machine; the others sleep.
TOGETHER = (
    "if [ JOB -gt 2 ]; then sleep 0.15; else touch here.JOB; "
    "for n in $(seq 300); do [ -e here.1 ] && [ -e here.2 ] && break; sleep 0.1; done; fi"
)


def test_no_more_jobs_than_allowed_run_at_once(tmp_path: Path) -> None:
    script = f"touch on.JOB; set -- on.*; echo $#; {TOGETHER}; rm on.JOB"
    for option in ("--max-jobs-run", "-tc"):
        done = run(option, "2", "JOB=1:5", "x.JOB.log", "bash", "-c", script, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        counts = [int(body(tmp_path / f"x.{i}.log")[0]) for i in range(1, 6)]
        assert max(counts) == 2
        (tmp_path / "here.1").unlink()
        (tmp_path / "here.2").unlink()


def test_each_job_gets_gpus_of_its_own(tmp_path: Path) -> None:
    script = f"echo $CUDA_VISIBLE_DEVICES; {TOGETHER}"
    gpus = {"CUDA_VISIBLE_DEVICES": "3,5,6,7"}
    command = ["JOB=1:3", "x.JOB.log", "bash", "-c", script]
    assert run("--gpu", "2", *command, cwd=tmp_path, env=gpus).returncode == 0
    assert [body(tmp_path / f"x.{i}.log") for i in (1, 2)] == [["3,5"], ["6,7"]]
    assert body(tmp_path / "x.3.log")[0] in ("3,5", "6,7")


def test_jobs_that_lack_gpus_run_one_by_one(tmp_path: Path) -> None:
    script = "touch on.JOB; ls on.* | wc -l; sleep 0.1; rm on.JOB"
    command = ["--gpu", "1", "JOB=1:3", "x.JOB.log", "bash", "-c", script]
    done = run(*command, cwd=tmp_path, env={"CUDA_VISIBLE_DEVICES": ""})
    assert (done.returncode, "0 GPUs found, 1 asked for" in done.stderr) == (0, True)
    assert [body(tmp_path / f"x.{i}.log") for i in (1, 2, 3)] == [["1"]] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.log"], "no command"),
        ([], "no command"),
        (["JOB=1:3", "a.log", "true"], "3 jobs would share the log a.log; write JOB in it"),
        (["JOB=3:1", "a.JOB.log", "true"], "JOB=3:1 holds no job"),
        (["JOB=0:1", "a.JOB.log", "true"], "JOB=0:1 holds no job"),
        (["--max-job-run", "2", "a.log", "true"], "unknown option --max-job-run; known are"),
        (["--max-jobs-run", "0", "a.log", "true"], "give a whole number from 1 up"),
        (["--gpu", "one", "a.log", "true"], "option --gpu is 'one'"),
        (["--gpu"], "option --gpu has no value"),
    ],
)
def test_a_wrong_command_line_is_code_2(tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    done = run("log/a.log", "true", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie that nobody has collected yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_jobs_and_their_children(tmp_path: Path, number: int) -> None:
    script = "sleep 100 & echo $! > pid.JOB.part; mv pid.JOB.part pid.JOB; wait"
    process = subprocess.Popen(
        [*RUN, "--max-jobs-run", "2", "JOB=1:3", "x.JOB.log", "bash", "-c", script],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        # Whoever runs the tests in the background ignores SIGINT, and run.py respects that.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    )
    wait_for(tmp_path / "pid.1")
    wait_for(tmp_path / "pid.2")
    process.send_signal(number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 128 + number
    assert f"stopped by signal {int(number)}" in err
    assert not any(is_alive(int((tmp_path / f"pid.{i}").read_text())) for i in (1, 2))
    assert "signal 15)" in (tmp_path / "x.2.log").read_text()
    assert not (tmp_path / "x.3.log").exists()


def test_a_job_may_save_before_it_ends(tmp_path: Path) -> None:
    # The shell between run.py and the program dies at once; the program is waited for all the same.
    script = (
        "import signal, time\n"
        "def save(*_): time.sleep(0.5); open('saved', 'w').close(); raise SystemExit(3)\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "open('ready', 'w').close()\n"
        "time.sleep(100)\n"
    )
    process = subprocess.Popen(
        [*RUN, "x.log", sys.executable, "-c", script, "|", "cat"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    wait_for(tmp_path / "ready")
    process.terminate()
    assert process.wait(timeout=300) == 128 + signal.SIGTERM
    assert (tmp_path / "saved").exists()


def test_nohup_is_respected(tmp_path: Path) -> None:
    script = "touch ready; sleep 0.5; echo done"
    process = subprocess.Popen(
        ["nohup", *RUN, "x.log", "bash", "-c", script],
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(tmp_path / "ready")
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=300) == 0
    assert body(tmp_path / "x.log") == ["done"]
