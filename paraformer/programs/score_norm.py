"""Scores of trials by how near the voices of others are: adaptive normalisation (as-norm)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from paraformer.errors import DataError

LEAST_SPREAD = 1e-6


def nearest(units: Mapping[str, np.ndarray], cohort: np.ndarray, top: int) -> np.ndarray:
    """Mean and deviation (N, 2) of the cosines of each unit to the `top` nearest of the cohort
    (C, E).

    >>> nearest({"a": np.array([1.0, 0.0])}, np.array([[0.6, 0.8], [0.8, 0.6], [-1, 0]]), 2)
    array([[0.7, 0.1]])
    """
    found = np.sort(np.stack(list(units.values())) @ cohort.T)[:, -top:]
    return np.stack([found.mean(1), found.std(1)], 1)


def normalised(
    pairs: Iterable[tuple[str, str]],
    scores: Sequence[float],
    sides: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    cohort: Mapping[str, np.ndarray],
    top: int,
) -> list[float]:
    """The scores of pairs (enrol, test) in deviations above the mean of the nearest of a cohort,
    the mean of what both sides say.

    sides: embeddings of length 1 that enrol and test name; the cohort are other speakers' ones.
    """
    if len(cohort) < 2:
        raise DataError("cohort: needs two embeddings or more")
    others = np.stack(list(cohort.values()))
    tables = []
    for side in sides:
        statistics = nearest(side, others, top)
        statistics[:, 1] = statistics[:, 1].clip(min=LEAST_SPREAD)
        tables.append(dict(zip(side, statistics.tolist(), strict=True)))
    found = []
    for (enrol, test), score in zip(pairs, scores, strict=True):
        each = (tables[0][enrol], tables[1][test])
        found.append(sum((score - mean) / spread for mean, spread in each) / 2)
    return found
