"""Continuous integrate-and-fire (CIF: arXiv 1905.11235): frames become as many embeddings as
there are tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.nn.chunks import ChunkPlan, ChunkRule
from paraformer.nn.layers import Dropout
from paraformer.nn.mask import length_mask, zero_padding

# Weights that sum to less are none that could be scaled: tokens are 0 then, gradients finite.
LEAST_TOTAL = 1e-12
TOKENS = 256  # that recognition integrates at once: those of about a minute


class CifOutput(NamedTuple):
    """The answer of a predictor for a batch."""

    embeds: Tensor  # (B, U, D): acoustic embeddings, 0 past token_lengths
    token_lengths: Tensor  # (B,) int64
    alphas: Tensor  # (B, T): weight of each frame; T counts the tail frame in inference
    sums: Tensor  # (B, T) float64: running sum of the alphas
    total: Tensor  # (B,): sum of the weights before any scaling, for the MAE loss

    @property
    def peaks(self) -> Tensor:
        """(B, T): running sum since the last fire, before it is taken away; fires are 1 or more."""
        return fire_peaks(self.sums)


class CifState(NamedTuple):
    """The rest of a stream that has not yet the weight of a token."""

    weight: Tensor  # (B,) in [0, 1)
    hidden: Tensor  # (B, D): mean of the frames that it is the weight of


class CifChunk(NamedTuple):
    """The tokens that fire in a chunk."""

    embeds: Tensor  # (B, U, D), 0 past counts
    counts: Tensor  # (B,) int64
    # (B, 1 + C + 1) float64: of what was left, the rows, the tail. NaN where a weight is no number,
    # so that nothing fires.
    sums: Tensor


def running_sum(weights: Tensor) -> Tensor:
    """Cumulative sum of weights (B, T) in float64."""
    return weights.double().cumsum(1)


def scaled_running_sum(weights: Tensor, counts: Tensor) -> Tensor:
    """Cumulative sum of weights (B, T) scaled to end in counts (B,) exactly, whatever the rounding.

    The last frame divides the total by itself, so each utterance fires all of its tokens.
    """
    sums = running_sum(weights)
    total = sums[:, -1:].clamp(min=LEAST_TOTAL)
    return sums / total * counts[:, None]


def fire_peaks(sums: Tensor) -> Tensor:
    """Running sums (B, T) -> what each frame holds before it fires: 1 or more where it fires.

    A frame fires where the sum passes a whole number once it is rounded to float32, as in the
    reference.
    """
    sums = sums.float()
    whole = sums.floor()
    fired = whole > F.pad(whole, (1, 0))[:, :-1]
    return sums - whole + fired


class _Shares(torch.autograd.Function):
    """Share of each frame in each token: what it adds to the sum between k and k + 1.

    Token k holds `clamp(S(t) - k, 0, 1)` after frame t, and the share is the difference of two
    frames. Whole and broken part of a sum are apart, so that the 70th token is as exact as the
    first. S(t) touches token floor(S(t)) alone: a look-up is the whole derivative.
    """

    @staticmethod
    def forward(ctx: Any, sums: Tensor, count: int) -> Tensor:
        ctx.save_for_backward(sums.floor().long())
        return _shares(sums, count)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (whole,) = ctx.saved_tensors
        if grad.size(1) == 0:
            return grad.new_zeros(whole.shape, dtype=torch.float64), None
        place = whole.clamp(max=grad.size(1) - 1)[:, None]
        slope = grad.gather(1, place).squeeze(1)
        slope[:, :-1] -= grad[..., 1:].gather(1, place[..., :-1]).squeeze(1)
        return slope.masked_fill(whole >= grad.size(1), 0.0).double(), None


def _shares(sums: Tensor, count: int | Tensor) -> Tensor:
    """See `_Shares`: running sums (B, T) -> shares (B, count, T)."""
    whole = sums.floor()
    token = torch.arange(cast(int, count), device=sums.device, dtype=torch.float32)[:, None]
    held = whole.float()[:, None] - token
    held.add_((sums - whole).float()[:, None]).clamp_(0.0, 1.0)
    return held - F.pad(held, (1, 0))[..., :-1]


def integrate(sums: Tensor, hidden: Tensor, count: int | Tensor) -> Tensor:
    """Running sums (B, T) and frames (B, T, D) -> the first `count` tokens (B, count, D); a tensor
    () without gradients stays one, so that a graph keeps it.

    Token k is the integral of the frames between the sums k and k + 1; one matrix product instead
    of a loop over T.

    >>> frames = torch.tensor([[[2.0], [4.0], [8.0]]])
    >>> integrate(torch.tensor([[0.5, 1.0, 1.5]], dtype=torch.float64), frames, 1)
    tensor([[[3.]]])
    """
    with torch.autocast(hidden.device.type, enabled=False):  # sums of many frames need float32
        frames = hidden.float()
        if sums.requires_grad and torch.is_grad_enabled():
            return torch.bmm(_Shares.apply(sums, int(count)), frames)
        if isinstance(count, Tensor) or count <= TOKENS or frames.requires_grad:
            return torch.bmm(_shares(sums, count), frames)
        # A share for each pair would be most of the memory that half an hour takes.
        tokens = frames.new_empty(len(frames), count, frames.size(2))
        for first in range(0, count, TOKENS):
            block = tokens[:, first : first + TOKENS]
            block.copy_(torch.bmm(_shares(sums - first, block.size(1)), frames))
        return tokens


def fire_to(alphas: Tensor, hidden: Tensor, counts: Tensor, size: int | None = None) -> CifOutput:
    """Scale the weights (B, T) of frames (B, T, D) to fire counts[b] tokens, and integrate."""
    total = alphas.sum(1)
    sums = scaled_running_sum(alphas, counts)
    embeds = integrate(sums, hidden, int(counts.max()) if size is None else size)
    scaled = alphas * (counts / total.clamp(min=LEAST_TOTAL))[:, None]
    return CifOutput(zero_padding(embeds, counts), counts, scaled, sums, total)


class CifPredictor(nn.Module):
    """Frame weights from a convolution, then integrate-and-fire.

    `depthwise` is the released `CifPredictor` (V1: depthwise convolution with a skip), else
    `CifPredictorV2`.
    """

    def __init__(
        self,
        idim: int,
        l_order: int = 1,
        r_order: int = 1,
        dropout_rate: float = 0.1,
        smooth_factor: float = 1.0,
        noise_threshold: float = 0.0,
        tail_threshold: float = 0.0,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        kernel = l_order + r_order + 1
        self.cif_conv1d = nn.Conv1d(idim, idim, kernel, groups=idim if depthwise else 1)
        self.cif_output = nn.Linear(idim, 1)
        self.pad = (l_order, r_order)
        self.dropout = Dropout(dropout_rate)
        self.smooth_factor, self.noise_threshold = smooth_factor, noise_threshold
        self.tail_threshold = tail_threshold
        self.depthwise = depthwise

    def weights(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Encoder output (B, T, D), 0 past lengths -> weights (B, T), 0 past lengths."""
        return self._raw_weights(hidden) * length_mask(lengths, hidden.size(1))

    def weights_in_chunks(self, hidden: Tensor, plan: ChunkPlan) -> Tensor:
        """Rows of chunks (B, N, D) -> weights (B, N), 0 but for the current rows."""
        return self._raw_weights(plan.fold(hidden)).view(len(hidden), -1) * plan.current

    def _raw_weights(self, hidden: Tensor) -> Tensor:
        context = self.cif_conv1d(F.pad(hidden.transpose(1, 2), self.pad)).transpose(1, 2)
        if self.depthwise:
            context = self.dropout(context + hidden)
        with torch.autocast(hidden.device.type, enabled=False):  # half precision miscounts
            score = self.cif_output(torch.relu(context).float()).squeeze(-1)
        return torch.relu(self.smooth_factor * torch.sigmoid(score) - self.noise_threshold)

    def forward(self, hidden: Tensor, lengths: Tensor) -> CifOutput:
        """Inference: the tail weight completes a last token, what is left under 1 is dropped."""
        hidden = zero_padding(hidden, lengths)
        alphas = self.weights(hidden, lengths)
        if self.tail_threshold > 0.0:
            hidden, alphas = F.pad(hidden, (0, 0, 0, 1)), F.pad(alphas, (0, 1))
            tail = torch.full_like(alphas[:, :1], self.tail_threshold)
            alphas = alphas.scatter_add(1, lengths[:, None], tail)
        sums = running_sum(alphas)
        counts = sums[:, -1].float().floor().long()  # rounded as where it fires
        embeds = integrate(sums, hidden, counts.max().clamp(min=0))
        embeds = zero_padding(embeds, counts)
        return CifOutput(embeds, counts, alphas, sums, alphas.sum(1))

    def initial_state(self, batch: int = 1) -> CifState:
        """The state of streams that have not begun."""
        weight = self.cif_output.weight
        return CifState(weight.new_zeros(batch), weight.new_zeros(batch, weight.size(1)))

    def forward_chunk(
        self, hidden: Tensor, lengths: Tensor, final: Tensor, state: CifState, rule: ChunkRule
    ) -> tuple[CifChunk, CifState]:
        """Rows of a chunk (B, C, D), 0 past lengths (B,), of streams that end here or do not.

        Only the chunk's own rows fire; where the stream ends (final (B,) bool), those behind them
        too, and the tail weight after them.
        """
        row = torch.arange(hidden.size(1), device=hidden.device)
        end = torch.where(final, lengths, lengths.clamp(max=rule.current + rule.stride))
        own = (row >= rule.current) & (row < end[:, None])
        alphas = torch.cat((state.weight[:, None], self._raw_weights(hidden) * own), dim=1)
        sound = alphas.isfinite().all(1, keepdim=True)
        alphas = F.pad(alphas.masked_fill(~sound, 0.0), (0, 1))
        alphas[:, -1] += final * self.tail_threshold
        hidden = F.pad(torch.cat((state.hidden[:, None], hidden), dim=1), (0, 0, 0, 1))
        sums = running_sum(alphas)
        counts = sums[:, -1].float().floor().long()  # rounded as where it fires
        size = int(counts.max())
        fired = integrate(sums, hidden, size + 1)
        rest = (sums[:, -1] - counts).clamp(min=0.0).to(alphas.dtype)
        held = fired.gather(1, counts[:, None, None].expand(-1, 1, fired.size(2))).squeeze(1)
        held = torch.where(rest[:, None] > 0.0, held / rest[:, None], held)
        sums = sums.masked_fill(~sound, torch.nan)
        chunk = CifChunk(zero_padding(fired[:, :size], counts), counts, sums)
        return chunk, CifState(rest, held.to(state.hidden.dtype))

    def forward_to(
        self, hidden: Tensor, lengths: Tensor, counts: Tensor, size: int | None = None
    ) -> CifOutput:
        """Training: the weights are scaled so that utterance b fires counts[b] tokens exactly.

        size: tokens of the result, padded with 0 (default: the largest count).
        """
        hidden = zero_padding(hidden, lengths)
        return fire_to(self.weights(hidden, lengths), hidden, counts, size)
