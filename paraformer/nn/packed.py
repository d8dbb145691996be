"""Linear layers laid out for inference on a CPU."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Rows that the layout is made for. Measured with 1 to 1000 rows on AVX-512: this one is 2 to 2.6
# times as fast as torch's own product on a streaming chunk, and 1.2 times on a long utterance; one
# made for few rows is slower with most of them.
ROWS = 1024
# Numbers of rows are rounded up to a multiple of these, few ones and more.
FEW_ROWS, FEW_STEP, MANY_STEP = 64, 4, 64
# Below so many weights a product is too small to gain anything.
LEAST_WEIGHTS = 4096

Model = TypeVar("Model", bound=nn.Module)


class PackedLinear(nn.Module):
    """`nn.Linear` with its weights in the layout of oneDNN; without gradients."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
        """dtype: torch.float32, or torch.bfloat16 for input, weights and output."""
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = dtype
        weight = linear.weight.detach().to(dtype)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        self.bias = None if linear.bias is None else linear.bias.detach().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        rows = x.reshape(-1, self.in_features).to(self.dtype)
        parts = [self._product(part) for part in rows.split(ROWS)] if len(rows) else [rows]
        out = parts[0] if len(parts) == 1 else torch.cat(parts)
        return out.view(*x.shape[:-1], self.out_features)

    def _product(self, rows: Tensor) -> Tensor:
        """(M, in_features), M up to ROWS -> (M, out_features)."""
        count = len(rows)
        # oneDNN keeps up to a megabyte for each number of rows that it has met: let there be few.
        step = FEW_STEP if count <= FEW_ROWS else MANY_STEP
        spare = -count % step
        rows = F.pad(rows, (0, 0, 0, spare)) if spare else rows
        product = torch.ops.mkldnn._linear_pointwise
        return cast(Tensor, product(rows, self.packed, self.bias, "none", [], ""))[:count]


class PackedConv(nn.Module):
    """`nn.Conv1d` over time as one product for each frame and what stands around it."""

    def __init__(self, conv: nn.Conv1d, dtype: torch.dtype = torch.float32) -> None:
        """A plain one: neither groups nor padding, stride or dilation."""
        super().__init__()
        (self.kernel,) = conv.kernel_size
        has_bias = conv.bias is not None
        linear = nn.utils.skip_init(
            nn.Linear, conv.in_channels * self.kernel, conv.out_channels, bias=has_bias
        )
        with torch.no_grad():
            linear.weight.copy_(conv.weight.transpose(1, 2).flatten(1))  # (out, K * in)
            if conv.bias is not None:
                linear.bias.copy_(conv.bias)
        self.linear = PackedLinear(linear, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T) -> (B, out, T - K + 1)."""
        frames = x.transpose(1, 2)
        size = frames.size(1) - self.kernel + 1
        around = [frames[:, place : place + size] for place in range(self.kernel)]
        return cast(Tensor, self.linear(torch.cat(around, dim=2))).transpose(1, 2)


def for_inference(model: Model, device: torch.device, dtype: torch.dtype | None = None) -> Model:
    """The model on a device, ready to recognise; dtype: a half precision to compute in.

    On a CPU it is a twin that shares all parameters but those of its linear layers, which are
    packed, and the model itself stays as it is.
    """
    model = model.to(device).eval()
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return model
    return cast(Model, _twin(model, dtype or torch.float32))


def _twin(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    if type(module) is nn.Linear and module.weight.numel() >= LEAST_WEIGHTS:
        return PackedLinear(module, dtype)
    if type(module) is nn.Conv1d and _is_plain(module):
        return PackedConv(module, dtype)
    twin = copy.copy(module)
    twin._modules = {
        name: None if child is None else _twin(child, dtype)
        for name, child in module._modules.items()
    }
    return twin


def _is_plain(conv: nn.Conv1d) -> bool:
    shape = (*conv.stride, *conv.dilation, conv.groups)
    return shape == (1, 1, 1) and conv.padding in (0, (0,)) and conv.weight.numel() >= LEAST_WEIGHTS
