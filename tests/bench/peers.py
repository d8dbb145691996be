"""The peers' own environment: where it is, what it holds, and how it is made."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from tests.bench.measure import ROOT

VENV = ROOT / ".venv-peer"
VARIABLE = "PARAFORMER_PEER_PYTHON"
SHARED = Path(os.environ.get("PARAFORMER_SHARED", ROOT.parent / "shared"))
MAKER = SHARED / "bench" / "make_large.py"  # exports the graphs of the ONNX engines
ONNX_ENGINES = ("funasr-onnx", "sherpa-onnx")
ONNX_PACKAGES = (*ONNX_ENGINES, "kaldi-native-fbank", "onnx", "onnxruntime", "onnxscript")
# Written last by the maker.
ONNX_FILES = ("offline/sherpa_int8.onnx", "streaming/sherpa_decoder_int8.onnx")
PROBE = """
import json, sys
from importlib import metadata
found = {}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


class Peer(NamedTuple):
    """A python with the versions of what it has; without one, why."""

    python: str | None
    versions: Mapping[str, str]
    reason: str = ""

    def lacks(self, engine: str) -> str:
        """Why an engine cannot run, or nothing."""
        if self.python is None:
            return self.reason
        return "" if engine in self.versions else f"{self.python} has no {engine}"


def find_peer(given: str | None, *, install: bool = False, onnx: bool = False) -> Peer:
    """The python that was given, else the environment's, else that of .venv-peer."""
    python = given or os.environ.get(VARIABLE)
    if python is None and install:
        reason = install_peer(VENV, onnx)
        if reason:
            return Peer(None, {}, reason)
    if python is None and (VENV / "bin/python").is_file():
        python = str(VENV / "bin/python")
    if python is None:
        return Peer(None, {}, "no peer here; PEER=path/to/python or PEER_INSTALL=true")
    names = ("funasr", "torch", *ONNX_PACKAGES)
    try:
        found = subprocess.run([python, "-c", PROBE, *names], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        return Peer(None, {}, f"{python} does not run ({error})")
    return Peer(python, json.loads(found.stdout))


def install_peer(venv: Path, onnx: bool) -> str:
    """Make the environment, with the torch of this one; why it cannot be made, or nothing."""
    torches = [f"{name}=={metadata.version(name)}" for name in ("torch", "torchaudio")]
    wanted = [*torches, "funasr==1.4.16", *(ONNX_PACKAGES if onnx else ())]
    commands = [
        [sys.executable, "-m", "venv", str(venv)],
        [str(venv / "bin/pip"), "install", "--quiet", *wanted],
    ]
    for command in commands:
        done = subprocess.run(command, stderr=subprocess.PIPE, stdout=sys.stderr, text=True)
        if done.returncode:
            return f"{Path(command[0]).name}: {last_line(done.stderr)}"
    return ""


def make_onnx(peer: Peer, folder: Path, seed: int) -> str:
    """Large models with the graphs of the ONNX engines; why there are none, or nothing."""
    if all((folder / name).is_file() for name in ONNX_FILES):
        return ""
    missing = next(filter(None, (peer.lacks(name) for name in ("funasr", "onnx"))), "")
    if missing or not MAKER.is_file():
        return missing or f"{MAKER} is not here"
    command = [str(peer.python), str(MAKER), str(folder)]
    command += ["--only", "offline,streaming", "--seed", str(seed)]
    done = subprocess.run(command, stderr=subprocess.PIPE, stdout=sys.stderr, text=True)
    return f"{MAKER.name}: {last_line(done.stderr)}" if done.returncode else ""


def last_line(text: str) -> str:
    """The line of an error output that says what went wrong.

    >>> last_line("Traceback\\n  ...\\nValueError: no\\n\\n")
    'ValueError: no'
    """
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no reason")
