"""Clusters of embeddings: the groups that were drawn, a known number honoured, bounded cost."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import ROOT

pytest.importorskip("sklearn", reason="clustering is an extra: pip install scikit-learn scipy")

from paraformer.decode.clustering import (  # noqa: E402
    Bounds,
    by_first,
    centres,
    cluster,
    number_confidence,
)


def drawn(sizes, noise=0.3, width=16, seed=0):
    """Rows around random centres, in turns, and which of them are whose."""
    random = np.random.default_rng(seed)
    labels = np.concatenate([np.full(size, n) for n, size in enumerate(sizes)])
    labels = labels[np.argsort(np.arange(len(labels)) * 7919 % 97, kind="stable")]
    middles = random.normal(size=(len(sizes), width))
    return middles[labels] + noise * random.normal(size=(len(labels), width)), by_first(labels)


@pytest.mark.parametrize("sizes", [[30, 30], [40, 25, 20], [60, 50, 40, 30]])
def test_the_number_is_found(sizes):
    rows, labels = drawn(sizes)
    assert cluster(rows).tolist() == labels.tolist()
    # and the same partition where the number is told
    assert cluster(rows, Bounds(len(sizes))).tolist() == labels.tolist()


@pytest.mark.parametrize("sizes", [[1, 1], [3, 2], [6, 6], [10, 9], [5, 4, 4]])
def test_a_known_number_holds_for_few_rows(sizes):
    rows, labels = drawn(sizes)
    assert cluster(rows, Bounds(len(sizes))).tolist() == labels.tolist()


@pytest.mark.parametrize(("count", "number"), [(0, 2), (1, 3), (2, 5), (3, 3)])
def test_more_speakers_than_rows(count, number):
    rows, _ = drawn([1] * count if count else [1])
    assert cluster(rows[:count], Bounds(number)).tolist() == list(range(count))


def test_few_rows_are_one_speaker_unless_the_gap_is_clear():
    near, _ = drawn([12], noise=0.9)
    assert set(cluster(near)) == {0}
    apart, labels = drawn([6, 5])
    assert cluster(apart).tolist() == labels.tolist()
    blurred, _ = drawn([6, 5], noise=1.5)
    assert set(cluster(blurred)) == {0}


def test_one_speaker_is_one():
    rows, _ = drawn([60])
    assert set(cluster(rows)) == {0}


def test_bounds_hold():
    rows, labels = drawn([30, 30, 30])
    assert cluster(rows, Bounds(least=3)).tolist() == labels.tolist()
    assert cluster(rows, Bounds(most=2)).max() == 1
    assert cluster(rows, Bounds(most=1)).max() == 0
    one, _ = drawn([40])
    assert cluster(one, Bounds(least=2)).max() == 1
    few, labels = drawn([4, 4, 4])
    assert cluster(few, Bounds(least=3)).tolist() == labels.tolist()


@pytest.mark.parametrize("count", [2, 10, 50])
def test_equal_rows_and_rows_of_zeros(count):
    assert set(cluster(np.ones((count, 8)))) == {0}
    assert len(cluster(np.zeros((count, 8)))) == count


def test_two_calls_are_equal():
    rows, _ = drawn([30, 30], noise=1.0)
    assert cluster(rows).tolist() == cluster(rows).tolist()


def confidence(rows, bounds=None):
    bounds = bounds or Bounds()
    return number_confidence(rows, bounds, cluster(rows, bounds))


@pytest.mark.parametrize("sizes", [[30], [30, 30], [60, 50, 40], [6, 5], [1100, 1100]])
def test_a_number_that_every_draw_finds_is_sure(sizes):
    rows, _ = drawn(sizes)
    assert confidence(rows) == 1.0


def test_a_number_that_draws_disagree_on_is_not_sure():
    rows, _ = drawn([14, 10, 6], noise=1.4)
    sure = confidence(rows)
    assert 0.0 <= sure < 1.0
    assert sure == confidence(rows)
    assert (10 * sure).is_integer()  # a share of ten draws


def test_a_number_that_is_told_or_of_one_row_has_no_confidence():
    rows, _ = drawn([30, 30])
    assert confidence(rows, Bounds(2)) is None
    assert confidence(rows[:1]) is None


def test_centres_more_alike_than_asked_for_are_one_speaker():
    rows, labels = drawn([30, 30])
    assert cluster(rows, Bounds(merge=1.0)).tolist() == labels.tolist()
    assert set(cluster(rows, Bounds(merge=-1.0))) == {0}


def test_centres_are_means():
    rows = np.array([[0.0, 2.0], [4.0, 0.0], [2.0, 0.0]])
    assert centres(rows, np.array([1, 0, 1])).tolist() == [[4.0, 0.0], [1.0, 1.0]]


LARGE = """
import sys
import numpy as np
from paraformer.decode.clustering import Bounds, cluster
random = np.random.default_rng(0)
labels = random.integers(0, 2, 12000)
labels[0] = 0
rows = random.normal(size=(2, 192))[labels] + 0.8 * random.normal(size=(12000, 192))
number = None if sys.argv[1] == "none" else int(sys.argv[1])
found = cluster(rows, Bounds(number))
# Not ru_maxrss, which begins with what the parent had.
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int((found != labels).sum()), int(peak.split()[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("number", ["none", "2"])
def test_three_hours_of_windows_take_bounded_memory(number):
    done = subprocess.run(
        [sys.executable, "-c", LARGE, number], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    wrong, megabytes = map(int, done.stdout.split())
    assert wrong == 0
    assert megabytes < 1500
