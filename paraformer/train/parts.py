"""A batch for which the device has no memory is learnt in parts, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from paraformer.train.losses import Losses


def rows_of(batch: Any) -> int:
    """The number of rows of the tensors of a batch."""
    return next(len(value) for value in batch if isinstance(value, Tensor))


def parts_of(batch: Any, count: int) -> Iterator[Any]:
    """The rows of a batch in `count` parts; what it has none of a row stays whole in each."""
    rows = rows_of(batch)
    bounds = [rows * number // count for number in range(count + 1)]
    for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
        own = {
            name: value[begin:end]
            for name, value in batch._asdict().items()
            if isinstance(value, (Tensor, list)) and len(value) == rows
        }
        yield batch._replace(**own)


def mean_of(results: Sequence[Losses]) -> Losses:
    """The losses of a batch from those of its parts, each by its weight."""
    total = sum(result.weight for result in results)
    stats = {
        name: torch.stack([r.stats[name] * (r.weight / total) for r in results]).sum()
        for name in results[0].stats
    }
    return Losses(stats["loss"], total, stats)


def divide_gradients(parameters: Iterable[nn.Parameter], divisor: float) -> None:
    """Gradients that were summed by weight become their mean."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.div_(divisor)
