"""JSON and YAML of files that others wrote, read within bounds.

Standard library only where there is no YAML: the programs in `utils/` start with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraformer.errors import ConfigError

if TYPE_CHECKING:
    from yaml import BaseLoader, SafeLoader

MOST_LEVELS = 100  # of lists and objects within each other
MOST_VALUES = 1_000_000  # of a YAML document, those that stand in it by reference counted each time


def parse_json(text: str | bytes) -> Any:
    """The value that a JSON text holds; ValueError, with a reason of one line, where there is none.

    >>> parse_json('{"a": [1, 2]}')
    {'a': [1, 2]}
    >>> parse_json("[" * 100_000)
    Traceback (most recent call last):
    ValueError: lists and objects within each other without end
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists and objects within each other without end") from None


def file_path_metas(path: Path) -> dict[str, Any] | None:
    """Which files a configuration.json names, by what they are for; None where it names none.

    ValueError or OSError where it cannot be read as a JSON object.
    """
    content = parse_json(path.read_text(encoding="utf-8"))
    if not isinstance(content, Mapping):
        raise ValueError("another value")
    metas = content.get("file_path_metas")
    return dict(metas) if isinstance(metas, Mapping) else None


def flat_names(metas: Mapping[str, Any]) -> dict[str, str]:
    """The same without groups: the keys of a group follow its own behind a dot.

    >>> flat_names({"init_param": "model.pt", "frontend_conf": {"cmvn_file": "am.mvn"}})
    {'init_param': 'model.pt', 'frontend_conf.cmvn_file': 'am.mvn'}
    """
    flat: dict[str, str] = {}
    for key, value in metas.items():
        if isinstance(value, Mapping):
            flat.update({f"{key}.{part}": name for part, name in flat_names(value).items()})
        elif isinstance(value, str) and value:
            flat[key] = value
    return flat


def parse_yaml(text: str, loader: type[SafeLoader] | type[BaseLoader] | None = None) -> Any:
    """The value that a YAML text holds; ValueError, with a reason of one line, where there is none,
    or where references make it endless or far larger than the text. loader: SafeLoader if none is
    given.

    >>> parse_yaml("a: [1, 2]")
    {'a': [1, 2]}
    >>> parse_yaml("a: &a [*a]")
    Traceback (most recent call last):
    ValueError: lists and objects within each other, more than 100 levels
    """
    import yaml

    loader = loader or yaml.SafeLoader
    try:
        value = yaml.load(text, loader)
    except RecursionError:
        raise ValueError("lists and objects within each other without end") from None
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
    _check_size(value)
    return value


def load_yaml(path: Path) -> Any:
    """The value of a YAML file of settings, or a `ConfigError`."""
    try:
        return parse_yaml(path.read_text(encoding="utf8"))
    except ValueError as error:
        raise ConfigError(f"{path}: is not YAML of settings ({error}); mend it") from error
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; check the path") from error


def _check_size(value: Any) -> None:
    level, values = [value], 0
    for _ in range(MOST_LEVELS):
        values += len(level)
        if values > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES} values")
        level = [part for whole in level for part in _parts(whole)]
        if not level:
            return
    raise ValueError(f"lists and objects within each other, more than {MOST_LEVELS} levels")


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else []
