"""Plain self-attention: input layers, encoder, and the parallel decoder of the AISHELL recipe."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.errors import ConfigError
from paraformer.nn.attention import MultiHeadAttention
from paraformer.nn.layers import Dropout, FeedForward, ScoreLayer, layer_norm, run_layers
from paraformer.nn.mask import key_mask
from paraformer.nn.position import interleaved_sinusoid

# Released names of the convolutions before an encoder -> (kernel, stride) of each.
SUBSAMPLINGS = {
    "conv2d": ((3, 2), (3, 2)),
    "conv2d2": ((3, 2), (3, 1)),
    "conv2d6": ((3, 2), (5, 3)),
    "conv2d8": ((3, 2), (3, 2), (3, 2)),
}


def with_frames(x: Tensor, count: int) -> Tensor:
    """x (B, T, D) with zero frames at its end where it has fewer than `count`: layers need one."""
    return F.pad(x, (0, 0, 0, max(0, count - x.size(1))))


class AbsolutePosition(nn.Module):
    """`x * sqrt(D)` plus the interleaved sinusoid of positions 0, 1, ..."""

    def __init__(self, dropout_rate: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        positions = torch.arange(x.size(1), device=x.device)
        code = interleaved_sinusoid(positions, x.size(2), x.dtype)
        return self.dropout(x * x.size(2) ** 0.5 + code)


class Conv2dSubsampling(nn.Module):
    """Strided convolutions over time and frequency: 4 times fewer frames for `conv2d`.

    They do not pad: the frames kept of an utterance see real frames only, so padding cannot leak;
    an utterance shorter than one field of view (7 frames for `conv2d`) keeps none.
    """

    def __init__(self, input_size: int, output_size: int, kind: str = "conv2d") -> None:
        super().__init__()
        self.shapes = SUBSAMPLINGS[kind]
        layers: list[nn.Module] = []
        channels = 1
        for kernel, stride in self.shapes:
            layers += [nn.Conv2d(channels, output_size, kernel, stride), nn.ReLU()]
            channels = output_size
        self.conv = nn.Sequential(*layers)
        bins = int(self.output_lengths(torch.tensor(input_size, device="cpu")))
        self.out = nn.Sequential(nn.Linear(output_size * bins, output_size))

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """The number of frames that remain of each length."""
        for kernel, stride in self.shapes:
            lengths = (torch.div(lengths - kernel, stride, rounding_mode="floor") + 1).clamp(min=0)
        return lengths

    def field(self) -> int:
        """The number of input frames that one output frame sees."""
        frames = 1
        for kernel, stride in reversed(self.shapes):
            frames = (frames - 1) * stride + kernel
        return frames

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, input_size) -> (B, T', output_size), T' at least 1, and lengths, 0 or more."""
        x = with_frames(x, self.field())[:, None]
        # Channels last in memory: up to three times faster on a CPU, most of all in bfloat16.
        x = self.conv(x.to(memory_format=torch.channels_last))
        return self.out(x.transpose(1, 2).flatten(2)), self.output_lengths(lengths)


class LinearInput(nn.Sequential):
    """Frame-wise projection; lengths stay."""

    def forward(  # type: ignore[override]
        self, x: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, T, input_size) -> (B, T, output_size), T at least 1, and lengths."""
        return super().forward(with_frames(x, 1)), lengths


class BareInput(nn.Linear):
    """Projection alone, under the name that the reference gives it where `input_layer` is null."""

    def forward(  # type: ignore[override]
        self, x: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B, T, input_size) -> (B, T, output_size), T at least 1, and lengths."""
        return super().forward(with_frames(x, 1)), lengths


def input_module(
    kind: str | None, input_size: int, output_size: int, dropout_rate: float, relu: bool
) -> nn.Module:
    """The module that `input_layer` of a config names: (x, lengths) -> (x, lengths).

    `relu` closes the projection of `linear`: so in the plain encoder, not in the conformer.
    """
    if kind in SUBSAMPLINGS:
        return Conv2dSubsampling(input_size, output_size, kind)
    if kind == "linear":
        norm = nn.LayerNorm(output_size)
        layers = [nn.Linear(input_size, output_size), norm, Dropout(dropout_rate)]
        return LinearInput(*layers, *([nn.ReLU()] if relu else []))
    if kind is None:
        same = input_size == output_size
        return LinearInput() if same else BareInput(input_size, output_size)
    known = ", ".join((*SUBSAMPLINGS, "linear", "null"))
    raise ConfigError(f"encoder_conf.input_layer: {kind} is not known; known: {known}")


class TransformerEncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        dropout_rate: float,
        attention_dropout_rate: float,
    ) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(heads, width, attention_dropout_rate)
        self.feed_forward = FeedForward(width, hidden, dropout_rate)
        self.norm1 = layer_norm(width)
        self.norm2 = layer_norm(width)
        self.dropout = Dropout(dropout_rate)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        y = self.norm1(x)
        x = x + self.dropout(self.self_attn(y, y, keys))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


class TransformerEncoder(nn.Module):
    """Stacked self-attention over subsampled features (released `TransformerEncoder`).

    Without an input layer (null) there is no position code either, as in the reference.
    """

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
        input_layer: str | None = "conv2d",
    ) -> None:
        super().__init__()
        self.output_size = output_size
        self.embed = input_module(input_layer, input_size, output_size, dropout_rate, relu=True)
        coded = input_layer is not None
        self.position = AbsolutePosition(positional_dropout_rate) if coded else nn.Identity()
        self.encoders = nn.ModuleList(
            TransformerEncoderLayer(
                output_size, attention_heads, linear_units, dropout_rate, attention_dropout_rate
            )
            for _ in range(num_blocks)
        )
        self.after_norm = layer_norm(output_size)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, input_size) -> (B, T', output_size), lengths (B,) of the output."""
        return self.forward_with_taps(x, lengths)[:2]

    def forward_with_taps(
        self, x: Tensor, lengths: Tensor, taps: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """As `forward`, and the outputs of the layers numbered in `taps`, 1 = the first."""
        x, lengths = self.embed(x, lengths)
        x = self.position(x)
        x, tapped = run_layers(self.encoders, x, key_mask(lengths, x.size(1)), taps=taps)
        return self.after_norm(x), lengths, tapped


class SanDecoderLayer(nn.Module):
    """Self-attention over all tokens, attention to the encoder, feed-forward, each pre-norm."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        dropout_rate: float,
        self_attention_dropout_rate: float,
        src_attention_dropout_rate: float,
    ) -> None:
        super().__init__()
        self.self_attn = MultiHeadAttention(heads, width, self_attention_dropout_rate)
        self.src_attn = MultiHeadAttention(heads, width, src_attention_dropout_rate)
        self.feed_forward = FeedForward(width, hidden, dropout_rate)
        self.norm1 = layer_norm(width)
        self.norm2 = layer_norm(width)
        self.norm3 = layer_norm(width)
        self.dropout = Dropout(dropout_rate)

    def forward(self, x: Tensor, tokens: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """x (B, U, D), memory (B, T, D), masks (B, 1, 1, U) and (B, 1, 1, T) -> (B, U, D)."""
        y = self.norm1(x)
        x = x + self.dropout(self.self_attn(y, y, tokens))
        x = x + self.dropout(self.src_attn(self.norm2(x), memory, keys))
        return x + self.dropout(self.feed_forward(self.norm3(x)))


class SanDecoder(nn.Module):
    """Parallel self-attention decoder of acoustic embeddings (released `ParaformerSANDecoder`)."""

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        dropout_rate: float = 0.1,
        positional_dropout_rate: float = 0.1,
        self_attention_dropout_rate: float = 0.0,
        src_attention_dropout_rate: float = 0.0,
    ) -> None:
        super().__init__()
        width = encoder_output_size
        self.embed = nn.Sequential(
            nn.Embedding(vocab_size, width), AbsolutePosition(positional_dropout_rate)
        )
        self.decoders = nn.ModuleList(
            SanDecoderLayer(
                width,
                attention_heads,
                linear_units,
                dropout_rate,
                self_attention_dropout_rate,
                src_attention_dropout_rate,
            )
            for _ in range(num_blocks)
        )
        self.after_norm = layer_norm(width)
        self.output_layer = ScoreLayer(width, vocab_size)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, U) -> (B, U, D) with their position codes, for the sampler."""
        return self.embed(ids)

    def hidden(
        self, embeds: Tensor, token_lengths: Tensor, memory: Tensor, memory_lengths: Tensor
    ) -> Tensor:
        """The last hidden states (B, U, D), which the output layer sees."""
        tokens = key_mask(token_lengths, embeds.size(1))
        keys = key_mask(memory_lengths, memory.size(1))
        return self.after_norm(run_layers(self.decoders, embeds, tokens, memory, keys)[0])

    def forward(
        self, embeds: Tensor, token_lengths: Tensor, memory: Tensor, memory_lengths: Tensor
    ) -> Tensor:
        """Embeddings (B, U, D), encoder output (B, T, D) -> logits (B, U, V)."""
        return self.output_layer(self.hidden(embeds, token_lengths, memory, memory_lengths))
