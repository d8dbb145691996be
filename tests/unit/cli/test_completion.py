"""What the completion scripts offer, asked of the shells themselves."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from paraformer import options as opts
from paraformer.cli.client import KEYS as ASKED
from paraformer.cli.command_line import KNOWN
from paraformer.cli.completion import SHELLS, TASKS, WORDS, completion
from paraformer.cli.main import COMMANDS, main
from paraformer.cli.serve import KEYS as SERVED
from paraformer.hub.directories import bundled_models
from paraformer.options import FILES, FOLDERS
from paraformer.output.tables import FORMATS

MODELS = set(bundled_models())
KEYS = {f"{key}=" for key in KNOWN}
# COMP_WORDS are what bash would make of the line: it breaks at `=` too.
ASK_BASH = r"""
source /dev/stdin <<< "$SCRIPT"
COMP_LINE=$1 COMP_POINT=${#1}
line=${1//=/ = }
read -ra COMP_WORDS <<< "$line"
[[ $line == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_funasr 2>&1
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts():
    given = KNOWN, {"m": "model"}, COMMANDS, {"serve": SERVED, "client": ASKED}
    return {shell: completion(shell, *given) for shell in SHELLS}


@pytest.fixture
def offered(scripts, tmp_path):
    """What is offered behind a line of a shell, in a folder with a file and a folder."""
    (tmp_path / "a.wav").touch()
    (tmp_path / "a_model").mkdir()

    def ask(line: str, shell: str = "bash") -> set[str]:
        if shutil.which(shell) is None:
            pytest.skip(f"{shell} is not installed")
        commands = {
            "bash": ["bash", "--norc", "-c", ASK_BASH, "bash", line],
            "fish": ["fish", "--no-config", "-c", f"{scripts[shell]}\ncomplete -C {line!r}"],
        }
        done = subprocess.run(
            commands[shell],
            cwd=tmp_path,
            env={"SCRIPT": scripts[shell], "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0 and done.stderr == ""
        return {shown.split("\t")[0] for shown in done.stdout.splitlines() if shown}

    return ask


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("funasr +model=", MODELS | {"a_model"}),
        ("funasr +model=para", {"paraformer-zh-mini"}),
        ("funasr x.wav --model=fs", {"fsmn-vad-mini"}),
        ("funasr ++vad_model=", {"fsmn-vad-mini", "a_model"}),
        ("funasr --punc-model=c", {"ct-punc-mini"}),
        ("funasr +output_format=", set(FORMATS)),
        ("funasr output_format=t", {"text", "tsv", "textgrid"}),
        ("funasr +itn=", {"true", "false"}),
        ("funasr +input=a", {"a.wav", "a_model"}),
        ("funasr +output_dir=a", {"a_model"}),
        ("funasr +output_f", {"+output_format="}),
        ("funasr ++output_f", {"++output_format="}),
        ("funasr --output_f", {"--output_format="}),
        ("funasr +", {f"+{key}" for key in KEYS}),
        ("funasr ", KEYS | set(COMMANDS) | {"a.wav", "a_model"}),
        ("funasr a", {"a.wav", "a_model"}),
        ("funasr -m para", {"paraformer-zh-mini"}),
        ("funasr completion ", set(SHELLS)),
        ("funasr +fs=", set()),
        ("funasr serve +max_u", {"+max_upload_mb="}),
        ("funasr serve +", {f"+{key}=" for key in SERVED}),
        ("funasr serve +insecure=", {"true", "false"}),
        ("funasr client ws://x +conn", {"+connections="}),
        ("funasr serve +certfile=a", {"a.wav", "a_model"}),
        ("funasr serve +output_f", set()),
    ],
)
def test_what_bash_offers(offered, line, expected):
    assert offered(line) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("funasr +model=para", {"+model=paraformer-zh-mini"}),
        ("funasr --vad_model=f", {"--vad_model=fsmn-vad-mini"}),
        ("funasr +output_format=t", {f"+output_format={f}" for f in ("text", "tsv", "textgrid")}),
        ("funasr ++output_f", {"++output_format="}),
        ("funasr +input=a.", {"+input=a.wav"}),
        ("funasr completion f", {"fish"}),
        ("funasr serve +max_u", {"+max_upload_mb="}),
        ("funasr serve +output_f", set()),
        ("funasr -m para", {"paraformer-zh-mini"}),
    ],
)
def test_what_fish_offers(offered, line, expected):
    assert offered(line, "fish") == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_the_scripts_are_whole(scripts, shell):
    """Every key is in them, and no mark of the template is left."""
    assert "@" not in scripts[shell].replace("${COMP_WORDS[@]}", "").replace("[@]}", "")
    assert all(key in scripts[shell] for key in KEYS)
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    check = subprocess.run([shell, "-n"], input=scripts[shell], text=True, capture_output=True)
    assert (check.returncode, check.stderr) == (0, "")


def test_the_tables_name_options_that_there_are():
    assert {*WORDS, *FILES, *FOLDERS, *TASKS} <= {*KNOWN, *SERVED}
    assert {"port", "model", "hotword", "verbose"} <= {*SERVED} and "input" not in SERVED
    assert opts.default_of(KNOWN["output_format"]) in WORDS["output_format"]


def test_the_command(capsys, caplog, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["completion", "bash"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("# Completion of funasr in bash") and err == ""
    for argv in (["completion"], ["completion", "csh"], ["doctor", "x.wav"]):
        assert main(argv) == 1
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and err.startswith("funasr: ")
    (tmp_path / "doctor").touch()
    assert main(["doctor"]) == 1  # a file of that name is an input
    assert "doctor: the file is empty" in caplog.text
