#!/usr/bin/env python3
"""Run a command through Slurm, once or as an array of numbered jobs, and wait for the end.

    slurm.py [--mem 4G] [--gpu N] [--time 1:0:0] [--num-threads N] [--max-jobs-run N] [--nodes N]
             [--partition P] [--config conf/slurm.conf] [JOB=1:4] log/x.JOB.log command JOB ...

The command line, the logs and the exit code are those of run.py. A configuration says, as for
Kaldi's slurm.pl, what sbatch is told for an option; without one (and without conf/slurm.conf):

{conf}

A job that is told to stop by SIGUSR1, as it is before its time limit, or by a SIGTERM without
being cancelled, may end in peace and is queued again: a trainer goes on where it was. Ctrl-C
cancels the jobs. The folder of the logs must be seen by all nodes, be it late.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jobs import (
    GRACE_SECONDS,
    STOP_SIGNALS,
    Failure,
    Plan,
    Stopped,
    UsageError,
    catch_signals,
    end_all,
    enter,
    finish,
    start,
    warn,
)

CONF = """\
command sbatch --export=ALL
option mem=* --mem $0
option time=* --time $0 --signal B:USR1@120
option num_threads=* --cpus-per-task $0
option partition=* --partition $0
option nodes=* --nodes $0 --ntasks-per-node 1
option gpu=0
option gpu=* --gres gpu:$0
option max_jobs_run=*"""
# A trainer may need so long to save; less than Slurm grants before the time limit (see CONF).
REQUEUE_GRACE_SECONDS = 100.0
# Slurm sends its signals to the command as well, which may end before this program gets its own.
SIGNAL_SECONDS = 0.5
# Who cancels a job asks its command too: asked twice, it would be disturbed while it saves.
CANCEL_SECONDS = 10.0
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.1, 2.0
ASK_SECONDS = 5.0  # between questions to Slurm, which many may ask
# Until a job that Slurm no longer has counts as lost: its result may show late on this machine.
LOST_SECONDS = 60.0
# What Slurm ended itself will not leave a result.
ENDED = ("CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL", "PREEMPTED")
ENDED_SECONDS = 3.0
AT_WORK = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STOPPED")
TASK = "--task"  # on the node: slurm.py --task FILE


class Conf(NamedTuple):
    """What is called, and with which options for which of ours."""

    name: str
    command: list[str]
    rules: dict[tuple[str, str], list[str]]  # option and value, or "*" -> options of sbatch
    defaults: dict[str, str]

    def sbatch(self, options: dict[str, str]) -> list[str]:
        """The command that submits."""
        command = list(self.command)
        for name, value in {**self.defaults, **options}.items():
            rule = self.rules.get((name, value), self.rules.get((name, "*")))
            if rule is None:
                known = " ".join(sorted({f"--{key.replace('_', '-')}" for key, _ in self.rules}))
                raise UsageError(
                    f"unknown option --{name.replace('_', '-')} {value}; known to {self.name} are "
                    f"{known}, others are lines `option {name}=* ...` of a file for --config"
                )
            command += [word.replace("$0", value) for word in rule]
        return command


def read_conf(path: str) -> Conf:
    """The file, else conf/slurm.conf if there is one, else the built-in configuration."""
    file = Path(path or "conf/slurm.conf")
    if path and not file.is_file():
        raise UsageError(f"--config {path}: no such file")
    text, name = (file.read_text("utf-8"), str(file)) if file.is_file() else (CONF, "slurm.py")
    conf = Conf(name, [], {}, {})
    for number, line in enumerate(text.splitlines(), 1):
        word, *rest = shlex.split(line, comments=True) or [""]
        setting = re.fullmatch(r"(\w+)=(\S+)", rest[0] if rest else "")
        if word == "command":
            conf.command[:] = rest
        elif word == "option" and setting:
            conf.rules[setting[1], setting[2]] = rest[1:]
        elif word == "default" and setting:
            conf.defaults[setting[1]] = setting[2]
        elif word:
            raise UsageError(
                f"{name}:{number}: '{line}' is none of `command sbatch ...`, `default NAME=VALUE` "
                "and `option NAME=VALUE ...`"
            )
    if not conf.command:
        raise UsageError(f"{name}: has no line `command sbatch ...`; add it")
    return conf


class Array(NamedTuple):
    """Jobs that Slurm has."""

    plan: Plan
    folder: Path  # of what the nodes leave
    job_id: str

    def log(self, number: int) -> Path:
        """The log of one job."""
        return Path(self.plan.numbered(self.plan.log, number))

    def results(self) -> dict[int, int]:
        """Exit codes of the jobs that have ended.

        The folder is listed anew, since a network file system remembers that a file is missing.
        """
        found = {}
        for entry in os.listdir(self.folder):
            match = re.fullmatch(rf"{re.escape(self.job_id)}\.(\d+)\.code", entry)
            if match and (text := (self.folder / entry).read_text().strip()):
                found[int(match[1])] = int(text)
        return found

    def states(self) -> dict[int, str] | None:
        """What Slurm says of its jobs; None if it says nothing."""
        done = _ask("squeue", "--noheader", "-r", "-t", "all", "-j", self.job_id, "-o", "%K %T")
        if done.returncode and "nvalid job id" not in done.stderr:
            return None
        pairs = (line.split() for line in done.stdout.splitlines())
        return {int(key) if key.isdecimal() else self.plan.first: state for key, state in pairs}


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    """Call a program of Slurm, out of reach of a Ctrl-C in the terminal."""
    return subprocess.run(
        command, capture_output=True, text=True, check=False, start_new_session=True
    )


def submit(plan: Plan) -> Array:
    """Give the jobs to Slurm."""
    plan.whole("--max-jobs-run", 0, 1)
    plan.whole("--gpu", 0, 0)
    options = {option.lstrip("-").replace("-", "_"): v for option, v in plan.options.items()}
    command = read_conf(options.pop("config", "")).sbatch(options)
    log = Path(plan.numbered(plan.log, plan.first))
    stem = Path(plan.log).stem
    folder = log.parent / "q" / f"{stem}.{os.getpid()}.{time.time_ns() // 10**6}"
    folder.mkdir(parents=True)
    task = folder / "task.json"
    task.write_text(json.dumps(plan._asdict()))
    script = folder / "job.sh"
    inner = [sys.executable, str(Path(__file__).resolve()), TASK, str(task.resolve())]
    script.write_text(f"#!/usr/bin/env bash\nexec {shlex.join(inner)}\n")
    command += ["--parsable", "--requeue", "--open-mode", "append", "--job-name", stem]
    command += ["--output", str(folder / "slurm.%a.log" if plan.name else folder / "slurm.log")]
    if plan.name:
        limit = f"%{options['max_jobs_run']}" if "max_jobs_run" in options else ""
        command += ["--array", f"{plan.first}-{plan.last}{limit}"]
    try:
        done = _ask(*command, str(script))
    except FileNotFoundError:
        raise UsageError(f"{command[0]}: no such program; is Slurm on this machine?") from None
    if done.returncode:
        raise UsageError(f"{shlex.join(command)}: {' '.join(done.stderr.split())}")
    return Array(plan, folder, done.stdout.strip().split(";")[0])


def run_all(plan: Plan) -> list[Failure]:
    """Submit, wait, and return the jobs that failed."""
    signals = catch_signals()
    array = submit(plan)
    try:
        for failed in watch(array):
            if signals:
                raise Stopped(signals[0])
            if failed is not None:
                return failed
    except BaseException:
        cancel(array)
        raise
    return []


def watch(array: Array) -> Iterator[list[Failure] | None]:
    """None again and again while jobs are at work, in the end those that failed."""
    missing: dict[int, tuple[float, str]] = {}  # since when and what became of it
    poll, asked = FIRST_POLL_SECONDS, time.monotonic()
    while True:
        codes = array.results()
        left = [n for n in array.plan.numbers if n not in codes]
        lost = {n: _lost(missing[n], array) for n in left if n in missing}
        lost = {n: reason for n, reason in lost.items() if reason}
        if len(lost) == len(left):
            break
        yield None
        time.sleep(poll)
        poll = min(1.2 * poll, LAST_POLL_SECONDS)
        if time.monotonic() - asked > ASK_SECONDS and (states := array.states()) is not None:
            asked = time.monotonic()
            gone = {n: states.get(n, "") for n in left if states.get(n, "") not in AT_WORK}
            missing = {n: missing.get(n, (asked, state)) for n, state in gone.items()}
    failed = [Failure(n, array.log(n)) for n, code in codes.items() if code]
    failed += [Failure(n, array.log(n), reason) for n, reason in lost.items()]
    yield sorted(failed)


def _lost(missing: tuple[float, str], array: Array) -> str:
    """Why a job will leave no result, empty as long as it still may."""
    since, state = missing
    if time.monotonic() - since < (ENDED_SECONDS if state in ENDED else LOST_SECONDS):
        return ""
    what = f"ended by Slurm, {state}" if state else "Slurm has it no longer"
    return f"{what}, and it left no result; see {array.folder}"


def cancel(array: Array) -> None:
    """Take the jobs back, and wait a while for those that run: a trainer saves."""
    _ask("scancel", array.job_id)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        states = array.states()
        if states is not None and not any(state in AT_WORK for state in states.values()):
            return
        time.sleep(FIRST_POLL_SECONDS)


def work(path: str) -> int:
    """On the node: run the job that Slurm's environment names, and leave its exit code."""
    task = Path(path)
    plan = Plan(**json.loads(task.read_text()))
    number = int(os.environ.get("SLURM_ARRAY_TASK_ID", plan.first))
    job_id = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
    signals = catch_signals((*STOP_SIGNALS, signal.SIGUSR1))
    again = int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
    job = start(plan, number, again=again)
    while job.process.poll() is None and not signals:
        time.sleep(FIRST_POLL_SECONDS)
    if job.process.poll() not in (0, None):
        time.sleep(SIGNAL_SECONDS)
    if signals:
        wanted = signals[0] == signal.SIGUSR1 or _state() == "RUNNING"
        if wanted:
            end_all([job], REQUEUE_GRACE_SECONDS)
            return _requeue()
        end_all([job], GRACE_SECONDS, CANCEL_SECONDS)
        return 128 + signals[0]
    finish(job)
    code = job.process.returncode
    draft = task.with_name(f"{job_id}.{number}.part")
    draft.write_text(f"{code}\n")
    draft.replace(draft.with_suffix(".code"))
    return 0 if code == 0 else 1


def _state() -> str:
    """Whether Slurm still counts this job as running."""
    done = _ask("scontrol", "show", "job", "-o", os.environ["SLURM_JOB_ID"])
    match = re.search(r"\bJobState=(\S+)", done.stdout)
    return match[1] if match else ""


def _requeue() -> int:
    done = _ask("scontrol", "requeue", os.environ["SLURM_JOB_ID"])
    if done.returncode:
        warn(f"scontrol requeue: {' '.join(done.stderr.split())}")
    return done.returncode


def main() -> int:
    """On the node or where the user is."""
    arguments: Sequence[str] = sys.argv[1:]
    if arguments[:1] == [TASK]:
        return work(arguments[1])
    usage = (__doc__ or "").format(conf="\n".join(f"    {line}" for line in CONF.splitlines()))
    return enter(usage, run_all)


if __name__ == "__main__":
    if hasattr(sys.stderr, "reconfigure"):
        sys.stderr.reconfigure(errors="backslashreplace")
    sys.exit(main())
