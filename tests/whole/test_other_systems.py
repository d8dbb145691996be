"""Recognition on a system that has not what POSIX has, such as Windows: imports and a recording."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

CLIP = ROOT / "tests" / "fixtures" / "oracle" / "inputs" / "clip_a.flac"
MODEL = ROOT / "tests" / "fixtures" / "oracle" / "paraformer"
# Taken away before anything of ours is imported.
TAKEN = """
import os, signal, sys
for name in ("fork", "forkpty", "killpg", "setpgrp", "sched_getaffinity"):
    delattr(os, name)
for name in ("SIGUSR1", "SIGUSR2", "SIGKILL", "SIGHUP"):
    delattr(signal, name)
sys.modules.update(fcntl=None, resource=None)
"""
WORK = """
from paraformer.cli.main import main
code = main(sys.argv[1:])
sys.exit(code)
"""


def run(code, tmp_path, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", code, f"+model={MODEL}", *map(str, arguments)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.cli
def test_recognition_does_without_what_posix_has(tmp_path):
    (tmp_path / "l.scp").write_text(f"u1 {CLIP}\n")
    given = ("+input=l.scp", "+shard=1/1", "+output_dir=out", "+resume=true")
    printed = run(TAKEN + WORK, tmp_path, *given)
    assert printed == run("import sys" + WORK, tmp_path, "l.scp")
