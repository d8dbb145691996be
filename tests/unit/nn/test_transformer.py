"""Subsampling, the plain encoder and the parallel decoder: a batch is each utterance alone."""

from __future__ import annotations

import math

import pytest
import torch

from paraformer.nn.layers import layer_norm
from paraformer.nn.transformer import (
    SUBSAMPLINGS,
    Conv2dSubsampling,
    SanDecoder,
    TransformerEncoder,
    TransformerEncoderLayer,
)

BINS, WIDTH, VOCABULARY = 20, 16, 11


def encoder(**options):
    torch.manual_seed(0)
    return TransformerEncoder(BINS, WIDTH, 2, 24, 2, **options).eval()


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return SanDecoder(VOCABULARY, WIDTH, 2, 24, 2).eval()


@pytest.mark.parametrize("kind", SUBSAMPLINGS)
@torch.no_grad()
def test_output_lengths_are_those_of_the_convolutions(kind):
    module = Conv2dSubsampling(BINS, 4, kind)
    for frames in range(module.field(), module.field() + 12):
        x = torch.randn(1, frames, BINS)
        assert module(x, torch.tensor([frames]))[0].size(1) == module.output_lengths(
            torch.tensor(frames)
        )
    assert module.output_lengths(torch.tensor(module.field() - 1)) == 0


def test_one_frame_of_conv2d_sees_seven():
    assert Conv2dSubsampling(BINS, 4).field() == 7


@torch.no_grad()
def test_subsampling_flattens_channels_before_bins():
    module = Conv2dSubsampling(BINS, WIDTH)
    x = torch.randn(1, 7, BINS)
    maps = module.conv(x[:, None])[0, :, 0]  # (D, bins)
    expected = module.out(torch.cat(list(maps)))
    torch.testing.assert_close(module(x, torch.tensor([7]))[0][0, 0], expected)


@pytest.mark.parametrize("kind", ["conv2d", "conv2d2", "conv2d6", "conv2d8", "linear", None])
@torch.no_grad()
def test_a_batch_gives_what_each_alone_gives(kind):
    model = encoder(input_layer=kind)
    lengths = torch.tensor([40, 1, 29, 0])
    x = torch.randn(4, 40, BINS)
    out, out_lengths = model(x, lengths)
    for row, count in enumerate(lengths.tolist()):
        alone, kept = model(x[row : row + 1, :count], lengths[row : row + 1])
        assert out_lengths[row] == kept
        torch.testing.assert_close(out[row, :kept], alone[0, :kept], atol=1e-5, rtol=1e-5)
    assert out.isfinite().all()


@torch.no_grad()
def test_a_layer_is_two_residuals():
    """Checked against torch's own pre-norm encoder layer with the same weights."""
    torch.manual_seed(2)
    ours = TransformerEncoderLayer(WIDTH, 2, 24, 0.0, 0.0).eval()
    theirs = torch.nn.TransformerEncoderLayer(
        WIDTH, 2, 24, 0.0, batch_first=True, norm_first=True, layer_norm_eps=1e-12
    ).eval()
    attention = ours.self_attn
    parts = (attention.linear_q, attention.linear_k, attention.linear_v)
    theirs.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
    theirs.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
    theirs.self_attn.out_proj.load_state_dict(attention.linear_out.state_dict())
    theirs.linear1.load_state_dict(ours.feed_forward.w_1.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.w_2.state_dict())
    x = torch.randn(2, 5, WIDTH)
    keys = torch.ones(1, 1, 1, 5, dtype=torch.bool)
    torch.testing.assert_close(ours(x, keys), theirs(x))


def test_without_input_layer_frames_pass_as_they_are():
    model = TransformerEncoder(WIDTH, WIDTH, 2, 24, 0, input_layer=None).eval()
    x = torch.randn(1, 4, WIDTH)
    out, lengths = model(x, torch.tensor([4]))
    torch.testing.assert_close(out, layer_norm(WIDTH)(x))
    assert lengths.tolist() == [4]
    assert not [name for name in model.state_dict() if name.startswith("embed")]


def test_taps_are_the_outputs_of_the_layers():
    model = encoder()
    out, _, taps = model.forward_with_taps(torch.randn(1, 30, BINS), torch.tensor([30]), (1, 2))
    assert len(taps) == 2
    torch.testing.assert_close(model.after_norm(taps[1]), out)


@torch.no_grad()
def test_decoding_a_batch_is_decoding_each_alone(decoder):
    embeds, memory = torch.randn(3, 6, WIDTH), torch.randn(3, 9, WIDTH)
    tokens, frames = torch.tensor([6, 1, 4]), torch.tensor([5, 9, 2])
    batch = decoder(embeds, tokens, memory, frames)
    assert batch.shape == (3, 6, VOCABULARY)
    for row, (u, t) in enumerate(zip(tokens.tolist(), frames.tolist(), strict=True)):
        one = slice(row, row + 1)
        alone = decoder(embeds[one, :u], tokens[one], memory[one, :t], frames[one])
        torch.testing.assert_close(batch[row, :u], alone[0], atol=1e-5, rtol=1e-5)


def test_decoding_nothing_is_empty(decoder):
    nothing = torch.zeros(2, dtype=torch.long)
    logits = decoder(torch.zeros(2, 0, WIDTH), nothing, torch.zeros(2, 1, WIDTH), nothing)
    assert logits.shape == (2, 0, VOCABULARY)


def test_sampler_embeddings_are_scaled_and_have_positions(decoder):
    ids = torch.tensor([[3, 5]])
    embedded = decoder.embed_tokens(ids)[0]
    table = decoder.embed[0].weight
    torch.testing.assert_close(
        embedded[0, :2], table[3, :2] * math.sqrt(WIDTH) + torch.tensor([0.0, 1.0])
    )
    at_one = torch.tensor([math.sin(1.0), math.cos(1.0)])
    torch.testing.assert_close(embedded[1, :2], table[5, :2] * math.sqrt(WIDTH) + at_one)


def test_no_token_sees_the_padding(decoder):
    embeds = torch.randn(1, 4, WIDTH, requires_grad=True)
    memory = torch.randn(1, 5, WIDTH, requires_grad=True)
    logits = decoder(embeds, torch.tensor([2]), memory, torch.tensor([3]))
    logits[:, :2].sum().backward()
    assert embeds.grad[0, 2:].abs().max() == 0
    assert memory.grad[0, 3:].abs().max() == 0
