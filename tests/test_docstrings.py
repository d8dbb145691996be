"""Docstrings begin with who does something or what a thing is, not with a "what" without a head."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
FOLDERS = ("paraformer", "bin", "utils")
MOST_HEADLESS = 0


def headless(path: Path) -> list[str]:
    """The public things of a file whose docstring begins with "What"."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, DOCUMENTED):
            continue
        name = getattr(node, "name", path.stem)
        if not name.startswith("_") and (ast.get_docstring(node) or "").startswith("What "):
            found.append(f"{path.relative_to(path.anchor)}: {name}")
    return found


def test_few_docstrings_begin_with_a_what_that_has_no_head():
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    found = [name for path in paths for name in headless(path)]
    assert len(found) <= MOST_HEADLESS, "\n".join(found)


@pytest.mark.parametrize(
    ("line", "count"), [("What stays.", 1), ("The rest, and what stays.", 0), ("Whatever.", 0)]
)
def test_a_docstring_is_judged_by_its_first_word(tmp_path, line, count):
    path = tmp_path / "x.py"
    path.write_text(
        f'"""{line}"""\n\n\nclass A:\n    """{line}"""\n\n\ndef _a():\n    """{line}"""\n'
    )
    assert len(headless(path)) == 2 * count
