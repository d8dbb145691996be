"""Jobs of `run.py` and `slurm.py`: Kaldi's command line, the logs, how a job starts and ends."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from paraformer.cli import ends
from paraformer.errors import writing  # noqa: E402

OPERATOR = re.compile(r"\|\|?|\|&|&&|;|\(|\)|\d?(>|>>|<|<>|>\|)|&>>?|\d?>&\d")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A trainer that is told to stop still saves its state.
GRACE_SECONDS = 30.0
TAIL_LINES = 15
SHORT = {"-tc": "--max-jobs-run"}


class UsageError(Exception):
    """The command line itself is wrong."""


class Stopped(Exception):  # noqa: N818
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Plan(NamedTuple):
    """Jobs to run: `first` to `last`, `name` standing for the number in log and command."""

    name: str
    first: int
    last: int
    log: str
    command: list[str]
    options: dict[str, str]  # as they are written: --mem

    @property
    def numbers(self) -> range:
        """The numbers of the jobs."""
        return range(self.first, self.last + 1)

    def numbered(self, text: str, number: int) -> str:
        """A text with the number of the job in it."""
        return text.replace(self.name, str(number)) if self.name else text

    def log_of(self, number: int) -> Path:
        """The log of one job."""
        return Path(self.numbered(self.log, number))

    def whole(self, option: str, default: int, least: int) -> int:
        """The value of an option that is a whole number."""
        value = self.options.get(option, str(default))
        if not value.isdecimal() or option in self.options and int(value) < least:
            raise UsageError(f"option {option} is '{value}'; give a whole number from {least} up")
        return int(value)


class Job(NamedTuple):
    """A job that runs."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    started: float
    slot: int = 0


class Failure(NamedTuple):
    """A job that did not succeed; `reason` where its log cannot tell."""

    number: int
    log: Path
    reason: str = ""


def parse(arguments: Sequence[str]) -> Plan:
    """Read the command line; options and JOB=1:4 may stand in either order."""
    rest = list(arguments)
    options: dict[str, str] = {}
    name, first, last = "", 1, 1
    while rest:
        job = re.fullmatch(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?", rest[0])
        if job and not name:
            name, first, last = job[1], int(job[2]), int(job[3] or job[2])
            rest.pop(0)
        elif rest[0].startswith("-"):
            option = rest.pop(0)
            if not rest:
                raise UsageError(f"option {option} has no value")
            options[SHORT.get(option, option)] = rest.pop(0)
        else:
            break
    if len(rest) < 2:
        usage = f"{program()} [options] [JOB=1:4] log/x.JOB.log command ..."
        raise UsageError(f"no command; usage: {usage}")
    if not 1 <= first <= last:
        raise UsageError(f"{name}={first}:{last} holds no job; count from 1 up")
    log, *command = rest
    if last > first and name not in log:
        raise UsageError(f"{last - first + 1} jobs would share the log {log}; write {name} in it")
    return Plan(name, first, last, log, command, options)


def quote(command: Sequence[str]) -> str:
    """A line for bash in which only the operators act.

    >>> quote(["decode.py", "speeds=[1.0]", "|", "sort", ">", "my file"])
    "decode.py 'speeds=[1.0]' | sort > 'my file'"
    """
    return " ".join(word if OPERATOR.fullmatch(word) else shlex.quote(word) for word in command)


def start(
    plan: Plan,
    number: int,
    environment: Mapping[str, str] | None = None,
    slot: int = 0,
    again: bool = False,
) -> Job:
    """Start one job in a process group of its own, which can be ended with all its children.

    again: the log of an earlier start of the same job is kept.
    """
    log = plan.log_of(number)
    line = quote([plan.numbered(word, number) for word in plan.command])
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab" if again else "wb") as file:
        header = line.replace("\n", "\n# ")
        write(file, f"# {header}\n# Started at {time.strftime('%c')}\n#\n")
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    return Job(number, process, log, time.time(), slot)


def write(file: BinaryIO, text: str) -> None:
    """Arguments may hold bytes that are no UTF-8: they go through as they came."""
    with writing(file.name):
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()


def finish(job: Job) -> None:
    """Write the end of the log of a job that has ended."""
    code = job.process.returncode
    elapsed = round(time.time() - job.started)
    ended = f"code {code}" if code >= 0 else f"code 0; signal {-code}"
    with job.log.open("ab") as file:
        write(file, f"# Accounting: time={elapsed} threads=1\n")
        write(file, f"# Ended ({ended}) at {time.strftime('%c')}, elapsed time {elapsed} seconds\n")


def catch_signals(numbers: Sequence[int] = STOP_SIGNALS) -> list[int]:
    """A list to which stop signals are added as they arrive, so that no job is lost half started.

    One that is ignored stays so: `nohup` means it.
    """
    caught: list[int] = []
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: caught.append(number))
    return caught


def end_all(
    jobs: Sequence[Job], grace_seconds: float = GRACE_SECONDS, asked_seconds: float = 0.0
) -> None:
    """Ask all jobs and their children to end, wait a while, then make them.

    asked_seconds: how long those that somebody else has asked are left alone first.
    """
    _wait(jobs, asked_seconds)
    for job in jobs:
        _signal_group(job, signal.SIGTERM)
    _wait(jobs, grace_seconds)
    for job in jobs:
        _signal_group(job, signal.SIGKILL)
        job.process.wait()
        finish(job)


def _wait(jobs: Sequence[Job], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(_alive(job) for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.05)


def _alive(job: Job) -> bool:
    """Tell whether a process of the job is left: a child may save after the shell has ended."""
    job.process.poll()
    return _signal_group(job, 0)


def _signal_group(job: Job, number: int) -> bool:
    try:
        os.killpg(job.process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def program() -> str:
    """The name of the program that the user called."""
    return Path(sys.argv[0]).name


def warn(message: str) -> None:
    """A line on stderr."""
    print(f"{program()}: {message}", file=sys.stderr)


def report(plan: Plan, failed: Sequence[Failure]) -> None:
    """Say which jobs failed, and show the end of the first log."""
    if len(plan.numbers) == 1:
        warn(f"job failed, log is in {failed[0].log}")
    else:
        logs = plan.log.replace(plan.name, "*")
        numbers = " ".join(str(job.number) for job in failed)
        warn(
            f"{len(failed)} / {len(plan.numbers)} failed ({plan.name} {numbers}), log is in {logs}"
        )
    for job in failed:
        if job.reason:
            warn(f"{plan.name or 'job'} {job.number}: {job.reason}")
    if failed[0].log.is_file():
        lines = failed[0].log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:]
        print(f"==> {failed[0].log} <==", *lines, sep="\n", file=sys.stderr)


def enter(usage: str | None, run_all: Callable[[Plan], Sequence[Failure]]) -> int:
    """Read the command line and run the jobs; the exit code: 0, 1 if a job failed, 2 for a wrong
    command line, 128 + n after signal n.
    """

    def work() -> int:
        if sys.argv[1:2] in (["--help"], ["-h"]):
            print(usage)
            return 0
        plan = parse(sys.argv[1:])
        failed = run_all(plan)
        if failed:
            report(plan, failed)
        return 1 if failed else 0

    try:
        return ends.run(work, warn, remedy="check the path of the log")
    except UsageError as error:
        warn(str(error))
        return 2
    except Stopped as stopped:
        warn(f"stopped by signal {stopped.number}; the jobs were ended")
        return 128 + stopped.number
