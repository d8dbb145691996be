"""Hotwords for any model, by its own posteriors: where a word of the list is nearly as likely as
what was heard, it takes its place.

The decoder's positions are independent, so a word can be scored at every position at once; nothing
has to be trained. Homophones, which share their sounds and so their posteriors, are what it mends.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from paraformer.nn.mask import length_mask

# So many scores (positions of all utterances times words) are held at a time.
MOST_SCORES = 1 << 22


def boost(
    logp: Tensor,
    lengths: Tensor,
    words: Sequence[Sequence[int]],
    bonus: float,
    special: Sequence[int],
) -> Tensor:
    """Log-probabilities (B, U, V) of lengths (B,) -> the same with the words of a list preferred.

    words: token ids. A word is put where the sum of its log-probabilities lacks less than `bonus`
    (nats) a token of the sum of the best ones; of words that overlap the one with most to spare. It
    then has the probabilities of what it replaces, which get its own. Positions whose best token is
    one of `special` stay.

    >>> heard = torch.tensor([[[0.1, 0.5, 0.4], [0.1, 0.2, 0.7]]]).log()
    >>> boost(heard, torch.tensor([2]), [[2, 2]], 0.5, []).argmax(-1)
    tensor([[2, 2]])
    """
    best, heard = logp.max(-1)
    fixed = torch.isin(heard, torch.tensor(list(special), device=logp.device))
    fixed |= ~length_mask(lengths, logp.size(1))
    lack = (logp - best[..., None]).masked_fill(fixed[..., None], -torch.inf)
    found: dict[int, list[tuple[float, int, Sequence[int]]]] = defaultdict(list)
    for group in _groups(words, logp.size(0) * logp.size(1)):
        for row, start, place, spare in _matches(lack, group, bonus):
            found[row].append((spare, start, group[place]))
    result = logp.clone()
    for row, candidates in found.items():
        taken: set[int] = set()
        for _, start, word in sorted(candidates, key=lambda each: (-each[0], each[1])):
            span = range(start, start + len(word))
            if taken.isdisjoint(span):
                taken.update(span)
                for place, token in zip(span, word, strict=True):
                    old = int(heard[row, place])
                    result[row, place, [old, token]] = logp[row, place, [token, old]]
    return result


def _groups(words: Sequence[Sequence[int]], positions: int) -> list[list[Sequence[int]]]:
    """Words of one length together, so many that their scores fit."""
    by_length: dict[int, list[Sequence[int]]] = defaultdict(list)
    for word in words:
        by_length[len(word)].append(word)
    size = max(1, MOST_SCORES // max(1, positions))
    return [
        members[i : i + size]
        for members in by_length.values()
        for i in range(0, len(members), size)
    ]


def _matches(
    lack: Tensor, group: Sequence[Sequence[int]], bonus: float
) -> list[tuple[int, int, int, float]]:
    """Row, start and place in the group of each word that lacks little, and what is to spare."""
    size = len(group[0])
    starts = lack.size(1) - size + 1
    if starts <= 0:
        return []
    ids = torch.tensor([list(word) for word in group], device=lack.device)
    total = lack.new_full((lack.size(0), starts, len(group)), bonus * size)
    for step in range(size):
        total += lack[:, step : step + starts].index_select(2, ids[:, step])
    rows, begins, places = (total > 0.0).nonzero(as_tuple=True)
    spare = total[rows, begins, places]
    columns = (rows.tolist(), begins.tolist(), places.tolist(), spare.tolist())
    return list(zip(*columns, strict=True))
