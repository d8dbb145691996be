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
import subprocess
import sys
import time

import jobs
from jobs import Failure, Job, Plan

OWN_OPTIONS = ("--max-jobs-run", "--gpu")
SCHEDULER_OPTIONS = ("--mem", "--time", "--num-threads", "--config", "--partition", "-l", "-q")
POLL_SECONDS = 0.02


def check_options(plan: Plan) -> None:
    """Refuse what no scheduler knows either."""
    known = (*OWN_OPTIONS, *SCHEDULER_OPTIONS)
    for option in plan.options:
        if option not in known:
            raise jobs.UsageError(f"unknown option {option}; known are {' '.join(known)}")


def find_gpus() -> list[str]:
    """The GPUs of CUDA_VISIBLE_DEVICES if it is set, else those of nvidia-smi."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    try:
        listing = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [str(number) for number, _ in enumerate(re.findall("^GPU ", listing.stdout, re.M))]


def count_processors() -> int:
    """The number of processors that this process may use, where the system can tell."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def find_slots(plan: Plan) -> list[str | None]:
    """One entry for each job that may run at a time: its GPUs, or None: those there are."""
    most, wanted = plan.whole("--max-jobs-run", 0, 1), plan.whole("--gpu", 0, 0)
    count = len(plan.numbers)
    if not wanted:
        processors = count_processors()
        # As Kaldi: rather a few too many at once than a second round for a few.
        at_once = most or (count if count < 1.4 * processors else processors)
        return [None] * min(count, at_once)
    gpus = find_gpus()
    if len(gpus) < wanted:
        found = f"{len(gpus)} GPUs found, {wanted} asked for"
        jobs.warn(f"{found}; one job at a time with what there is")
        return [None]
    count = min(len(gpus) // wanted, most or count)
    return [",".join(gpus[i * wanted : (i + 1) * wanted]) for i in range(count)]


def run_all(plan: Plan) -> list[Failure]:
    """Run all jobs and return those that failed; one failure does not stop the others."""
    check_options(plan)
    slots = find_slots(plan)
    free = list(range(len(slots)))
    waiting = list(plan.numbers)
    running: list[Job] = []
    failed = []
    signals = jobs.catch_signals()
    try:
        while waiting or running:
            while waiting and free and not signals:
                slot = free.pop(0)
                gpus = slots[slot]
                environment = {} if gpus is None else {"CUDA_VISIBLE_DEVICES": gpus}
                running.append(jobs.start(plan, waiting.pop(0), environment, slot))
            if signals:
                raise jobs.Stopped(signals[0])
            for job in [job for job in running if job.process.poll() is not None]:
                running.remove(job)
                free.append(job.slot)
                jobs.finish(job)
                if job.process.returncode:
                    failed.append(Failure(job.number, job.log))
            time.sleep(POLL_SECONDS)
    except BaseException:
        jobs.end_all(running)
        raise
    return sorted(failed)


if __name__ == "__main__":
    sys.exit(jobs.enter(__doc__, run_all))
