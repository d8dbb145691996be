"""`key=value` arguments of all commands: taken apart, checked, typed, quoted; without Hydra."""

from __future__ import annotations

import re
from typing import NamedTuple

import yaml

from paraformer.documents import parse_yaml
from paraformer.errors import ConfigError

_OVERRIDE = re.compile(r"(\+{0,2})([A-Za-z_][\w.-]*)=(.*)", re.DOTALL)
_NUMBER = re.compile(r"[-+]?(0|[1-9]\d*)(\.\d*)?([eE][-+]?\d+)?")
# Python reads no whole numbers above 4300 digits.
LONGEST_NUMBER = 4000
_TRUE = {"true", "yes", "on", "1"}
_FALSE = {"false", "no", "off", "0"}
_NULL = {"null", "none"}


class Override(NamedTuple):
    """One argument taken apart: `++model.dim=3` is prefix `++`, key `model.dim`, value `3`."""

    prefix: str
    key: str
    value: str


def parse_override(argument: str) -> Override | None:
    """Take `key=value`, `+key=value` or `++key=value` apart, the value untouched; None else.

    >>> parse_override("++hotword=阿里巴巴 a=b, [c]")
    Override(prefix='++', key='hotword', value='阿里巴巴 a=b, [c]')
    >>> parse_override("C:\\\\x=1.wav") is None
    True
    """
    found = _OVERRIDE.fullmatch(argument)
    return Override(*found.groups()) if found else None


def typed(value: str, default: object, key: str = "value") -> object:
    """Read a value as the type of the parameter's default, not by its looks: `007` may be text.

    A default of None tells nothing, so only a plain number, true, false, null or a bracketed list
    is more than text then. A list takes `[a,b]`; anything else is a list of that one value.

    >>> typed("007", "x"), typed("7", 1), typed("0.5", 1), typed("no", True), typed("a,b", [])
    ('007', 7, 0.5, False, ['a,b'])
    """
    if isinstance(default, str):
        return value
    if isinstance(default, list):
        return _typed_list(value, default, key)
    if value.lower() in _NULL:
        return None
    if isinstance(default, bool):
        return _typed_bool(value, key)
    if isinstance(default, (int, float)):
        return _typed_number(value, default, key)
    return _untyped(value)


def literal(value: str) -> str:
    r"""Text in which OmegaConf finds no interpolation.

    >>> print(literal("a ${x}"))
    a \${x}
    """
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)


def quote(value: str) -> str:
    r"""A Hydra override value that arrives as exactly this text, whatever is in it.

    >>> print(quote("it's a=b, ${x}"))
    'it\'s a=b, \${x}'
    """
    # Backslashes count double only where they could escape: before `${` (OmegaConf) and a quote.
    value = literal(value)
    value = re.sub(r"(\\*)'", r"\1\1\\'", value)
    value = re.sub(r"(\\+)\Z", r"\1\1", value)
    return f"'{value}'"


def to_hydra(value: object) -> str:
    """Spell a typed value in Hydra's override grammar: text is quoted, the rest is as in YAML."""
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, list):
        return f"[{','.join(to_hydra(item) for item in value)}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value)


def _typed_list(value: str, default: list[object], key: str) -> list[object] | None:
    like = default[0] if default else ""
    if value.lower() in _NULL:
        return None
    if not (value.startswith("[") and value.endswith("]")):
        return [typed(value, like, key)] if value else []
    # The base loader leaves every scalar as text, so `[007]` is typed by the default as well.
    items = _flow_list(value, yaml.BaseLoader)
    if items is None:
        raise ConfigError(f"{key}={value}: not a list; write [a,b], quoting what has brackets")
    return [typed(item, like, key) if isinstance(item, str) else item for item in items]


def _typed_bool(value: str, key: str) -> bool:
    if value.lower() in _TRUE:
        return True
    if value.lower() in _FALSE:
        return False
    raise ConfigError(f"{key}={value}: neither true nor false; write {key}=true or {key}=false")


def _typed_number(value: str, default: int | float, key: str) -> int | float:
    try:
        number = float(value)
    except ValueError as error:
        raise ConfigError(f"{key}={value}: not a number; its default is {default}") from error
    if isinstance(default, int) and number.is_integer():
        return int(number)
    return number


def _untyped(value: str) -> object:
    if value in ("true", "false"):
        return value == "true"
    if _NUMBER.fullmatch(value) and len(value) < LONGEST_NUMBER:
        return float(value) if re.search(r"[.eE]", value) else int(value)
    items = _flow_list(value, yaml.SafeLoader)
    if items is not None and all(isinstance(i, (str, int, float, bool)) for i in items):
        return items
    return value


def _flow_list(value: str, loader: type[yaml.SafeLoader] | type[yaml.BaseLoader]) -> list | None:
    """The items of `[a, b]`, None if that is not what the value is."""
    if not (value.startswith("[") and value.endswith("]")):
        return None
    try:
        items = parse_yaml(value, loader)
    except ValueError:  # a 30 February, brackets without end
        return None
    return items if isinstance(items, list) else None
