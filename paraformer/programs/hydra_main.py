"""The start of every program of `bin/`: Hydra composes its configuration, quietly."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import warnings
from collections.abc import Callable, Container, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from paraformer.cli import ends
from paraformer.cli.arguments import (
    Override,
    literal,
    parse_override,
    to_hydra,
    typed,
)
from paraformer.data.corpus.tables import readable
from paraformer.documents import parse_yaml
from paraformer.errors import ConfigError
from paraformer.options import FORMAT_SWITCHES, NUMBER_FORMATS, one_format, unknown_key

_PACKAGE = "paraformer.conf"
SWITCH = "--"
_DASHED = re.compile(r"--([A-Za-z_][\w.-]*)(?:=(.*))?", re.DOTALL)


class _Source(NamedTuple):
    """Which configuration: `name` in `folder`, a folder of the user's, or in the package."""

    program: str
    name: str
    folder: Path | None


def run(config_name: str, function: Callable[[DictConfig], int | None]) -> int:
    """Call `function` with configuration `config_name` and the overrides of the command line.

    `k=v`, `+k=v`, `++k=v` and `--k=v` are equal, and a value means itself whatever is in it
    (quotes, commas, `=`, `${}`); it is typed by the default it replaces. `--k` is `k=true`.
    `--config-dir conf --config-name train_x` reads a recipe's own file, whose `defaults:` may start
    from any file of the package. Returns the exit code: the function's own (None is 0), 1 for what
    the user can mend, said in one line.
    """

    def work() -> int:
        form = "%(levelname)s: %(message)s"
        logging.basicConfig(level=logging.INFO, format=form, stream=sys.stderr)
        return _obey(config_name, function)

    def say(message: str) -> None:
        print(readable(message), file=sys.stderr)

    return ends.run(work, say, HydraException, OmegaConfBaseException)


def _obey(config_name: str, function: Callable[[DictConfig], int | None]) -> int:
    arguments, dashed = _parser().parse_known_intermixed_args()
    source = _source(config_name, arguments.config_dir, arguments.config_name)
    if arguments.help:
        print(_help(source, sys.modules[function.__module__].__doc__))
        return 0
    config = _configure(source, [*arguments.overrides, *dashed])
    if arguments.cfg:
        print(OmegaConf.to_yaml(config), end="")
        return 0
    _refuse_missing(source, config)
    return function(config) or 0


def plain(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain values."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)  # a DictConfig always is
    return {str(key): value for key, value in values.items()}


def defaults_of(config_name: str) -> dict[str, Any]:
    """The values of a configuration of the package, without anybody's overrides."""
    text = files(_PACKAGE).joinpath(f"{config_name}.yaml").read_text(encoding="utf-8")
    found: dict[str, Any] = parse_yaml(text)
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--help", "-h", action="store_true")
    parser.add_argument("--config-dir", "-cd", type=Path)
    parser.add_argument("--config-name", "-cn")
    parser.add_argument("--cfg", "-c", choices=["job"])
    parser.add_argument("overrides", nargs="*")
    return parser


def _source(program: str, folder: Path | None, name: str | None) -> _Source:
    name = (name or program).removesuffix(".yaml")
    if folder is None:
        return _Source(program, name, None)
    if not folder.is_dir():
        raise ConfigError(f"{folder}: no such folder; --config-dir is the folder of --config-name")
    if (folder / f"{name}.yaml").is_file():
        return _Source(program, name, folder.resolve())
    raise ConfigError(f"{folder}/{name}.yaml: no such file; name one of that folder")


def _configure(source: _Source, arguments: list[str]) -> DictConfig:
    """Compose twice: without values to learn the defaults, then with values typed like those."""
    groups: list[Override] = []
    values: list[Override] = []
    wrong: list[str] = []
    for argument in arguments:
        override = parse_override(argument) or _dashed(argument)
        if override is None:
            wrong.append(argument)
            continue
        (groups if _is_group(source, override.key) else values).append(override)
    chosen = [f"{group.key}={group.value}" for group in groups]
    plain = OmegaConf.to_container(base := _compose(source, chosen), resolve=False)
    known = list(_keys(plain))
    settings, beside = [], {}
    switches = FORMAT_SWITCHES if "dtype" in known else ()
    for prefix, key, text in values:
        parent = key.rpartition(".")[0]
        # A key that is new may only be added to a part of the configuration, and knowingly.
        if key not in (*known, *switches) and not (prefix and parent in known):
            raise unknown_key(key, known, source.program)
        default = False if key in switches else _default(base, plain, key)
        if prefix == SWITCH and not isinstance(default, bool):
            raise ConfigError(f"--{key}: needs a value; write {key}=VALUE")
        value = _value(text, default, key)
        if source.folder is not None and (source.folder / key).is_dir():
            beside[key] = literal(value) if isinstance(value, str) else value
        else:
            settings.append(f"++{key}={to_hydra(value)}")
    if wrong:  # said last: of `--key value` the key is what is wrong
        raise ConfigError(f"{source.program}: '{wrong[0]}' is not key=value; see --help")
    config = _compose(source, chosen + settings)
    for key, value in beside.items():  # Hydra takes any folder of that name for a group
        OmegaConf.update(config, key, value)
    return _with_one_format(config, {value.key for value in values}) if switches else config


def _with_one_format(config: DictConfig, said: Container[str]) -> DictConfig:
    """The configuration with `dtype` alone, for which bf16=true and fp16=true are other names.

    said: the keys of the command line, which come before those of a file.
    """
    given = {key: config[key] for key in ("dtype", *FORMAT_SWITCHES) if key in config}
    told = one_format({key: value for key, value in given.items() if key in said})
    if given["dtype"] == NUMBER_FORMATS[0]:  # the default, unless the command line says so
        del given["dtype"]
    with open_dict(config):
        for key in FORMAT_SWITCHES:
            config.pop(key, None)
    config.dtype = (told or one_format(given)).get("dtype", NUMBER_FORMATS[0])
    return config


def _dashed(argument: str) -> Override | None:
    """`--key=value`, and a switch: `--key`, whose prefix is `SWITCH`."""
    found = _DASHED.fullmatch(argument)
    if found is None:
        return None
    key = found[1].replace("-", "_")
    return Override(SWITCH, key, "true") if found[2] is None else Override("", key, found[2])


def _value(text: str, default: object, key: str) -> object:
    """A typed value; that of a key without default may not be empty."""
    if default == "???" and not text:
        raise ConfigError(f"{key}=: is empty; give a value")
    return typed(text, default, key)


def _compose(source: _Source, overrides: list[str]) -> DictConfig:
    with warnings.catch_warnings():
        # Hydra 1.3 calls what OmegaConf 2.4 will do without, which concerns nobody here.
        warnings.filterwarnings("ignore", module=r"hydra\.")
        return _composed(source, overrides)


def _composed(source: _Source, overrides: list[str]) -> DictConfig:
    if source.folder is None:
        with initialize_config_module(_PACKAGE, version_base="1.3"):
            return compose(source.name, overrides)
    try:
        with initialize_config_dir(str(source.folder), version_base="1.3"):
            return compose(source.name, [*overrides, f"hydra.searchpath=[pkg://{_PACKAGE}]"])
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        file = source.folder / f"{source.name}.yaml"
        endless = isinstance(error, RecursionError)
        reason = "values within each other without end" if endless else error
        raise ConfigError(f"{file}: is not YAML of settings ({reason}); mend it") from error


def _is_group(source: _Source, key: str) -> bool:
    """Whether `key=value` chooses a file of a folder, such as model=small, rather than a value.

    A folder without such files, as data/ beside a recipe, is none.
    """
    return files(_PACKAGE).joinpath(key).is_dir() or (
        source.folder is not None and any((source.folder / key).glob("*.yaml"))
    )


def _keys(node: object, prefix: str = "") -> Iterator[str]:
    """Every key of a nested dict, parts before their leaves: model, model.dim."""
    if isinstance(node, dict):
        for name, value in node.items():
            yield f"{prefix}{name}"
            yield from _keys(value, f"{prefix}{name}.")


def _default(base: DictConfig, plain: object, key: str) -> object:
    """The value that `key` has without the command line; text where it has none yet."""
    for name in key.split("."):
        plain = plain.get(name) if isinstance(plain, dict) else None
    if isinstance(plain, dict):
        raise ConfigError(f"{key}: is a part with keys of its own; set one, such as {key}.NAME=")
    if isinstance(plain, str) and "${" in plain:
        try:
            return OmegaConf.select(base, key)
        except OmegaConfBaseException:
            return plain
    return plain


def _refuse_missing(source: _Source, config: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        wanted = " ".join(f"{key}=..." for key in missing)
        raise ConfigError(f"{source.program}: needs {wanted}; see --help")


def _help(source: _Source, doc: str | None) -> str:
    folder = source.folder or files(_PACKAGE)
    text = folder.joinpath(f"{source.name}.yaml").read_text(encoding="utf-8")
    keys = "[key=value | --key=value | --switch ...]"
    usage = f"usage: {keys} [--config-dir DIR --config-name NAME] [--cfg job]"
    title = f"keys and their defaults ({source.name}.yaml):"
    return "\n\n".join([(doc or "").strip(), usage, title, text.rstrip()])
