"""A learning rate that suits a model and its data: the rate rises from step to step while the loss
on the dev set is watched (the range test of arXiv 1506.01186).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import NamedTuple

import torch

from paraformer.data.batches.dataset import Batch
from paraformer.errors import ConfigError
from paraformer.limits import check_fields, limited
from paraformer.train.objective import autocast
from paraformer.train.trainer import Batches, Trainer

PROBES = 2  # batches of the dev set that are listened to after each step
EXPLODED = 1.5  # times the least loss: from there on nothing is learnt any more
LEAST_FALL = 0.005  # of the loss at the beginning; less is noise
WIDTH = 5  # trials on each side, between which a slope is measured


@dataclass(frozen=True)
class Sweep:
    """From which rate to which, in how many steps."""

    low: float = limited(1e-6, 0, above=True)
    high: float = limited(1e-2, 0, above=True)
    steps: int = limited(100, 10)

    def __post_init__(self) -> None:
        check_fields(self, "lr_finder")
        if self.high <= self.low:
            raise ConfigError(f"lr_finder.high={self.high}: give more than low={self.low}")

    def rate(self, step: int) -> float:
        """Of step 0, 1, ...: equal factors from one to the next."""
        return self.low * (self.high / self.low) ** (step / (self.steps - 1))


class Trial(NamedTuple):
    """The result of a step with this rate."""

    rate: float
    loss: float  # on the batch of the step, before it
    dev_loss: float  # after it


def sweep(trainer: Trainer, settings: Sweep) -> Iterator[Trial]:
    """Train with rising rates until the loss explodes. The model is spoilt by it."""
    objective = trainer.objective
    probes = list(islice(usable(trainer.dev_loader, 0), PROBES))
    batches = (batch for epoch in count(1) for batch in usable(trainer.train_loader, epoch))
    least = dev_loss(trainer, probes)
    for step in range(settings.steps):
        objective.train()
        loss = _loss(trainer, next(batches))
        if not torch.isfinite(loss):
            return
        loss.backward()
        torch.nn.utils.clip_grad_norm_(objective.parameters(), trainer.training.grad_clip)
        for group in trainer.optimizer.param_groups:
            group["lr"] = settings.rate(step) * group.get("factor", 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad(set_to_none=True)
        after = dev_loss(trainer, probes)
        if not after <= EXPLODED * least:  # nor a number
            return
        least = min(least, after)
        yield Trial(settings.rate(step), float(loss.detach()), after)


@torch.no_grad()
def dev_loss(trainer: Trainer, probes: Sequence[Batch]) -> float:
    """The mean loss of some batches, the sampler showing the same tokens each time."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(0)
    trainer.objective.eval()
    losses = [float(_loss(trainer, batch)) for batch in probes]
    torch.set_rng_state(state)
    return sum(losses) / len(losses)


def _loss(trainer: Trainer, batch: Batch) -> torch.Tensor:
    objective = trainer.objective
    with autocast(trainer.device, trainer.training.precision):
        loss: torch.Tensor = objective(batch.to(trainer.device), objective.warm_steps + 1).loss
    return loss


def usable(loader: Batches, epoch: int) -> Iterator[Batch]:
    """Batches of an epoch, those without rows left out."""
    yield from (batch for batch in loader.epoch(epoch) if batch.keys)


def steepest(trials: Sequence[Trial]) -> float | None:
    """The rate at which the loss on the dev set falls fastest; None where it does not fall.

    The slope is that over the logarithm of the rate, up to where the loss is the least, between
    trials some steps before and behind, so that it is no accident of a single batch.

    >>> falls = [9.0] * 10 + [8.0, 5.0, 2.0] + [1.0] + [1.1] * 10
    >>> steepest([Trial(2.0**place, loss, loss) for place, loss in enumerate(falls)])
    2048.0
    """
    losses = [trial.dev_loss for trial in trials]
    end = min(range(len(losses)), key=losses.__getitem__, default=0)
    if end < 2 or losses[end] > (1.0 - LEAST_FALL) * losses[0]:
        return None
    slopes = {}
    for place in range(1, end):
        width = min(WIDTH, place, end - place)
        before, after = trials[place - width], trials[place + width]
        slopes[place] = (after.dev_loss - before.dev_loss) / math.log(after.rate / before.rate)
    return trials[min(slopes, key=lambda place: slopes[place])].rate
