"""Layers that int8 leaves in full, found by a list of recordings: as few as keep its texts."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import torch

from paraformer.backends.onnx_session import Session
from paraformer.export.graphs import Graph
from paraformer.export.onnx_file import WHOLE, products, quantise

# Of the texts those that have to be the same, and the most groups that layers are tried in: each
# takes a trial, and to halve them five or six.
SHARE, MOST_GROUPS = 0.99, 16
_LAYER = re.compile(r"(.*?\.\d+)/")

Texts = list[Any]
Hear = Callable[[Path], Texts]  # what the model of a directory makes of the recordings


class Group(NamedTuple):
    """Products of a layer, or of layers that follow each other, in a file of a graph."""

    path: Path
    name: str
    nodes: tuple[str, ...]


class Calibration(NamedTuple):
    """The layers that stayed in full, and how many texts changed in each trial."""

    kept: list[str]  # the most sensitive one first
    groups: int
    texts: int
    alone: dict[str, int]  # group -> texts that change when it alone is rounded
    trials: dict[int, int]  # groups in full -> texts that stayed

    def as_json(self) -> dict[str, Any]:
        """The same as plain values."""
        trials = [{"kept": kept, "same": same} for kept, same in self.trials.items()]
        return {**self._asdict(), "trials": trials}

    def line(self) -> str:
        """The result for a reader."""
        full = f"{len(self.kept)} of {self.groups} groups of layers stay in fp32"
        names = f" ({', '.join(self.kept)})" if self.kept else ""
        same = self.trials[len(self.kept)]
        told = f"calibration: {full}{names}: {same} of {self.texts} texts are those of fp32"
        return told if len(self.kept) < self.groups else f"{told}; nothing is rounded: take fp32"


def calibrate(
    graphs: Sequence[tuple[Path, Graph]], wanted: Texts, heard: Callable[[], Texts]
) -> Calibration:
    """Quantise the files of graphs, which are in full, but for the layers whose rounding alone
    changes most texts, or, of equals, most of what comes out: for as few of these as give `SHARE`
    of the wanted texts.

    heard: the texts by the files as they are when it is called.
    """
    wholes = {path: path.replace(path.with_suffix(WHOLE)) for path, _ in graphs}

    def same(rounded: Sequence[Group]) -> int:
        for path, whole in wholes.items():
            nodes = (group.nodes for group in rounded if group.path == path)
            quantise(whole, path, {*chain.from_iterable(nodes)})
        return sum(a == b for a, b in zip(heard(), wanted, strict=True))

    changes: dict[Group, tuple[int, float]] = {}
    for path, graph in graphs:
        for group in _groups(path, wholes[path], -(-MOST_GROUPS // len(graphs))):
            changed = len(wanted) - same([group])
            changes[group] = changed, _error(group.path, graph)
    ranked = sorted(changes, key=lambda group: changes[group], reverse=True)
    trials: dict[int, int] = {}

    def enough(count: int) -> bool:
        trials[count] = same(ranked[count:])
        return trials[count] >= ceil(SHARE * len(wanted))

    least = bisect_left(range(len(ranked)), True, key=enough)
    if next(reversed(trials), None) != least:  # the files are those of another trial
        enough(least)
    for whole in wholes.values():
        whole.unlink()
    alone = {group.name: changed for group, (changed, _) in changes.items()}
    kept = [group.name for group in ranked[:least]]
    return Calibration(kept, len(ranked), len(wanted), alone, trials)


def _groups(path: Path, whole: Path, most: int) -> Iterator[Group]:
    """The products of a file by their layers, in its order; neighbours together where there are
    more than `most`.
    """
    layers = [(name, tuple(nodes)) for name, nodes in groupby(products(whole), key=_layer_of)]
    size = max(1, ceil(len(layers) / most))
    for first in range(0, len(layers), size):
        part = layers[first : first + size]
        name = part[0][0] if len(part) == 1 else f"{part[0][0]} to {part[-1][0]}"
        yield Group(path, name, tuple(node for _, nodes in part for node in nodes))


def _layer_of(node: str) -> str:
    """The layer of a product.

    >>> _layer_of("/encoder/encoders.3/feed_forward/w_1/MatMul"), _layer_of("/output_layer/MatMul")
    ('encoder/encoders.3', 'output_layer')
    """
    found = _LAYER.match(node)
    return (found[1] if found else node.rpartition("/")[0]).strip("/")


def _error(path: Path, graph: Graph) -> float:
    """How far the graph of a file is from torch, on the first trial: the root mean square of the
    difference of its first output, in that of the output.
    """
    inputs = graph.trials[0].inputs
    with torch.inference_mode():
        expected = graph.module(*inputs)[0].double()
    found = Session(path).run(inputs)[0].double()
    if found.shape != expected.shape:  # another number of tokens
        return float("inf")
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())
