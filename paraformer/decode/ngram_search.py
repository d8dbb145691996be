"""The likeliest tokens by the decoder and an n-gram model together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from paraformer.backends.face import length_mask
from paraformer.data.text.ngram_table import Floats, Ints, NgramTable

CANDIDATES = 16  # tokens of a position that are looked at
MARGIN = 8.0  # nats by which they, and beginnings, may be less likely than the best
MERGED = 4  # beams from which those with the same future are left out


class Path(NamedTuple):
    """Tokens that follow one another, what the decoder says of each, and the sum with that of the
    n-grams.
    """

    ids: list[int]
    logp: list[float]
    total: float


class _Candidates(NamedTuple):
    """Tokens of each position, the best first; -inf where there is none."""

    logp: Floats  # (B, U, K)
    ids: Ints  # of the recogniser
    words: Ints  # numbers of the language model, -1 where it is not asked


def ngram_search(
    logp: Tensor,
    counts: Tensor,
    held: Tensor,
    table: NgramTable,
    words: Ints,
    *,
    weight: float,
    bonus: float = 0.0,
    beam: int = 16,
    nbest: int = 1,
    special: Sequence[int],
    before: Sequence[Sequence[int]] | None = None,
    ends: Sequence[bool] | None = None,
) -> list[list[Path]]:
    """The best paths, special tokens among them, by posteriors (B, U, V) of lengths (B,) and
    `weight` times the logarithm of what the n-grams say, and `bonus` for each token.

    words (V,): the numbers of the tokens among those of the table. Where the decoder prefers a
    special token there stays one, and where held (B, U) its best token; so each utterance has as
    many tokens as without n-grams. `beam` beginnings of each utterance are followed. before: the
    tokens that each sentence has so far; ends: whether it ends here, as all do if not given.
    """
    found = _candidates(logp, counts, held, words, special)
    batch, positions, most = found.ids.shape
    used = (
        most - np.argmax(found.logp.max(0)[:, ::-1] > -np.inf, axis=1)
    ).tolist()  # at each position
    width, rows = max(beam, nbest), np.arange(batch)[:, None]
    wide = MERGED * width if nbest == 1 else width
    totals = np.full((batch, width), -np.inf)
    totals[:, 0] = 0.0
    states = _states(table, words, before or [()] * batch)[:, None].repeat(width, axis=1)
    steps = []  # of each position what was kept: (B, W) beginnings and candidates
    for u, options in enumerate(used):
        sums = totals[:, :, None] + found.logp[:, u, None, :options]  # (B, W, K)
        if nbest == 1:
            sums[sums < sums.max((1, 2), keepdims=True) - MARGIN] = -np.inf
        behind = np.repeat(states[:, :, None], options, axis=2)
        asked = np.nonzero((sums > -np.inf) & (found.words[:, u, None, :options] >= 0))
        row, old, choice = asked
        said, behind[asked] = table.step(states[row, old], found.words[row, u, choice])
        sums[asked] += weight * said + bonus
        best = np.argsort(-sums.reshape(batch, -1), axis=1, kind="stable")[:, :wide]
        parent, choice = np.divmod(best, options)
        totals, states = sums[rows, parent, choice], behind[rows, parent, choice]
        if nbest == 1:
            kept = _apart(totals, table.futures(states))[:, :width]
            parent, choice = parent[rows, kept], choice[rows, kept]
            totals, states = totals[rows, kept], states[rows, kept]
        steps.append((parent, choice))
    last_words = table.step(states.reshape(-1, table.order - 1), np.full(batch * width, table.end))
    ending = np.ones(batch) if ends is None else np.array(ends, dtype=np.float64)
    totals += weight * ending[:, None] * last_words[0].reshape(batch, width)
    last = np.argsort(-totals, axis=1, kind="stable")[:, :nbest]
    choices = np.zeros((batch, last.shape[1], positions), dtype=np.int64)
    parent = last
    for u in reversed(range(positions)):
        choices[:, :, u] = steps[u][1][rows, parent]
        parent = steps[u][0][rows, parent]
    return _paths(found, counts.tolist(), choices, totals[rows, last])


def _states(table: NgramTable, words: Ints, before: Sequence[Sequence[int]]) -> Ints:
    """The states (B, ORDER - 1) behind the tokens that sentences have so far."""
    size = table.order - 1
    start = [table.start[0]] * size
    behind = np.array([[*start, *words[list(ids[-size:])]][-size:] for ids in before])
    states = np.full((len(before), size), -1)
    for place in range(size):
        states = table.step(states, behind[:, place])[1]
    return states


def _apart(totals: Floats, futures: Ints) -> Ints:
    """Of totals (B, N), the best first, the places in their order, but the worse ones of those that
    have the same future (B, N) last, and without any total.
    """
    order = np.argsort(futures, axis=1, kind="stable")
    row, place = np.nonzero(np.diff(np.take_along_axis(futures, order, axis=1)) == 0)
    totals[row, order[row, place + 1]] = -np.inf
    return np.argsort(-totals, axis=1, kind="stable")


def _candidates(
    logp: Tensor, counts: Tensor, held: Tensor, words: Ints, special: Sequence[int]
) -> _Candidates:
    values, ids = logp.float().topk(min(CANDIDATES, logp.size(2)))
    nothing = torch.isin(ids, torch.tensor(special, device=ids.device))
    there = length_mask(counts, logp.size(1)).to(ids.device)
    alone = nothing[..., :1] | (held | ~there)[..., None]
    dropped = alone | nothing | (values < values[..., :1] - MARGIN)
    dropped[..., 0] = False
    values = values.masked_fill(~there[..., None], 0.0).masked_fill(dropped, -torch.inf)
    silent = (nothing | ~there[..., None]).cpu().numpy()
    found = ids.cpu().numpy()
    return _Candidates(values.double().cpu().numpy(), found, np.where(silent, -1, words[found]))


def _paths(
    found: _Candidates, counts: Sequence[int], choices: Ints, totals: Floats
) -> list[list[Path]]:
    """The candidates that were chosen (B, N, U) as paths with their sums (B, N)."""
    paths = []
    for row, count in enumerate(counts):
        places = np.arange(count)
        chosen = choices[row, :, :count]
        ids, logp = found.ids[row, places, chosen], found.logp[row, places, chosen]
        columns = zip(ids.tolist(), logp.tolist(), totals[row].tolist(), strict=True)
        paths.append([Path(*each) for each in columns if each[2] > -np.inf])
    return paths
