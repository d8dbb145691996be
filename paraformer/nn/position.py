"""Position codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoid(first: int, count: int, width: int, device: torch.device | None = None) -> Tensor:
    """Positions first .. first + count - 1 -> (count, width): see `sinusoid_at`."""
    return sinusoid_at(torch.arange(first, first + count, device=device), width)


def sinusoid_at(positions: Tensor, width: int) -> Tensor:
    """Positions of any shape (...) -> (..., width), sines in the first half, cosines in the second.

    The code of the SAN-M encoder, which counts from 1: `w_k = 10000^(-k / (width/2 - 1))`.
    """
    half = width // 2
    step = -math.log(10000.0) / (half - 1)
    frequency = torch.exp(torch.arange(half, dtype=torch.float32, device=positions.device) * step)
    angle = positions.to(torch.float32)[..., None] * frequency
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def interleaved_sinusoid(
    positions: Tensor, width: int, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Positions (N,), of either sign -> (N, width), sine and cosine in turn (Attention is all you
    need, 3.5).
    """
    step = -math.log(10000.0) / width
    even = torch.arange(0, width, 2, dtype=torch.float32, device=positions.device)
    angle = positions.to(torch.float32)[:, None] * torch.exp(even * step)
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1).to(dtype)
