"""Lists of hotwords: each word as if it were alone, attention as that of a decoder layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paraformer.nn.bias import attend_to_list, embed_words
from paraformer.nn.mask import key_mask
from paraformer.nn.sanm_decoder import CrossAttention

WIDTH = 8
WORDS = [[3, 4, 5], [6], [7, 3, 9, 1, 2], [1]]


@pytest.fixture(params=[False, True], ids=["forward", "both ways"])
def lstm(request):
    torch.manual_seed(0)
    return nn.LSTM(WIDTH, WIDTH, 2, batch_first=True, bidirectional=request.param).eval()


def test_a_word_does_not_depend_on_the_others(lstm):
    embedding = nn.Embedding(10, WIDTH)
    together = embed_words(embedding, lstm, WORDS)
    assert together.shape == (4, WIDTH * (2 if lstm.bidirectional else 1))
    for row, word in zip(together, WORDS, strict=True):
        alone = lstm(embedding(torch.tensor([word])))[0][0, -1]
        torch.testing.assert_close(row, alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("own", [False, True], ids=["one list", "a list each"])
def test_attention_is_that_of_a_decoder(own):
    torch.manual_seed(0)
    attention = CrossAttention(2, WIDTH, 0.0).eval()
    x, memory = torch.randn(3, 5, WIDTH), torch.randn(3 if own else 1, 7, WIDTH)
    everywhere = key_mask(torch.full((3,), 7), 7)
    expected = attention(x, memory.expand(3, -1, -1), everywhere)
    projected = attention.linear_k_v(memory)
    ours = attend_to_list(attention, x, projected if own else projected[0])
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)
