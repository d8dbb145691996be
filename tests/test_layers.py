"""Dependence goes one way: each module imports only layers below its own.

egs/*/run.sh -> egs/steps -> bin/*.py -+-> train -+-> decode -> models -> nn ---+
                              funasr -> cli -> auto              +-> data ------+-> errors
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "paraformer"
EVERYTHING = {"*"}
# The longest entry that a module's name starts with counts; both sides are relative to the package.
ALLOWED: dict[str, set[str]] = {
    "": {"forks", "auto", "live", "decode.streaming", "errors"},  # __init__ exports
    "__main__": {"cli"},
    "errors": set(),
    "limits": {"errors"},
    "extras": {"errors"},
    "documents": {"errors"},
    "files": {"errors"},
    "tags": {"errors"},
    "score": {"tags", "extras", "errors"},
    "resume": {"documents", "files", "errors"},
    "forks": {"errors"},
    "formats": {"resume", "errors"},
    "transcripts": {"data.words", "decode.text", "limits", "errors"},
    "alignment_plot": {"decode", "models", "nn", "extras", "errors"},
    "error_report": {"score", "data", "limits", "extras", "errors"},
    "timed_formats": {"transcripts", "formats", "extras", "errors"},
    "timed_folder": {"timed_formats", "transcripts", "formats", "data.origins", "files", "errors"},
    "hub": {"hub", "documents", "files", "errors"},
    "options": {"limits", "errors"},
    "data": {"data", "documents", "tags", "limits", "extras", "files", "errors"},
    "nn": {"nn", "errors"},
    "models": {"nn", "limits", "files", "errors"},
    "models.weights": {"models.integrity", "nn", "files", "errors"},
    "models.checkpoint": {"models", "nn", "data", "documents", "files", "errors"},
    "models.builders": {"models", "nn", "errors"},
    "models.kinds": {"models.builders", "errors"},
    "models.aligner": {"models.paraformer", "nn", "errors"},
    "models.bicif": {"models.paraformer", "nn", "errors"},
    "models.seaco": {"models.bicif", "nn", "errors"},
    "models.contextual": {"models.paraformer", "nn", "errors"},
    "decode": {"decode", "models", "data", "nn", "documents", "limits", "extras", "errors"},
    "train": {
        "train",
        "decode.search",
        "decode.timestamps",
        "models",
        "data",
        "nn",
        "score",
        "documents",
        "resume",
        "limits",
        "files",
        "errors",
    },
    "online": {"decode", "data", "errors"},
    "results": {"decode", "data", "errors"},
    "punctuation_task": {
        "resume",
        "tasks",
        "results",
        "output",
        "decode",
        "data",
        "options",
        "errors",
    },
    "alignment_task": {
        "resume",
        "results",
        "output",
        "decode",
        "data",
        "formats",
        "options",
        "errors",
    },
    "record": {"decode.hotwords", "models", "options", "resume"},
    "output": {
        "resume",
        "results",
        "timed_folder",
        "timed_formats",
        "transcripts",
        "formats",
        "data.origins",
        "options",
    },
    "tasks": {
        "resume",
        "output",
        "online",
        "live",
        "results",
        "decode",
        "data",
        "timed_formats",
        "transcripts",
        "formats",
        "options",
        "errors",
    },
    "auto": {
        "record",
        "resume",
        "alignment_task",
        "punctuation_task",
        "output",
        "tasks",
        "online",
        "live",
        "decode",
        "models",
        "data",
        "nn",
        "hub",
        "timed_formats",
        "formats",
        "forks",
        "options",
        "limits",
        "errors",
    },
    "workers": {
        "auto",
        "tasks",
        "output",
        "results",
        "data",
        "formats",
        "options",
        "limits",
        "errors",
    },
    "live": {"decode", "models", "data", "hub", "formats", "errors"},
    "batch": {"decode", "models", "data", "hub", "formats", "errors"},
    "cli": EVERYTHING,
    "programs": EVERYTHING,
    "conf": set(),
}
HYDRA_LAYERS = ("cli", "programs")
PRINTING_LAYERS = ("cli", "programs")


def name_of(path: Path) -> str:
    """Dotted name below the package: data/audio.py -> data.audio."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def within(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")


def imports(path: Path) -> set[str]:
    """All that a module imports, wherever in it, as dotted names."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports_of_ours(path: Path) -> set[str]:
    """The same in our package: names of modules, `data.audio` for `paraformer.data.audio.read`."""
    found = set()
    for name in imports(path):
        if within(name, "paraformer"):
            name = name.removeprefix("paraformer").removeprefix(".")
            known = [module for module in MODULES if module and within(name, module)]
            found.add(max(known, key=len, default=""))
    return found


def allowed(name: str) -> set[str]:
    layers = [layer for layer in ALLOWED if within(name, layer)] if name else [""]
    assert layers, f"paraformer/{name}: a new layer; give it a line in ALLOWED"
    return ALLOWED[max(layers, key=len)]


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_what_lies_below(name):
    below = allowed(name)
    wrong = {
        module
        for module in imports_of_ours(MODULES[name])
        if below != EVERYTHING and not any(within(module, layer) for layer in below)
    }
    assert not wrong, f"{name} may import of ours {sorted(below)} alone"


@pytest.mark.parametrize("name", MODULES)
def test_hydra_is_known_to_the_programs_alone(name):
    if name.split(".")[0] in HYDRA_LAYERS:
        return
    assert not {i for i in imports(MODULES[name]) if i.split(".")[0] in ("hydra", "omegaconf")}


@pytest.mark.parametrize("name", MODULES)
def test_only_the_programs_print(name):
    if name.split(".")[0] in PRINTING_LAYERS:
        return
    calls = ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    printed = [
        node.lineno
        for node in calls
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not printed


def test_released_file_names_are_known_to_checkpoint():
    """hub.py looks whether a directory is a model's; programs may name the files they are given."""
    for name, path in MODULES.items():
        if name == "models.checkpoint" or name.split(".")[0] in ("hub", "programs", "cli"):
            continue
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        literals = {n.value for n in nodes if isinstance(n, ast.Constant)}
        assert not literals & {"model.pt", "configuration.json", "tokens.json"}, name


def test_no_module_is_longer_than_500_lines():
    lengths = {n: len(p.read_text(encoding="utf-8").splitlines()) for n, p in MODULES.items()}
    assert {n: size for n, size in lengths.items() if size > 500} == {}


def test_no_function_is_longer_than_80_lines():
    long = {
        f"{name}.{node.name}": node.end_lineno - node.lineno + 1
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.end_lineno - node.lineno >= 80
    }
    assert long == {}


def test_doors_are_short():
    """bin/x.py opens paraformer/programs/x.py and does nothing else."""
    for path in (ROOT / "bin").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        statements = [n for n in tree.body if not isinstance(n, ast.Import | ast.ImportFrom)]
        assert len(statements) <= 5, path
        assert not [n for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef)], path
