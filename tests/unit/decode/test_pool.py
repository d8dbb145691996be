"""Batches by length: outcomes in order, with their payloads, however the batches lie."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from paraformer.decode.pool import Batching, Done, Job, compute_in_batches, plan_batches
from paraformer.errors import ConfigError


def jobs(lengths):
    """What has no length is done."""
    return [
        Job(f"u{n}", size, size) if size else Done(f"u{n}", "-") for n, size in enumerate(lengths)
    ]


def run(entries, compute=None, most=4, frames=10):
    compute = compute or (lambda batch: [str(size) for size in batch])
    return compute_in_batches(entries, compute, most, frames)


def test_each_comes_back_in_its_place_with_its_payload():
    lengths = np.random.default_rng(0).integers(0, 9, 500).tolist()
    found = [(done.payload, done.outcome) for done in run(jobs(lengths))]
    assert found == [(f"u{n}", str(size) if size else "-") for n, size in enumerate(lengths)]


def test_what_is_done_waits_for_nothing_and_no_more_is_read_than_a_pool():
    taken = []

    def endless(sizes):
        for n in count():
            taken.append(n)
            yield jobs([sizes[n % len(sizes)]])[0]

    assert next(run(endless([0]))).outcome == "-"
    assert len(taken) == 1
    taken.clear()
    assert next(run(endless([1]))).outcome == "1"
    assert len(taken) == 16 * 4  # so many utterances, which are fewer than 8 batches' frames
    taken.clear()
    assert next(run(endless([10]))).outcome == "10"
    assert len(taken) == 8
    taken.clear()
    many = run(entry for n, entry in zip(count(), endless([0]), strict=False))
    next(many)
    first = run([Job("first", 1, 1), *jobs([0] * 1000)])
    assert [next(first).payload, next(first).payload] == ["first", "u0"]


@pytest.mark.parametrize("limits", [(0, 1.0), (1, 0.0)])
def test_impossible_batches_are_refused(limits):
    with pytest.raises(ConfigError, match="batch.max_.*give a "):
        Batching(*limits)


def test_batches_stay_within_the_budget():
    lengths = dict(enumerate(np.random.default_rng(0).integers(1, 300, 200).tolist()))
    batches = plan_batches(lengths, 8, 900)
    assert sorted(key for batch in batches for key in batch) == sorted(lengths)
    for batch in batches:
        assert len(batch) <= 8
        assert max(lengths[k] for k in batch) * len(batch) <= 900 or len(batch) == 1
