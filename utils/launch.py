#!/usr/bin/env python3
"""Start a Python program in several processes that train together, by torchrun.

    launch.py [--nproc N] [--max-restarts N] program.py [argument ...]

On this machine, or on all those of the Slurm job that it is part of. When one process dies, all
are started again up to --max-restarts times; a trainer goes on from its last snapshot.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys

# Ports that systems do not give out by themselves; jobs of one number apart do not meet.
FIRST_PORT, PORTS = 20000, 10000


def torchrun(nproc: int, restarts: int, more: list[str]) -> list[str]:
    """The beginning of a command of torchrun; `more`: its other options."""
    counts = [f"--nproc_per_node={nproc}", f"--max-restarts={restarts}"]
    return [sys.executable, "-m", "torch.distributed.run", *counts, *more]


def shown(*what: str) -> list[str]:
    """The words that Slurm shows of something."""
    command = ["scontrol", "show", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.split()


def over_nodes(environment: dict[str, str]) -> list[str]:
    """Options of torchrun by which the processes of a Slurm job meet at its first machine."""
    host = shown("hostnames", environment["SLURM_JOB_NODELIST"])[0]
    # The name of a node may be another than that of its machine.
    fields = dict(word.split("=", 1) for word in shown("node", "-o", host) if "=" in word)
    port = FIRST_PORT + int(environment["SLURM_JOB_ID"]) % PORTS
    return [
        f"--nnodes={environment['SLURM_NNODES']}",
        f"--rdzv-id={environment['SLURM_JOB_ID']}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={fields.get('NodeAddr', host)}:{port}",
    ]


def main() -> int:
    """Turn this process into torchrun, or into srun of it on each machine."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--nproc", type=int, default=1)
    parser.add_argument("--max-restarts", type=int, default=0)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    if not args.command:
        parser.error("no program to start")
    program = shutil.which(args.command[0]) or args.command[0]
    command = [program, *args.command[1:]]
    environment = dict(os.environ)
    if int(environment.get("SLURM_NNODES", 1)) == 1:
        start = torchrun(args.nproc, args.max_restarts, ["--standalone"])
    else:
        each = ["srun", "--ntasks-per-node=1", "--kill-on-bad-exit=1"]
        start = each + torchrun(args.nproc, args.max_restarts, over_nodes(environment))
    os.execvp(start[0], [*start, *command])


if __name__ == "__main__":
    sys.exit(main())
