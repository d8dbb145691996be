"""CAM++ (arXiv 2303.00332): the embedding of a voice, by densely joined layers that each hear what
surrounds them.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

PIECE = 100  # frames that a layer sees the mean of, beside that of the whole utterance
LEAST_FRAMES = 3  # fewer are one frame behind the first stride, which has no deviation
HEAD_CHANNELS = 32


class BlockPlan(NamedTuple):
    """One of the dense blocks: fixed in the released code."""

    layers: int
    dilation: int


PLAN = (BlockPlan(12, 1), BlockPlan(24, 2), BlockPlan(16, 2))


def normalised(channels: int, affine: bool = True) -> nn.Sequential:
    """BatchNorm and ReLU; without affine parameters there is no ReLU either."""
    norm = nn.BatchNorm1d(channels, affine=affine)
    parts: list[tuple[str, nn.Module]] = [("batchnorm", norm)]
    return nn.Sequential(
        OrderedDict([*parts, *([("relu", nn.ReLU(inplace=True))] if affine else [])])
    )


def _fold(module: nn.Module, *pairs: tuple[str, str]) -> None:
    """Make each normalisation part of the convolution before it: names of the two."""
    for convolution, norm in pairs:
        one: Any = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
        setattr(module, convolution, one)
        setattr(module, norm, nn.Identity())


class Likeness(NamedTuple):
    """Cosines from which two embeddings are one speaker's; the defaults are those of the released
    model.
    """

    spk_threshold: float = 0.31  # of two clips, or of a clip and an enrolled voice
    merge_thr: float = 0.78  # of the centres of two groups, where no number of speakers is told


class ResidualBlock(nn.Module):
    """Two convolutions over frequency and time, and a way around them."""

    def __init__(self, channels: int, stride: int) -> None:
        """stride: over frequency."""
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, (stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut.append(nn.Conv2d(channels, channels, 1, (stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(channels))

    def fold(self) -> None:
        """Make the normalisations part of the convolutions before them, in evaluation mode."""
        _fold(self, ("conv1", "bn1"), ("conv2", "bn2"))
        if len(self.shortcut):
            _fold(self.shortcut, ("0", "1"))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, F, T) -> (B, C, F / stride, T)."""
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class FrequencyHead(nn.Module):
    """Residual convolutions, which leave an eighth of the frequencies, as channels."""

    def __init__(self, feat_dim: int) -> None:
        super().__init__()
        size = HEAD_CHANNELS
        self.conv1 = nn.Conv2d(1, size, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(size)
        self.layer1 = nn.Sequential(ResidualBlock(size, 2), ResidualBlock(size, 1))
        self.layer2 = nn.Sequential(ResidualBlock(size, 2), ResidualBlock(size, 1))
        self.conv2 = nn.Conv2d(size, size, 3, (2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(size)
        self.output_size = size * -(-feat_dim // 8)

    def fold(self) -> None:
        """Make the normalisations part of the convolutions before them, in evaluation mode."""
        _fold(self, ("conv1", "bn1"), ("conv2", "bn2"))
        for block in (*self.layer1, *self.layer2):
            block.fold()

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) -> (B, 32 D / 8, T), the rows of a channel behind each other."""
        y = F.relu(self.bn1(self.conv1(x[:, None])))
        y = F.relu(self.bn2(self.conv2(self.layer2(self.layer1(y)))))
        return y.flatten(1, 2)


class TdnnLayer(nn.Module):
    """A convolution that leaves every second frame."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(width, channels, 5, 2, padding=2, bias=False)
        self.nonlinear = normalised(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, T) -> (B, C, (T - 1) // 2 + 1)."""
        out: Tensor = self.nonlinear(self.linear(x))
        return out


class CamLayer(nn.Module):
    """A convolution whose channels are weighed by the means of the whole and of pieces of it."""

    def __init__(self, width: int, channels: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            width, channels, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(width, width // 2, 1)
        self.linear2 = nn.Conv1d(width // 2, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4g, T) -> (B, g, T)."""
        # The weights are equal within a piece, so each is computed once. There is no padding: told
        # to count it, sherpa-onnx 2.0.1's ONNX Runtime divides a shorter last piece by 100.
        pieces = F.avg_pool1d(x, PIECE, PIECE, ceil_mode=True, count_include_pad=False)
        context = x.mean(-1, keepdim=True) + pieces
        weights = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))
        spread = weights.repeat_interleave(PIECE, -1)[..., : x.size(-1)]
        out: Tensor = self.linear_local(x) * spread
        return out


class DenseLayer(nn.Module):
    """Narrow channels of all that came before, and the new ones made of them."""

    def __init__(self, width: int, growth: int, bottleneck: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = normalised(width)
        self.linear1 = nn.Conv1d(width, bottleneck, 1, bias=False)
        self.nonlinear2 = normalised(bottleneck)
        self.cam_layer = CamLayer(bottleneck, growth, dilation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, g, T)."""
        out: Tensor = self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))))
        return out


class DenseBlock(nn.ModuleDict):
    """Layers of which each hears the outputs of all before it: `tdnnd1`, `tdnnd2`, ..."""

    def __init__(self, width: int, growth: int, bottleneck: int, plan: BlockPlan) -> None:
        super().__init__()
        for number in range(plan.layers):
            layer = DenseLayer(width + number * growth, growth, bottleneck, plan.dilation)
            self[f"tdnnd{number + 1}"] = layer
        self.output_size = width + plan.layers * growth

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C + layers * g, T)."""
        for layer in self.values():
            x = torch.cat([x, layer(x)], 1)
        return x


class TransitLayer(nn.Module):
    """Half the channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.nonlinear = normalised(width)
        self.linear = nn.Conv1d(width, width // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, C / 2, T)."""
        out: Tensor = self.linear(self.nonlinear(x))
        return out


class StatsPool(nn.Module):
    """The mean and the deviation of each channel over time."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, 2C)."""
        return torch.cat([x.mean(2), x.std(2)], 1)


class EmbeddingLayer(nn.Module):
    """One linear layer, normalised without parameters."""

    def __init__(self, width: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(width, size, 1, bias=False)
        self.nonlinear = normalised(size, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 2C) -> (B, size)."""
        out: Tensor = self.nonlinear(self.linear(x[..., None])[..., 0])
        return out


class CamPlusPlus(nn.Module):
    """A head over frequencies, three dense blocks over time, and the embedding of the whole.

    Padding is heard as sound is: rows of a batch have one length.
    """

    def __init__(
        self,
        feat_dim: int = 80,
        embedding_size: int = 512,
        growth_rate: int = 32,
        bn_size: int = 4,
        init_channels: int = 128,
    ) -> None:
        super().__init__()
        self.feat_dim, self.embedding_size = feat_dim, embedding_size
        self.head = FrequencyHead(feat_dim)
        width = init_channels
        parts: list[tuple[str, nn.Module]] = [("tdnn", TdnnLayer(self.head.output_size, width))]
        for number, plan in enumerate(PLAN, 1):
            block = DenseBlock(width, growth_rate, bn_size * growth_rate, plan)
            parts += [
                (f"block{number}", block),
                (f"transit{number}", TransitLayer(block.output_size)),
            ]
            width = block.output_size // 2
        parts += [("out_nonlinear", normalised(width)), ("stats", StatsPool())]
        parts.append(("dense", EmbeddingLayer(2 * width, embedding_size)))
        self.xvector = nn.Sequential(OrderedDict(parts))

    def folded(self) -> CamPlusPlus:
        """A twin in evaluation mode, which shares all but a head that is folded and has the
        channels of a place together: a third less of the head's time.
        """
        twin, head = copy.copy(self.eval()), copy.deepcopy(self.head)
        head.fold()
        cast(Any, head).to(memory_format=torch.channels_last)
        twin._modules = {**self._modules, "head": head}
        return twin

    def forward(self, feats: Tensor) -> Tensor:
        """Log-mel features (B, T, D) without their mean over time, T >= 3 -> embeddings (B, E),
        which are not of length 1.
        """
        out: Tensor = self.xvector(self.head(feats.transpose(1, 2)))
        return out
