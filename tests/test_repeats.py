"""The package says a thing once: few places share six or more lines."""

from __future__ import annotations

import ast
from collections import defaultdict
from itertools import combinations
from pathlib import Path

from tests.conftest import ROOT

SHARED_LINES = 6
MOST_PAIRS = 24


def code_lines(path: Path) -> list[str]:
    """What a module says, without blank lines, imports and docstrings, and without indentation."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            for number in range(node.lineno - 1, node.end_lineno):
                lines[number] = ""
    return [line.strip() for line in lines if line.strip()]


def shared_places(modules: dict[str, list[str]]) -> list[tuple[str, str, str, int]]:
    """Pairs of places of equal lines, each as long as it goes: both modules, first line, length."""
    places: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for name, lines in modules.items():
        for start in range(len(lines) - SHARED_LINES + 1):
            places[tuple(lines[start : start + SHARED_LINES])].append((name, start))
    pairs = {pair for found in places.values() for pair in combinations(found, 2)}
    shared = []
    for (a, i), (b, j) in sorted(pairs):
        if ((a, i - 1), (b, j - 1)) in pairs:
            continue  # inside a longer one
        length = SHARED_LINES
        while ((a, i + length - SHARED_LINES + 1), (b, j + length - SHARED_LINES + 1)) in pairs:
            length += 1
        shared.append((a, b, modules[a][i], length))
    return shared


def test_few_places_of_the_package_share_six_lines():
    paths = sorted((ROOT / "paraformer").rglob("*.py"))
    names = {str(path.relative_to(ROOT / "paraformer")): code_lines(path) for path in paths}
    shared = shared_places(names)
    assert len(shared) <= MOST_PAIRS, "\n".join(map(str, shared))


def test_a_run_of_equal_lines_is_one_pair_of_places():
    one, two = [f"line {n}" for n in range(9)], ["x", *(f"line {n}" for n in range(1, 9)), "y"]
    assert shared_places({"a": one, "b": two}) == [("a", "b", "line 1", 8)]
    assert shared_places({"a": one[:5], "b": one[:5]}) == []
    assert shared_places({"a": [*one, "x", *one]}) == [("a", "a", "line 0", 9)]
    assert len(shared_places({"a": one, "b": one, "c": one})) == 3


def test_blank_lines_imports_docstrings_and_indentation_do_not_count(tmp_path):
    head = '"""A\nB"""\nimport os\nfrom a import (\n    b,\n)\n\n'
    source = head + 'def f():\n    """C."""\n    return b\n'
    (tmp_path / "x.py").write_text(source)
    assert code_lines(tmp_path / "x.py") == ["def f():", "return b"]
