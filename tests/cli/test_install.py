"""The package as it is installed: nothing of it is missing, and it works from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from paraformer.hub.directories import BUNDLED
from tests.conftest import ROOT

pytest.importorskip("setuptools", reason="builds the package: pip install setuptools")
pytestmark = pytest.mark.cli
MADE = ("__pycache__", "*.pyc", "*.egg-info", "build", "dist")
BUILD = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])('out'))"
# The packages that recognition needs; everything else is an extra.
CORE = {
    *("torch", "kaldiio", "numpy", "hydra-core", "sentencepiece", "tqdm"),
    *("soundfile", "pyyaml", "rapidfuzz", "filelock", "pysubs2"),
}


def run(*command: object, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_of(folder: Path) -> set[str]:
    """Files below a package's folder that belong to it."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of what the package is made of."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(
        ROOT / "paraformer", folder / "paraformer", ignore=shutil.ignore_patterns(*MADE)
    )
    for name in ("setup.cfg", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source) -> Path:
    return source / "out" / run(sys.executable, "-c", BUILD, "build_wheel", cwd=source).split()[-1]


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory) -> Path:
    """The wheel as pip would lay it out, apart from the checkout."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def test_no_file_is_missing_in_the_wheel(source, site):
    assert files_of(site / "paraformer") == files_of(source / "paraformer")
    assert {"model.pt", "README.md"} <= {path.name for path in (site / "paraformer").rglob("*")}


def test_no_file_is_missing_in_the_source_distribution(source, wheel, tmp_path):
    name = run(sys.executable, "-c", BUILD, "build_sdist", cwd=source).split()[-1]
    with tarfile.open(source / "out" / name) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    assert files_of(folder / "paraformer") == files_of(source / "paraformer")
    assert {"setup.cfg", "pyproject.toml", "README.md"} <= {p.name for p in folder.iterdir()}


def asked_for(lines: list[str]) -> set[str]:
    """The packages of lines as a wheel has them, those of extras left out."""
    needed = [Requirement(line) for line in lines]
    return {canonicalize_name(n.name) for n in needed if n.marker is None or n.marker.evaluate()}


def with_theirs(packages: set[str]) -> set[str]:
    """Packages, what those need, and so on: all that pip installs."""
    found: set[str] = set()
    while more := packages - found:
        found |= more
        packages = set().union(*(asked_for(metadata.requires(name) or []) for name in more))
    return found


@pytest.fixture(scope="module")
def core(site) -> set[str]:
    (listing,) = site.glob("*.dist-info/METADATA")
    lines = listing.read_text("utf-8").splitlines()
    head = "Requires-Dist: "
    return asked_for([line.removeprefix(head) for line in lines if line.startswith(head)])


def test_it_asks_for_the_core_alone(core):
    assert core == CORE


def test_it_brings_fourteen_packages_beside_those_of_torch(core):
    brought = with_theirs(core) - with_theirs({"torch"})
    assert {"soundfile", "cffi"} <= brought
    assert len(brought) <= 14, sorted(brought)


def test_it_recognises_from_another_folder(site, tmp_path):
    clip = shutil.copy(BUNDLED / "paraformer-zh-mini/example/asr_example.wav", tmp_path)
    code = "import sys, paraformer; print(paraformer.__file__, file=sys.stderr)\n"
    code += "from paraformer.cli.main import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "+model=paraformer-zh-mini", clip],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stderr
    assert done.stdout.strip()
    assert [path.name for path in tmp_path.iterdir()] == ["asr_example.wav"]


def test_the_programs_find_their_configurations(site, tmp_path):
    """They are package data, read through Hydra."""
    code = "import sys; from paraformer.programs.decode import main; sys.exit(main())"
    shown = run(sys.executable, "-c", code, "--cfg", "job", cwd=tmp_path, PYTHONPATH=str(site))
    assert "batch_size" in shown


def test_modules_and_commands_of_the_wheel_are_there(site):
    (listing,) = site.glob("*.dist-info/entry_points.txt")
    for line in listing.read_text("utf-8").splitlines():
        if "=" in line:
            module, function = line.split("=")[1].strip().split(":")
            path = site / Path(*module.split(".")).with_suffix(".py")
            assert f"def {function}(" in path.read_text("utf-8"), line
