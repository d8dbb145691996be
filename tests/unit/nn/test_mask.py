"""Masks keep what is inside an utterance, and one key where nothing is."""

from __future__ import annotations

import torch

from paraformer.nn.mask import key_mask, length_mask, zero_padding

LENGTHS = torch.tensor([0, 1, 3])


def test_a_length_keeps_so_many_places():
    assert length_mask(LENGTHS).tolist() == [[False] * 3, [True, False, False], [True] * 3]
    assert length_mask(LENGTHS, 5).sum(1).tolist() == LENGTHS.tolist()


def test_an_empty_utterance_keeps_one_key_so_that_attention_is_a_number():
    keys = key_mask(LENGTHS, 4)
    assert keys.shape == (3, 1, 1, 4)
    assert keys.sum(-1).flatten().tolist() == [1, 1, 3]
    scores = torch.zeros(3, 1, 1, 4).masked_fill(~keys, -torch.inf)
    assert scores.softmax(-1).isfinite().all()


def test_padding_becomes_zero_and_nothing_else_changes():
    x = torch.randn(3, 4, 2)
    found = zero_padding(x, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        assert torch.equal(found[row, :length], x[row, :length])
        assert not found[row, length:].any()
