"""The SAN-M decoder: its parts in their order, and utterances that do not see each other."""

from __future__ import annotations

import torch

from paraformer.nn.sanm import MemoryBlock
from paraformer.nn.sanm_decoder import CrossAttention, SanmDecoder, SanmDecoderLayer

V, D = 7, 8


def decoder(**options):
    torch.manual_seed(0)
    return SanmDecoder(V, D, attention_heads=2, linear_units=16, kernel_size=5, **options).eval()


def test_a_layer_has_the_parts_that_it_is_given():
    torch.manual_seed(0)
    x, memory = torch.randn(1, 4, D), torch.randn(1, 6, D)
    frames, keys = torch.ones(1, 4, 1), torch.ones(1, 1, 1, 6, dtype=torch.bool)
    whole = SanmDecoderLayer(D, 16, 0.0, MemoryBlock(D, 3), CrossAttention(2, D, 0.0)).eval()
    heard = whole.remember(x, frames)
    wanted = heard + whole.src_attn(whole.norm3(heard), memory, keys)
    torch.testing.assert_close(whole(x, frames, memory, keys), wanted)
    closing = SanmDecoderLayer(D, 16, 0.0).eval()
    wanted = closing.feed_forward(closing.norm1(x))
    torch.testing.assert_close(closing(x, frames, memory, keys), wanted)


def test_a_batch_is_each_alone():
    model = decoder(num_blocks=3, att_layer_num=2)
    embeds, memory = torch.randn(2, 5, D), torch.randn(2, 9, D)
    counts, lengths = torch.tensor([5, 3]), torch.tensor([9, 4])
    both = model(embeds, counts, memory, lengths)
    alone = model(embeds[1:, :3], counts[1:], memory[1:, :4], lengths[1:])
    torch.testing.assert_close(both[1:, :3], alone)


def test_layers_without_attention_stand_behind_the_others():
    model = decoder(num_blocks=3, att_layer_num=2)
    assert [layer.has_attention for layer in model.decoders] == [True, True]
    assert [layer.has_memory for layer in model.without_attention()] == [True, False]
    assert len(decoder(num_blocks=2, att_layer_num=2).without_attention()) == 1
