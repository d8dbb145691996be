"""Conformer (arXiv 2005.08100): attention and convolution between two half feed-forwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.errors import ConfigError
from paraformer.nn.attention import (
    MultiHeadAttention,
    RelativeAttention,
    RelativeCodes,
    legacy_codes,
    relative_codes,
)
from paraformer.nn.layers import Dropout, FeedForward, PointwiseConv, layer_norm, run_layers
from paraformer.nn.mask import key_mask, length_mask
from paraformer.nn.transformer import AbsolutePosition, input_module

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "hardtanh": F.hardtanh,
    "relu": torch.relu,
    "selu": F.selu,
    "swish": F.silu,
    "tanh": torch.tanh,
}
POSITIONS = ("rel_pos", "abs_pos")
RELATIVE_KINDS = ("legacy", "latest")


class FrameBatchNorm(nn.BatchNorm1d):
    """Batch normalisation whose statistics count real frames only."""

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:  # type: ignore[override]
        """x (B, T, D), frames (B, T) bool -> (B, T, D), while training 0 on padding."""
        if not self.training:
            return super().forward(x.flatten(0, 1)).view_as(x)
        real = x[frames]
        if real.size(0) < 2:
            return self._by_running_statistics(x)
        return torch.zeros_like(x).masked_scatter(frames[..., None], super().forward(real))

    def _by_running_statistics(self, x: Tensor) -> Tensor:
        """One frame alone has no variance."""
        mean, var = self.running_mean, self.running_var
        return F.batch_norm(x.flatten(0, 1), mean, var, self.weight, self.bias).view_as(x)


class ConvolutionModule(nn.Module):
    """Gated pointwise, depthwise and pointwise convolutions over time."""

    def __init__(self, width: int, kernel_size: int, activation: Activation) -> None:
        super().__init__()
        self.pointwise_conv1 = PointwiseConv(width, 2 * width)
        self.depthwise_conv = nn.Conv1d(
            width, width, kernel_size, padding=(kernel_size - 1) // 2, groups=width
        )
        self.norm = FrameBatchNorm(width)
        self.pointwise_conv2 = PointwiseConv(width, width)
        self.activation = activation

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:
        """x (B, T, D), frames (B, T) bool -> (B, T, D)."""
        gated = F.glu(self.pointwise_conv1(x), dim=-1)
        # The biases and the gate fill padding; an utterance alone has zeros beyond its end.
        gated = gated.masked_fill(~frames[..., None], 0.0)
        mixed = self.depthwise_conv(gated.transpose(1, 2)).transpose(1, 2)
        return self.pointwise_conv2(self.activation(self.norm(mixed, frames)))


class ConformerLayer(nn.Module):
    """One block; `feed_forward_macaron` and `conv_module`, with norms, exist only if asked for."""

    def __init__(
        self,
        width: int,
        hidden: int,
        attention: MultiHeadAttention,
        dropout_rate: float,
        activation: Activation,
        macaron: bool,
        convolution: ConvolutionModule | None,
    ) -> None:
        super().__init__()
        self.self_attn = attention
        self.feed_forward = FeedForward(width, hidden, dropout_rate, activation)
        self.norm_ff = layer_norm(width)
        self.norm_mha = layer_norm(width)
        if macaron:
            self.feed_forward_macaron = FeedForward(width, hidden, dropout_rate, activation)
            self.norm_ff_macaron = layer_norm(width)
        if convolution is not None:
            self.conv_module = convolution
            self.norm_conv = layer_norm(width)
            self.norm_final = layer_norm(width)
        self.macaron, self.convolves = macaron, convolution is not None
        self.share = 0.5 if macaron else 1.0
        self.dropout = Dropout(dropout_rate)

    def forward(
        self, x: Tensor, codes: RelativeCodes | None, frames: Tensor, keys: Tensor
    ) -> Tensor:
        """x (B, T, D), frames (B, T) bool, keys (B, 1, 1, T) bool -> (B, T, D)."""
        if self.macaron:
            y = self.feed_forward_macaron(self.norm_ff_macaron(x))
            x = x + self.share * self.dropout(y)
        y = self.norm_mha(x)
        x = x + self.dropout(self.self_attn(y, y if codes is None else codes, keys))
        if self.convolves:
            x = x + self.dropout(self.conv_module(self.norm_conv(x), frames))
        x = x + self.share * self.dropout(self.feed_forward(self.norm_ff(x)))
        return self.norm_final(x) if self.convolves else x


class ConformerEncoder(nn.Module):
    """Stacked conformer blocks over subsampled features (released `ConformerEncoder`).

    `rel_pos_type: legacy` is what released models were trained with; new ones should use `latest`.
    """

    def __init__(  # noqa: PLR0913, its arguments are those of a released encoder_conf
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
        macaron_style: bool = False,
        rel_pos_type: str = "legacy",
        pos_enc_layer_type: str = "rel_pos",
        activation_type: str = "swish",
        use_cnn_module: bool = True,
        cnn_module_kernel: int = 31,
    ) -> None:
        super().__init__()
        _check("activation_type", activation_type, ACTIVATIONS)
        _check("pos_enc_layer_type", pos_enc_layer_type, POSITIONS)
        _check("rel_pos_type", rel_pos_type, RELATIVE_KINDS)
        self.output_size = output_size
        self.relative = rel_pos_type if pos_enc_layer_type == "rel_pos" else None
        self.embed = input_module(input_layer, input_size, output_size, dropout_rate, relu=False)
        self.position = AbsolutePosition(positional_dropout_rate)
        activation = ACTIVATIONS[activation_type]
        attention = RelativeAttention if self.relative else MultiHeadAttention

        def layer() -> ConformerLayer:
            return ConformerLayer(
                output_size,
                linear_units,
                attention(attention_heads, output_size, attention_dropout_rate),
                dropout_rate,
                activation,
                macaron_style,
                ConvolutionModule(output_size, cnn_module_kernel, activation)
                if use_cnn_module
                else None,
            )

        self.encoders = nn.ModuleList(layer() for _ in range(num_blocks))
        self.after_norm = layer_norm(output_size)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, input_size) -> (B, T', output_size), lengths (B,) of the output."""
        return self.forward_with_taps(x, lengths)[:2]

    def forward_with_taps(
        self, x: Tensor, lengths: Tensor, taps: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """As `forward`, and the outputs of the layers numbered in `taps`, 1 = the first."""
        x, lengths = self.embed(x, lengths)
        x, codes = self._positioned(x, lengths)
        frames, keys = length_mask(lengths, x.size(1)), key_mask(lengths, x.size(1))
        x, tapped = run_layers(self.encoders, x, codes, frames, keys, taps=taps)
        return self.after_norm(x), lengths, tapped

    def _positioned(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, RelativeCodes | None]:
        """Scaled input, with absolute codes added to it or with relative codes beside it."""
        if self.relative is None:
            return self.position(x), None
        size, width = x.size(1), x.size(2)
        if self.relative == "legacy":
            codes = legacy_codes(lengths, size, width)
        else:
            codes = relative_codes(size, width, x.device)
        dropout = self.position.dropout
        return dropout(x * width**0.5), codes._replace(table=dropout(codes.table))


def _check(key: str, value: str, known: Sequence[str] | dict[str, Activation]) -> None:
    if value not in known:
        raise ConfigError(f"encoder_conf.{key}: {value} is not known; known: {', '.join(known)}")
