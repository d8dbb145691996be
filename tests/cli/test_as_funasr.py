"""The name `funasr`: switched on in a program, for a program, by PYTHONPATH, and by a distribution
of its own; in the place of another package of that name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from paraformer.as_funasr import FOLDER, funasr
from paraformer.as_funasr.__main__ import main
from paraformer.cli.doctor import OURS
from tests.conftest import ROOT

pytestmark = pytest.mark.cli
FOUND = "import importlib.util as u; print(u.find_spec('funasr').origin)"
CARD = f"""
import subprocess, sys
import funasr.auto.auto_model
from funasr import AutoModel
from funasr.utils.postprocess_utils import rich_transcription_postprocess
import paraformer
assert AutoModel is paraformer.AutoModel is funasr.auto.auto_model.AutoModel
print(*sys.argv[1:], __name__, rich_transcription_postprocess("<|zh|><|HAPPY|>好 "), flush=True)
subprocess.run([sys.executable, "-c", {FOUND!r}], check=True)
"""


@pytest.fixture
def other(tmp_path):
    """A folder with another package of the same name, as pip would lay it."""
    (tmp_path / "site/funasr").mkdir(parents=True)
    (tmp_path / "site/funasr/__init__.py").write_text("other = True\n")
    return tmp_path / "site"


def python(*arguments, check=True, **environment):
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode == 0) == check, done.stderr
    return done.stdout if check else done.stderr


def test_a_program_runs_as_it_is_and_so_does_what_it_starts(tmp_path, other):
    program = tmp_path / "card.py"
    program.write_text(CARD, "utf-8")
    path = os.pathsep.join(map(str, (other, ROOT)))
    said = python("-m", "paraformer.as_funasr", program, "a", "--b=c", PYTHONPATH=path)
    assert said.splitlines() == ["a --b=c __main__ 好", str(FOLDER / "funasr.py")]


def test_a_program_that_is_not_there_is_one_line():
    assert main(["nosuch.py", "a"]) == (
        "as_funasr: nosuch.py: no such program; give the path of a Python file"
    )


def test_a_variable_switches_it_on_for_every_program(other, capsys):
    assert main([]) is None
    folder = capsys.readouterr().out.strip()
    path = os.pathsep.join((folder, str(other)))
    assert python("-c", FOUND, PYTHONPATH=path).strip() == str(FOLDER / "funasr.py")


def test_an_import_goes_before_another_package_but_never_replaces_it(other):
    path = os.pathsep.join(map(str, (other, ROOT)))
    first = "import paraformer.as_funasr\n" + FOUND
    assert python("-c", first, PYTHONPATH=path).strip() == str(FOLDER / "funasr.py")
    late = python("-c", "import funasr, paraformer.as_funasr", check=False, PYTHONPATH=path)
    line = late.splitlines()[-1]
    assert line.startswith("ImportError: funasr: another one is in use") and str(other) in line


def test_the_distribution_owns_the_name_and_shares_no_file(tmp_path):
    pytest.importorskip("setuptools", reason="builds the package: pip install setuptools")
    made = ("build", "*.egg-info", "__pycache__")
    source = tmp_path / "compat"
    shutil.copytree(ROOT / "compat", source, ignore=shutil.ignore_patterns(*made))
    build = "import os; from setuptools import build_meta as b\n"
    build += f"os.chdir({str(source)!r}); b.build_wheel({str(tmp_path)!r})"
    python("-c", build)
    (wheel,) = tmp_path.glob("funasr-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "site")
    assert [name for name in names if ".dist-info/" not in name] == ["funasr.py"]
    assert not any(name.endswith("entry_points.txt") for name in names)  # `funasr` is another's
    (about,) = (tmp_path / "site").glob("*.dist-info/METADATA")
    lines = about.read_text("utf-8").splitlines()
    assert f"Version: {funasr.__version__}+paraformer" in lines
    assert "Requires-Dist: paraformer-toolkit" in lines
    assert OURS in (tmp_path / "site/funasr.py").read_bytes()
    code = "import funasr, paraformer; from funasr.auto.auto_model import AutoModel\n"
    code += "print(AutoModel is funasr.AutoModel is paraformer.AutoModel)"
    path = os.pathsep.join(map(str, (tmp_path / "site", ROOT)))
    assert python("-c", code, PYTHONPATH=path) == "True\n"
