#!/usr/bin/env python3
"""Run a command on this machine, once or as numbered jobs side by side, each with its log.

    run.py [--max-jobs-run N] [--gpu N] [--mem X] [JOB=1:4] log/x.JOB.log command JOB ...

JOB (any name) becomes the number of the job in the log name and the command. An argument reaches
the command as it is; only a shell operator that is an argument of its own (\\|, \\>, \\&\\&, ...)
acts as one, and a pipe fails if any part of it does. --gpu N gives each job N GPUs of its own;
--mem, --time, --num-threads and the like are for schedulers and change nothing here. Exit code 1
if any job failed.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

SCHEDULER_OPTIONS = ("--mem", "--time", "--num-threads", "--config", "--partition", "-l", "-q")
OPERATOR = re.compile(r"\|\|?|\|&|&&|;|\(|\)|\d?(>|>>|<|<>|>\|)|&>>?|\d?>&\d")
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# A trainer that is told to stop still saves its state.
GRACE_SECONDS = 30.0
POLL_SECONDS = 0.02
TAIL_LINES = 15


class UsageError(Exception):
    """The command line of run.py itself is wrong."""


class Stopped(Exception):  # noqa: N818
    """A signal asked for the end."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Plan(NamedTuple):
    """What to run: jobs `first` to `last`, `name` standing for the number in log and command."""

    name: str
    first: int
    last: int
    log: str
    command: list[str]
    max_jobs: int  # 0: as many as there are processors, or GPUs
    gpus: int  # of each job


class Job(NamedTuple):
    """A job that runs."""

    number: int
    process: subprocess.Popen[bytes]
    log: Path
    started: float
    slot: int


def parse(arguments: Sequence[str]) -> Plan:
    """Read the command line; options and JOB=1:4 may stand in either order."""
    rest = list(arguments)
    options = {"--max-jobs-run": 0, "--gpu": 0}
    name, first, last = "", 1, 1
    while rest:
        job = re.fullmatch(r"([A-Za-z_]\w*)=(\d+)(?::(\d+))?", rest[0])
        if job and not name:
            name, first, last = job[1], int(job[2]), int(job[3] or job[2])
            rest.pop(0)
        elif rest[0].startswith("-"):
            _take_option(rest, options)
        else:
            break
    if len(rest) < 2:
        raise UsageError("no command; usage: run.py [options] [JOB=1:4] log/x.JOB.log command ...")
    if not 1 <= first <= last:
        raise UsageError(f"{name}={first}:{last} holds no job; count from 1 up")
    log, *command = rest
    if last > first and name not in log:
        raise UsageError(f"{last - first + 1} jobs would share the log {log}; write {name} in it")
    return Plan(name, first, last, log, command, options["--max-jobs-run"], options["--gpu"])


def _take_option(rest: list[str], options: dict[str, int]) -> None:
    """Move one option and its value from `rest` to `options`."""
    option = rest.pop(0)
    option = {"-tc": "--max-jobs-run"}.get(option, option)
    if option not in options and option not in SCHEDULER_OPTIONS:
        known = " ".join((*options, *SCHEDULER_OPTIONS))
        raise UsageError(f"unknown option {option}; known are {known}")
    if not rest:
        raise UsageError(f"option {option} has no value")
    value = rest.pop(0)
    if option in options:
        least = 1 if option == "--max-jobs-run" else 0
        if not value.isdecimal() or int(value) < least:
            raise UsageError(f"option {option} is '{value}'; give a whole number from {least} up")
        options[option] = int(value)


def quote(command: Sequence[str]) -> str:
    """A line for bash in which only the operators act.

    >>> quote(["decode.py", "speeds=[1.0]", "|", "sort", ">", "my file"])
    "decode.py 'speeds=[1.0]' | sort > 'my file'"
    """
    return " ".join(word if OPERATOR.fullmatch(word) else shlex.quote(word) for word in command)


def find_gpus() -> list[str]:
    """Those of CUDA_VISIBLE_DEVICES if it is set, else those of nvidia-smi."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, _ in enumerate(re.findall("^GPU ", listing.stdout, re.M))]


def count_processors() -> int:
    """Those that this process may use, where the system can tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_slots(plan: Plan) -> list[str | None]:
    """One entry for each job that may run at a time: its GPUs, or None: those there are."""
    jobs = plan.last - plan.first + 1
    if not plan.gpus:
        processors = count_processors()
        # As Kaldi: rather a few too many at once than a second round for a few.
        at_once = plan.max_jobs or (jobs if jobs < 1.4 * processors else processors)
        return [None] * min(jobs, at_once)
    gpus = find_gpus()
    if len(gpus) < plan.gpus:
        warn(f"{len(gpus)} GPUs found, {plan.gpus} asked for; one job at a time with what there is")
        return [None]
    count = min(len(gpus) // plan.gpus, plan.max_jobs or jobs)
    return [",".join(gpus[i * plan.gpus : (i + 1) * plan.gpus]) for i in range(count)]


def start(plan: Plan, number: int, slot: int, gpus: str | None) -> Job:
    """Start one job in a process group of its own, which can be ended with all its children."""

    def numbered(text: str) -> str:
        return text.replace(plan.name, str(number)) if plan.name else text

    log = Path(numbered(plan.log))
    line = quote([numbered(word) for word in plan.command])
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpus
    with log.open("wb") as file:
        header = line.replace("\n", "\n# ")
        write(file, f"# {header}\n# Started at {time.strftime('%c')}\n#\n")
        process = subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", line],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    return Job(number, process, log, time.time(), slot)


def write(file: BinaryIO, text: str) -> None:
    """Arguments may hold bytes that are no UTF-8: they go through as they came."""
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


def run_all(plan: Plan) -> list[Job]:
    """Run all jobs and return those that failed; one failure does not stop the others."""
    slots = find_slots(plan)
    free = list(range(len(slots)))
    waiting = list(range(plan.first, plan.last + 1))
    running: list[Job] = []
    failed = []
    signals = catch_signals()
    try:
        while waiting or running:
            while waiting and free and not signals:
                slot = free.pop(0)
                running.append(start(plan, waiting.pop(0), slot, slots[slot]))
            if signals:
                raise Stopped(signals[0])
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                free.append(job.slot)
                finish(job)
                if job.process.returncode:
                    failed.append(job)
            time.sleep(POLL_SECONDS)
    except BaseException:
        end_all(running)
        raise
    return sorted(failed, key=lambda job: job.number)


def catch_signals() -> list[int]:
    """A list to which stop signals are added as they arrive, so that no job is lost half started.

    One that is ignored stays so: `nohup` means it.
    """
    caught: list[int] = []
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _frame: caught.append(number))
    return caught


def end_all(jobs: Sequence[Job]) -> None:
    """Ask all jobs and their children to end, wait a while, then make them."""
    for job in jobs:
        _signal_group(job, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(_alive(job) for job in jobs) and time.monotonic() < deadline:
        time.sleep(0.05)
    for job in jobs:
        _signal_group(job, signal.SIGKILL)
        job.process.wait()
        finish(job)


def _alive(job: Job) -> bool:
    """Whether any process of the job is left; the shell may be gone before its child has saved."""
    job.process.poll()
    return _signal_group(job, 0)


def _signal_group(job: Job, number: int) -> bool:
    try:
        os.killpg(job.process.pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def warn(message: str) -> None:
    """A line on stderr."""
    print(f"run.py: {message}", file=sys.stderr)


def report(plan: Plan, failed: Sequence[Job]) -> None:
    """Say which jobs failed, and show the end of the first log."""
    jobs = plan.last - plan.first + 1
    if jobs == 1:
        warn(f"job failed, log is in {failed[0].log}")
    else:
        logs = plan.log.replace(plan.name, "*")
        numbers = " ".join(str(job.number) for job in failed)
        warn(f"{len(failed)} / {jobs} failed ({plan.name} {numbers}), log is in {logs}")
    lines = failed[0].log.read_text("utf-8", "replace").splitlines()[-TAIL_LINES:]
    print(f"==> {failed[0].log} <==", *lines, sep="\n", file=sys.stderr)


def main() -> int:
    """The exit code: 0, 1 if a job failed, 2 for a wrong command line, 128 + n after signal n."""
    arguments = sys.argv[1:]
    if arguments[:1] in (["--help"], ["-h"]):
        print(__doc__)
        return 0
    try:
        plan = parse(arguments)
        failed = run_all(plan)
    except UsageError as error:
        warn(str(error))
        return 2
    except OSError as error:
        warn(f"{error.filename}: {error.strerror}; check the path of the log")
        return 1
    except Stopped as stopped:
        number = stopped.number
        warn(f"stopped by signal {number}; the jobs were ended")
        return 128 + number
    if failed:
        report(plan, failed)
        return 1
    return 0


if __name__ == "__main__":
    if hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(errors="backslashreplace")
    sys.exit(main())
