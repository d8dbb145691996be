"""Every command that a README shows runs, and so does its Python; what cannot run here is listed
with the reason, and its program and options are looked up.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import sys
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import soundfile

from paraformer import as_funasr
from paraformer.cli import client, serve
from paraformer.cli.command_line import parse, type_known
from paraformer.cli.main import COMMANDS
from paraformer.cli.main import main as funasr
from paraformer.data.corpus.tables import write_table
from paraformer.hub.directories import BUNDLED, RELEASED
from paraformer.programs import hydra_main
from tests.conftest import ROOT

READMES = [
    *(ROOT / name for name in ("README.md", "bin/README.md", "egs/README.md")),
    *(ROOT / name for name in ("paraformer/README.md", "findings/README.md")),
    ROOT / "paraformer/server/README.md",
    *sorted(ROOT.glob("egs/*/s0/README.md")),
    ROOT / "egs/batch/README.md",
    ROOT / "egs/service/README.md",
    *sorted(ROOT.glob("docs/pages/*.md")),
    *sorted(BUNDLED.glob("*/README.md")),
    *sorted(BUNDLED.glob("*/example/README.md")),
]
PROGRAMS = {path.stem for path in (ROOT / "bin").glob("*.py")} - {"funasr"}
# Commands that hold this are parsed alone. The first reason that fits is theirs.
NOT_RUN = {
    r"pip install|doctor$": "installs, or looks at the whole machine",
    r"run(_heads)?\.sh": "a recipe takes minutes or hours; tests/recipes runs them all",
    r"^(local|utils|steps)/|exp/(tts|kokoro)|^export |^printf |^cd egs": "a step of a recipe",
    r"^arecord": "needs a microphone",
    r"^funasr serve|^funasr client|^curl": "a server, and what asks it; tests/cli/test_serve.py",
    r"paraformer\.as_funasr": "switches on a name; tests/cli/test_as_funasr.py",
    rf"(model|-m)[= ]({'|'.join(map(re.escape, RELEASED))}|iic/\S+)( |$)": "needs a hub",
    r"embeddings=exp/voices|hyp=exp/turns": "needs what a model of a hub gives; test_embed.py",
    r"hyp=exp/decoded/stm": "needs who spoke; tests/unit/data/text/test_speaker_score.py",
    r"model=exp/mine": "needs a model that somebody has trained",
    r"export_onnx|model=exp/onnx": "needs the extra onnx; tests/unit/export",
    r"nj=4": "starts four processes; tests/unit/api/test_workers.py",
    r"cluster=ray": "needs the extra ray; tests/unit/api/test_actors.py",
    r"^sbatch": "needs a cluster; tests/cli/test_batch_pages.py",
    r"funasr merge": "needs shards that jobs have left; tests/cli/test_batch_pages.py",
}
TRANSCRIPT = "$ "


class Shown(NamedTuple):
    """A command, or a block of Python, and where it stands."""

    place: str
    text: str

    @property
    def readme(self) -> str:
        return self.place.rpartition(":")[0]

    @property
    def reason(self) -> str:
        """Why it is parsed alone; "" for what is run."""
        found = (reason for what, reason in NOT_RUN.items() if re.search(what, self.text))
        return next(found, "")


def blocks(path: Path) -> list[tuple[int, list[str]]]:
    """The indented blocks of a README: where each begins, and its lines."""
    found: list[tuple[int, list[str]]] = []
    lines = path.read_text("utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        inside = found and number == found[-1][0] + len(found[-1][1])
        if line.startswith("    "):
            if not inside:
                found.append((number, []))
            found[-1][1].append(line[4:])
        elif not line and inside and any(later.startswith("    ") for later in lines[number:][:1]):
            found[-1][1].append("")
    return found


def is_python(lines: list[str]) -> bool:
    return any(line.startswith(("from ", "import ")) for line in lines)


def shown() -> tuple[list[Shown], list[Shown], list[tuple[Shown, str]]]:
    """Commands, blocks of Python, and commands with what they print."""
    commands, python, transcripts = [], [], []
    for path in READMES:
        name = path.relative_to(ROOT).as_posix()
        commands += ours_beside_theirs(path)
        for number, lines in blocks(path):
            if is_python(lines):
                python.append(Shown(f"{name}:{number}", "\n".join(lines)))
            elif lines[0].startswith(TRANSCRIPT):
                command = Shown(f"{name}:{number}", lines[0].removeprefix(TRANSCRIPT))
                transcripts.append((command, "\n".join(lines[1:]) + "\n"))
            else:
                rows = enumerate(lines, number)
                commands += [Shown(f"{name}:{at}", plain(row)) for at, row in rows if plain(row)]
    return commands, python, transcripts


def ours_beside_theirs(path: Path) -> list[Shown]:
    """The last cells of tables of commands, as coming.md has them."""
    rows = enumerate(path.read_text("utf-8").splitlines(), 1)
    name = path.relative_to(ROOT).as_posix()
    found = ((number, re.fullmatch(r"\| `[^`]+` \| `([^`]+)` \|", row)) for number, row in rows)
    pages = path.parent.name == "pages"
    return [Shown(f"{name}:{number}", row[1]) for number, row in found if row and pages]


def plain(line: str) -> str:
    """A line without its comment."""
    return re.sub(r"\s+#\s.*", "", line).strip()


ALL, PYTHON, TRANSCRIPTS = shown()
# The same command, said in another way, runs once.
SHORTER = re.compile(r"\+input=(?=\w+\.wav)|\+model=paraformer-zh-mini ")
FIRST = {SHORTER.sub("", each.text): each.place for each in reversed(ALL)}
RUN = [each for each in ALL if not each.reason and FIRST[SHORTER.sub("", each.text)] == each.place]
PARSED = [command for command in ALL if command.reason]


def words_of(command: str) -> list[list[str]]:
    """The programs of a line with their arguments: `cd x && a b | c` is three."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;")
    lexer.whitespace_split, lexer.commenters = True, ""
    programs: list[list[str]] = [[]]
    for word in lexer:
        programs.append([]) if set(word) <= set("|&;") else programs[-1].append(word)
    return [words for words in programs if words]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder in which the files that the commands name lie."""
    for name in ("bin", "egs", "paraformer", "utils"):
        (tmp_path / name).symlink_to(ROOT / name)
    example = BUNDLED / "paraformer-zh-mini" / "example"
    sound, rate = soundfile.read(example / "asr_example.wav")
    said = (example / "text").read_text("utf-8").splitlines()[0].split()[1]
    for name in ("a", "b", "x", "meeting", "hours", "long"):
        shutil.copy(example / "asr_example.wav", tmp_path / f"{name}.wav")
    (tmp_path / "calls").mkdir()
    soundfile.write(tmp_path / "calls" / "c.wav", np.stack([sound, sound], 1), rate)
    (tmp_path / "corpus" / "deep").mkdir(parents=True)
    soundfile.write(tmp_path / "corpus" / "deep" / "d.flac", sound, rate)
    for name in ("data/train", "data/test", "data/raw"):
        (tmp_path / name).mkdir(parents=True)
        write_table(tmp_path / name / "wav.scp", {"u1": str(tmp_path / "x.wav")})
        write_table(tmp_path / name / "text", {"u1": said})
    shutil.copy(tmp_path / "data/test/wav.scp", tmp_path / "wav.scp")
    (tmp_path / "manifest.jsonl").write_text('{"audio_filepath": "x.wav", "duration": 1}\n')
    (tmp_path / "turns.rttm").write_text("SPEAKER x 1 0.2 3 <NA> <NA> Anna <NA> <NA>\n")
    (tmp_path / "text.txt").write_text(f"{said}\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(words: list[str], monkeypatch) -> int:
    """The exit code of a program of ours, which runs in this process."""
    name = Path(words[0]).stem
    if name == "funasr":
        return funasr(words[1:])
    monkeypatch.setattr(sys, "argv", words)
    module = import_module(f"paraformer.programs.{name.removeprefix('funasr-')}")
    return int(module.main())


@pytest.mark.cli
@pytest.mark.parametrize("readme", dict.fromkeys(command.readme for command in RUN))
def test_the_commands_of_a_readme_run(readme, place, monkeypatch, capsys):
    """One after another, since one may take what another leaves."""
    for command in (command for command in RUN if command.readme == readme):
        monkeypatch.chdir(place)
        for words in words_of(command.text):
            if words[0] == "cd":
                monkeypatch.chdir(words[1])
            else:
                code = start(words, monkeypatch)
                assert code == 0, f"{command.place} {command.text}\n{capsys.readouterr().err}"


@pytest.mark.cli
@pytest.mark.parametrize(
    ("command", "printed"), TRANSCRIPTS, ids=lambda part: getattr(part, "text", "")
)
def test_a_transcript_is_what_is_printed(command, printed, monkeypatch, capsys):
    """Where a model has learnt more, put the new text into the README."""
    monkeypatch.chdir(ROOT)
    (words,) = words_of(command.text)
    assert start(words, monkeypatch) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.cli
@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.place)
def test_a_block_of_python_runs(block, place):
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(block.text, {})  # noqa: S102
    assert said.getvalue() or "print" not in block.text


@pytest.mark.parametrize("command", PARSED, ids=lambda command: f"{command.place} {command.text}")
def test_a_command_that_is_not_run_names_what_there_is(command):
    folder = (ROOT / command.readme).parent
    for words in words_of(command.text):
        check(words, folder)


def check(words: list[str], folder: Path) -> None:
    """The program of a line, its options and, of `cd`, its folder are there."""
    program, arguments = words[0], words[1:]
    name = Path(program).stem.removeprefix("funasr-")
    if name == "funasr":
        check_funasr(arguments)
    elif program.startswith(("bin/", "funasr-")):
        config = re.search(r'run\("(\w+)"', module_text(name))
        source = hydra_main._Source(name, config[1], None)
        hydra_main._configure(source, arguments)
    elif program in ("python", "$(python"):
        assert arguments[0] == "-m" and arguments[1].rstrip(")") == as_funasr.__name__
    elif program == "pip":
        places = (".", "torch", "./compat", ".[serve]", "paraformer-toolkit[serve]")
        assert arguments[0] == "install" and arguments[1] in places
    elif program == "cd":
        assert any((at / arguments[0]).is_dir() for at in (ROOT, folder))
    elif program == "export":
        for value in arguments:
            check(shlex.split(value.partition("=")[2]), folder)
    elif program == "sbatch":
        assert (ROOT / next(word for word in arguments if word.endswith(".sh"))).is_file()
    elif program not in ("arecord", "curl", "printf", "."):
        check_script(program, arguments, folder)


def check_funasr(arguments: list[str]) -> None:
    if arguments and arguments[0] == "serve":
        _, rest = serve.split(parse(arguments[1:]).values)
        arguments = [f"{key}={value}" for key, value in rest.items()]
    elif arguments and arguments[0] == "client":
        assert {*parse(arguments[1:]).values} <= {*client.KEYS}
        return
    elif arguments and arguments[0] in COMMANDS:
        arguments = arguments[1:]
    _, unknown = type_known(parse(arguments).values)
    assert unknown == {}


def check_script(program: str, arguments: list[str], folder: Path) -> None:
    """A script of a recipe or of utils/, whose text has each option that it is given."""
    if program.startswith("exp/"):  # a python that the recipe has made
        program, arguments = arguments[0], arguments[1:]
    places = [ROOT, folder, ROOT / "egs", ROOT / "egs/mini_zh/s0", ROOT / "egs/vad/s0"]
    (script, *_) = [at / program for at in places if (at / program).is_file()]
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    for option in (word for word in own if word.startswith("--")):
        name = option.removeprefix("--").partition("=")[0]
        variable = rf"^{name.replace('-', '_')}="  # which parse_options.sh sets
        known = re.search(variable, script.read_text("utf-8"), re.M)
        assert known or f"--{name}" in script.read_text("utf-8"), f"{script}: {option}"


def module_text(name: str) -> str:
    return text_of(f"paraformer/programs/{name}.py")


def text_of(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


@pytest.mark.parametrize("reason", NOT_RUN)
def test_a_reason_not_to_run_has_its_command(reason):
    assert any(command.reason == NOT_RUN[reason] for command in PARSED)


def test_the_index_names_every_program():
    table = re.findall(r"^\| `(\w+)` \|", text_of("bin/README.md"), re.M)
    assert {*table} == PROGRAMS | {"funasr"} and len(table) == len({*table})


@pytest.mark.parametrize("option", ["resume", "shard"])
def test_those_that_take_an_option_are_named(option):
    named = rf"^These take `{option}`: (.*?)\. "
    line = re.search(named, text_of("bin/README.md"), re.M | re.S)
    confs = {}
    for name in PROGRAMS:
        config = re.search(r'run\("(\w+)"', module_text(name))
        confs[name] = hydra_main.defaults_of(config[1])
    taking = {name for name, conf in confs.items() if option in conf and name != "find_lr"}
    assert {*re.findall(r"`(\w+)`", line[1])} == taking | {"funasr"}


def test_links_lead_somewhere():
    for path in [path for path in READMES if path.parent.name != "pages"]:  # see test_docs.py
        for link in re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8")):
            assert "://" in link or (path.parent / link).exists(), f"{path}: {link}"
