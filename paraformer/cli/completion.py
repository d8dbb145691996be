"""`funasr completion bash|zsh|fish`: a script that completes the keys of `funasr` and their values.

eval "$(funasr completion bash)"          # in ~/.bashrc
eval "$(funasr completion zsh)"           # in ~/.zshrc, after compinit
funasr completion fish | source           # in ~/.config/fish/config.fish
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import Field
from importlib.resources import files
from typing import Any, NamedTuple

from paraformer.errors import ConfigError
from paraformer.hub.directories import BUNDLED, bundled_models
from paraformer.options import FILES, FOLDERS, default_of
from paraformer.output.tables import FORMATS

SHELLS = ("bash", "zsh", "fish")
WORDS: dict[str, tuple[str, ...]] = {
    "output_format": FORMATS,
    "hub": ("ms", "hf"),
    "device": ("auto", "cpu", "cuda"),
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR"),
    "data_type": ("sound", "text"),
}
# Key -> `task` in the configuration.json of a model that it takes; all are taken by `model`.
TASKS = {
    "vad_model": "voice-activity-detection",
    "punc_model": "punctuation",
    "spk_model": "speaker-verification",
    "second_pass": "auto-speech-recognition",
}


class Values(NamedTuple):
    """The values that a shell offers behind `key=`: words, and files or folders."""

    key: str
    words: tuple[str, ...] = ()
    files: bool = False
    folders: bool = False


Keys = Mapping[str, Field[Any]]


def completion(
    shell: str,
    known: Keys,
    short: Mapping[str, str],
    commands: Iterable[str],
    own: Mapping[str, Keys],
) -> str:
    """The script. known: keys with their defaults; short: letters of `-m value` and their keys;
    own: commands that have keys of their own, and these.
    """
    if shell not in SHELLS:
        raise ConfigError(f"completion {shell}: not known; use bash, zsh or fish")
    everything = {key: option for keys in (*own.values(), known) for key, option in keys.items()}
    values = [values_of(key, option) for key, option in everything.items()]
    write = {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]
    blocks = {
        "values": "\n".join(write(each) for each in values if any(each[1:])),
        "short": "\n".join(_short(shell, f"-{s}", key) for s, key in short.items()),
        "keys": _keys(known),
        "own": "\n".join(_own(shell, name, keys) for name, keys in own.items()),
        "commands": " ".join(commands),
        "shells": " ".join(SHELLS),
    }
    script = files("paraformer").joinpath(f"templates/completion.{shell}").read_text("utf-8")
    for name, block in blocks.items():
        script = script.replace(f"@{name}@", block)
    return script.rstrip("\n")


def values_of(key: str, option: Field[Any]) -> Values:
    """The values of a key of the options."""
    words = WORDS.get(key, ())
    if isinstance(default_of(option), bool):
        words = ("true", "false")
    elif key == "model" or key in TASKS:
        wanted = TASKS.get(key)
        words = tuple(n for n in bundled_models() if wanted is None or _task(n) == wanted)
    return Values(key, words, key in FILES, key in FOLDERS)


def _task(name: str) -> str:
    listing = json.loads((BUNDLED / name / "configuration.json").read_text("utf-8"))
    return str(listing["task"])


def _keys(keys: Keys) -> str:
    return " ".join(f"{key}=" for key in keys)


def _own(shell: str, command: str, keys: Keys) -> str:
    """The line that offers the keys of a command in the place of all."""
    if shell == "fish":
        return f"                case {command}\n                    set words {_keys(keys)}"
    name = {"bash": "words", "zsh": "keys"}[shell]
    return f"        {command}) {name}='{_keys(keys)}' ;;"


def _short(shell: str, flag: str, key: str) -> str:
    if shell == "fish":
        return f"            case {flag}\n                set key {key}"
    return f"      {flag}) key={key} ;;"


def _bash(values: Values) -> str:
    steps = [f"words='{' '.join(values.words)}'"] if values.words else []
    steps += ["files=-f"] if values.files else ["files=-d"] if values.folders else []
    return f"    {values.key}) {' '.join(steps)} ;;"


def _zsh(values: Values) -> str:
    steps = [f"compadd -- {' '.join(values.words)}"] if values.words else []
    steps += ["_files"] if values.files else ["_files -/"] if values.folders else []
    return f"    {values.key}) {'; '.join(steps)} ;;"


def _fish(values: Values) -> str:
    words = " ".join(values.words)
    paths = f"(__fish_complete_path (string replace --regex -- '^[^=]*=' '' {'$'}word))"
    folders = paths.replace("_path", "_directories")
    found = paths if values.files else folders if values.folders else ""
    return f"        case {values.key}\n            set words {words} {found}".rstrip()
