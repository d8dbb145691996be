"""The documents: every option and program is in them, and no link of theirs leads nowhere."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest
import yaml

from paraformer import options as opts
from tests.conftest import ROOT

pytestmark = pytest.mark.cli
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """The pages as `make docs` gathers them, pictures included."""
    pytest.importorskip("matplotlib", reason="no matplotlib here, which draws the pictures")
    place = tmp_path_factory.mktemp("docs") / "pages"
    script = [sys.executable, str(ROOT / "docs" / "build.py"), str(place)]
    done = subprocess.run(script, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return place


def test_every_option_and_program_is_there(pages):
    text = (pages / "options.md").read_text("utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", text, re.M)
    kinds = (opts.CommandOptions, opts.BuildOptions, opts.CallOptions, opts.ServeOptions)
    assert sorted(listed) == sorted(opts.names(*kinds))
    programs = re.findall(r"^## (.+)$", (pages / "programs.md").read_text("utf-8"), re.M)
    doors = sorted(path.stem for path in (ROOT / "bin").glob("*.py"))
    doors.remove("funasr")
    assert programs == ["funasr", "funasr serve", "funasr merge", *doors]


def test_links_and_pictures_are_pages(pages):
    for page in pages.glob("*.md"):
        for target, _ in LINK.findall(page.read_text("utf-8")):
            assert "://" in target or (pages / target).is_file(), f"{page.name}: {target}"


def test_every_page_is_in_the_menu(pages):
    menu = yaml.safe_load((ROOT / "docs" / "mkdocs.yml").read_text("utf-8"))["nav"]
    shown = re.findall(r"\w+\.md", yaml.safe_dump(menu))
    assert sorted(shown) == sorted(page.name for page in pages.glob("*.md"))


def test_mkdocs_finds_no_fault(pages, tmp_path):
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip("no mkdocs here: pip install 'paraformer-toolkit[docs]'")
    told = yaml.safe_load((ROOT / "docs" / "mkdocs.yml").read_text("utf-8"))
    told |= {"docs_dir": str(pages), "site_dir": str(tmp_path / "site")}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(told), "utf-8")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", tmp_path / "mkdocs.yml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "recipes.html").is_file()
