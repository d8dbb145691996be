"""Runtimes are found in Pythons that are named, and what they hear is weighed."""

from __future__ import annotations

import pytest

from paraformer.errors import CheckpointError
from paraformer.export.peers import Compared, Heard, Peer, find_peers

PEER = Peer("funasr-onnx", "0.4.3", "python")


def heard(changed, count, apart=1.0):
    results = [Compared(str(n), "b", "a", apart if n < changed else 0.0) for n in range(count)]
    return Heard(PEER, "texts", results)


@pytest.mark.parametrize(("changed", "count"), [(0, 5), (0, 0), (1, 100), (2, 200)])
def test_a_hundredth_may_differ(changed, count):
    result = heard(changed, count)
    result.check(exact=True)
    assert result.line().endswith(f" texts: {count - changed} of {count} are those of torch")


@pytest.mark.parametrize(("changed", "count"), [(1, 5), (1, 99), (2, 100)])
def test_more_than_that_may_not(changed, count):
    with pytest.raises(CheckpointError, match=f"texts: {changed} of {count} are not those"):
        heard(changed, count).check(exact=True)


def test_of_rounded_weights_half_of_what_they_say_may():
    heard(4, 4, apart=0.5).check(exact=False)
    with pytest.raises(CheckpointError):
        heard(4, 4, apart=0.6).check(exact=False)


def test_none_asks_no_python():
    assert find_peers("none") == {}
