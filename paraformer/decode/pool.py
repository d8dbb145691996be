"""Batches by length of what comes one after another; outcomes come back in that order, each with
the payload that went in with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from paraformer.limits import check_fields
from paraformer.options import as_option

Payload = TypeVar("Payload")
Content = TypeVar("Content")
Outcome = TypeVar("Outcome")
# So many batches' worth of frames, or of utterances, are sorted by length together.
POOLED_BATCHES, POOLED_COUNTS = 8, 16
# With what needs no computing, at most so many times the utterances of a batch are held.
HELD_COUNTS = 64


@dataclass(frozen=True)
class Batching:
    """Limits of one batch; an utterance that is longer than `max_seconds` is a batch of its own."""

    max_utterances: int = as_option("batch_size")
    max_seconds: float = as_option("batch_size_s")  # padding counted

    def __post_init__(self) -> None:
        check_fields(self, "batch")


@dataclass(frozen=True)
class Job(Generic[Payload, Content]):
    """Something to compute, of so many frames; the payload goes along untouched."""

    payload: Payload
    content: Content
    frames: int


@dataclass(frozen=True)
class Done(Generic[Payload, Outcome]):
    """The outcome of a job. Among jobs: something whose outcome is known, which keeps its place."""

    payload: Payload
    outcome: Outcome


def compute_in_batches(
    entries: Iterable[Job[Payload, Content] | Done[Payload, Outcome]],
    compute: Callable[[Sequence[Content]], list[Outcome]],
    max_utterances: int,
    max_frames: int,
) -> Iterator[Done[Payload, Outcome]]:
    """The outcome of each entry, in their order, as soon as those before it are there.

    A bounded number of frames is held, however many entries there are.

    >>> jobs = [Job("a", 3, 3), Done("b", "known"), Job("c", 1, 1)]
    >>> double = lambda batch: [str(2 * number) for number in batch]
    >>> [(d.payload, d.outcome) for d in compute_in_batches(jobs, double, 8, 8)]
    [('a', '6'), ('b', 'known'), ('c', '2')]
    """
    pool: list[Any] = []
    frames = count = 0
    for entry in entries:
        pool.append(entry)
        if isinstance(entry, Job):
            frames, count = frames + entry.frames, count + 1
        full = frames >= POOLED_BATCHES * max_frames or count >= POOLED_COUNTS * max_utterances
        if full or not count or len(pool) >= HELD_COUNTS * max_utterances:
            yield from _computed(pool, compute, max_utterances, max_frames)
            pool, frames, count = [], 0, 0
    yield from _computed(pool, compute, max_utterances, max_frames)


def _computed(
    pool: Sequence[Any],
    compute: Callable[[Sequence[Content]], list[Outcome]],
    max_utterances: int,
    max_frames: int,
) -> Iterator[Done[Any, Outcome]]:
    """Short jobs do not wait for a long one behind them."""
    done = {place: entry for place, entry in enumerate(pool) if isinstance(entry, Done)}
    frames = {place: entry.frames for place, entry in enumerate(pool) if place not in done}
    given = 0
    for batch in plan_batches(frames, max_utterances, max_frames):
        outcomes = compute([pool[place].content for place in batch])
        for place, outcome in zip(batch, outcomes, strict=True):
            done[place] = Done(pool[place].payload, outcome)
        while given in done:
            yield done.pop(given)
            given += 1
    yield from (done[place] for place in range(given, len(pool)))


def plan_batches(lengths: dict[int, int], max_utterances: int, max_frames: int) -> list[list[int]]:
    """Batches of keys of nearly equal length, each at most so many utterances and padded frames.

    >>> plan_batches({0: 5, 1: 2, 2: 3}, max_utterances=8, max_frames=6)
    [[1, 2], [0]]
    """
    batches: list[list[int]] = []
    for key in sorted(lengths, key=lambda key: lengths[key]):
        # Sorted, so the newest is the longest of its batch.
        room = batches and len(batches[-1]) < max_utterances
        if room and lengths[key] * (len(batches[-1]) + 1) <= max_frames:
            batches[-1].append(key)
        else:
            batches.append([key])
    return batches
