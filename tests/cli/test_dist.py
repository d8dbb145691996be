"""What is released: one version, a wheel that is small enough to fetch, a record of changes."""

from __future__ import annotations

import configparser
import shutil
import subprocess

import pytest

import paraformer
from tests.conftest import ROOT


def test_the_version_stands_in_one_place():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", "utf-8")
    assert setup["metadata"]["version"] == "attr: paraformer.__version__"
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = next(line for line in changes.splitlines() if line.startswith("## "))
    assert newest.split()[1].strip(",") == paraformer.__version__


@pytest.mark.cli
@pytest.mark.skipif(not shutil.which("bash"), reason="no bash here")
def test_a_wheel_that_is_too_large_is_refused(tmp_path):
    """45 MB; and a Python that is not there is passed over, but one must be."""
    script = ["bash", str(ROOT / "tests" / "check_dist.sh")]
    wheel = tmp_path / "x.whl"
    with wheel.open("wb") as file:
        file.truncate(45_000_000)
    done = subprocess.run([*script, str(wheel)], capture_output=True, text=True)
    assert done.returncode == 1 and "take something out" in done.stderr
    wheel.write_bytes(b"")
    done = subprocess.run([*script, str(wheel), "no-python"], capture_output=True, text=True)
    assert done.returncode == 1 and "no-python: not here" in done.stderr
