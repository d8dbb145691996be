"""Hotwords for any model, by its own posteriors: where a word of the list is nearly as likely as
what was heard, it takes its place.

The decoder's positions are independent, so a word can be scored at every position at once; nothing
has to be trained. Homophones, which share their sounds and so their posteriors, are what it mends.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from paraformer.backends.face import length_mask
from paraformer.decode.word_tree import Level, WordTree

# So many scores (positions of utterances times first tokens of words) are held at a time.
MOST_SCORES = 1 << 22


# Of a list of N words the more come near by chance the larger N is, short ones above all. Beyond
# FEW a word has to be likelier than by its bonus alone, by up to LARGE tokens of it, and as likely
# as N times CHANCE at least: measured in egs/mini_zh/s0/RESULTS.md.
FEW = 500
LARGE = 2.0
CHANCE = 1e-6


def allowance(words: int) -> float:
    """The tokens of a word for which it gets no bonus, since it is one of so many.

    >>> [allowance(words) for words in (1, 500, 5000, 20000, 50000)]
    [0.0, 0.0, 1.25, 2.0, 2.0]
    """
    return round(min(LARGE, max(0.0, 1.25 * math.log10(max(words, 1) / FEW))), 2)


def boost(
    logp: Tensor,
    lengths: Tensor,
    words: WordTree | Sequence[Sequence[int]],
    bonus: float,
    special: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Log-probabilities (B, U, V) of lengths (B,) -> the same with the words of a list preferred,
    and where such words stand now, (B, U) bool.

    words: token ids. A word is put where the sum of its log-probabilities lacks less than `bonus`
    (nats) a token of the sum of the best ones, in long lists less (`allowance`); of words that
    overlap the one with most to spare. It then has the probabilities of what it replaces, which get
    its own. Positions whose best token is one of `special` stay. What it costs goes by the
    beginnings of words that are likely, hardly by their number.

    >>> heard = torch.tensor([[[0.1, 0.5, 0.4], [0.1, 0.2, 0.7]]]).log()
    >>> preferred, _ = boost(heard, torch.tensor([2]), [[2, 2]], 0.5, [])
    >>> preferred.argmax(-1)
    tensor([[2, 2]])
    """
    best, heard = logp.max(-1)
    fixed = torch.isin(heard, torch.tensor(list(special), device=logp.device))
    fixed |= ~length_mask(lengths, logp.size(1))
    lack = (logp - best[..., None]).masked_fill(fixed[..., None], -torch.inf)
    tree = words if isinstance(words, WordTree) else WordTree(words)
    found: dict[int, list[tuple[float, int, tuple[int, ...]]]] = defaultdict(list)
    for row, start, word, spare in _matches(lack, best, tree, bonus):
        found[row].append((spare, start, word))
    result, held = logp.clone(), torch.zeros_like(fixed)
    for row, candidates in found.items():
        taken: set[int] = set()
        for _, start, word in sorted(candidates, key=lambda each: (-each[0], each[1:])):
            span = range(start, start + len(word))
            if taken.isdisjoint(span):
                taken.update(span)
                held[row, start : span.stop] = True
                for place, token in zip(span, word, strict=True):
                    old = int(heard[row, place])
                    result[row, place, [old, token]] = logp[row, place, [token, old]]
    return result, held


def _matches(
    lack: Tensor, best: Tensor, tree: WordTree, bonus: float
) -> Iterator[tuple[int, int, tuple[int, ...], float]]:
    """Row, start, word and what is to spare of each word that lacks little."""
    levels = tree.levels(lack.device)
    if not levels:
        return
    least = math.log(CHANCE * len(tree)) if len(tree) > FEW else -math.inf
    bar = _Bar(bonus, allowance(len(tree)), least)
    size = max(1, MOST_SCORES // max(1, lack.size(1) * len(levels[0].token)))
    for first in range(0, lack.size(0), size):
        part = slice(first, first + size)
        for row, start, place, spare in _walk(lack[part], best[part], levels, bar):
            yield first + row, start, tree.words[place], spare


class _Bar(NamedTuple):
    """The bar for a word: `bonus` a token for all but `allowance`, and a least log-probability."""

    bonus: float
    allowance: float
    least: float

    def spare(self, lacking: Tensor, tokens: int | Tensor) -> Tensor:
        return lacking + self.bonus * (tokens - self.allowance)


def _walk(
    lack: Tensor, best: Tensor, levels: Sequence[Level], bar: _Bar
) -> Iterator[tuple[int, int, int, float]]:
    """The same for a few utterances: from every position down the tree, as far as the best that
    may still follow is enough.
    """
    lacking = lack[..., levels[0].token]
    rows, starts, nodes = (bar.spare(lacking, levels[0].longest) > 0.0).nonzero(as_tuple=True)
    lacking = lacking[rows, starts, nodes]
    heard = best[rows, starts]
    for depth, level in enumerate(levels, 1):
        spare = bar.spare(lacking, depth)
        ends = (level.word[nodes] >= 0) & (spare > 0.0) & (heard + lacking > bar.least)
        columns = (rows[ends], starts[ends], level.word[nodes[ends]], spare[ends])
        yield from zip(*(column.tolist() for column in columns), strict=True)
        if depth == len(levels):
            return
        many = level.children[nodes].masked_fill(starts + depth >= lack.size(1), 0)
        parent = torch.repeat_interleave(many)
        among = torch.arange(len(parent), device=lack.device) - (many.cumsum(0) - many)[parent]
        nodes = level.first[nodes][parent] + among
        rows, starts, below = rows[parent], starts[parent], levels[depth]
        lacking = lacking[parent] + lack[rows, starts + depth, below.token[nodes]]
        heard = heard[parent] + best[rows, starts + depth]
        kept = bar.spare(lacking, below.longest[nodes]) > 0.0
        rows, starts, nodes, lacking, heard = (
            each[kept] for each in (rows, starts, nodes, lacking, heard)
        )
