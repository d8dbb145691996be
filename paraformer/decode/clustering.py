"""Which embeddings are one speaker's: clustering with the number of speakers known, bounded or not.

Small tables are clustered by their spectrum, as the reference does it; large ones by k-means of
those of length 1, whose cost grows with their number alone.
"""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np

from paraformer.backends.face import Likeness
from paraformer.extras import load_extra

FEWEST = 20  # rows below this are one speaker unless two are told or far apart
MOST_SPECTRAL = 2048  # so many rows and more are clustered by k-means
LEAST_NEIGHBOURS, KEPT_SHARE = 6, 0.022
MOST_SPEAKERS = 15
MERGE = Likeness().merge_thr
# Few rows are two speakers' where the groups are this unlike and this alike within.
CLEAR_APART, CLEAR_WITHIN = 0.3, 0.6
SAMPLE = 1024  # rows that the number of speakers of a large table is found from
SEED = 0
# The number of speakers is looked for again in so many draws of this share of the rows.
DRAWS, DRAWN_SHARE, MOST_DRAWN = 10, 0.8, 512


class Bounds(NamedTuple):
    """How many speakers there may be; `number`: that is known.

    merge: groups whose centres are this alike are one speaker's, where no number is told.
    """

    number: int | None = None
    least: int = 1
    most: int = MOST_SPEAKERS
    merge: float = MERGE


def cluster(embeddings: np.ndarray, bounds: Bounds | None = None) -> np.ndarray:
    """Embeddings (N, E) in the order of time -> the speaker of each (N,), numbered from 0 in the
    order of their first rows.

    A known number holds from two rows on, as far as there are rows. Without one, fewer than 20 rows
    are one speaker's unless they fall into two groups that are clearly apart: the centres' cosine
    is under 0.3, and the mean cosine of the rows with their own centre above 0.6.
    """
    bounds = bounds or Bounds()
    rows = np.asarray(embeddings, np.float32)
    count = len(rows)
    number = None if bounds.number is None else min(bounds.number, count)
    if count < 2 or number == 1:
        return np.zeros(count, np.int64)
    with _one_thread():
        return by_first(_cut(rows, number) if number is not None else _unknown(rows, bounds))


def number_confidence(embeddings: np.ndarray, bounds: Bounds, labels: np.ndarray) -> float | None:
    """How sure the number of speakers that `cluster` gave these rows is, 0 to 1: the share of draws
    of four fifths of the rows in which the same number is found; None where the number is told, or
    is that of a single row.
    """
    rows = np.asarray(embeddings, np.float32)
    if bounds.number is not None or len(rows) < 2:
        return None
    size = max(-int(-DRAWN_SHARE * len(rows) // 1), min(len(rows), FEWEST))
    random = np.random.default_rng(SEED)
    found = []
    with _one_thread():
        for _ in range(DRAWS):
            drawn = np.sort(random.permutation(len(rows))[: min(size, MOST_DRAWN)])
            found.append(int(_unknown(rows[drawn], bounds).max()))
    return found.count(int(labels.max())) / DRAWS


def _one_thread() -> AbstractContextManager[Any]:
    """One thread for all libraries: eigenvectors of small tables take little time, but threads that
    wait for each other on a busy machine take much.
    """
    limits = load_extra("threadpoolctl", "spk_model").threadpool_limits
    found: AbstractContextManager[Any] = limits(1)
    return found


def _unknown(rows: np.ndarray, bounds: Bounds) -> np.ndarray:
    """Labels where the number of speakers is not known."""
    count = len(rows)
    least, most = (min(bound, count) for bound in (bounds.least, max(bounds.most, bounds.least)))
    if count < FEWEST:
        labels = _few(rows, least, most)
    else:
        labels = _merged(rows, _cut(rows, None, bounds.merge), least, bounds.merge)
        found = int(labels.max()) + 1
        if not least <= found <= most:
            labels = _cut(rows, min(max(found, least), most))
    return labels


def by_first(labels: np.ndarray) -> np.ndarray:
    """The same groups, numbered from 0 in the order in which they come.

    >>> by_first(np.array([3, 3, 1, 0, 1])).tolist()
    [0, 0, 1, 2, 1]
    """
    _, first, own = np.unique(labels, return_index=True, return_inverse=True)
    ranks = np.empty(len(first), np.int64)
    ranks[np.argsort(first)] = np.arange(len(first))
    found: np.ndarray = ranks[own]
    return found


def centres(rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean of the rows (N, E) of each label: (speakers, E)."""
    return np.stack([rows[labels == label].mean(0) for label in range(labels.max() + 1)])


def _few(rows: np.ndarray, least: int, most: int) -> np.ndarray:
    if least > 1:
        return _cut(rows, least)
    one = np.zeros(len(rows), np.int64)
    if most < 2:
        return one
    labels = _cut(rows, 2)
    if labels.max() < 1:
        return one
    units = _units(rows)
    middles = _units(centres(units, labels))
    within = float((units * middles[labels]).sum(1).mean())
    clear = float(middles[0] @ middles[1]) < CLEAR_APART and within > CLEAR_WITHIN
    return labels if clear else one


def _cut(rows: np.ndarray, number: int | None, merge: float = MERGE) -> np.ndarray:
    """Labels of so many groups; None: as many as the spectrum shows, and `merge` leaves."""
    if len(rows) < FEWEST:
        return _by_links(rows, number or 1)
    if len(rows) < MOST_SPECTRAL:
        return _spectral(rows, number)
    if number is None:
        sample = rows[np.linspace(0, len(rows) - 1, SAMPLE).round().astype(int)]
        labels = _merged(sample, _spectral(sample, None), 1, merge)
        start = _units(centres(_units(sample), labels))
        return _means(_units(rows), len(start), start)
    return _means(_units(rows), number)


def _by_links(rows: np.ndarray, number: int) -> np.ndarray:
    """Few rows: the two groups that are nearest on average become one until so many are left."""
    linkage = load_extra("sklearn.cluster", "spk_model").AgglomerativeClustering
    made = linkage(n_clusters=number, metric="precomputed", linkage="average")
    units = _units(rows)
    found: np.ndarray = made.fit_predict(1.0 - units @ units.T)
    return found


def _spectral(rows: np.ndarray, number: int | None) -> np.ndarray:
    """Groups by the first eigenvectors of the Laplacian of the nearest neighbours' cosines, all
    in float32, by which the reference's choice among equal eigenvalues is ours too; without a
    number, as many as come before the largest step of its eigenvalues.
    """
    linalg = load_extra("scipy.linalg", "spk_model")
    units, count = _units(rows), len(rows)
    similar = units @ units.T
    share = max(KEPT_SHARE, LEAST_NEIGHBOURS / count)
    dropped = int((1 - share) * count)
    smallest = np.argsort(similar, axis=1)[:, :dropped]
    np.put_along_axis(similar, smallest, 0.0, axis=1)
    similar = (similar + similar.T) / 2
    np.fill_diagonal(similar, 0.0)
    laplacian = np.diag(np.abs(similar).sum(1)) - similar
    values, vectors = linalg.eigh(laplacian)
    if number is None:
        number = int(np.argmax(np.diff(values[: MOST_SPEAKERS + 1]))) + 1
    return _means(vectors[:, :number], number)


def _means(rows: np.ndarray, number: int, start: np.ndarray | None = None) -> np.ndarray:
    """Labels by k-means, always the same for the same rows; fewer where rows are equal."""
    means: Any = load_extra("sklearn.cluster", "spk_model").KMeans
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fewer different rows than groups
        made = means(
            n_clusters=number,
            init="k-means++" if start is None else start,
            n_init=1,
            random_state=SEED,
        )
        found: np.ndarray = by_first(made.fit_predict(rows))
    return found


def _merged(rows: np.ndarray, labels: np.ndarray, least: int, merge: float) -> np.ndarray:
    """The two speakers whose centres are most alike become one while that is as like as `merge`."""
    while labels.max() + 1 > max(1, least):
        units = _units(centres(rows, labels))
        alike = np.triu(units @ units.T, 1) - 2 * np.tril(np.ones((len(units),) * 2))
        first, later = np.unravel_index(int(np.argmax(alike)), alike.shape)
        if alike[first, later] < merge:
            break
        labels = np.where(labels == later, first, labels)
        labels = np.where(labels > later, labels - 1, labels)
    return labels


def _units(rows: np.ndarray) -> np.ndarray:
    """Rows of length 1; one of zeros stays."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))[:, None]
    found: np.ndarray = rows / np.where(lengths > 0, lengths, 1.0)
    return found
