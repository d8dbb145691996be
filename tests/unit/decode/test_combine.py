"""Votes over several readings; expected values by hand."""

from __future__ import annotations

import itertools

import pytest

from paraformer.decode.combine import combine


@pytest.mark.parametrize(
    ("readings", "expected"),
    [
        (["abc"], "abc"),
        (["abc", "axc", "abd"], "abc"),  # two of three in each place
        (["ac", "abc", "abc"], "abc"),  # most have a token that the first lacks
        (["abc", "ac", "ac"], "ac"),  # and the other way round
        (["abc", "xbc"], "abc"),  # the first where there is no majority
        (["", "a", "a"], "a"),
        (["a", "", ""], ""),
        (["xabc", "abc", "abcx"], "abc"),  # what is said too much stands at different ends
        (["abcd", "abd", "acd"], "abcd"),
    ],
)
def test_the_majority_of_each_place(readings, expected):
    assert "".join(combine([(reading, 1.0) for reading in readings])) == expected


def test_weights_are_votes():
    assert "".join(combine([("ab", 1.0), ("ac", 3.0), ("ab", 1.0)])) == "ac"
    assert "".join(combine([("ab", 1.0), ("ac", 1.5), ("ab", 1.0)])) == "ab"


def test_of_three_equally_long_readings_every_order_gives_the_majority():
    readings = ["今天天气很好", "今天天器很好", "明天天气很坏"]
    for order in itertools.permutations(readings):
        assert "".join(combine([(reading, 1.0) for reading in order])) == "今天天气很好"


def test_a_reading_that_says_the_same_changes_nothing():
    many = [("abcde", 1.0), ("abde", 1.0), ("abxde", 1.0)]
    assert combine(many) == combine([*many, (combine(many), 1.0)])


def test_nothing_to_combine():
    assert combine([]) == []
    assert combine([((), 1.0), ((), 1.0)]) == []
