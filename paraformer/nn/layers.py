"""Small parts that every stack uses: normalisation, dropout, feed-forward."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-12  # of every LayerNorm of the released models
POOL_SIZE = 1 << 24


def layer_norm(width: int) -> nn.LayerNorm:
    """LayerNorm with the epsilon of the released models."""
    return nn.LayerNorm(width, eps=EPSILON)


class _MaskPool:
    """Dropout masks cut at random places from one long random sequence.

    Drawing a random number for each activation takes a third of a training step on a CPU; a cut
    costs one draw. The sequence depends on the rate alone, and the place on torch's own
    generator, so that a run can be repeated, and resumed in another process.
    """

    def __init__(self) -> None:
        self._pools: dict[tuple[float, torch.dtype], Tensor] = {}

    def apply(self, x: Tensor, rate: float) -> Tensor:
        """Dropout of x, whatever its shape; beside the pool where it is too large for it."""
        size = x.numel()
        if 2 * size > POOL_SIZE:
            return F.dropout(x, rate)
        if (rate, x.dtype) not in self._pools:
            self._pools[rate, x.dtype] = self._make(rate, x.dtype)
        start = int(torch.randint(POOL_SIZE - size, ()))
        return x * self._pools[rate, x.dtype][start : start + size].view(x.shape)

    @staticmethod
    def _make(rate: float, dtype: torch.dtype) -> Tensor:
        generator = torch.Generator().manual_seed(POOL_SIZE)
        keep = torch.empty(POOL_SIZE, dtype=torch.float32).uniform_(generator=generator).ge_(rate)
        return keep.div_(1.0 - rate).to(dtype)


_POOL = _MaskPool()


def drop(x: Tensor, rate: float) -> Tensor:
    """Dropout as in training."""
    if rate == 0.0:
        return x
    return _POOL.apply(x, rate) if x.device.type == "cpu" else F.dropout(x, rate)


class Dropout(nn.Module):
    """`torch.nn.Dropout`, made cheap on a CPU."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; the identity outside training."""
        return drop(x, self.rate) if self.training else x


class PointwiseConv(nn.Conv1d):
    """A convolution over one frame as the matrix product that it is."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in_channels) -> (B, T, out_channels)."""
        return F.linear(x, self.weight[..., 0], self.bias)


class ScoreLayer(nn.Linear):
    """A linear layer whose outputs are scores of tokens, which only their differences tell apart:
    recognition computes it in float32 in every number format. In bfloat16 scores above 16 are
    multiples of 1/8, and a third of the tokens that half precision changes are changed by that.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if not torch.is_inference_mode_enabled():
            return super().forward(x)  # training has its own precision
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


def run_layers(
    layers: Iterable[nn.Module], x: Tensor, *beside: object, taps: Sequence[int] = ()
) -> tuple[Tensor, list[Tensor]]:
    """Send x through layers one after the other; each also gets what stands `beside`.

    Returns the last output, and the outputs of the layers numbered in `taps`, 1 = the first.
    """
    tapped = []
    for number, layer in enumerate(layers, start=1):
        x = layer(x, *beside)
        if number in taps:
            tapped.append(x)
    return x, tapped


class FeedForward(nn.Module):
    """Position-wise `w_2(dropout(activation(w_1 x)))`."""

    def __init__(
        self,
        width: int,
        hidden: int,
        dropout_rate: float,
        activation: Callable[[Tensor], Tensor] = torch.relu,
    ) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width)
        self.dropout = Dropout(dropout_rate)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        return self.w_2(self.dropout(self.activation(self.w_1(x))))


class NormedFeedForward(nn.Module):
    """Feed-forward of the SAN-M decoder: `w_2(LN(dropout(relu(w_1 x))))`, `w_2` without bias."""

    def __init__(self, width: int, hidden: int, dropout_rate: float) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, hidden)
        self.w_2 = nn.Linear(hidden, width, bias=False)
        self.norm = layer_norm(hidden)
        self.dropout = Dropout(dropout_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(B, U, D) -> (B, U, D)."""
        return self.w_2(self.norm(self.dropout(torch.relu(self.w_1(x)))))
