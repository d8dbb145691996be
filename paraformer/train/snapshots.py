"""The files that a training run leaves: weights of each epoch, and a snapshot from which it goes on
as if it had never been stopped.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from paraformer.data.corpus.tables import write_text
from paraformer.documents import parse_json
from paraformer.errors import CheckpointError, DataError
from paraformer.models.integrity import refuse_unusable
from paraformer.models.weights import read_torch, read_weights, write_torch

Generators = dict[str, Any]  # states of torch's generators of one process
Totals = dict[str, tuple[float, float]]  # name of a statistic -> weighted sum, sum of weights


class Position(NamedTuple):
    """The position of a run: `batch` batches of `epoch` are done, `step` optimiser steps in all."""

    epoch: int = 1
    batch: int = 0
    step: int = 0


class Resumed(NamedTuple):
    """The place at which a run goes on; `place`: that of its loader, empty if it can find it."""

    position: Position
    totals: Totals
    place: list[int]


def save_snapshot(
    path: Path,
    position: Position,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    totals: Totals,
    generators: Sequence[Generators] = (),
    place: Sequence[int] = (),
) -> None:
    """Weights, optimiser, random generators, position, and what the next log line averages.

    generators: those of all processes, if there are several; place: of a loader in its list.
    """
    state: dict[str, Any] = {
        "position": tuple(position),
        "objective": objective.state_dict(),
        "learning": _learning(objective),
        "optimizer": optimizer.state_dict(),
        "totals": dict(totals),
        **own_generators(),
        "others": list(generators[1:]),
        "place": list(place),
    }
    write_torch(state, path)


def own_generators() -> Generators:
    """The states of torch's random generators in this process."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"torch_rng": torch.get_rng_state(), "cuda_rng": cuda}


def load_snapshot(
    path: Path, objective: nn.Module, optimizer: torch.optim.Optimizer, rank: int = 0
) -> Resumed:
    """Put back what `save_snapshot` wrote, in the process of number `rank`.

    A process that was not there when it was written keeps its random generators.
    """
    state = _whole(read_torch(path), path)
    try:
        objective.load_state_dict(state["objective"])
        learning = _learning(objective)
        if state.get("learning", learning) != learning:
            raise RuntimeError("other parameters learn: freeze or lora.beside is another")
        _put_back(optimizer, state["optimizer"])
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: does not fit this configuration ({reason}); "
            "train in another folder or with resume=false"
        ) from error
    generators = [state, *state.get("others", [])]
    if rank < len(generators):
        torch.set_rng_state(generators[rank]["torch_rng"])
        if generators[rank]["cuda_rng"]:
            torch.cuda.set_rng_state_all(generators[rank]["cuda_rng"])
    totals = dict(state.get("totals", {})) if rank == 0 else {}
    return Resumed(Position(*state["position"]), totals, list(state.get("place", [])))


def _whole(state: Any, path: Path) -> dict[str, Any]:
    """A snapshot that has all that a run needs to go on."""
    needed = ("position", "objective", "optimizer", "torch_rng", "cuda_rng")
    missing = [key for key in needed if not isinstance(state, dict) or key not in state]
    if missing:
        raise CheckpointError(
            f"{path}: is no snapshot of a training ({', '.join(missing)} missing); "
            "train in another folder or with resume=false"
        )
    found: dict[str, Any] = state
    if isinstance(found["objective"], dict):
        refuse_unusable(found["objective"], path)
    return found


def _learning(objective: nn.Module) -> list[str]:
    """The parameters that the optimiser has, in their order."""
    return [name for name, value in objective.named_parameters() if value.requires_grad]


def _put_back(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser its moments back; its rates and decays stay as they are set now."""
    own = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def seed_everything(seed: int) -> None:
    """Seed torch, numpy and the standard library."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def put_record(path: Path, record: dict[str, Any]) -> None:
    """Write the JSON line of an epoch; a run that was killed may have written it, or later ones,
    before: they go.
    """
    known = read_records(path) if path.is_file() else []
    kept = [each for each in known if each["epoch"] < record["epoch"]]
    lines = (json.dumps(each, ensure_ascii=False) + "\n" for each in (*kept, record))
    write_text(path, "".join(lines))


def read_records(path: Path) -> list[dict[str, Any]]:
    """Lines of `put_record`; of two with the same epoch the later counts."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; train at least one epoch first")
    records = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            record = parse_json(line)
            records[int(record["epoch"])] = record
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}:{number}: no record of an epoch; remove this line") from error
    return [records[epoch] for epoch in sorted(records)]


def records_on_disk(folder: Path) -> list[dict[str, Any]]:
    """The records of a run, of those epochs alone whose weights are there."""
    records = read_records(folder / "epochs.jsonl")
    return [each for each in records if (folder / f"epoch-{each['epoch']}.pt").is_file()]


def best_epochs(
    records: Sequence[dict[str, Any]], metric: str, count: int, last: bool = False
) -> list[int]:
    """The `count` epochs with the smallest metric, or simply the last ones."""
    ordered = list(records) if last else sorted(records, key=lambda r: -r[metric])
    return sorted(record["epoch"] for record in ordered[-count:])


def mean_of_epochs(folder: Path, epochs: Sequence[int]) -> dict[str, Tensor]:
    """See `average_weights`."""
    return average_weights([folder / f"epoch-{epoch}.pt" for epoch in epochs])


def average_weights(paths: Sequence[Path]) -> dict[str, Tensor]:
    """Mean of the weights of several epochs, summed in float64; counters are those of the last."""
    total: dict[str, Tensor] = {}
    state: dict[str, Tensor] = {}
    for path in paths:
        state = read_weights(path)
        for name, value in state.items():
            if value.is_floating_point():
                total[name] = total.get(name, 0) + value.double()
    mean = {name: (value / len(paths)).to(state[name].dtype) for name, value in total.items()}
    return {name: mean.get(name, value) for name, value in state.items()}
