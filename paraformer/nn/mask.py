"""Boolean masks that say which frames exist, True = keep."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(lengths: Tensor, size: int | None = None) -> Tensor:
    """Lengths (B,) -> (B, size), True inside the utterance; `size` is the longest when not given.

    >>> length_mask(torch.tensor([1, 3])).int().tolist()
    [[1, 0, 0], [1, 1, 1]]
    """
    size = int(lengths.max()) if size is None else size
    return torch.arange(size, device=lengths.device)[None, :] < lengths[:, None]


def key_mask(lengths: Tensor, size: int) -> Tensor:
    """Mask (B, 1, 1, size) over attention keys; an empty utterance keeps its first (zero) frame.

    A row without any key would make softmax return NaN, and NaN would reach the gradients.
    """
    return length_mask(lengths.clamp(min=1), size)[:, None, None, :]


def zero_padding(x: Tensor, lengths: Tensor) -> Tensor:
    """Set the frames of x (B, T, D) past each length to 0."""
    return x.masked_fill(~length_mask(lengths, x.size(1))[..., None], 0.0)
