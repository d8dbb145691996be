"""A real Slurm for tests: munged, slurmctld and slurmd of this user, in a folder of their own."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Debian keeps the daemons out of the PATH of ordinary users.
PATH = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "squeue", "scancel")
MISSING = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
needs_slurm = pytest.mark.skipif(
    bool(MISSING), reason=f"no Slurm here ({' '.join(MISSING)}): apt-get install slurm-wlm munge"
)
START_SECONDS = 60.0
CONF = """
ClusterName=tests
SlurmctldHost={host}
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0,bf_interval=1
KillWait=10
MinJobAge=10
ReturnToService=2
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
"""
PARTITION = "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"
NODE = "NodeName=n{0} NodeHostname={1} NodeAddr=127.0.0.1 Port={2} CPUs=8 RealMemory=8000\n"


def environment(folder: Path) -> dict[str, str]:
    """What a program needs to find the Slurm of `folder`."""
    return {**os.environ, "PATH": PATH, "SLURM_CONF": str(folder / "slurm.conf")}


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _prepare(folder: Path, nodes: int) -> None:
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir(parents=True)
    (folder / "munge").chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    host = socket.gethostname().split(".")[0]
    port, *ports = _free_ports(1 + nodes)
    conf = CONF.format(host=host, user=getpass.getuser(), folder=folder, port=port)
    conf += "".join(NODE.format(number, host, own) for number, own in enumerate(ports)) + PARTITION
    (folder / "slurm.conf").write_text(conf)


def _daemons(folder: Path, nodes: int) -> list[list[str]]:
    munge = folder / "munge"
    return [
        ["munged", "--foreground", "--force", f"--socket={munge}/socket", f"--key-file={munge}/key"]
        + [f"--pid-file={munge}/pid", f"--log-file={munge}/log", f"--seed-file={munge}/seed"],
        ["slurmctld", "-D", "-c"],
        *(["slurmd", "-D", "-N", f"n{number}"] for number in range(nodes)),
    ]


def _ready(env: dict[str, str]) -> bool:
    done = subprocess.run(
        ["sinfo", "--noheader", "-o", "%T"], env=env, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() in ("idle", "mixed", "allocated")


@contextmanager
def cluster(folder: Path, nodes: int = 1) -> Iterator[dict[str, str]]:
    """A cluster whose nodes, of 8 processors, are all this machine; gives the environment in which
    it is found.
    """
    _prepare(folder, nodes)
    env = environment(folder)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        with (folder / "daemons.log").open("wb") as log:
            for command in _daemons(folder, nodes):
                program = shutil.which(command[0], path=PATH) or command[0]
                processes.append(
                    subprocess.Popen([program, *command[1:]], env=env, stdout=log, stderr=log)
                )
                if command[0] == "munged":
                    _wait_for(lambda: (folder / "munge" / "socket").exists(), folder)
        _wait_for(lambda: _ready(env), folder)
        yield env
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def _wait_for(condition, folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(p.read_text("utf-8", "replace")[-2000:] for p in folder.glob("*.log"))
            pytest.skip(f"Slurm does not start here: {logs[-3000:]}")
        time.sleep(0.1)


_HURRIED: set[str] = set()  # the jobs, with the number of their starts


def hurry_once(env: dict[str, str]) -> None:
    """A job that is queued again starts after three seconds instead of the two minutes that Slurm
    prescribes: in the second of its end it would be killed, since its credential counts as revoked.
    """
    asked = ["squeue", "-h", "-t", "PENDING", "-O", "JobID:20,RestartCnt:10,Reason:30"]
    listed = subprocess.run(asked, env=env, capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        if line.split()[-1] == "BeginTime" and line not in _HURRIED:
            _HURRIED.add(line)
            soon = ["scontrol", "update", f"JobId={line.split()[0]}", "StartTime=now+3"]
            subprocess.run(soon, env=env, check=False)


def wait_and_hurry(process: subprocess.Popen[str], env: dict[str, str], seconds: float) -> str:
    """Wait for a program and return its stderr; its jobs that are queued again start soon."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        hurry_once(env)
        time.sleep(0.2)
    return process.communicate(timeout=5)[1]
