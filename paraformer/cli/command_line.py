"""The command line of `funasr`: taken apart, its values typed by the options, unknown keys refused;
and the help that lists the options.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field
from pathlib import Path
from typing import Any

from paraformer import options as opts
from paraformer.cli.arguments import parse_override, typed
from paraformer.errors import CheckpointError, ConfigError

SHORT = {
    "m": "model",
    "H": "hub",
    "f": "output_format",
    "o": "output_dir",
    "l": "language",
    "v": "verbose",
}
ALIASES = {"format": "output_format", **opts.ALIASES}
KINDS = {
    "command": opts.CommandOptions,
    "model": opts.BuildOptions,
    "each call": opts.CallOptions,
}
# What a beginner looks for; the help lists these before the others.
FIRST = (
    *("input", "model", "vad_model", "punc_model", "hotword", "output_format", "output_dir"),
    *("resume", "device", "chunk_size"),
)
KNOWN = opts.all_fields(*KINDS.values())
# Switches of the reference that need no value, besides those whose default is false.
SWITCHES = ("timestamps", "spk", "disable_update", "trust_remote_code", *opts.FORMAT_SWITCHES)
NESTED = ("vad_kwargs.", "punc_kwargs.", "spk_kwargs.")
HOME = ("~/", f"~{os.sep}")
BOOLEANS = ("true", "false", "yes", "no", "on", "off", "1", "0")


@dataclass
class Arguments:
    """The command line taken apart: inputs in order, and keys with their values as text."""

    inputs: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)

    def add(self, key: str, value: str) -> None:
        """A later value of a key replaces an earlier one, but all inputs are wanted."""
        key = ALIASES.get(key, key)
        if key in (*opts.FILES, *opts.FOLDERS) and value.startswith(HOME):
            value = os.path.expanduser(value)  # which a shell does not do behind `+key=`
        if key == "input":
            self.inputs.append(value)
        else:
            self.values[key] = value


def parse(argv: Sequence[str]) -> Arguments:
    """Take a command line apart; an argument that is an existing path is a path.

    >>> parse(["+key=007", "--output-format", "json", "--verbose", "x y.wav"])
    Arguments(inputs=['x y.wav'], values={'key': '007', 'output_format': 'json', 'verbose': 'true'})
    """
    arguments = Arguments()
    waiting = list(reversed(argv))
    while waiting:
        argument = waiting.pop()
        override = parse_override(argument)
        if argument == "--":
            arguments.inputs += reversed(waiting)
            break
        if os.path.lexists(argument) or argument == "-":
            arguments.inputs.append(argument)
        elif override:
            arguments.add(override.key, override.value)
        elif argument.startswith("-"):
            _parse_dashed(argument, waiting, arguments)
        else:
            arguments.inputs.append(argument)
    return arguments


def _parse_dashed(argument: str, waiting: list[str], arguments: Arguments) -> None:
    """`--key value`, `--key=value`, `-m value`, or a switch without a value."""
    name, equals, value = argument.partition("=")
    key = name[2:].replace("-", "_") if name.startswith("--") else SHORT.get(name[1:], "")
    key = ALIASES.get(key, key)
    if not key:
        raise ConfigError(f"{name}: unknown option; `funasr --help` lists the known keys")
    if equals:
        arguments.add(key, value)
        return
    is_switch = key in SWITCHES or (key in KNOWN and KNOWN[key].default is False)
    if is_switch and not (waiting and waiting[-1].lower() in BOOLEANS):
        arguments.add(key, "true")
    elif waiting:
        arguments.add(key, waiting.pop())
    elif key in KNOWN:
        raise ConfigError(f"{name}: needs a value")
    else:
        raise opts.unknown_key(key, KNOWN, "funasr")


def type_known(values: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """Values of known parameters, typed by their defaults; and the rest, as it came.

    >>> type_known({"key": "007", "fs": "8000", "frontend_conf.dither": "0"})
    ({'key': '007', 'fs': 8000}, {'frontend_conf.dither': '0'})
    """
    settings: dict[str, Any] = {}
    rest: dict[str, str] = {}
    for key, value in values.items():
        if key in KNOWN or key in opts.FORMAT_SWITCHES:
            default = KNOWN[key].default if key in KNOWN else False
            # The optional ones are numbers.
            settings[key] = typed(value, 0 if default is None else default, key)
        elif key.startswith(NESTED):
            part, _, name = key.partition(".")
            settings.setdefault(part, {})[name] = typed(value, None, key)
        elif key not in (*opts.NOT_BUILT, *opts.WITHOUT_EFFECT):
            rest[key] = value
    return opts.one_format(settings), rest


def type_config(
    values: Mapping[str, str], model: str, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Keys of the model's config.yaml as nested dicts, each typed by the value it replaces."""
    if not values:
        return {}
    from paraformer.hub.directories import find_model

    hub, revision = settings.get("hub", "ms"), settings.get("model_revision")
    try:
        known = _config_keys(find_model(model, hub, revision, offline=True))
    except CheckpointError:
        key = next(iter(values))
        if opts.nearest(key, KNOWN):  # before anything is fetched
            raise opts.unknown_key(key, KNOWN, "funasr") from None
        offline = bool(settings.get("offline"))
        known = _config_keys(find_model(model, hub, revision, offline=offline))
    nested: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise opts.unknown_key(key, (*KNOWN, *known), "funasr")
        *parts, leaf = key.split(".")
        place = nested
        for part in parts:
            place = place.setdefault(part, {})
        place[leaf] = typed(value, known[key], key)
    return nested


def _config_keys(directory: Path) -> dict[str, Any]:
    """Keys of a model's config.yaml, nested ones with dots, and their values."""
    from paraformer.api.keywords import flatten
    from paraformer.models.release import override_keys, read_config

    return flatten(override_keys(read_config(directory, {})))


def as_typed(default: object) -> str:
    """A default as it would be typed.

    >>> [as_typed(x) for x in (None, True, [0, 10, 5], {}, 0.5)]
    ['', 'true', '[0,10,5]', '', '0.5']
    """
    if default is None or default == {}:
        return ""
    text = str(default).replace(" ", "")
    return text.lower() if isinstance(default, bool) else text


def help_line(option: Field[Any]) -> str:
    """A key with its default, and what it does."""
    shown = f"{option.name}={as_typed(opts.default_of(option))}"
    return f"  {shown:<30} {option.metadata['help']}"


def help_text(introduction: str) -> str:
    """The text of `funasr --help`: an introduction, and every key with its default."""
    lines = [introduction.strip(), "\nfirst of all:", *(help_line(KNOWN[name]) for name in FIRST)]
    for title, kind in KINDS.items():
        lines.append(f"\n{title}:")
        own = opts.all_fields(kind).values()
        lines += [help_line(option) for option in own if option.name not in FIRST]
    shorts = ", ".join(f"-{short} {name}" for short, name in SHORT.items() if name in KNOWN)
    lines.append(
        f"\nKeys of the model's config.yaml may follow too (frontend_conf.dither=0).\n{shorts}"
    )
    return "\n".join(lines)
