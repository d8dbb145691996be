"""The runtimes themselves, funasr-onnx and sherpa-onnx, run what has been exported for them, each
in a process of a Python that has it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from paraformer.errors import CheckpointError, ConfigError
from paraformer.export import peer_job
from paraformer.export.calibration import SHARE
from paraformer.export.proof import MOST_CHANGED

FUNASR, SHERPA = "funasr-onnx", "sherpa-onnx"
PEERS = {FUNASR: "funasr", SHERPA: "sherpa"}  # as the names of jobs begin
NONE = "none"
PROBE = """
import json
from importlib import metadata, util
names = {"funasr-onnx": "funasr_onnx", "sherpa-onnx": "sherpa_onnx"}
found = {name: metadata.version(name) for name, module in names.items() if util.find_spec(module)}
print("FOUND", json.dumps(found))
"""
FOUND = "FOUND "
SHOWN = 60  # characters of a result in a message
PROBE_SECONDS, JOB_SECONDS = 60, 3600  # after which a process is taken for one that hangs


class Peer(NamedTuple):
    """A runtime and the Python that has it."""

    name: str
    version: str
    python: str


class Compared(NamedTuple):
    """A thing that a runtime heard, beside torch."""

    key: str
    theirs: Any
    ours: Any
    apart: float  # 0: the same, 1: nothing in common


class Heard(NamedTuple):
    """Things of one kind that a runtime heard, beside torch."""

    peer: Peer
    what: str
    results: Sequence[Compared]

    @property
    def changed(self) -> list[Compared]:
        """Those that differ."""
        return [each for each in self.results if each.apart]

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "peer": self.peer.name,
            "version": self.peer.version,
            "what": self.what,
            "compared": len(self.results),
            "changed": [each.key for each in self.changed],
        }

    def line(self) -> str:
        """The result for a reader."""
        same = len(self.results) - len(self.changed)
        name = f"{self.peer.name} {self.peer.version}"
        return f"{name:<18}{self.what}: {same} of {len(self.results)} are those of torch"

    def check(self, exact: bool) -> None:
        """Refuse a graph that the runtime hears otherwise than torch hears the model; exact: in
        more than a hundredth of the results, else (rounded weights) in most of what they say.
        """
        count, changed = len(self.results), self.changed
        apart = sum(each.apart for each in self.results)
        if len(changed) <= count - ceil(SHARE * count) if exact else apart <= MOST_CHANGED * count:
            return
        one = changed[0]
        raise CheckpointError(
            f"{self.peer.name}: {self.what}: {len(changed)} of {count} are not those of torch, "
            f"such as {one.key}: {str(one.theirs)[:SHOWN]}, not {str(one.ours)[:SHOWN]}; nothing "
            f"is written (peers={NONE} leaves the runtimes out)"
        )


def find_peers(pythons: str) -> dict[str, Peer]:
    """The runtimes of a list of Pythons, commas between, and of this one, by their names; none of
    "none". A Python that is given and has neither is refused.
    """
    if pythons == NONE:
        return {}
    found: dict[str, Peer] = {}
    for python in filter(None, (word.strip() for word in pythons.split(","))):
        versions = _probe(python)
        if not versions:
            wanted = " nor ".join(PEERS)
            raise ConfigError(f"peers={python}: has neither {wanted}; pip install them there")
        for name, version in versions.items():
            found.setdefault(name, Peer(name, version, python))
    if sys.executable and len(found) < len(PEERS):
        for name, version in _probe(sys.executable).items():
            found.setdefault(name, Peer(name, version, sys.executable))
    return found


def _probe(python: str) -> dict[str, str]:
    where = f"peers={python}: does not run"
    return dict(_run([python, "-c", PROBE], "", PROBE_SECONDS, where, ConfigError))


def ask(peer: Peer, job: str, folder: Path, *given: str) -> list[Any]:
    """Let a runtime do a job of peer_job.py with the graphs of a folder; returns what it finds."""
    words = [f"{PEERS[peer.name]}{job}", str(folder), *given]
    command = [peer.python, str(Path(peer_job.__file__))]
    where = f"{peer.name}: does not run the export"
    found = _run(command, json.dumps(words), JOB_SECONDS, where, CheckpointError)
    assert isinstance(found, list)
    return found


def _run(command: list[str], said: str, seconds: int, where: str, refused: type[Exception]) -> Any:
    """Run a process, and return what it says it has found; where: begins the line of one that
    fails.
    """
    try:
        done = subprocess.run(
            command, input=said, capture_output=True, timeout=seconds, check=False,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise refused(f"{where} ({error.strerror or error})") from error
    except subprocess.TimeoutExpired as error:
        raise refused(f"{where} within {seconds} s") from error
    lines = [line for line in done.stdout.splitlines() if line.startswith(FOUND)]
    if done.returncode or not lines:
        told = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        reason = told[-1][:300] if told else "no reason"
        raise refused(f"{where} (exit code {done.returncode}: {reason})")
    return json.loads(lines[-1].removeprefix(FOUND))
