"""An utterance as the chunks of a stream: which frames stand in each, and who sees whom.

Training sees here all chunks of a batch at once. A plan lays the K chunks of C rows one after the
other, N = K * C rows; `ChunkRule` holds the two ways to cut: as a stream is decoded, and as the
released online models were trained (SCAMA: arXiv 2006.01712).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

ALL = -1  # look-back without limit


class ChunkRule(NamedTuple):
    """Row r of chunk k is frame `k * stride - pad + r`; frames before the first are zeros."""

    rows: int  # C
    stride: int  # new frames that a chunk brings
    pad: int  # rows in front of the first frame
    current: int  # first row that belongs to the chunk itself; behind: `stride` of them
    stored: int  # rows, from the first, that later chunks of the encoder look back to
    look_back: int  # how many stored rows they see, ALL for any number
    memory_back: int  # rows of earlier chunks that a token sees, ALL for any number
    decoded: bool  # as a stream is decoded, else as the released models were trained


def streaming_rule(chunk_size: tuple[int, int, int], look_back: int, memory_back: int) -> ChunkRule:
    """The rule of the decoder: [c0, c1, c2] = past frames computed again, new ones, look-ahead.

    look_back and memory_back count chunks of c1 frames (`encoder_chunk_look_back`, ALL = -1, and
    `decoder_chunk_look_back`, where the reference takes -1 for none).
    """
    left, size, right = chunk_size
    return ChunkRule(
        rows=left + size + right,
        stride=size,
        pad=left + right,
        current=left,
        stored=left + size,
        look_back=ALL if look_back == ALL else look_back * size,
        memory_back=max(memory_back, 0) * size,
        decoded=True,
    )


def scama_rule(
    chunk_size: int, stride: int, pad_left: int, look_back: int, memory_back: int
) -> ChunkRule:
    """The rule of released training configurations: look-backs count chunks of `stride` frames."""
    return ChunkRule(
        rows=chunk_size,
        stride=stride,
        pad=pad_left,
        current=pad_left,
        stored=stride,
        look_back=look_back * stride,
        memory_back=memory_back * stride,
        decoded=False,
    )


class ChunkPlan(NamedTuple):
    """The chunks of a batch of lengths (B,)."""

    rule: ChunkRule
    frames: Tensor  # (B, N) int64: the frame of each row, T (a zero frame) where there is none
    real: Tensor  # (B, N) bool: rows that the stream has
    current: Tensor  # (B, N) bool: rows whose weights count in the predictor
    visible: Tensor  # (B, 1, N, N) bool: which rows a row of the encoder attends to

    @property
    def chunks(self) -> int:
        """K."""
        return self.frames.size(1) // self.rule.rows

    def unroll(self, x: Tensor) -> Tensor:
        """Frames (B, T, D) -> rows (B, N, D)."""
        x = torch.nn.functional.pad(x, (0, 0, 0, 1))
        return x.gather(1, self.frames[..., None].expand(-1, -1, x.size(2)))

    def fold(self, x: Tensor) -> Tensor:
        """Rows (B, N, ...) -> one chunk a batch entry (B * K, C, ...), for convolutions."""
        return x.reshape(-1, self.rule.rows, *x.shape[2:])

    def roll_up(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, N, D) -> the current ones, in order (B, T', D), and their number (B,)."""
        counts = self.current.sum(1)
        order = (~self.current).to(torch.uint8).argsort(dim=1, stable=True)
        order = order[:, : max(int(counts.max()), 1)]
        return x.gather(1, order[..., None].expand(-1, -1, x.size(2))), counts

    def token_keys(self, sums: Tensor, counts: Tensor, size: int) -> Tensor:
        """Rows that each token's attention sees: (B, 1, size, N) bool.

        sums (B, N): running sums of the weights; token u belongs to the chunk in which they reach
        u + 1. It sees that chunk whole, and the newest rows of the memory before it.
        """
        tokens = torch.arange(1, size + 1, device=sums.device, dtype=torch.float32)
        fired = torch.searchsorted(sums.float(), tokens.expand(len(sums), -1).contiguous())
        chunk = fired.clamp(max=sums.size(1) - 1) // self.rule.rows  # (B, U)
        own = torch.arange(sums.size(1), device=sums.device) // self.rule.rows  # (N,)
        kept = self.real
        if self.rule.decoded:  # the decoder remembers those chunks alone in which it did a step
            firing = torch.zeros_like(self.frames[:, :: self.rule.rows], dtype=torch.int64)
            alive = torch.arange(size, device=sums.device) < counts[:, None]
            firing.scatter_add_(1, chunk, alive.long())
            kept = kept & (firing > 0).repeat_interleave(self.rule.rows, dim=1)
        else:
            kept = kept & self.current
        seen = self.real[:, None] & (own == chunk[..., None])
        seen |= _newest(kept, chunk, own, self.rule.memory_back)
        # A softmax over nothing would be NaN: such a token sees a row of zeros, of its own chunk.
        blind = ~seen.any(-1, keepdim=True)
        seen |= blind & (own == chunk[..., None])
        return seen[:, None]


def make_plan(lengths: Tensor, rule: ChunkRule, size: int) -> ChunkPlan:
    """Plan of a batch of lengths (B,), padded to `size` frames."""
    stride, rows, device = rule.stride, rule.rows, lengths.device
    # Decoding ends in a chunk of less than `stride` new frames, maybe none.
    number = lengths // stride + 1 if rule.decoded else (-(-lengths // stride)).clamp(min=1)
    chunks = max(int(number.max()), 1)
    chunk = torch.arange(chunks, device=device)[None, :, None]
    row = torch.arange(rows, device=device)[None, None, :]
    last = (number - 1)[:, None, None]
    rest = lengths[:, None, None] + rule.pad - last * stride
    real = (chunk < last) | ((chunk == last) & (row < rest))
    frame = (chunk * stride - rule.pad + row).expand(len(lengths), -1, -1)
    inside = (frame >= 0) & (frame < lengths[:, None, None]) & real
    current = (row >= rule.current) & (row < rule.current + stride)
    if rule.decoded:
        current = current | ((chunk == last) & (row >= rule.current))
    current = current & real
    real = real.flatten(1)
    own = torch.arange(chunks * rows, device=device) // rows
    stored = real & (row < rule.stored).expand(1, chunks, -1).flatten(1)
    back = _newest(stored, own[None].expand(len(lengths), -1), own, rule.look_back)
    if rule.decoded and rule.look_back != 0:  # of the first chunk, the second sees all
        back = back | (stored[:, None] & (own == 0) & (own[:, None] == 1))
    if not rule.decoded:  # in released training, look-ahead rows see their own chunk alone
        back = back & (row < stride).expand(1, chunks, -1).flatten(1)[..., None]
    visible = (real[:, None] & (own[:, None] == own)) | back
    visible = visible | torch.eye(len(own), dtype=torch.bool, device=device)
    return ChunkPlan(
        rule,
        torch.where(inside, frame, size).flatten(1),
        real,
        current.flatten(1),
        visible[:, None],
    )


def _newest(kept: Tensor, chunk: Tensor, own: Tensor, limit: int) -> Tensor:
    """A query sees the newest of the kept rows (B, N) that lie before its chunk (B, Q): (B, Q, N).

    own (N,): the chunk of each row; limit: how many, ALL for any number.
    """
    before = kept[:, None] & (own < chunk[..., None])
    if limit == ALL:
        return before
    rank = kept.cumsum(1)  # 1 for the oldest row
    newest = torch.where(before, rank[:, None], 0).amax(-1, keepdim=True)
    return before & (rank[:, None] > newest - limit)
