"""Several processes train one model: each takes its share of every batch, and the mean of their
gradients is the gradient of the whole batch.

For that, sums over a share are divided by the mean of the shares' counts (`mean_over_ranks`). What
a share draws at random (dropout, the tokens that the sampler shows) is its own; batch normalisation
is over a share.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from paraformer.errors import ConfigError
from paraformer.nn.chunks import ChunkRule
from paraformer.train.chunking import Chunking

RESTARTS = "TORCHELASTIC_RESTART_COUNT"  # how often torchrun has started the processes again


class Ranks(NamedTuple):
    """The number of this process among all; `local`: among those of its machine."""

    rank: int = 0
    world: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Ranks:
        """As torchrun says in the environment; one process where it says nothing."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        try:
            rank, world, local = (int(environment[name]) for name in names)
        except KeyError:
            return cls()
        except ValueError as error:
            raise ConfigError(f"{', '.join(names)}: {error}; leave them to torchrun") from error
        return cls(rank, world, local)

    def join(self, device: torch.device) -> None:
        """Meet the other processes."""
        if self.world == 1:
            return
        if device.type == "cuda":
            torch.cuda.set_device(device)
        # torchrun keeps the store of a run that it starts again: the addresses of processes that
        # have died still stand in it, so each start has names of its own.
        store, rank, world = next(iter(dist.rendezvous("env://")))
        start = dist.PrefixStore(f"start_{os.environ.get(RESTARTS, '0')}", store)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=start, rank=rank, world_size=world)

    def wrap(self, objective: nn.Module, leaves_out: bool) -> nn.Module:
        """The objective with gradients that are the mean over the processes.

        leaves_out: whether some of its parameters may have no part in a loss. They are then looked
        for in each step, since the other processes wait for their gradients.
        """
        if self.world == 1:
            return objective
        return nn.parallel.DistributedDataParallel(objective, find_unused_parameters=leaves_out)

    def any_of(self, flag: bool, device: torch.device) -> bool:
        """Whether it holds in any process."""
        if self.world == 1:
            return flag
        value = torch.tensor(float(flag), device=device)
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return bool(value)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, in each of them."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        dist.all_gather_object(values, value)
        return values


def leave() -> None:
    """Part from the other processes, if there are any."""
    if dist.is_available() and dist.is_initialized():
        gc.collect()  # of a wrapped model, whose threads must not outlive the group
        dist.destroy_process_group()


def end(code: int) -> int:
    """Return the exit code of a process that has trained alone; end at once, without destructors,
    one that has trained with others.

    torch (2.11) never frees the reducer of a `DistributedDataParallel`, nor gloo's threads that it
    holds. A thread that hears another process go while this one is taken down aborts it now and
    then, though all is written.
    """
    if os.environ.get("WORLD_SIZE", "1") in ("", "1"):
        return code
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def restarted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun or Slurm starts this run once more, so that it has to go on."""
    counts = (RESTARTS, "SLURM_RESTART_COUNT")
    return any(environment.get(name, "0") not in ("", "0") for name in counts)


def mean_over_ranks(count: Tensor) -> Tensor:
    """The mean of a count () over the processes, by which each divides the sums over its own rows,
    since their gradients are averaged; the count itself where there is one process.

    A collective: all processes have to call it equally often for each batch.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return count
    total = count.detach().double()
    dist.all_reduce(total)
    return total / dist.get_world_size()


@dataclass(frozen=True)
class Together:
    """One chunk rule for the shares of a batch: that of the first process, which each `draw`
    broadcasts, so that all processes have to call it.
    """

    chunking: Chunking

    def draw(self) -> ChunkRule | None:
        """See `Chunking`."""
        drawn: list[ChunkRule | None] = [self.chunking.draw()]
        dist.broadcast_object_list(drawn, src=0)
        return drawn[0]


def together(chunking: Chunking | None, ranks: Ranks) -> Chunking | None:
    """The same for all processes, if there are several."""
    return chunking if chunking is None or ranks.world == 1 else Together(chunking)


def summed_totals(
    totals: Sequence[Mapping[str, tuple[float, float]]],
) -> dict[str, tuple[float, float]]:
    """Weighted sums of statistics, and the sums of their weights, over processes.

    >>> summed_totals([{"loss": (2.0, 1.0)}, {"loss": (4.0, 2.0), "acc": (0.5, 1.0)}])
    {'loss': (6.0, 3.0), 'acc': (0.5, 1.0)}
    """
    names = dict.fromkeys(name for each in totals for name in each)
    return {
        name: (
            sum(each[name][0] for each in totals if name in each),
            sum(each[name][1] for each in totals if name in each),
        )
        for name in names
    }
