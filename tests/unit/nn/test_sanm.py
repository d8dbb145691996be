"""SAN-M: padding never leaks, the memory block is a filter with a skip, layers come where they
should.
"""

from __future__ import annotations

import pytest
import torch

from paraformer.nn.sanm import MemoryBlock, SanmEncoder
from paraformer.nn.sanm_decoder import SanmDecoder

INPUT, WIDTH, VOCAB = 12, 8, 11


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return SanmEncoder(INPUT, WIDTH, 2, 16, 3, kernel_size=5).eval()


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return SanmDecoder(VOCAB, WIDTH, 2, 16, 3, att_layer_num=2, kernel_size=5).eval()


@pytest.mark.parametrize(("kernel", "shift", "left"), [(5, 0, 2), (5, 1, 3), (4, 0, 1), (11, 0, 5)])
@torch.no_grad()
def test_memory_is_a_filter_over_time_with_a_skip(kernel, shift, left):
    block = MemoryBlock(WIDTH, kernel, shift)
    x = torch.randn(1, 7, WIDTH)
    expected = x.clone()
    for t in range(7):
        for k in range(kernel):
            if 0 <= t - left + k < 7:
                expected[0, t] += block.weight[:, 0, k] * x[0, t - left + k]
    torch.testing.assert_close(block(x, torch.ones(1, 7, 1)), expected)


@pytest.mark.parametrize("type_of_rows", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kernel", [5, 11])
def test_recognition_filters_in_place_to_the_same_numbers(kernel, type_of_rows):
    block = MemoryBlock(64, kernel)
    x, frames = torch.randn(2, 70, 192).to(type_of_rows), torch.ones(2, 70, 1)
    frames[1, 40:] = 0.0
    values, before = x[..., 128:], x.clone()
    with torch.no_grad():
        expected = block(values, frames)
    with torch.inference_mode():
        assert torch.equal(block(values, frames), expected)
    assert torch.equal(x, before)


def test_gradients_are_laid_out_as_the_taps():
    """Else processes that share a batch copy each of them, and torch warns of it."""
    block = MemoryBlock(WIDTH, 5)
    block(torch.randn(2, 7, WIDTH), torch.ones(2, 7, 1)).sum().backward()
    assert block.weight.grad.stride() == block.weight.stride()


@torch.no_grad()
def test_an_encoded_batch_is_each_alone(encoder):
    lengths = torch.tensor([9, 1, 4, 6])
    x = torch.randn(4, 9, INPUT)  # garbage past the lengths
    batch, out_lengths = encoder(x, lengths)
    assert out_lengths.tolist() == lengths.tolist()
    for row, length in enumerate(lengths.tolist()):
        alone, _ = encoder(x[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(batch[row, :length], alone[0])


@torch.no_grad()
def test_a_decoded_batch_is_each_alone(decoder):
    tokens, frames = torch.tensor([5, 1, 3]), torch.tensor([4, 7, 2])
    embeds, memory = torch.randn(3, 5, WIDTH), torch.randn(3, 7, WIDTH)
    batch = decoder(embeds, tokens, memory, frames)
    assert batch.shape == (3, 5, VOCAB)
    for row, (u, t) in enumerate(zip(tokens.tolist(), frames.tolist(), strict=True)):
        one = slice(row, row + 1)
        alone = decoder(embeds[one, :u], tokens[one], memory[one, :t], frames[one])
        torch.testing.assert_close(batch[row, :u], alone[0])


def test_no_gradient_reaches_padding(encoder, decoder):
    x = torch.randn(2, 6, INPUT, requires_grad=True)
    lengths = torch.tensor([6, 2])
    memory, _ = encoder(x, lengths)
    embeds = torch.randn(2, 3, WIDTH, requires_grad=True)
    logits = decoder(embeds, torch.tensor([3, 1]), memory, lengths)
    (logits[0].sum() + logits[1, :1].sum()).backward()
    assert x.grad[1, :2].abs().min() > 0
    assert x.grad[1, 2:].abs().max() == 0
    assert embeds.grad[1, 1:].abs().max() == 0


def test_an_empty_utterance_gives_numbers_and_finite_gradients(encoder, decoder):
    x = torch.randn(2, 4, INPUT, requires_grad=True)
    memory, lengths = encoder(x, torch.tensor([4, 0]))
    logits = decoder(torch.randn(2, 2, WIDTH), torch.tensor([2, 0]), memory, lengths)
    logits.sum().backward()
    assert logits.isfinite().all()
    assert x.grad.isfinite().all()


@torch.no_grad()
def test_frames_are_told_apart_by_position(encoder):
    x = torch.ones(1, 3, INPUT)
    out, _ = encoder(x, torch.tensor([3]))
    assert not torch.allclose(out[0, 0], out[0, 2])


@torch.no_grad()
def test_taps_are_the_outputs_of_layers(encoder):
    x, lengths = torch.randn(1, 5, INPUT), torch.tensor([5])
    out, _, taps = encoder.forward_with_taps(x, lengths, (1, 3))
    assert len(taps) == 2
    torch.testing.assert_close(encoder.after_norm(taps[1]), out)
    torch.testing.assert_close(out, encoder(x, lengths)[0])


def test_layers_without_attention_and_the_closing_one(decoder):
    names = set(decoder.state_dict())
    assert "decoders.1.src_attn.linear_q.weight" in names
    assert "decoders2.0.self_attn.fsmn_block.weight" in names
    assert not [n for n in names if n.startswith("decoders2") and ("src_attn" in n or "norm3" in n)]
    closing = {n.split(".")[2] for n in names if n.startswith("decoders3")}
    assert closing == {"feed_forward", "norm1"}
    assert not hasattr(SanmDecoder(VOCAB, WIDTH, 2, 16, 2, att_layer_num=2), "decoders2")


def test_training_drops_and_evaluation_does_not(encoder):
    x, lengths = torch.randn(1, 5, INPUT), torch.tensor([5])
    assert torch.equal(encoder(x, lengths)[0], encoder(x, lengths)[0])
    encoder.train()
    assert not torch.equal(encoder(x, lengths)[0], encoder(x, lengths)[0])


def test_a_batch_without_any_token_decodes_to_nothing() -> None:
    decoder = SanmDecoder(7, 16, 2, 32, num_blocks=2, att_layer_num=1, kernel_size=11).eval()
    none = torch.zeros(2, dtype=torch.int64)
    memory = torch.randn(2, 5, 16)
    logits = decoder(torch.zeros(2, 0, 16), none, memory, torch.tensor([5, 3]))
    assert logits.shape == (2, 0, 7)
