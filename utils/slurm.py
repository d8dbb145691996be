#!/usr/bin/env python3
"""Run a command through Slurm, once or as an array of numbered jobs, and wait for the end.

    slurm.py [--mem 4G] [--gpu N] [--time 1:0:0] [--num-threads N] [--max-jobs-run N] [--nodes N]
             [--partition P] [--config conf/slurm.conf] [JOB=1:4] log/x.JOB.log command JOB ...

The command line, the logs and the exit code are those of run.py. A configuration says, as for
Kaldi's slurm.pl, what sbatch is told for an option; without one (and without conf/slurm.conf):

{conf}

A command that goes on where it was when it is started again says so, and how far it is at each
start, in the file that $JOB_PROGRESS names; the trainers, decoders and `funasr +output_dir=` do.
Such a command is asked to end by SIGTERM before the time limit of its job, 120 s or a quarter of
the limit, and is queued again; if two starts were equally far the job has failed, as has one that
reaches its limit and does not go on: they need more --time. A job that gets SIGUSR1 in other ways
is treated alike, but any command is asked then, and one that ends with code 0 may be started once
more without a word of progress. SIGTERM, which takes the node away, always queues again. Ctrl-C
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
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jobs
from jobs import GRACE_SECONDS, Failure, Job, Plan, UsageError

from paraformer.files import replacing

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
REQUEUE_GRACE_SECONDS, LEAST_GRACE_SECONDS, LEFT_SECONDS = 100.0, 5.0, 10.0
# The notice takes no greater share of a time limit; Slurm may give it a minute early.
NOTICE_SHARE, EARLY_SECONDS = 0.25, 65.0
_NOTICE = re.compile(r"(?<=USR1@)\d+")
# Slurm sends its signals to the command as well, which may end before this program gets its own.
SIGNAL_SECONDS = 0.5
# Who cancels a job asks its command too: asked twice, it would be disturbed while it saves.
CANCEL_SECONDS = 10.0
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.1, 2.0
ASK_SECONDS = 5.0  # between questions to Slurm, which many may ask
# Until a job that Slurm no longer has counts as lost: its result may show late on this machine.
LOST_SECONDS = 60.0
SILENT_SECONDS = 3600.0  # of a Slurm that does not answer
# A job that Slurm ended itself leaves no result.
ENDED = ("CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "DEADLINE", "BOOT_FAIL", "PREEMPTED")
ENDED_SECONDS = 3.0
AT_WORK = ("PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED", "REQUEUED", "STOPPED")
# Why Slurm would let a job wait for ever.
NEVER = (
    *("PartitionTimeLimit", "PartitionNodeLimit", "BadConstraints", "DependencyNeverSatisfied"),
    *("InvalidAccount", "InvalidQOS", "launch failed requeued held"),
)
MORE_TIME = "give it more --time"
TASK = "--task"  # on the node: slurm.py --task FILE


class Conf(NamedTuple):
    """The command that submits, and which of its options stand for which of ours."""

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


class Result(NamedTuple):
    """An exit code; `reason` where the log cannot tell why."""

    code: int
    reason: str


class Array(NamedTuple):
    """Jobs that Slurm has."""

    plan: Plan
    folder: Path  # of what the nodes leave
    job_id: str

    def results(self) -> dict[int, Result]:
        """The results of the jobs that have ended.

        The folder is listed anew, since a network file system remembers that a file is missing.
        """
        found = {}
        for entry in os.listdir(self.folder):
            match = re.fullmatch(rf"{re.escape(self.job_id)}\.(\d+)\.code", entry)
            if match and (text := (self.folder / entry).read_text().strip()):
                code, _, reason = text.partition(" ")
                found[int(match[1])] = Result(int(code), reason)
        return found

    def states(self) -> dict[int, str] | None:
        """The state of each job as Slurm tells it, or why one will never run; None if it does not
        answer.
        """
        done = _ask("squeue", "--noheader", "-r", "-t", "all", "-j", self.job_id, "-o", "%K %T %r")
        if done.returncode and "nvalid job id" not in done.stderr:
            return None
        found = {}
        for line in done.stdout.splitlines():
            key, state, *words = line.split()
            reason = " ".join(words).replace("_", " ")
            number = int(key) if key.isdecimal() else self.plan.first
            found[number] = reason if state == "PENDING" and reason in NEVER else state
        return found


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
    command, notice = shorten_notice(command, seconds_of(options.get("time", "")))
    stem = Path(plan.log).stem
    queued = plan.log_of(plan.first).parent / "q"
    folder = queued / f"{stem}.{os.getpid()}.{time.time_ns() // 10**6}"
    folder.mkdir(parents=True)
    task = folder / "task.json"
    task.write_text(json.dumps({**plan._asdict(), "notice": notice}))
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


def seconds_of(limit: str) -> int:
    """A time as sbatch reads it, which counts in minutes begun; 0 for what is no limit.

    >>> [seconds_of(text) for text in ("2:00", "90", "0:20", "1:0:0", "1-12", "1-0:30", "INFINITE")]
    [120, 5400, 60, 3600, 129600, 88200, 0]
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit)
    if not match:
        return 0
    days, *parts = (int(part or 0) for part in match.groups())
    if not match[1] and not match[4]:  # minutes, minutes:seconds
        parts = [0, *parts[:2]]
    hours, minutes, seconds = parts
    whole = 86400 * days + 3600 * hours + 60 * minutes + seconds
    return -(-whole // 60) * 60


def shorten_notice(command: list[str], limit: int) -> tuple[list[str], int]:
    """A command of sbatch that sends SIGUSR1 no earlier than a share of the limit before its end,
    and how many seconds that is; 0 if it does not send it.
    """
    notice = 0

    def shorten(match: re.Match[str]) -> str:
        nonlocal notice
        notice = min(int(match[0]), int(limit * NOTICE_SHARE)) if limit else int(match[0])
        return str(notice)

    return [_NOTICE.sub(shorten, word) for word in command], notice


def run_all(plan: Plan) -> list[Failure]:
    """Submit, wait, and return the jobs that failed."""
    signals = jobs.catch_signals()
    array = submit(plan)
    try:
        return watch(array, signals)
    except BaseException:
        cancel(array)
        raise


def watch(array: Array, signals: Sequence[int]) -> list[Failure]:
    """Wait for the end of the jobs, or for a signal; those that failed."""
    missing: dict[int, tuple[float, str]] = {}  # since when, and in which state
    poll, asked = FIRST_POLL_SECONDS, time.monotonic()
    answered = asked
    while True:
        results = array.results()
        left = [n for n in array.plan.numbers if n not in results]
        lost = {n: reason for n in left if n in missing and (reason := _lost(*missing[n], array))}
        if signals:
            raise jobs.Stopped(signals[0])
        if len(lost) == len(left):
            break
        time.sleep(poll)
        poll = min(1.2 * poll, LAST_POLL_SECONDS)
        if time.monotonic() - asked <= ASK_SECONDS:
            continue
        states, asked = array.states(), time.monotonic()
        if states is not None:
            answered = asked
        elif asked - answered > SILENT_SECONDS:
            states = dict.fromkeys(left, "UNKNOWN, since squeue does not answer")
        if states is not None:
            gone = {n: states.get(n, "") for n in left if states.get(n, "") not in AT_WORK}
            missing = {n: (missing.get(n, (asked, ""))[0], state) for n, state in gone.items()}
    if lost:
        cancel(array)  # what will never run
    reasons = {n: result.reason for n, result in results.items() if result.code} | lost
    return sorted(Failure(n, array.plan.log_of(n), reason) for n, reason in reasons.items())


def _lost(since: float, state: str, array: Array) -> str:
    """The reason why a job will leave no result; empty as long as it still may."""
    soon = state in ENDED or state in NEVER
    if time.monotonic() - since < (ENDED_SECONDS if soon else LOST_SECONDS):
        return ""
    if state in NEVER:
        return f"Slurm would let it wait for ever ({state}); look at its options, such as --time"
    what = f"ended by Slurm, {state}" if state else "Slurm has it no longer"
    remedy = f"; {MORE_TIME}" if state == "TIMEOUT" else ""
    return f"{what}, and it left no result; see {array.folder}{remedy}"


def cancel(array: Array) -> None:
    """Take the jobs back, and wait a while for those that run: a trainer saves."""
    _ask("scancel", array.job_id)
    deadline = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < deadline:
        states = array.states()
        if states is not None and not any(state in AT_WORK for state in states.values()):
            return
        time.sleep(FIRST_POLL_SECONDS)


class Start(NamedTuple):
    """One start of a job on its node."""

    job: Job
    stem: Path  # of the files of this job, of all its starts
    notice: int  # seconds

    def file(self, kind: str) -> Path:
        """The file of this kind: `progress`, in which the command tells how far it was when it was
        started, if it goes on at all; `stopped`, a copy of that at the last stop; `code`.
        """
        return self.stem.with_name(f"{self.stem.name}.{kind}")

    def told(self) -> str:
        """The progress that the command has told; "" if none."""
        progress = self.file("progress")
        return progress.read_text("utf-8", "replace") if progress.exists() else ""

    def leave(self, code: int, reason: str = "") -> None:
        """Write the result for whoever waits for it; no reader sees half of it."""
        with replacing(self.file("code")) as draft:
            draft.write_text(f"{code} {reason}".strip() + "\n")

    def why_no_more(self, limit: str) -> str:
        """The reason why the job is not queued again after it was asked to end; empty if it is."""
        told, note = self.told(), self.file("stopped")
        if not told and self.job.process.returncode:
            return f"{limit}: it does not go on when it is started again; {MORE_TIME}"
        if note.exists() and note.read_text("utf-8") == told:
            return f"{limit}: no progress between two starts; {MORE_TIME}"
        note.write_text(told, "utf-8")
        return ""


def work(path: str) -> int:
    """On the node: run the job that Slurm's environment names, and leave its exit code."""
    task = Path(path)
    settings = json.loads(task.read_text())
    notice = settings.pop("notice")
    plan = Plan(**settings)
    number = int(os.environ.get("SLURM_ARRAY_TASK_ID", plan.first))
    job_id = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ["SLURM_JOB_ID"])
    stem = task.with_name(f"{job_id}.{number}")
    signals = jobs.catch_signals((*jobs.STOP_SIGNALS, signal.SIGUSR1))
    again = int(os.environ.get("SLURM_RESTART_COUNT", 0)) > 0
    environment = {"JOB_PROGRESS": f"{stem}.progress"}
    own = Start(jobs.start(plan, number, environment, again=again), stem, notice)
    stopped = attend(own, signals)
    if stopped == signal.SIGUSR1:
        return make_room(own)
    if stopped:
        return stop(own, stopped)
    jobs.finish(own.job)
    code = own.job.process.returncode
    own.leave(code)
    return 0 if code == 0 else 1


def attend(own: Start, signals: Sequence[int]) -> int:
    """Wait for the end of the command, 0, or for the signal by which it is to be ended.

    One that does not go on when it is started again is left alone when its time limit is near.
    """
    noticed, near = False, False
    process = own.job.process
    while process.poll() is None:
        if number := _other(signals):
            return number
        if signals and not noticed:
            noticed, near = True, is_near(own.notice)
        if noticed and (not near or own.told()):
            return signal.SIGUSR1
        time.sleep(FIRST_POLL_SECONDS)
    if process.returncode:
        time.sleep(SIGNAL_SECONDS)
    return _other(signals) or (signal.SIGUSR1 if signals and own.told() else 0)


def _other(signals: Sequence[int]) -> int:
    """The first signal that is not SIGUSR1; 0 if there is none."""
    return next((number for number in signals if number != signal.SIGUSR1), 0)


def make_room(own: Start) -> int:
    """Ask the command to end, and queue the job again if that brings it further."""
    facts = job_facts()
    left = seconds_left(facts) - LEFT_SECONDS
    jobs.end_all([own.job], max(LEAST_GRACE_SECONDS, min(REQUEUE_GRACE_SECONDS, left)))
    limit = facts.get("TimeLimit", "UNLIMITED")
    how = "stopped by SIGUSR1"
    if is_near(own.notice, facts):
        how = f"stopped {own.notice} s before its time limit of {limit}"
    if reason := own.why_no_more(how):
        own.leave(128 + signal.SIGUSR1, reason)
        return 1
    return requeue(own)


def stop(own: Start, number: int) -> int:
    """End the command after a signal other than SIGUSR1: the job may be cancelled, be at its time
    limit, or lose its node, upon which it is queued again.
    """
    facts = job_facts()
    if facts.get("JobState") == "RUNNING":
        jobs.end_all([own.job], REQUEUE_GRACE_SECONDS)
        return requeue(own)
    jobs.end_all([own.job], GRACE_SECONDS, CANCEL_SECONDS)
    if facts.get("Reason") == "TimeLimit":
        limit = facts.get("TimeLimit", "")
        own.leave(128 + number, f"ended by Slurm at its time limit of {limit}; {MORE_TIME}")
    return 128 + number


def job_facts() -> dict[str, str]:
    """The facts that Slurm tells of this job; empty if it does not answer."""
    os.environ["SLURM_TIME_FORMAT"] = "standard"
    done = _ask("scontrol", "show", "job", "-o", os.environ["SLURM_JOB_ID"])
    pairs = (word.partition("=") for word in done.stdout.split())
    return {key: value for key, _, value in pairs}


def seconds_left(facts: dict[str, str]) -> float:
    """Seconds until the time limit."""
    try:
        return time.mktime(time.strptime(facts["EndTime"], "%Y-%m-%dT%H:%M:%S")) - time.time()
    except (KeyError, ValueError):  # Unknown
        return float("inf")


def is_near(notice: int, facts: dict[str, str] | None = None) -> bool:
    """Tell whether a SIGUSR1 was sent because the time limit is near."""
    return seconds_left(job_facts() if facts is None else facts) <= notice + EARLY_SECONDS


def requeue(own: Start) -> int:
    """Queue the job again; it has failed if Slurm refuses."""
    done = _ask("scontrol", "requeue", os.environ["SLURM_JOB_ID"])
    if done.returncode > 0:  # one that Slurm has ended with the job has done its work
        own.leave(1, f"scontrol requeue: {' '.join(done.stderr.split())}")
    return done.returncode


def main() -> int:
    """Work on the node, or submit and wait where the user is; returns the exit code."""
    if sys.argv[1:2] == [TASK]:
        return work(sys.argv[2])
    usage = (__doc__ or "").format(conf="\n".join(f"    {line}" for line in CONF.splitlines()))
    return jobs.enter(usage, run_all)


if __name__ == "__main__":
    sys.exit(main())
