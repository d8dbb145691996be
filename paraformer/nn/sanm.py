"""SAN-M (arXiv 2006.01713): self-attention with a memory block, and its encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.nn.attention import attend
from paraformer.nn.chunks import ALL, ChunkPlan, ChunkRule
from paraformer.nn.layers import Dropout, FeedForward, layer_norm, run_layers
from paraformer.nn.mask import key_mask, length_mask, zero_padding
from paraformer.nn.position import sinusoid, sinusoid_at


class MemoryBlock(nn.Conv1d):
    """Depthwise convolution over time with a skip, an FSMN filter: what SAN-M adds to attention."""

    def __init__(self, width: int, kernel_size: int, shift: int = 0) -> None:
        super().__init__(width, width, kernel_size, groups=width, bias=False)
        left = (kernel_size - 1) // 2 + max(shift, 0)
        self.pad = (left, kernel_size - 1 - left)

    def forward(self, x: Tensor, frames: Tensor) -> Tensor:  # type: ignore[override]
        """x (B, T, D), frames (B, T, 1) float, 0 on padding -> (B, T, D), 0 on padding.

        frames (B * K, C, 1) divides the T = K * C rows into chunks that do not see each other.
        """
        if x.size(1) == 0:
            return x  # no token in the whole batch
        chunks = x.reshape(*frames.shape[:2], -1) * frames
        if not self._works_in_place(chunks):
            filtered = self._filter(F.pad(chunks, (0, 0, *self.pad)))
            return ((filtered + chunks) * frames).reshape(x.shape)
        # The same numbers in half the time: rows are neither copied for their edges nor made anew.
        return self._filter(chunks, self.pad[0]).add_(chunks).mul_(frames).reshape(x.shape)

    def _works_in_place(self, chunks: Tensor) -> bool:
        """Whether nothing but the result is wanted, and the filter gives it its type."""
        alone = torch.is_inference_mode_enabled() and self.pad[0] == self.pad[1]
        return alone and chunks.device.type == "cpu" and chunks.dtype == self.weight.dtype

    def forward_chunk(self, x: Tensor, past: Tensor) -> Tensor:
        """A filter that looks back alone, on tokens (B, U, D) behind their past (B, K - 1, D) ->
        (B, U, D).
        """
        return self._filter(torch.cat((past, x), dim=1)) + x

    def _filter(self, rows: Tensor, edge: int = 0) -> Tensor:
        """Padded inputs (B, K - 1 + T, D) -> (B, T, D); edge: zeros to imagine at both ends."""
        if rows.device.type != "cpu":
            return super().forward(rows.transpose(1, 2)).transpose(1, 2)
        # oneDNN filters an image of one row whose channels stand last 2 to 15 times as fast as a
        # sequence. Its gradients in half precision are slow.
        with torch.autocast("cpu", enabled=False):
            image = rows.to(self.weight.dtype).transpose(1, 2)[:, :, None]
            taps = self.weight.flatten(1)[:, None, None]  # whose gradient is laid out as they are
            filtered = F.conv2d(image, taps, padding=(0, edge), groups=len(taps))
        return filtered[:, :, 0].transpose(1, 2)


class Store(NamedTuple):
    """Keys and values of the past in one attention, newest last; a stream that is younger than the
    others of its batch has fewer, its first rows are nothing.
    """

    rows: Tensor  # (B, R, 2 * D)
    filled: Tensor  # (B,) int64

    @staticmethod
    def join(stores: Sequence[Store]) -> Store:
        """The streams of all, in their order, as one batch."""
        size = max(store.rows.size(1) for store in stores)
        rows = [F.pad(store.rows, (0, 0, size - store.rows.size(1), 0)) for store in stores]
        return Store(torch.cat(rows), torch.cat([store.filled for store in stores]))

    def split(self) -> list[Store]:
        """Each stream alone, without the rows that are nothing."""
        size = self.rows.size(1)
        rows = zip(self.rows.split(1), self.filled.split(1), self.filled.tolist(), strict=True)
        return [Store(row[:, size - count :], filled) for row, filled, count in rows]

    def outline(self) -> Store:
        """As many rows, of width 0: enough for `keys`."""
        return self._replace(rows=self.rows[..., :0])

    def keys(self, own: Tensor) -> Tensor | None:
        """Mask (B, 1, 1, R + T) over stored rows and those of `own` (B, T) bool; None for all."""
        size = self.rows.size(1)
        there = torch.arange(size, device=own.device) >= size - self.filled[:, None]
        mask = torch.cat((there, own), dim=1)
        return None if bool(mask.all()) else mask[:, None, None]

    def push(self, rows: Tensor, limit: int, where: Tensor | None = None) -> Store:
        """With new rows (B, T, 2 * D) behind, the newest `limit` of all (ALL: every one).

        where (B,) bool: streams that get them, the others stay as they are.
        """
        limit = self.rows.size(1) + rows.size(1) if limit == ALL else limit
        if limit == 0:
            return self
        # A store that begins empty, in float32, has the type of what comes into it.
        joined = torch.cat((self.rows.to(rows.dtype), rows), dim=1)[:, -limit:]
        filled = (self.filled + rows.size(1)).clamp(max=limit)
        if where is not None and not bool(where.all()):
            stayed = F.pad(self.rows, (0, 0, joined.size(1) - self.rows.size(1), 0))
            joined = torch.where(where[:, None, None], joined, stayed)
            filled = torch.where(where, filled, self.filled)
        return Store(joined, filled)

    def push_from_start(self, rows: Tensor, limit: int) -> Store:
        """The same as the reference's encoder does it: the first rows of a stream are kept whole,
        even if they are more than `limit`.
        """
        size = rows.size(1)
        fresh = self.filled == 0
        if limit in (0, ALL) or size <= limit or not bool(fresh.any()):
            return self.push(rows, limit)
        joined = torch.cat((self.rows.to(rows.dtype), rows), dim=1)[:, -size:]
        return Store(joined, torch.where(fresh, size, limit))


Past = TypeVar("Past", bound=Store | Tensor)


class Growing(Generic[Past]):
    """The past of the rows of a pass, at one layer. The last of them may go on where other rows of
    the same pass end: `lead` (B',) says behind which, and their past ends with what those bring.
    """

    def __init__(
        self, past: Past, lead: Tensor | None, push: Callable[[Past, Tensor, Any], Past]
    ) -> None:
        """past: of all rows but those; push: the past of some rows, what they bring, and which they
        are -> their past behind it.
        """
        self.before = self.after = past
        self._lead, self._push = lead, push

    def __call__(self, new: Tensor) -> Past:
        """Take what all rows bring (B, T, D), and return the past of each; `after` becomes that of
        the next pass.
        """
        if (lead := self._lead) is not None:
            grown = self._push(picked(self.before, lead), new[lead], lead)
            self.before = joined(self.before, grown)
        self.after = self._push(self.before, new, slice(None))
        return self.before


def picked(past: Past, rows: Tensor) -> Past:
    """The past of some rows, by their numbers (B',)."""
    if isinstance(past, Store):
        return cast(Past, Store(past.rows[rows], past.filled[rows]))
    return cast(Past, cast(Tensor, past)[rows])


def joined(first: Past, then: Past) -> Past:
    """The past of rows, and of those behind them."""
    if isinstance(first, Store):
        return cast(Past, Store.join((first, cast(Store, then))))
    return cast(Past, torch.cat((cast(Tensor, first), cast(Tensor, then))))


class SanmAttention(nn.Module):
    """Multi-head self-attention plus the memory of its own values."""

    def __init__(
        self,
        heads: int,
        in_width: int,
        width: int,
        dropout_rate: float,
        kernel_size: int,
        shift: int,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.linear_q_k_v = nn.Linear(in_width, 3 * width)
        self.linear_out = nn.Linear(width, width)
        self.fsmn_block = MemoryBlock(width, kernel_size, shift)
        self.dropout = Dropout(dropout_rate)

    def forward(self, x: Tensor, frames: Tensor, keys: Tensor) -> Tensor:
        """x (B, T, in_width) -> (B, T, width)."""
        q, k, v = self.linear_q_k_v(x).chunk(3, dim=-1)
        memory = self.dropout(self.fsmn_block(v, frames))
        weights_dropout = self.dropout.rate if self.training else 0.0
        return self.linear_out(attend(q, k, v, keys, self.heads, weights_dropout)) + memory

    def forward_chunk(
        self, x: Tensor, frames: Tensor, keys: Tensor | None, past: Growing[Store]
    ) -> Tensor:
        """A chunk (B, C, in_width) that sees stored keys and values (B, R, 2 * width) as well, and
        adds its own -> (B, C, width).
        """
        width = len(self.fsmn_block.weight)
        q, kv = self.linear_q_k_v(x).split((width, 2 * width), dim=-1)
        k, v = torch.cat((past(kv).rows.to(kv.dtype), kv), dim=1).chunk(2, dim=-1)
        memory = self.fsmn_block(kv.chunk(2, dim=-1)[1], frames)
        return self.linear_out(attend(q, k, v, keys, self.heads, 0.0)) + memory


class SanmEncoderLayer(nn.Module):
    """Pre-norm attention and feed-forward; the first residual is there where the widths agree."""

    def __init__(
        self,
        in_width: int,
        width: int,
        heads: int,
        hidden: int,
        dropout_rate: float,
        attention_dropout_rate: float,
        kernel_size: int,
        shift: int,
    ) -> None:
        super().__init__()
        self.self_attn = SanmAttention(
            heads, in_width, width, attention_dropout_rate, kernel_size, shift
        )
        self.feed_forward = FeedForward(width, hidden, dropout_rate)
        self.norm1 = layer_norm(in_width)
        self.norm2 = layer_norm(width)
        self.dropout = Dropout(dropout_rate)
        self.residual = in_width == width

    def forward(self, x: Tensor, frames: Tensor, keys: Tensor) -> Tensor:
        """(B, T, in_width) -> (B, T, width)."""
        attended = self.dropout(self.self_attn(self.norm1(x), frames, keys))
        return self._finish(x, attended)

    def forward_chunk(
        self, x: Tensor, frames: Tensor, keys: Tensor | None, past: Growing[Store]
    ) -> Tensor:
        """See `SanmAttention.forward_chunk`."""
        return self._finish(x, self.self_attn.forward_chunk(self.norm1(x), frames, keys, past))

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        x = x + attended if self.residual else attended
        return x + self.dropout(self.feed_forward(self.norm2(x)))


class EncoderState(NamedTuple):
    """The part of a stream's past that the encoder still needs."""

    frames: Tensor  # (B, pad, input_size): the last frames, with their positions
    seen: Tensor  # (B,) int64: frames so far
    stores: tuple[Store, ...]  # one a layer


class SanmEncoder(nn.Module):
    """Stacked SAN-M layers over position-coded features (released `SANMEncoder`)."""

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
        kernel_size: int = 11,
        sanm_shift: int = 0,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = input_size, output_size
        widths = [input_size] + [output_size] * (num_blocks - 1)
        layers = [
            SanmEncoderLayer(
                width,
                output_size,
                attention_heads,
                linear_units,
                dropout_rate,
                attention_dropout_rate,
                kernel_size,
                sanm_shift,
            )
            for width in widths
        ]
        self.encoders0 = nn.ModuleList(layers[:1])
        self.encoders = nn.ModuleList(layers[1:])
        self.after_norm = layer_norm(output_size)
        self.position_dropout = Dropout(positional_dropout_rate)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, input_size) -> (B, T, output_size), lengths unchanged."""
        return self.forward_with_taps(x, lengths)[:2]

    def forward_with_taps(
        self, x: Tensor, lengths: Tensor, taps: Sequence[int] = ()
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """As `forward`, and the outputs of the layers numbered in `taps` (1 = the first), for
        losses inside.
        """
        frames = length_mask(lengths, x.size(1))[..., None].to(x.dtype)
        memory, tapped = self._layers(self._position(x), frames, key_mask(lengths, x.size(1)), taps)
        return memory, lengths, tapped

    def forward_coded(self, x: Tensor, lengths: Tensor) -> Tensor:
        """`forward` of rows (B, T, input_size) that are scaled and have their position codes."""
        frames = length_mask(lengths, x.size(1))[..., None].to(x.dtype)
        return self._layers(x, frames, key_mask(lengths, x.size(1)), ())[0] * frames

    def forward_in_chunks(
        self, x: Tensor, lengths: Tensor, plan: ChunkPlan, taps: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Features (B, T, input_size) -> all rows of the plan's chunks (B, N, output_size), 0
        where the stream has none; and the layers of `taps`.
        """
        x = plan.unroll(zero_padding(self._position(x), lengths))
        real = plan.real[..., None].to(x.dtype)
        memory, tapped = self._layers(x, plan.fold(real), plan.visible, taps)
        return memory * real, tapped

    def initial_state(self, rule: ChunkRule, batch: int = 1) -> EncoderState:
        """The state of streams that have not begun."""
        weight = self.after_norm.weight
        store = Store(
            weight.new_zeros(batch, 0, 2 * self.output_size),
            torch.zeros(batch, dtype=torch.int64, device=weight.device),
        )
        layers = 1 + len(self.encoders)
        frames = weight.new_zeros(batch, rule.pad, self.input_size)
        return EncoderState(frames, store.filled, (store,) * layers)

    def forward_chunk(
        self,
        x: Tensor,
        counts: Tensor,
        state: EncoderState,
        rule: ChunkRule,
        lead: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, EncoderState]:
        """New frames (B, n, input_size), counts (B,) of them true -> rows (B, C, output_size) of
        which (B,) are true, and the next state. lead: see `Growing`; the state is of the others.

        Only a stream that ends may bring fewer frames than `rule.stride`; its state is of no use
        afterwards.
        """
        seen = Growing(state.seen, lead, lambda past, new, _: past + new)(counts)
        places = seen[:, None] + torch.arange(1, x.size(1) + 1, device=x.device)
        x = x * self.output_size**0.5 + sinusoid_at(places, x.size(2))
        before = Growing(state.frames, lead, lambda past, new, _: _last(past, new, rule.pad))
        x, kept = torch.cat((before(x), x), dim=1), before.after
        lengths = counts + rule.pad
        real = length_mask(lengths, x.size(1))
        frames = real[..., None].to(x.dtype)
        x = x * frames

        def pushed(store: Store, kv: Tensor, rows: Any) -> Store:
            return store.push_from_start(kv[:, : rule.stored], rule.look_back)

        outline = Growing(state.stores[0].outline(), lead, pushed)(x[..., :0])
        keys = outline.keys(real | ~real.any(1, keepdim=True))
        stores = []
        for layer, store in zip((*self.encoders0, *self.encoders), state.stores, strict=True):
            past = Growing(store, lead, pushed)
            x = cast(SanmEncoderLayer, layer).forward_chunk(x, frames, keys, past)
            stores.append(past.after)
        state = EncoderState(kept, seen + counts, tuple(stores))
        return self.after_norm(x) * frames, lengths, state

    def _position(self, x: Tensor) -> Tensor:
        x = x * self.output_size**0.5 + sinusoid(1, x.size(1), x.size(2), x.device)
        return self.position_dropout(x)

    def _layers(
        self, x: Tensor, frames: Tensor, keys: Tensor, taps: Sequence[int]
    ) -> tuple[Tensor, list[Tensor]]:
        layers = (*self.encoders0, *self.encoders)
        x, tapped = run_layers(layers, x, frames, keys, taps=taps)
        return self.after_norm(x), tapped


def _last(past: Tensor, new: Tensor, count: int) -> Tensor:
    """The last rows of the past and what is new, both (B, T, D)."""
    rows = torch.cat((past, new), dim=1)
    return rows[:, rows.size(1) - count :]
