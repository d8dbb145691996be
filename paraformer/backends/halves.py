"""A batch that fails as a whole is tried in parts, so that one item never costs another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from paraformer.nn.memory import lacks_memory

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def in_halves(
    batch: Sequence[Item],
    compute: Callable[[Sequence[Item]], list[Outcome]],
    too_large: Callable[[Item], Outcome],
) -> list[Outcome]:
    """An outcome for each item: `compute(batch)`, or that of two halves wherever the device has no
    memory for the whole, and `too_large(item)` for one that does not fit alone.

    >>> in_halves([1, 2], lambda batch: [item + 1 for item in batch], lambda item: 0)
    [2, 3]
    """
    try:
        return compute(batch)
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        if len(batch) == 1:
            return [too_large(batch[0])]
    half = len(batch) // 2
    parts = (batch[:half], batch[half:])
    return [outcome for part in parts for outcome in in_halves(part, compute, too_large)]
