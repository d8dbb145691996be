"""An export counts once onnxruntime has given what torch gives, on real input and on other shapes:
a trace bakes numbers in without a word.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paraformer.backends.onnx_session import Session
from paraformer.errors import CheckpointError
from paraformer.export.graphs import Graph, Trial

# Largest differences: of log-probabilities, and of all else.
LOGITS_DIFFER, OTHERS_DIFFER = 1e-3, 1e-4
# Most of the best ids on real input that 8 bits may change; more is no rounding.
MOST_CHANGED = 0.5
CACHE, EMBEDDING = "out_cache", "embedding"


class Passed(NamedTuple):
    """A trial of a graph, and by how much it differs from torch."""

    name: str
    shape: tuple[int, ...]  # of the first input
    differences: dict[
        str, float
    ]  # the largest of each output; of caches and voices, in their largest value
    changed: int  # best ids of the first output that are others
    total: int  # best ids

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {**self._asdict(), "shape": list(self.shape)}


def prove(path: Path, graph: Graph, exact: bool) -> list[Passed]:
    """Run all trials of a graph; exact: its numbers are torch's but for rounding, else (8 bits)
    they have to be finite, and most of the best ids on real input the same.
    """
    session = Session(path)
    if tuple(session.inputs) != graph.inputs:
        raise _failed(path, f"its inputs are {session.inputs}, not {list(graph.inputs)}")
    passed = []
    for trial in graph.trials:
        with torch.inference_mode():
            expected = graph.module(*trial.inputs)
        passed.append(_compare(path, graph, trial, list(expected), session.run(trial.inputs)))
        if exact:
            _check_equal(path, graph, passed[-1])
    real = passed[0]
    if not exact and real.changed > MOST_CHANGED * real.total:
        raise _failed(path, f"{real.changed} of {real.total} best ids changed")
    return passed


def _compare(
    path: Path, graph: Graph, trial: Trial, expected: list[Tensor], found: list[Tensor]
) -> Passed:
    differences = {}
    for name, theirs, ours in zip(graph.outputs, expected, found, strict=True):
        if not bool(ours.isfinite().all()):
            raise _failed(path, f"{name} is not finite on '{trial.name}'")
        same = theirs.shape == ours.shape and theirs.dtype == ours.dtype
        gap = (theirs.double() - ours.double()).abs() if same else torch.tensor([torch.inf])
        # Caches hold what features do, up to hundreds; of a voice the direction counts.
        large = name.startswith((CACHE, EMBEDDING))
        scale = max(1.0, float(theirs.abs().max())) if large else 1.0
        differences[name] = float(gap.max()) / scale
    changed, total = 0, 0
    if graph.outputs[0] == "logits":
        changed, total = _changed(expected[0], found[0])
    return Passed(trial.name, tuple(trial.inputs[0].shape), differences, changed, total)


def _changed(theirs: Tensor, ours: Tensor) -> tuple[int, int]:
    """How many best ids of rows (B, U, V) are others, rows that only one has among them."""
    size = min(theirs.size(1), ours.size(1))
    best, other = (x[:, :size].argmax(-1) for x in (theirs, ours))
    spare = len(theirs) * abs(theirs.size(1) - ours.size(1))
    return int((best != other).sum()) + spare, theirs[..., 0].numel()


def _check_equal(path: Path, graph: Graph, passed: Passed) -> None:
    for name, gap in passed.differences.items():
        limit = LOGITS_DIFFER if name == "logits" else OTHERS_DIFFER
        if gap > limit:
            told = f"{name} differs from torch by {gap:.2g} on '{passed.name}' {passed.shape}"
            raise _failed(path, told)


def _failed(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path.name}: {reason}; nothing is written")
