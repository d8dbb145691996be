"""The rooms of the package: which there are, and what each may import.

egs/*/run.sh -> egs/steps -> bin/*.py -> programs -+-> train -+-> decode -> backends -> models -> nn
                               funasr -> cli ------+-> api ---+-> data -> the ground floor
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "paraformer"
GROUND = {"errors", "limits", "extras", "options", "documents", "files", "progress", "shard"}
# What lies in the hall beside the ground floor.
DOORS = {"", "__main__", "as_funasr", "as_funasr.__main__", "as_funasr.funasr"}
# A row a room: what it may import of ours, beside the ground floor.
ROOMS = {
    "api": "backends data.audio data.corpus data.inputs data.text decode export hub models output",
    "backends": "models nn",
    "cli": "api backends data.audio data.inputs decode hub models output server",
    "conf": "",
    "data": "",
    "data.audio": "data.corpus",
    "data.batches": "data.audio data.corpus data.features data.inputs data.text",
    "data.corpus": "",
    "data.features": "data.corpus",
    "data.inputs": "data.audio data.corpus",
    "data.text": "data.corpus",
    "decode": "backends data.audio data.corpus data.features data.inputs data.text",
    "export": "backends data.audio data.features data.text hub models nn",
    "hub": "",
    "models": "data.corpus data.features data.text nn",
    "nn": "",
    "output": "data.audio data.corpus data.inputs data.text decode",
    "programs": "api backends cli data.audio data.batches data.corpus data.features data.inputs "
    "data.text decode hub models output report train",
    "report": "backends data.features data.inputs data.text decode",
    "server": "api data.audio",
    "train": "data.audio data.batches data.corpus data.features data.text decode models nn",
}
BELOW = {room: set(names.split()) for room, names in ROOMS.items()}
# Finer than by the room: who may import what of it alone.
ONLY = {
    ("train", "decode"): {"decode.search", "decode.timestamps"},
    ("export", "backends"): {"backends.onnx_session"},
    ("models", "data.corpus"): {"models.release"},
    ("models", "data.features"): {"models.kinds", "models.release"},
    ("models", "data.text"): {"models.kinds", "models.release"},
}
# The service and the export are wings that came after a hundred arrows had been counted.
MOST_ROOMS, MOST_ARROWS = 24, 102
HYDRA_ROOMS = ("cli", "programs")
PRINTING_ROOMS = ("cli", "programs")


def name_of(path: Path) -> str:
    """Dotted name below the package: data/audio/read.py -> data.audio.read."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def within(name: str, layer: str) -> bool:
    return name == layer or name.startswith(f"{layer}.")


def room_of(name: str) -> str:
    """The room in which a module lies, itself if it is one; "" for the hall."""
    return max((room for room in ROOMS if within(name, room)), key=len, default="")


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
    """The same in our package: names of modules, `data.audio.read` for its `load_audio`."""
    found = set()
    for name in imports(path):
        if within(name, "paraformer"):
            name = name.removeprefix("paraformer").removeprefix(".")
            known = [module for module in MODULES if module and within(name, module)]
            found.add(max(known, key=len, default=""))
    return found


# (importing module, imported module) across rooms, the hall's doors left out.
CROSSINGS = [
    (name, other)
    for name, path in MODULES.items()
    if room_of(name)
    for other in sorted(imports_of_ours(path))
    if room_of(other) != room_of(name)
]
ARROWS = {(room_of(name), room_of(other)) for name, other in CROSSINGS}


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name)])
def test_a_module_imports_only_what_lies_below(name):
    room = room_of(name)
    others = {other for importer, other in CROSSINGS if importer == name and room_of(other)}
    wrong = {other for other in others if room_of(other) not in BELOW[room]}
    assert not wrong, f"{name} may import of ours {sorted(BELOW[room])} alone"
    for other in others:
        allowed = ONLY.get((room, room_of(other)))
        assert allowed is None or {name, other} & allowed, f"{name} imports {other}"


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("backends.onnx_")])
def test_the_way_of_graphs_knows_no_network(name):
    ours = {other for importer, other in CROSSINGS if importer == name and room_of(other)}
    assert ours <= {"models.release"}


def test_every_arrow_of_the_table_is_there():
    table = {(room, below) for room in ROOMS for below in BELOW[room]}
    assert table == {arrow for arrow in ARROWS if arrow[1]}


def test_the_ground_floor_stands_on_itself_and_needs_no_torch():
    assert {name for name in MODULES if not room_of(name)} == GROUND | DOORS
    for name in GROUND:
        path = MODULES[name]
        assert imports_of_ours(path) <= GROUND, name
        assert not {i for i in imports(path) if i.split(".")[0] in ("torch", "numpy")}, name


def test_rooms_and_arrows_are_few_and_run_in_no_circle():
    ground = {(room, "ground floor") for room, below in ARROWS if not below}
    assert len(ROOMS) <= MOST_ROOMS
    assert len({(room, below) for room, below in ARROWS if below} | ground) <= MOST_ARROWS
    left = dict(BELOW)
    while free := [room for room, below in left.items() if not below & left.keys()]:
        left = {room: below for room, below in left.items() if room not in free}
    assert not left, "these import each other in a circle"


@pytest.mark.parametrize("room", ROOMS)
def test_a_door_plate_says_what_its_room_may_import(room):
    path = PACKAGE.joinpath(*room.split("."), "__init__.py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert len(tree.body) == 1, f"{path} is a door plate, nothing else"
    plate = ast.get_docstring(tree) or ""
    assert len(plate.splitlines()) <= 6
    told = re.search(r"^Imports: ([^.]+(?:\.[a-z][^.]*)*)\.$", plate, re.M | re.S)
    assert told, f"{path} has no line 'Imports: ...'"
    names = {" ".join(name.split()) for name in told[1].split(",")}
    assert names - {"the ground floor", "nothing of ours"} == BELOW[room]


@pytest.mark.parametrize("name", MODULES)
def test_hydra_is_known_to_the_programs_alone(name):
    if name.split(".")[0] in HYDRA_ROOMS:
        return
    assert not {i for i in imports(MODULES[name]) if i.split(".")[0] in ("hydra", "omegaconf")}


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_a_program(name):
    """A program is a module with a `main`; what programs share is in modules of their own."""
    if name.split(".")[0] == "cli":
        return
    for other in imports_of_ours(MODULES[name]) - {name}:
        body = ast.parse(MODULES[other].read_text(encoding="utf-8")).body
        functions = {node.name for node in body if isinstance(node, ast.FunctionDef)}
        assert not (room_of(other) == "programs" and "main" in functions), f"{name} imports {other}"


@pytest.mark.parametrize("name", MODULES)
def test_only_the_programs_print(name):
    if name.split(".")[0] in PRINTING_ROOMS:
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


def strings(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_no_module_is_named_in_a_string(name):
    """A logger is its module's `__name__`, also where another asks for it: a move takes it along.

    The hall's table of names is left out; hydra wants the folder of the configurations by its name.
    """
    dotted = {f"paraformer.{other}" for other in MODULES if other} - {"paraformer.conf"}
    assert not strings(MODULES[name]) & dotted


@pytest.mark.parametrize("name", MODULES)
def test_a_module_logs_under_its_own_name(name):
    calls = [
        node.value
        for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
    ]
    loggers = [call for call in calls if ast.unparse(call.func) == "logging.getLogger"]
    assert {ast.unparse(call) for call in loggers} <= {"logging.getLogger(__name__)"}


def test_released_file_names_are_known_to_release():
    """hub.py looks whether a directory is a model's; programs may name the files they are given."""
    for name, path in MODULES.items():
        if name == "models.release" or name.split(".")[0] in ("hub", "programs", "cli"):
            continue
        nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        literals = {n.value for n in nodes if isinstance(n, ast.Constant)}
        assert not literals & {"model.pt", "configuration.json", "tokens.json"}, name


def networks() -> set[str]:
    """The names of our own modules of torch."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for name, path in MODULES.items()
        if room_of(name) in ("models", "nn")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    found = {"Module"}
    while more := {name for name, own in bases.items() if own & found} - found:
        found |= more
    return found


NETWORKS = networks()


@pytest.mark.parametrize("name", [n for n in MODULES if room_of(n) not in ("models", "nn")])
def test_a_model_is_asked_what_it_can_do_not_of_which_class_it_is(name):
    if name == "backends.packed":  # which layers it replaces
        return
    calls = ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8")))
    asked = {
        ast.unparse(kind).rpartition(".")[2]
        for node in calls
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("isinstance", "issubclass")
        for kind in ast.walk(node.args[1])
        if isinstance(kind, (ast.Name, ast.Attribute))
    }
    assert {"Paraformer", "Aligner", "SanmEncoder", "CifPredictorV3"} <= NETWORKS
    assert not asked & NETWORKS


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
