"""Limits of the numbers of a setting: said once, beside its default, and checked in one way."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, fields
from numbers import Integral, Real
from os import PathLike
from typing import Any, NamedTuple

from paraformer.errors import ConfigError

# No weight or bonus of a search comes near: its products with log-probabilities fit float32.
MOST_WEIGHT = 1e6
MOST_READINGS = 10_000  # 3 ms each, of a clip of 5 s
MOST_SECONDS = 1e9
# Ten minutes of frames of 60 ms: the buffers of a stream are as large as a chunk.
MOST_CHUNK_FRAMES = 10_000


class Limits(NamedTuple):
    """A number, or several, between two ends that belong to it unless they are open."""

    low: float = -math.inf
    high: float = math.inf
    whole: bool = False
    above: bool = False  # `low` itself is too low
    below: bool = False  # `high` itself is too high
    pair: bool = False
    many: bool = False  # a list of one or more
    rising: bool = False  # of a pair, the second is not below the first

    def allow(self, value: object) -> bool:
        """Tell whether a value is such a number.

        >>> [Limits(0, 1).allow(x) for x in (0.5, 2, float("nan"))], Limits(whole=True).allow(1.5)
        ([True, False, False], False)
        """
        if not self.pair and not self.many:
            return self._allow_one(value)
        if not isinstance(value, (list, tuple)) or not value or (self.pair and len(value) != 2):
            return False
        rising = not self.rising or (self._allow_one(value[0]) and value[0] <= value[1])
        return all(map(self._allow_one, value)) and rising

    def _allow_one(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, Integral if self.whole else Real):
            return False
        number = float(value)
        low = number > self.low if self.above else number >= self.low
        high = number < self.high if self.below else number <= self.high
        return math.isfinite(number) and low and high

    def __str__(self) -> str:
        """Describe what to give.

        >>> print(Limits(1, whole=True), "/", Limits(0, 1, below=True), "/", Limits(0, pair=True))
        a whole number of 1 or more / a number from 0 to below 1 / two numbers of 0 or more
        """
        kind = f"{'whole ' if self.whole else ''}number"
        text = f"two {kind}s" if self.pair else f"{'a list, each ' if self.many else ''}a {kind}"
        low, high = f"{self.low:.12g}", f"{self.high:.12g}"
        if self.low > -math.inf and self.high < math.inf:
            last = f"below {high}" if self.below else high
            text += f" above {low}, up to {last}" if self.above else f" from {low} to {last}"
        elif self.low > -math.inf:
            text += f" above {low}" if self.above else f" of {low} or more"
        return f"{text}, the second not below the first" if self.rising else text


# Sampling rates, in Hz.
RATE = Limits(1, 1_000_000, whole=True)


def limited(default: Any, low: float = -math.inf, high: float = math.inf, **kinds: bool) -> Any:
    """A field of a dataclass within `Limits`; whole and pair follow from its default."""
    several = isinstance(default, tuple)
    kinds["pair"] = several and not kinds.get("many")
    whole = isinstance(default[0] if several else default, int)
    limits = Limits(low, high, whole, **kinds)
    return field(default=default, metadata={"limits": limits})


def check_fields(settings: Any, part: str = "") -> None:
    """Refuse a dataclass with a number out of its limits, a switch neither on nor off, or what is
    no text in the place of one.
    """
    for each in fields(settings):
        value = getattr(settings, each.name)
        if value is None and each.default is None:
            continue
        name = f"{part}.{each.name}" if part else each.name
        if "limits" in each.metadata:
            check(name, value, each.metadata["limits"])
        elif isinstance(each.default, bool):
            check_switch(name, value)
        elif each.default_factory is dict and not isinstance(value, Mapping):
            raise ConfigError(f"{name}={value}: give names with their values")
        elif each.type in ("str", str) and not isinstance(value, (str, PathLike, type(None))):
            raise ConfigError(f"{name}={value!r}: give a text")


def check_switch(name: str, value: object) -> None:
    """Refuse what is neither on nor off, such as an array of several."""
    if getattr(value, "shape", ()) or value not in (True, False):
        raise ConfigError(f"{name}={value}: give true or false")


def check_values(values: Mapping[str, Any], limits: Mapping[str, Limits], part: str = "") -> None:
    """Check values by name; names without limits are not looked at."""
    for name, value in values.items():
        if name in limits:
            check(f"{part}.{name}" if part else name, value, limits[name])


def check(name: str, value: object, limits: Limits) -> None:
    """Refuse one value that is out of its limits."""
    if not limits.allow(value):
        shown = "null" if value is None else repr(value) if isinstance(value, str) else value
        raise ConfigError(f"{name}={shown}: give {limits}")
