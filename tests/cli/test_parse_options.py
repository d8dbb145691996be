"""utils/parse_options.sh: Kaldi's contract, without evaluating a value."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.cli

PARSE = Path(__file__).resolve().parents[2] / "utils" / "parse_options.sh"
SCRIPT = f"""#!/usr/bin/env bash
# Decode a test set.
#
#   steps/decode.sh [options] <data-dir>

# Not part of the help.
set -euo pipefail
nj=4
cmd=utils/run.py
use_gpu=false
beam_size=10
name=mine
empty=
. {PARSE}
for name_of in nj cmd use_gpu beam_size name empty; do
  printf '%s=%s\\n' "$name_of" "${{!name_of}}"
done
printf 'rest=%s\\n' "$@"
"""
DEFAULTS = {
    "nj": "4",
    "cmd": "utils/run.py",
    "use_gpu": "false",
    "beam_size": "10",
    "name": "mine",
    "empty": "",
}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "decode.sh"
    path.write_text(SCRIPT, "utf-8")
    return path


def call(script: Path, *arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["bash", str(script), *arguments],
        cwd=script.parent,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def values(script: Path, *arguments: str) -> tuple[dict[str, str], list[str]]:
    """Variables that differ from their defaults, and what is left of the arguments."""
    code, out, err = call(script, *arguments)
    assert (code, err) == (0, "")
    pairs = [line.split("=", 1) for line in out.splitlines()]
    rest = [value for key, value in pairs if key == "rest" and value]
    found = {key: value for key, value in pairs if key != "rest"}
    return {key: value for key, value in found.items() if DEFAULTS[key] != value}, rest


@pytest.mark.parametrize(
    ("arguments", "changed", "rest"),
    [
        ([], {}, []),
        (["data"], {}, ["data"]),
        (["--nj", "8", "data"], {"nj": "8"}, ["data"]),
        (["--nj=8", "data", "dir"], {"nj": "8"}, ["data", "dir"]),
        (["--beam-size", "5"], {"beam_size": "5"}, []),
        (["--beam_size=5"], {"beam_size": "5"}, []),
        (["--use-gpu", "true"], {"use_gpu": "true"}, []),
        (["--nj", "1", "--nj", "2"], {"nj": "2"}, []),
        (["--cmd", "utils/run.py --mem 4G"], {"cmd": "utils/run.py --mem 4G"}, []),
        (["--cmd=a --b=c"], {"cmd": "a --b=c"}, []),
        (["--empty", "x=y=z"], {"empty": "x=y=z"}, []),
        (["--nj="], {"nj": ""}, []),
        (["--name", "--nj", "data"], {"name": "--nj"}, ["data"]),
        (["--nj", "8", "--", "--nj", "9"], {"nj": "8"}, ["--nj", "9"]),
        (["data", "--nj", "8"], {}, ["data", "--nj", "8"]),
        (["-1"], {}, ["-1"]),
    ],
)
def test_options_become_variables(
    script: Path, arguments: list[str], changed: dict[str, str], rest: list[str]
) -> None:
    assert values(script, *arguments) == (changed, rest)


@pytest.mark.parametrize(
    "value",
    [
        "$(touch evil)",
        "`touch evil`",
        '"; touch evil; "',
        "a b  c",
        "录音 (1).wav",
        "*",
        "\\n",
        "%s",
        "'",
    ],
)
def test_a_value_is_never_evaluated(script: Path, value: str) -> None:
    assert values(script, "--name", value) == ({"name": value}, [])
    assert values(script, f"--name={value}") == ({"name": value}, [])
    assert not (script.parent / "evil").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nij", "8"], "unknown option --nij; see --help"),
        (["--nij=8"], "unknown option --nij; see --help"),
        (["--PATH", "/x"], "unknown option --PATH; see --help"),
        (["--x[$(touch evil)]", "1"], "unknown option --x[$(touch evil)]; see --help"),
        (["--=8"], "unknown option --; see --help"),
        (["--nj"], "option --nj has no value; see --help"),
        (["--use-gpu", "yes"], "option --use-gpu is 'yes'; give true or false"),
        (["--use-gpu", "1", "data"], "option --use-gpu is '1'; give true or false"),
        (["--cmd", ""], "option --cmd is empty; give utils/run.py or the like"),
    ],
)
def test_a_wrong_option_is_one_line_and_code_1(
    script: Path, arguments: list[str], message: str
) -> None:
    assert call(script, *arguments) == (1, "", f"{script}: {message}\n")
    assert not (script.parent / "evil").exists()


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_the_comment_at_the_top(script: Path, option: str) -> None:
    expected = "Decode a test set.\n\n  steps/decode.sh [options] <data-dir>\n"
    assert call(script, "--nj", "3", option) == (0, expected, "")


def test_help_is_the_help_message_if_there_is_one(script: Path) -> None:
    script.write_text(SCRIPT.replace("nj=4", "nj=4\nhelp_message='100% $HOME'"), "utf-8")
    assert call(script, "--help") == (0, "100% $HOME\n", "")


def test_nothing_is_left_behind(script: Path) -> None:
    script.write_text(SCRIPT + "declare -F; compgen -v _option || true\n", "utf-8")
    _, out, _ = call(script, "--nj=8", "data")
    assert out.splitlines()[-1] == "rest=data"


def test_a_script_without_set_e_stops_too(script: Path) -> None:
    script.write_text(SCRIPT.replace("set -euo pipefail", ""), "utf-8")
    assert call(script, "--nij", "8")[:2] == (1, "")
    assert values(script, "--nj", "8") == ({"nj": "8"}, [])
