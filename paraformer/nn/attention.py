"""Multi-head attention, plain and with relative positions."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.nn.layers import drop
from paraformer.nn.position import interleaved_sinusoid

LEGACY_TABLE_SIZE = (
    5000  # released conformers count positions down from the end of a table of this length
)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, T, D) -> (B, H, T, D / H)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def attend(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, heads: int, dropout: float
) -> Tensor:
    """(B, T, D) tensors -> (B, T, D); `mask` is bool (True = keep) or is added to the scores."""
    q, k, v = (split_heads(x, heads) for x in (q, k, v))
    if q.requires_grad and q.device.type == "cpu":
        out = _attend_by_products(q, k, v, mask, dropout)
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    return out.transpose(1, 2).flatten(2)


def _attend_by_products(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, dropout: float
) -> Tensor:
    """The same by two matrix products: for training utterances torch's fused kernel is 3 to 4
    times slower on a CPU, and its dropout draws a number for each weight.
    """
    scores = torch.matmul(q * q.size(-1) ** -0.5, k.transpose(-1, -2))
    if mask is not None:
        is_bool = mask.dtype == torch.bool
        scores = scores.masked_fill(~mask, -torch.inf) if is_bool else scores + mask
    return torch.matmul(drop(scores.softmax(-1).to(v.dtype), dropout), v)


class MultiHeadAttention(nn.Module):
    """One projection each for queries, keys and values; self-attention where `memory` is x."""

    def __init__(self, heads: int, width: int, dropout_rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout_rate = dropout_rate
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """x (B, U, D), memory (B, T, D), keys (B, 1, 1, T) bool -> (B, U, D)."""
        k, v = self.linear_k(memory), self.linear_v(memory)
        dropout = self.dropout_rate if self.training else 0.0
        return self.linear_out(attend(self.linear_q(x), k, v, keys, self.heads, dropout))


class RelativeCodes(NamedTuple):
    """Position codes of a batch, and which of them each pair of frames looks up.

    `places` has the place of pair (i, j) in the flattened (T, R) products of queries and codes;
    None: frame i looks up T consecutive codes from number T - 1 - i on.
    """

    table: Tensor  # (R, D)
    places: Tensor | None = None  # (B or 1, T * T)


def relative_codes(size: int, width: int, device: torch.device) -> RelativeCodes:
    """Codes of distances size - 1 .. -(size - 1): frame i sees j at i - j (arXiv 1901.02860)."""
    return RelativeCodes(
        interleaved_sinusoid(torch.arange(size - 1, -size, -1, device=device), width)
    )


def legacy_codes(lengths: Tensor, size: int, width: int) -> RelativeCodes:
    """Codes of the released conformers, for each utterance those that it would have alone.

    They come from a faulty shift. With n frames in the utterance and a table of positions counted
    down from max(5000, n) - 1: frame i sees j <= i by row n - 1 - (i - j); j = i + 1 by nothing;
    and a later j by row j - i - 2 with the query of frame i + 1. Row 0 of our table is the nothing:
    zeros, which stay zeros.
    """
    device = lengths.device
    top = max(LEGACY_TABLE_SIZE, size)
    codes = interleaved_sinusoid(torch.arange(top - 1, top - 1 - size, -1, device=device), width)
    table = torch.cat((codes.new_zeros(1, width), codes))
    count = lengths[:, None, None]
    start = top - count.clamp(
        min=LEGACY_TABLE_SIZE
    )  # > 0 only beside utterances of over 5000 frames
    frame = torch.arange(size, device=device)
    ahead = frame[None, None, :] - frame[None, :, None]
    past = count + ahead + start
    future = torch.where(ahead == 1, 0, ahead - 1 + start)
    row = torch.where(ahead <= 0, past, future).clamp(0, size)
    query = (frame[None, :, None] + (ahead > 0)).clamp(max=size - 1)
    return RelativeCodes(table, (query * (size + 1) + row).flatten(1))


class RelativeAttention(MultiHeadAttention):
    """Self-attention whose scores add how a query likes the position code between two frames."""

    def __init__(self, heads: int, width: int, dropout_rate: float) -> None:
        super().__init__(heads, width, dropout_rate)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, width // heads))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def forward(  # type: ignore[override]
        self, x: Tensor, codes: RelativeCodes, keys: Tensor
    ) -> Tensor:
        """x (B, T, D), keys (B, 1, 1, T) bool -> (B, T, D)."""
        q = self.linear_q(x)
        bias_u, bias_v = (b.flatten().to(q.dtype) for b in (self.pos_bias_u, self.pos_bias_v))
        scores = self._position_scores(q + bias_v, codes).masked_fill(~keys, -torch.inf)
        k, v = self.linear_k(x), self.linear_v(x)
        dropout = self.dropout_rate if self.training else 0.0
        return self.linear_out(attend(q + bias_u, k, v, scores, self.heads, dropout))

    def _position_scores(self, q: Tensor, codes: RelativeCodes) -> Tensor:
        """Queries (B, T, D) -> (B, H, T, T), scaled as attention scores are."""
        q = split_heads(q, self.heads)
        positions = split_heads(self.linear_pos(codes.table.to(q.dtype))[None], self.heads)
        products = torch.matmul(q * q.size(-1) ** -0.5, positions.transpose(-2, -1))
        if codes.places is None:
            return _diagonals(products)
        places = codes.places[:, None].expand(q.size(0), self.heads, -1)
        return products.flatten(2).gather(2, places).unflatten(2, (q.size(2), q.size(2)))


def _diagonals(products: Tensor) -> Tensor:
    """(B, H, T, 2T - 1) -> (B, H, T, T): of row i the T columns from T - 1 - i on.

    In memory each of these stretches begins 2T - 2 numbers after the one before.
    """
    size = products.size(2)
    if size == 1:
        return products
    stretches = products.flatten(2)[..., size - 1 : size - 1 + size * (2 * size - 2)]
    return stretches.unflatten(2, (size, 2 * size - 2))[..., :size]
