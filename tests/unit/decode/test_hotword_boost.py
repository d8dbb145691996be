"""Hotwords by posteriors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paraformer.decode import hotword_boost as module
from paraformer.decode.hotword_boost import allowance, boost
from paraformer.decode.word_tree import WordTree


def posteriors(batch, tokens, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, size, generator=generator).log_softmax(-1)


def one_by_one(logp, length, words, bonus, special, free=0.0, least=-math.inf):
    """The same for one utterance, word by word and position by position."""
    best, heard = (each.tolist() for each in logp.max(-1))
    logp = logp.tolist()
    candidates = []
    for word in words:
        for start in range(length - len(word) + 1):
            span = range(start, start + len(word))
            if any(heard[u] in special for u in span):
                continue
            lack = sum(logp[u][t] - best[u] for u, t in zip(span, word, strict=True))
            spare = lack + bonus * (len(word) - free)
            if spare > 0 and sum(logp[u][t] for u, t in zip(span, word, strict=True)) > least:
                candidates.append((spare, start, word))
    path, taken = list(heard), set()
    for _, start, word in sorted(candidates, key=lambda c: (-c[0], c[1])):
        span = set(range(start, start + len(word)))
        if not span & taken:
            taken |= span
            path[start : start + len(word)] = word
    return path


@pytest.mark.parametrize("bonus", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("held", [1, 1 << 22])
def test_as_one_by_one(bonus, held, monkeypatch):
    monkeypatch.setattr(module, "MOST_SCORES", held)
    logp, lengths = posteriors(5, 9, 7), [9, 4, 0, 1, 7]
    words = [list(w) for n in (1, 2, 3) for w in itertools.islice(_words(n), 12)]
    result = boost(logp, torch.tensor(lengths), words, bonus, [0, 2])[0]
    for row, length in enumerate(lengths):
        expected = one_by_one(logp[row], length, words, bonus, [0, 2])
        assert result[row].argmax(-1).tolist()[:length] == expected[:length]
        assert torch.equal(result[row, length:], logp[row, length:])


@pytest.mark.parametrize("count", [60, 600])
def test_a_long_list_as_one_by_one(count, monkeypatch):
    monkeypatch.setattr(module, "FEW", 20)
    monkeypatch.setattr(module, "CHANCE", 1e-4)
    logp, lengths = posteriors(4, 12, 40, seed=count), [12, 7, 1, 10]
    generator = torch.Generator().manual_seed(count)
    sizes = torch.randint(1, 6, (count,), generator=generator).tolist()
    rows = [torch.randint(3, 40, (size,), generator=generator).tolist() for size in sizes]
    words = [list(word) for word in dict.fromkeys(map(tuple, rows))]
    result = boost(logp, torch.tensor(lengths), WordTree(words), 2.0, [0, 2])[0]
    free, least = allowance(len(words)), math.log(1e-4 * len(words))
    assert free > 0
    for row, length in enumerate(lengths):
        expected = one_by_one(logp[row], length, words, 2.0, [0, 2], free, least)
        assert result[row].argmax(-1).tolist()[:length] == expected[:length]


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), max_size=30))
def test_a_tree_has_its_words_and_no_others(words):
    words = [list(word) for word in dict.fromkeys(map(tuple, words))]
    tree = WordTree(words)
    levels = tree.levels(torch.device("cpu"))
    found = {}

    def walk(depth, node, begun):
        level = levels[depth]
        begun = [*begun, int(level.token[node])]
        if level.word[node] >= 0:
            found[int(level.word[node])] = begun
        below = range(int(level.first[node]), int(level.first[node] + level.children[node]))
        reach = [walk(depth + 1, child, begun) for child in below]
        assert max([len(begun), *reach]) == level.longest[node]
        return int(level.longest[node])

    for node in range(len(levels[0].token) if levels else 0):
        walk(0, node, [])
    assert found == dict(enumerate(words)) and len(tree) == len(words)


def test_the_longer_a_list_the_less_is_given_to_its_words():
    """Of 50,000 words no one of two tokens is put, however near it comes; of 500 it is."""
    heard = torch.full((1, 2, 10), 0.01)
    heard[..., 4], heard[..., 5] = 0.46, 0.45
    logp = heard.log()
    many = WordTree([[5, 5], *([6, 7, *map(int, f"{i:06d}")] for i in range(20000))])
    for words, expected in ((many, [4, 4]), ([[5, 5]], [5, 5])):
        assert boost(logp, torch.tensor([2]), words, 1.0, [])[0].argmax(-1)[0].tolist() == expected


def _words(size):
    return itertools.product([3, 4, 5, 6], repeat=size)


def test_what_is_replaced_changes_places_and_the_rest_stays():
    logp = posteriors(1, 3, 6, seed=3)
    heard = logp.argmax(-1)[0].tolist()
    word = [next(t for t in range(6) if t != heard[1])]
    result = boost(logp, torch.tensor([3]), [word], 50.0, [])[0]
    assert result.argmax(-1)[0].tolist() == [word[0]] * 3
    torch.testing.assert_close(result.exp().sum(-1), torch.ones(1, 3))
    for place, old in enumerate(heard):
        assert float(result[0, place, old]) == float(logp[0, place, word[0]])


def test_a_batch_is_each_alone():
    logp, lengths = posteriors(6, 8, 9, seed=5), torch.tensor([8, 3, 5, 8, 1, 6])
    words = [[3, 4], [5], [6, 7, 8], [4, 4]]
    whole = boost(logp, lengths, words, 1.2, [2])[0]
    for row in range(6):
        alone = boost(logp[row : row + 1], lengths[row : row + 1], words, 1.2, [2])[0]
        assert torch.equal(whole[row], alone[0])


def test_nothing_without_words_or_tokens():
    logp = posteriors(2, 4, 5)
    assert torch.equal(boost(logp, torch.tensor([4, 2]), [], 1.0, [])[0], logp)
    empty = torch.zeros(2, 0, 5)
    assert boost(empty, torch.tensor([0, 0]), [[3]], 1.0, [])[0].shape == (2, 0, 5)
