"""A list of words, as token ids, in one tree of their beginnings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Level(NamedTuple):
    """The beginnings of one length, in the order of the alphabet; each entry is (nodes,)."""

    token: Tensor  # its last
    first: Tensor  # the place of its first child in the next level; children stand side by side
    children: Tensor  # how many there are
    longest: Tensor  # tokens of the longest word that begins so
    word: Tensor  # the place in the list of the word that it is; -1: of none


class WordTree:
    """Words that begin alike share their beginnings, so that what looks for them in posteriors
    takes each beginning once, and leaves it with all its words where it is too unlikely.
    """

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        """words: token ids, none of them empty, none twice."""
        self.words = [tuple(word) for word in words]
        self._levels = _levels(self.words)

    def __len__(self) -> int:
        return len(self.words)

    def levels(self, device: torch.device) -> list[Level]:
        """Beginnings of one token, of two, and so on, on a device."""
        if self._levels and self._levels[0].token.device != device:
            self._levels = [Level(*(part.to(device) for part in level)) for level in self._levels]
        return self._levels


def _levels(words: Sequence[tuple[int, ...]]) -> list[Level]:
    """Sorted words (N, L), short ones padded with -1: a node begins where a row differs from the
    one above in its first tokens.
    """
    if not words:
        return []
    width = max(map(len, words))
    places = sorted(range(len(words)), key=words.__getitem__)
    table = torch.tensor([words[i] + (-1,) * (width - len(words[i])) for i in places])
    order = torch.tensor(places)
    lengths = (table >= 0).sum(1)
    differs = (table[1:] != table[:-1]).cumsum(1) > 0
    starts = torch.cat((torch.ones_like(table[:1], dtype=torch.bool), differs)) & (table >= 0)
    levels = []
    for depth in range(width):
        first = starts[:, depth].nonzero().squeeze(1)  # the row of each node; a word before longer
        node = starts[:, depth].cumsum(0) - 1
        inside = lengths > depth
        longest = lengths.new_zeros(len(first))
        longest.scatter_reduce_(0, node[inside], lengths[inside], "amax")
        below = starts[:, depth + 1] if depth + 1 < width else starts.new_zeros(len(starts))
        children = torch.bincount(node[below], minlength=len(first))
        word = order[first].masked_fill(lengths[first] > depth + 1, -1)
        before = children.cumsum(0) - children
        levels.append(Level(table[first, depth], before, children, longest, word))
    return levels
