"""Numbers out of their limits are refused in words that say what to give."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch

from paraformer.errors import ConfigError
from paraformer.limits import Limits, check_fields, check_values, limited
from paraformer.options import BuildOptions, CallOptions, CommandOptions, all_fields

SHARE, COUNT, OPEN = Limits(0, 1), Limits(1, whole=True), Limits(0, 1, above=True, below=True)


@pytest.mark.parametrize(
    ("limits", "good", "bad"),
    [
        (Limits(), [0, -5, 1e300, np.float32(2)], [math.nan, math.inf, -math.inf, "1", None, True]),
        (SHARE, [0, 1, 0.5], [-0.1, 1.1, math.nan, [0.5]]),
        (COUNT, [1, 10**9, np.int64(3)], [0, -1, 1.5, 2.0, True, "2", None]),
        (OPEN, [0.5], [0, 1]),
        (Limits(0, pair=True), [[1, 0], (0, 0)], [[1], [1, 2, 3], 3, "12", [0, -1], None]),
        (Limits(0, pair=True, rising=True), [[0, 1], (2, 2)], [[1, 0], ["a", 1], [None, 1]]),
        (Limits(1, whole=True, many=True), [[1], (1, 2, 3)], [[], [0], [1, 2.5], 1, ["x"]]),
    ],
)
def test_what_is_allowed(limits, good, bad):
    assert all(limits.allow(value) for value in good)
    assert not any(limits.allow(value) for value in bad)


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        (Limits(), "a number"),
        (SHARE, "a number from 0 to 1"),
        (COUNT, "a whole number of 1 or more"),
        (OPEN, "a number above 0, up to below 1"),
        (Limits(0, 2**32 - 1, whole=True), "a whole number from 0 to 4294967295"),
        (Limits(0, above=True), "a number above 0"),
        (
            Limits(0, whole=True, pair=True, rising=True),
            "two whole numbers of 0 or more, the second not below the first",
        ),
        (Limits(1, whole=True, many=True), "a list, each a whole number of 1 or more"),
    ],
)
def test_what_to_give_is_said(limits, text):
    assert str(limits) == text


@dataclass(frozen=True)
class Settings:
    size: int = limited(4, 1)
    share: float = limited(0.5, 0, 1)
    gap: tuple[int, int] = limited((0, 9), 0, rising=True)
    threads: int | None = None
    on: bool = True
    name: str = "x"
    own: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 0}, "part.size=0: give a whole number of 1 or more"),
        ({"size": 1.0}, "part.size=1.0: give a whole number"),
        ({"share": None}, "part.share=null: give a number from 0 to 1"),
        ({"gap": [9, 0]}, r"part.gap=\[9, 0\]: give two whole numbers"),
        ({"on": "maybe"}, "part.on=maybe: give true or false"),
        ({"on": np.array([1, 0])}, r"part.on=\[1 0\]: give true or false"),
        ({"on": torch.tensor([True, False])}, "part.on=tensor"),
        ({"on": []}, r"part.on=\[\]: give true or false"),
        ({"own": np.array([1, 0])}, r"part.own=\[1 0\]: give names with their values"),
        ({"own": ["a"]}, r"part.own=\['a'\]: give names with their values"),
    ],
)
def test_the_field_at_fault_is_named(values, message):
    check_fields(Settings(), "part")
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_fields(Settings(**values), "part")


@pytest.mark.parametrize("on", [True, False, 1, 0, np.True_, torch.tensor(True)])
def test_a_switch_is_on_or_off_in_any_type(on):
    check_fields(Settings(on=on))


@pytest.mark.parametrize("kind", [BuildOptions, CallOptions, CommandOptions])
def test_no_option_takes_an_array_for_its_value_or_a_number_without_bound(kind):
    for name, option in all_fields(kind).items():
        if option.type in ("Any", "list[int]"):  # checked where they are used
            continue
        with pytest.raises(ConfigError, match=f"^{name}="):
            kind(**{name: np.array([1, 0])})
        if "float" in option.type:
            with pytest.raises(ConfigError, match=f"^{name}=1e\\+39: give"):
                kind(**{name: 1e39})


def test_values_without_limits_are_not_looked_at():
    check_values({"a": 1, "b": "anything"}, {"a": COUNT})
    with pytest.raises(ConfigError, match="^a=0: give"):
        check_values({"a": 0}, {"a": COUNT})
