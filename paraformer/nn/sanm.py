"""SAN-M (arXiv 2006.01713): self-attention with a memory block, its encoder and its decoder."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.nn.attention import attend
from paraformer.nn.layers import Dropout, FeedForward, NormedFeedForward, layer_norm
from paraformer.nn.mask import key_mask, length_mask
from paraformer.nn.position import sinusoid


class MemoryBlock(nn.Conv1d):
    """Depthwise convolution over time with a skip, an FSMN filter: what SAN-M adds to attention."""

    def __init__(self, width: int, kernel_size: int, shift: int = 0) -> None:
        super().__init__(width, width, kernel_size, groups=width, bias=False)
        left = (kernel_size - 1) // 2 + max(shift, 0)
        self.pad = (left, kernel_size - 1 - left)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:  # type: ignore[override]
        """x (B, T, D), frames (B, T, 1) float, 0 on padding -> (B, T, D), 0 on padding."""
        if x.size(1) == 0:
            return x  # no token in the whole batch
        x = x * frames
        filtered = super().forward(F.pad(x.transpose(1, 2), self.pad)).transpose(1, 2)
        return (filtered + x) * frames


class SanmAttention(nn.Module):
    """Multi-head self-attention plus the memory of its own values."""

    def __init__(
        self,
        heads: int,
        in_width: int,
        width: int,
        dropout_rate: float,
        kernel_size: int,
        shift: int,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q_k_v = nn.Linear(in_width, 3 * width)
        self.linear_out = nn.Linear(width, width)
        self.fsmn_block = MemoryBlock(width, kernel_size, shift)
        self.dropout = Dropout(dropout_rate)

    def forward(self, x: Tensor, frames: Tensor, keys: Tensor) -> Tensor:
        """x (B, T, in_width) -> (B, T, width)."""
        q, k, v = self.linear_q_k_v(x).chunk(3, dim=-1)
        memory = self.dropout(self.fsmn_block(v, frames))
        weights_dropout = self.dropout.rate if self.training else 0.0
        return self.linear_out(attend(q, k, v, keys, self.heads, weights_dropout)) + memory


class SanmEncoderLayer(nn.Module):
    """Pre-norm attention and feed-forward; the first residual is there where the widths agree."""

    def __init__(
        self,
        in_width: int,
        width: int,
        heads: int,
        hidden: int,
        dropout_rate: float,
        attention_dropout_rate: float,
        kernel_size: int,
        shift: int,
    ) -> None:
        super().__init__()
        self.self_attn = SanmAttention(
            heads, in_width, width, attention_dropout_rate, kernel_size, shift
        )
        self.feed_forward = FeedForward(width, hidden, dropout_rate)
        self.norm1 = layer_norm(in_width)
        self.norm2 = layer_norm(width)
        self.dropout = Dropout(dropout_rate)
        self.residual = in_width == width

    def forward(self, x: Tensor, frames: Tensor, keys: Tensor) -> Tensor:
        """(B, T, in_width) -> (B, T, width)."""
        attended = self.dropout(self.self_attn(self.norm1(x), frames, keys))
        x = x + attended if self.residual else attended
        return x + self.dropout(self.feed_forward(self.norm2(x)))


class SanmEncoder(nn.Module):
    """Stacked SAN-M layers over position-coded features (released `SANMEncoder`)."""

    def __init__(
        self,
        input_size: int,
        output_size: int = 256,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        dropout_rate: float = 0.1,
        positional_dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
        kernel_size: int = 11,
        sanm_shift: int = 0,
    ) -> None:
        super().__init__()
        self.output_size = output_size
        widths = [input_size] + [output_size] * (num_blocks - 1)
        layers = [
            SanmEncoderLayer(
                width,
                output_size,
                attention_heads,
                linear_units,
                dropout_rate,
                attention_dropout_rate,
                kernel_size,
                sanm_shift,
            )
            for width in widths
        ]
        self.encoders0 = nn.ModuleList(layers[:1])
        self.encoders = nn.ModuleList(layers[1:])
        self.after_norm = layer_norm(output_size)
        self.position_dropout = Dropout(positional_dropout_rate)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, input_size) -> (B, T, output_size), lengths unchanged."""
        return self.forward_with_taps(x, lengths)[:2]

    def forward_with_taps(
        self, x: Tensor, lengths: Tensor, taps: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """As `forward`, and the outputs of the layers numbered in `taps` (1 = the first), for
        losses inside.
        """
        frames = length_mask(lengths, x.size(1))[..., None].to(x.dtype)
        keys = key_mask(lengths, x.size(1))
        x = x * self.output_size**0.5 + sinusoid(1, x.size(1), x.size(2), x.device)
        x = self.position_dropout(x)
        tapped = []
        for number, layer in enumerate((*self.encoders0, *self.encoders), start=1):
            x = layer(x, frames, keys)
            if number in taps:
                tapped.append(x)
        return self.after_norm(x), lengths, tapped


class CrossAttention(nn.Module):
    """Multi-head attention from tokens to encoder frames, keys and values from one projection."""

    def __init__(self, heads: int, width: int, dropout_rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout_rate = dropout_rate
        self.linear_q = nn.Linear(width, width)
        self.linear_k_v = nn.Linear(width, 2 * width)
        self.linear_out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """x (B, U, D), memory (B, T, D), keys (B, 1, 1, T) -> (B, U, D)."""
        k, v = self.linear_k_v(memory).chunk(2, dim=-1)
        dropout = self.dropout_rate if self.training else 0.0
        return self.linear_out(attend(self.linear_q(x), k, v, keys, self.heads, dropout))


class SanmDecoderLayer(nn.Module):
    """Feed-forward, memory block, attention to the encoder: those of the three that the layer
    has.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        dropout_rate: float,
        memory: MemoryBlock | None = None,
        attention: CrossAttention | None = None,
    ) -> None:
        super().__init__()
        self.feed_forward = NormedFeedForward(width, hidden, dropout_rate)
        self.norm1 = layer_norm(width)
        if memory is not None:
            self.self_attn = nn.ModuleDict({"fsmn_block": memory})
            self.norm2 = layer_norm(width)
        if attention is not None:
            self.src_attn = attention
            self.norm3 = layer_norm(width)
        self.has_memory, self.has_attention = memory is not None, attention is not None
        self.dropout = Dropout(dropout_rate)

    def forward(self, x: Tensor, frames: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """x (B, U, D), frames (B, U, 1), encoder output (B, T, D), keys (B, 1, 1, T) -> (B, U,
        D).
        """
        y = self.feed_forward(self.norm1(x))
        if not self.has_memory:
            return y  # the closing layer has no residual
        x = x + self.dropout(self.self_attn["fsmn_block"](self.norm2(y), frames))
        if self.has_attention:
            x = x + self.dropout(self.src_attn(self.norm3(x), memory, keys))
        return x


class SanmDecoder(nn.Module):
    """Parallel decoder over acoustic embeddings (released `ParaformerSANMDecoder`)."""

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        att_layer_num: int = 6,
        dropout_rate: float = 0.1,
        self_attention_dropout_rate: float = 0.0,
        src_attention_dropout_rate: float = 0.0,
        kernel_size: int = 21,
        sanm_shift: int = 0,
    ) -> None:
        super().__init__()
        width = encoder_output_size
        self.embed = nn.Sequential(nn.Embedding(vocab_size, width))

        def layer(shift: int, attends: bool) -> SanmDecoderLayer:
            memory = MemoryBlock(width, kernel_size, shift)
            attention = CrossAttention(attention_heads, width, src_attention_dropout_rate)
            return SanmDecoderLayer(
                width, linear_units, dropout_rate, memory, attention if attends else None
            )

        self.decoders = nn.ModuleList(layer(sanm_shift, True) for _ in range(att_layer_num))
        if num_blocks > att_layer_num:
            rest = num_blocks - att_layer_num
            self.decoders2 = nn.ModuleList(layer(0, False) for _ in range(rest))
        self.decoders3 = nn.ModuleList([SanmDecoderLayer(width, linear_units, dropout_rate)])
        self.after_norm = layer_norm(width)
        self.output_layer = nn.Linear(width, vocab_size)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, U) -> (B, U, D), for the sampler."""
        return self.embed(ids)

    def hidden(
        self, embeds: Tensor, token_lengths: Tensor, memory: Tensor, memory_lengths: Tensor
    ) -> Tensor:
        """What the output layer sees: (B, U, D)."""
        x = embeds
        frames = length_mask(token_lengths, x.size(1))[..., None].to(x.dtype)
        keys = key_mask(memory_lengths, memory.size(1))
        for layer in (*self.decoders, *getattr(self, "decoders2", ()), *self.decoders3):
            x = layer(x, frames, memory, keys)
        return self.after_norm(x)

    def forward(
        self, embeds: Tensor, token_lengths: Tensor, memory: Tensor, memory_lengths: Tensor
    ) -> Tensor:
        """Embeddings (B, U, D), encoder output (B, T, D) -> logits (B, U, V)."""
        return self.output_layer(self.hidden(embeds, token_lengths, memory, memory_lengths))
