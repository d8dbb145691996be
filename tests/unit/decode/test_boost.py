"""Hotwords by posteriors."""

from __future__ import annotations

import itertools

import pytest
import torch

from paraformer.decode import boost as module
from paraformer.decode.boost import boost


def posteriors(batch, tokens, size, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, tokens, size, generator=generator).log_softmax(-1)


def one_by_one(logp, length, words, bonus, special):
    """The same for one utterance, word by word and position by position."""
    best, heard = logp.max(-1)
    candidates = []
    for word in words:
        for start in range(length - len(word) + 1):
            span = range(start, start + len(word))
            if any(int(heard[u]) in special for u in span):
                continue
            lack = sum(float(logp[u, t] - best[u]) for u, t in zip(span, word, strict=True))
            if lack + bonus * len(word) > 0:
                candidates.append((lack + bonus * len(word), start, word))
    path, taken = heard.tolist(), set()
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
    result = boost(logp, torch.tensor(lengths), words, bonus, [0, 2])
    for row, length in enumerate(lengths):
        expected = one_by_one(logp[row], length, words, bonus, [0, 2])
        assert result[row].argmax(-1).tolist()[:length] == expected[:length]
        assert torch.equal(result[row, length:], logp[row, length:])


def _words(size):
    return itertools.product([3, 4, 5, 6], repeat=size)


def test_what_is_replaced_changes_places_and_the_rest_stays():
    logp = posteriors(1, 3, 6, seed=3)
    heard = logp.argmax(-1)[0].tolist()
    word = [next(t for t in range(6) if t != heard[1])]
    result = boost(logp, torch.tensor([3]), [word], 50.0, [])
    assert result.argmax(-1)[0].tolist() == [word[0]] * 3
    torch.testing.assert_close(result.exp().sum(-1), torch.ones(1, 3))
    for place, old in enumerate(heard):
        assert float(result[0, place, old]) == float(logp[0, place, word[0]])


def test_a_batch_is_each_alone():
    logp, lengths = posteriors(6, 8, 9, seed=5), torch.tensor([8, 3, 5, 8, 1, 6])
    words = [[3, 4], [5], [6, 7, 8], [4, 4]]
    whole = boost(logp, lengths, words, 1.2, [2])
    for row in range(6):
        alone = boost(logp[row : row + 1], lengths[row : row + 1], words, 1.2, [2])
        assert torch.equal(whole[row], alone[0])


def test_nothing_without_words_or_tokens():
    logp = posteriors(2, 4, 5)
    assert torch.equal(boost(logp, torch.tensor([4, 2]), [], 1.0, []), logp)
    empty = torch.zeros(2, 0, 5)
    assert boost(empty, torch.tensor([0, 0]), [[3]], 1.0, []).shape == (2, 0, 5)
