"""Attention equals torch's own, and relative positions equal their definition written as loops."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paraformer.nn import attention
from paraformer.nn.attention import (
    MultiHeadAttention,
    RelativeAttention,
    attend,
    legacy_codes,
    relative_codes,
)
from paraformer.nn.mask import key_mask
from paraformer.nn.position import interleaved_sinusoid

WIDTH, HEADS = 8, 2


def all_keys(size):
    return torch.ones(1, 1, 1, size, dtype=torch.bool)


@pytest.fixture
def relative():
    torch.manual_seed(0)
    return RelativeAttention(HEADS, WIDTH, 0.0).eval()


def by_definition(layer, x, position_score):
    """One utterance (T, D); position_score(queries (T, dk), head, i, j) is what the codes add."""
    maps = (layer.linear_q, layer.linear_k, layer.linear_v)
    q, k, v = (f(x).unflatten(-1, (HEADS, -1)) for f in maps)
    heads = []
    for h in range(HEADS):
        scores = (q[:, h] + layer.pos_bias_u[h]) @ k[:, h].T
        shifted = q[:, h] + layer.pos_bias_v[h]
        for i in range(len(x)):
            for j in range(len(x)):
                scores[i, j] += position_score(shifted, h, i, j)
        heads.append((scores / (WIDTH // HEADS) ** 0.5).softmax(-1) @ v[:, h])
    return layer.linear_out(torch.cat(heads, dim=-1))


def codes_of(layer, positions):
    return layer.linear_pos(interleaved_sinusoid(positions, WIDTH)).unflatten(-1, (HEADS, -1))


@torch.no_grad()
def legacy_alone(layer, x, table_size=5000):
    count = len(x)
    top = max(table_size, count)
    p = codes_of(layer, torch.arange(top - 1, top - 1 - count, -1))

    def score(q, h, i, j):
        if j <= i:
            return q[i] @ p[count - 1 - (i - j), h]
        return 0.0 if j == i + 1 else q[i + 1] @ p[j - i - 2, h]

    return by_definition(layer, x, score)


def test_equals_attention_of_torch_with_the_same_weights():
    torch.manual_seed(1)
    ours = MultiHeadAttention(HEADS, WIDTH, 0.0)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    projections = (ours.linear_q, ours.linear_k, ours.linear_v)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
        theirs.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
    theirs.out_proj.load_state_dict(ours.linear_out.state_dict())
    x, memory = torch.randn(2, 3, WIDTH), torch.randn(2, 5, WIDTH)
    keys = key_mask(torch.tensor([5, 2]), 5)
    expected, _ = theirs(x, memory, memory, key_padding_mask=~keys[:, 0, 0])
    torch.testing.assert_close(ours(x, memory, keys), expected)


@pytest.mark.parametrize("kind", ["bool", "added"])
def test_training_on_a_cpu_equals_the_fused_kernel(kind):
    """Values and gradients: without dropout, training takes the way of two products."""
    torch.manual_seed(2)
    inputs = [torch.randn(2, size, WIDTH, requires_grad=True) for size in (3, 5, 5)]
    mask = key_mask(torch.tensor([5, 2]), 5)
    if kind == "added":
        mask = torch.randn(2, HEADS, 3, 5).masked_fill(~mask, -torch.inf)
    heads = [x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in inputs]
    fused = nn.functional.scaled_dot_product_attention(*heads, attn_mask=mask)
    expected = fused.transpose(1, 2).flatten(2)
    ours = attend(*inputs, mask, HEADS, 0.0)
    torch.testing.assert_close(ours, expected)
    pull = torch.randn_like(ours)
    theirs = torch.autograd.grad((expected * pull).sum(), inputs)
    for found, wanted in zip(torch.autograd.grad((ours * pull).sum(), inputs), theirs, strict=True):
        torch.testing.assert_close(found, wanted)


def test_training_and_recognition_agree():
    """The same numbers with and without a gradient to come."""
    layer = MultiHeadAttention(HEADS, WIDTH, 0.0)
    x, keys = torch.randn(2, 4, WIDTH), key_mask(torch.tensor([4, 3]), 4)
    with torch.no_grad():
        recognised = layer(x, x, keys)
    torch.testing.assert_close(layer(x, x, keys), recognised)


def test_masked_keys_get_no_gradient():
    layer = MultiHeadAttention(HEADS, WIDTH, 0.0)
    memory = torch.randn(1, 5, WIDTH, requires_grad=True)
    layer(torch.randn(1, 3, WIDTH), memory, key_mask(torch.tensor([3]), 5)).sum().backward()
    assert memory.grad[0, :3].abs().min() > 0
    assert memory.grad[0, 3:].abs().max() == 0


@pytest.mark.parametrize("count", [1, 2, 7])
@torch.no_grad()
def test_latest_codes_score_the_distance(relative, count):
    x = torch.randn(count, WIDTH)

    def score(q, h, i, j):
        return q[i] @ codes_of(relative, torch.tensor([i - j]))[0, h]

    ours = relative(x[None], relative_codes(count, WIDTH, x.device), all_keys(count))[0]
    torch.testing.assert_close(ours, by_definition(relative, x, score))


@pytest.mark.parametrize("count", [1, 2, 3, 9])
@torch.no_grad()
def test_legacy_codes_follow_the_faulty_shift(relative, count):
    x = torch.randn(count, WIDTH)
    codes = legacy_codes(torch.tensor([count]), count, WIDTH)
    torch.testing.assert_close(
        relative(x[None], codes, all_keys(count))[0], legacy_alone(relative, x)
    )


@pytest.mark.parametrize("table_size", [5000, 6])
@torch.no_grad()
def test_legacy_batch_is_each_alone(relative, table_size, monkeypatch):
    """With a table of 6 rows some utterances are longer than the table and some are not."""
    monkeypatch.setattr(attention, "LEGACY_TABLE_SIZE", table_size)
    lengths = torch.tensor([9, 1, 4, 6, 7])
    x = torch.randn(5, 9, WIDTH)
    batch = relative(x, legacy_codes(lengths, 9, WIDTH), key_mask(lengths, 9))
    for row, count in enumerate(lengths.tolist()):
        alone = legacy_alone(relative, x[row, :count], table_size)
        torch.testing.assert_close(batch[row, :count], alone)


@torch.no_grad()
def test_latest_batch_is_each_alone(relative):
    lengths = torch.tensor([6, 1, 4])
    x = torch.randn(3, 6, WIDTH)
    batch = relative(x, relative_codes(6, WIDTH, x.device), key_mask(lengths, 6))
    for row, count in enumerate(lengths.tolist()):
        codes = relative_codes(count, WIDTH, x.device)
        alone = relative(x[row : row + 1, :count], codes, all_keys(count))
        torch.testing.assert_close(batch[row : row + 1, :count], alone)


def test_an_empty_utterance_gives_numbers(relative):
    lengths = torch.tensor([3, 0])
    x = torch.randn(2, 3, WIDTH, requires_grad=True)
    out = relative(x, legacy_codes(lengths, 3, WIDTH), key_mask(lengths, 3))
    out.sum().backward()
    assert out.isfinite().all()
    assert x.grad.isfinite().all()


def test_half_precision_runs(relative):
    x = torch.randn(1, 4, WIDTH)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = relative(x, legacy_codes(torch.tensor([4]), 4, WIDTH), all_keys(4))
    full = relative(x, legacy_codes(torch.tensor([4]), 4, WIDTH), all_keys(4))
    torch.testing.assert_close(out.float(), full, atol=0.05, rtol=0.05)
