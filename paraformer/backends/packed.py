"""Linear layers laid out for inference on a CPU."""

from __future__ import annotations

import copy
import mmap
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from paraformer.models.mapped import in_memory, let_go
from paraformer.nn.layers import FeedForward, NormedFeedForward, PointwiseConv, ScoreLayer

# Rows that the layout is made for. Measured with 1 to 1000 rows on AVX-512: this one is 2 to 2.6
# times as fast as torch's own product on a streaming chunk, and 1.2 times on a long utterance; one
# made for few rows is slower with most of them.
ROWS = 1024
# Numbers of rows up to the first of each pair are rounded up to a multiple of the second: a chunk
# of a stream has 20, five seconds have 84, and a row that is not there costs as much as any other.
STEPS = ((32, 4), (64, 8), (256, 16), (ROWS, 64))
COPIED_ROWS = 64  # of a matrix, at a time
# Below so many weights a product is too small to gain anything.
LEAST_WEIGHTS = 4096
# Of products in 8 bits: the largest whole number, and the least size that a row is taken to have.
WHOLE, LEAST_SIZE = 127, 1e-30
# How oneDNN is to give their sums: scale, zero point and type, and nothing done to them.
_FLOATS: tuple[Any, ...] = (1.0, 0, torch.float32)
_PLAIN: tuple[Any, ...] = ("none", [], "")

Model = TypeVar("Model", bound=nn.Module)


class _Product:
    """Rows times a matrix in the layout of oneDNN, and a bias; without gradients."""

    def __init__(self, matrix: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        """matrix (out, in), bias (out,)."""
        self.out_features, self.in_features = matrix.shape
        self.dtype = dtype
        draft = _draft(matrix.detach(), dtype)
        self.packed = torch.ops.mkldnn._reorder_linear_weight(draft, ROWS)
        self.bias = None if bias is None else in_memory(bias).detach().to(dtype)

    @property
    def matrix(self) -> Tensor:
        """The matrix (out, in) as it was, but for its precision: a copy."""
        return self.packed.to_dense()

    def __call__(self, x: Tensor, then: str = "none") -> Tensor:
        """(..., in) -> (..., out), in half precision only where autocast is on, as torch's own
        layers give it. then: "relu" to have that of it.
        """
        rows = x.reshape(-1, self.in_features)
        out = in_blocks(partial(self._part, then=then), rows, self.out_features)
        out = out.view(*x.shape[:-1], self.out_features)
        return out if torch.is_autocast_enabled("cpu") else out.to(x.dtype)

    def _part(self, rows: Tensor, then: str) -> Tensor:
        """(M, in), M up to ROWS -> (M, out)."""
        count, rows = len(rows), _padded(rows.to(self.dtype).contiguous())
        product = torch.ops.mkldnn._linear_pointwise
        return _first(product(rows, self.packed, self.bias, then, [], ""), count)


class _WholeProduct(_Product):
    """The same in whole numbers of 8 bits, between float32: the largest number of each row of the
    matrix, and of each row that is multiplied, becomes 127, and what is lost of the latter is
    multiplied in a second product, without which twice as many tokens of a recogniser change. Sums
    are exact, and no row is scaled by another: a row gives the same whatever stands beside it.
    """

    def __init__(self, matrix: Tensor, bias: Tensor | None) -> None:
        """matrix (out, in), bias (out,)."""
        self.out_features, self.in_features = matrix.shape
        self.dtype = torch.float32
        matrix = matrix.detach()
        self.scales = (_largest(matrix).float() / WHOLE).flatten()  # (out,)
        draft = _in_pages(matrix, torch.int8)
        blocks = (x.split(COPIED_ROWS) for x in (matrix, self.scales[:, None], draft))
        for rows, scales, place in zip(*blocks, strict=True):
            place.copy_((rows / scales).round_())
        self.packed = torch.ops.onednn.qlinear_prepack(draft, [ROWS, self.in_features])
        self.zeros = torch.zeros(self.out_features, dtype=torch.int8)
        self.bias = None if bias is None else in_memory(bias).detach().float()

    @property
    def matrix(self) -> Tensor:
        """The matrix (out, in), rounded."""
        return self.packed.to_dense().t() * self.scales[:, None]

    def _part(self, rows: Tensor, then: str) -> Tensor:
        """(M, in), M up to ROWS -> (M, out)."""
        rows = rows.float()
        largest = _largest(rows)
        fine = rows * (WHOLE / largest)
        whole = fine.to(torch.int8)
        rest = fine.sub_(whole).mul_(WHOLE).to(torch.int8)
        product = torch.ops.onednn.qlinear_pointwise
        weights = (self.packed, self.scales, self.zeros)
        out = product(_padded(whole), 1.0, 0, *weights, None, *_FLOATS, *_PLAIN)
        beside = (_padded(rest), 1 / WHOLE, 0, *weights, out, None, *_FLOATS, 1.0, 0)
        out = product.binary(*beside, "sum", 1.0, *_PLAIN)[: len(rows)].mul_(largest / WHOLE)
        if self.bias is not None:
            out.add_(self.bias)
        return cast(Tensor, out.relu_() if then == "relu" else out)


def _largest(rows: Tensor) -> Tensor:
    """(M, in) -> (M, 1), the largest size of a number in each row, never quite zero."""
    found = torch.maximum(rows.amax(1, keepdim=True), -rows.amin(1, keepdim=True))
    return found.clamp_min_(LEAST_SIZE)


def _product(matrix: Tensor, bias: Tensor | None, dtype: torch.dtype) -> _Product:
    """dtype: torch.float32, torch.bfloat16, or torch.int8 for products alone."""
    if dtype is torch.int8:
        return _WholeProduct(matrix, bias)
    return _Product(matrix, bias, dtype)


def _padded(rows: Tensor) -> Tensor:
    """Rows (M, in) and more of zeros: oneDNN keeps up to a megabyte for each number of rows that it
    has met, so let there be few.
    """
    count, width = rows.shape
    spare = -count % next(step for most, step in STEPS if count <= most)
    return torch.cat((rows, rows.new_zeros(spare, width))) if spare else rows


def _first(rows: Tensor, count: int) -> Tensor:
    """The first rows, without those of zeros behind them."""
    return rows if len(rows) == count else rows[:count]


def _draft(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix in a precision."""
    if matrix.dtype == dtype or not matrix.numel():
        return matrix.to(dtype)
    return _in_pages(matrix, dtype).copy_(matrix)


def _in_pages(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Zeros like the matrix in pages that go back to the system at once: malloc would leave holes
    between the packed ones, an eighth of the memory of a large model.
    """
    pages = mmap.mmap(-1, max(1, matrix.numel() * dtype.itemsize))
    return torch.frombuffer(pages, dtype=dtype, count=matrix.numel()).view(matrix.shape)


def in_blocks(compute: Callable[[Tensor], Tensor], rows: Tensor, width: int) -> Tensor:
    """`compute` of rows (M, in), at most ROWS at a time -> (M, width): memory for the result alone,
    however long an utterance is.
    """
    if len(rows) <= ROWS:
        return compute(rows) if len(rows) else rows.new_empty(0, width)
    first, *others = rows.split(ROWS)
    begun = compute(first)
    out = begun.new_empty(len(rows), width)
    out[:ROWS] = begun
    for block, place in zip(others, out[ROWS:].split(ROWS), strict=True):
        place.copy_(compute(block))
    return out


# A packed layer has the face of the layer that it replaces: its class, all its attributes, and
# `weight` and `bias` too, unpacked when they are read. Only gradients and parameters it has none.
class PackedLinear(nn.Linear):
    """`nn.Linear` with its weights in the layout of oneDNN."""

    def __init__(self, layer: nn.Linear, dtype: torch.dtype = torch.float32) -> None:
        """dtype: torch.float32, torch.bfloat16 for input, weights and output, or torch.int8 for the
        product alone.
        """
        _adopt(self, layer)
        self.product = _product(layer.weight, layer.bias, dtype)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in)."""
        return self.product.matrix

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        """(out,)."""
        return self.product.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return self.product(x)


class PackedScores(PackedLinear, ScoreLayer):
    """`ScoreLayer` in the same way, in float32 whatever the others compute in."""

    def __init__(self, layer: ScoreLayer, dtype: torch.dtype = torch.float32) -> None:
        """dtype: that of the others."""
        super().__init__(layer)


class PackedConv(nn.Conv1d):
    """`nn.Conv1d` over time as one product for each frame and what stands around it."""

    product: _Product

    def __init__(self, layer: nn.Conv1d, dtype: torch.dtype = torch.float32) -> None:
        """A plain one: neither groups nor padding, stride or dilation. torch.int8 is float32 here:
        on one stand the weights of CIF, which decide how many tokens there are.
        """
        _adopt(self, layer)
        matrix = layer.weight.transpose(1, 2).flatten(1)  # (out, K * in)
        self.product = _Product(matrix, layer.bias, torch.float32 if dtype is torch.int8 else dtype)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """(out, in, K)."""
        return self.product.matrix.unflatten(1, (-1, self.in_channels)).transpose(1, 2)

    @property
    def bias(self) -> Tensor | None:  # type: ignore[override]
        """(out,)."""
        return self.product.bias

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, T) -> (B, out, T - K + 1)."""
        frames = x.transpose(1, 2).flatten(1)
        (kernel,) = self.kernel_size
        width = self.in_channels
        # A frame and those behind it lie in a row, so that this is a view.
        around = frames.unfold(1, kernel * width, width)
        return self.product(around).transpose(1, 2)


class PackedPointwise(PackedConv, PointwiseConv):
    """`PointwiseConv` as the one product that it is."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, in) -> (B, T, out)."""
        return self.product(x)


class PackedFeedForward(FeedForward):
    """`FeedForward` with packed layers: its hidden rows are made, and used, a block at a time."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        width = x.size(-1)
        return in_blocks(self._block, x.reshape(-1, width), width).view(x.shape)

    def _block(self, rows: Tensor) -> Tensor:
        hidden = cast(PackedLinear, self.w_1).product(_padded(rows), "relu")
        return _first(self.w_2(hidden), len(rows))


class PackedNormedFeedForward(NormedFeedForward):
    """`NormedFeedForward` in the same way."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, U, D) -> (B, U, D)."""
        width = x.size(-1)
        return in_blocks(self._block, x.reshape(-1, width), width).view(x.shape)

    def _block(self, rows: Tensor) -> Tensor:
        hidden = cast(PackedLinear, self.w_1).product(_padded(rows), "relu")
        return _first(self.w_2(self.norm(hidden)), len(rows))


def _adopt(packed: nn.Module, layer: nn.Module) -> None:
    """All that a layer has but its parameters."""
    vars(packed).update(vars(layer))
    packed._parameters = {}


def for_inference(model: Model, device: torch.device, dtype: torch.dtype | None = None) -> Model:
    """The model on a device, ready to recognise; dtype: a half precision to compute in, or
    torch.int8 for products of 8 bits on a CPU that has them.

    On a CPU it is a twin that shares all parameters but those of its linear layers, which are
    packed, and the model itself stays as it is. Of parameters that lie in a mapped file, the twin
    has copies.
    """
    model = model.to(device).eval()
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return model
    return cast(Model, _twin(model, dtype or torch.float32))


def _twin(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    packed = PACKED.get(type(module))
    if packed is not None and _is_worth_it(cast(Any, module)):
        layer = packed(module, dtype)
        let_go(cast(Tensor, module.weight))
        return layer
    twin = copy.copy(module)
    twin._parameters = {name: _own(value) for name, value in module._parameters.items()}
    twin._buffers = {name: _own(value) for name, value in module._buffers.items()}
    twin._modules = {
        name: None if child is None else _twin(child, dtype)
        for name, child in module._modules.items()
    }
    blocked = BLOCKED.get(type(module))
    if blocked is not None and _is_packed_relu(cast(Any, twin)):
        twin.__class__ = blocked
    return twin


def _is_packed_relu(layer: FeedForward | NormedFeedForward) -> bool:
    """Whether a feed-forward layer is two packed products around a ReLU."""
    packed = isinstance(layer.w_1, PackedLinear) and isinstance(layer.w_2, PackedLinear)
    return packed and getattr(layer, "activation", torch.relu) is torch.relu


def _own(value: Any) -> Any:
    return None if value is None else in_memory(value)


def _is_worth_it(layer: nn.Linear | nn.Conv1d) -> bool:
    """Whether a layer is large, and nothing but a product at each place."""
    if isinstance(layer, nn.Conv1d):
        shape = (*layer.stride, *layer.dilation, layer.groups)
        if shape != (1, 1, 1) or layer.padding not in (0, (0,)):
            return False
    return layer.weight.numel() >= LEAST_WEIGHTS


BLOCKED: dict[type, type] = {
    FeedForward: PackedFeedForward,
    NormedFeedForward: PackedNormedFeedForward,
}
PACKED: dict[type, Callable[[Any, torch.dtype], nn.Module]] = {
    nn.Linear: PackedLinear,
    ScoreLayer: PackedScores,
    nn.Conv1d: PackedConv,
    PointwiseConv: PackedPointwise,
}
