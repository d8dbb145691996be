"""Continuous integrate-and-fire (CIF: arXiv 1905.11235): frames become as many embeddings as
there are tokens.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.nn.layers import Dropout
from paraformer.nn.mask import length_mask, zero_padding


class CifOutput(NamedTuple):
    """What a predictor says of a batch."""

    embeds: Tensor  # (B, U, D): acoustic embeddings, 0 past token_lengths
    token_lengths: Tensor  # (B,) int64
    alphas: Tensor  # (B, T): weight of each frame; T counts the tail frame in inference
    peaks: Tensor  # (B, T): running sum since the last fire, before it is taken away
    total: Tensor  # (B,): sum of the weights before any scaling, for the MAE loss


def running_sum(weights: Tensor) -> Tensor:
    """Cumulative sum of weights (B, T), summed in float64 and rounded to float32 as the reference
    does.
    """
    return weights.double().cumsum(1).float()


def scaled_running_sum(weights: Tensor, counts: Tensor) -> Tensor:
    """Cumulative sum of weights (B, T) scaled to end in counts (B,) exactly, whatever the rounding.

    The last frame divides the total by itself, so each utterance fires all of its tokens.
    """
    sums = weights.double().cumsum(1)
    total = sums[:, -1:].clamp(min=torch.finfo(torch.float32).tiny)
    return (sums / total * counts[:, None]).float()


def fire_peaks(sums: Tensor) -> Tensor:
    """Running sums (B, T) -> what each frame holds before it fires: 1 or more where it fires."""
    whole = sums.floor()
    fired = whole > F.pad(whole, (1, 0))[:, :-1]
    return sums - whole + fired


class _Shares(torch.autograd.Function):
    """Share of each frame in each token: the overlap of [S(t-1), S(t)] with [k, k + 1].

    The derivative is written out since it is a comparison, where autograd would keep five (B, U,
    T) tensors.
    """

    @staticmethod
    def forward(ctx: Any, sums: Tensor, count: int) -> Tensor:
        before = F.pad(sums, (1, 0))[:, None, :-1]
        after = sums[:, None, :]
        token = torch.arange(count, device=sums.device, dtype=sums.dtype)[None, :, None]
        shares = torch.minimum(after, token + 1).sub_(torch.maximum(before, token)).clamp_(min=0)
        ctx.save_for_backward(sums, shares)
        return shares

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        sums, shares = ctx.saved_tensors
        before = F.pad(sums, (1, 0))[:, None, :-1]
        token = torch.arange(grad.size(1), device=sums.device, dtype=sums.dtype)[None, :, None]
        grad = grad.masked_fill(shares <= 0, 0.0)
        ends = grad.masked_fill(sums[:, None, :] >= token + 1, 0.0).sum(1)
        begins = grad.masked_fill_(before < token, 0.0).sum(1)
        return ends - F.pad(begins, (0, 1))[:, 1:], None


def integrate(sums: Tensor, hidden: Tensor, count: int) -> Tensor:
    """Running sums (B, T) and frames (B, T, D) -> the first `count` tokens (B, count, D).

    Token k is the integral of the frames between the sums k and k + 1; one matrix product instead
    of a loop over T.

    >>> integrate(torch.tensor([[0.5, 1.0, 1.5]]), torch.tensor([[[2.0], [4.0], [8.0]]]), 1)
    tensor([[[3.]]])
    """
    with torch.autocast(hidden.device.type, enabled=False):  # sums of many frames need float32
        return torch.bmm(_Shares.apply(sums, count), hidden.float())


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
        context = self.cif_conv1d(F.pad(hidden.transpose(1, 2), self.pad)).transpose(1, 2)
        if self.depthwise:
            context = self.dropout(context + hidden)
        with torch.autocast(hidden.device.type, enabled=False):  # half precision miscounts
            score = self.cif_output(torch.relu(context).float()).squeeze(-1)
        alphas = torch.relu(self.smooth_factor * torch.sigmoid(score) - self.noise_threshold)
        return alphas * length_mask(lengths, hidden.size(1))

    def forward(self, hidden: Tensor, lengths: Tensor) -> CifOutput:
        """Inference: the tail weight completes a last token, what is left under 1 is dropped."""
        hidden = zero_padding(hidden, lengths)
        alphas = self.weights(hidden, lengths)
        if self.tail_threshold > 0.0:
            hidden, alphas = F.pad(hidden, (0, 0, 0, 1)), F.pad(alphas, (0, 1))
            tail = torch.full_like(alphas[:, :1], self.tail_threshold)
            alphas = alphas.scatter_add(1, lengths[:, None], tail)
        sums = running_sum(alphas)
        counts = sums[:, -1].floor().long()
        embeds = integrate(sums, hidden, max(int(counts.max()), 0))
        embeds = zero_padding(embeds, counts)
        return CifOutput(embeds, counts, alphas, fire_peaks(sums), alphas.sum(1))

    def forward_to(
        self, hidden: Tensor, lengths: Tensor, counts: Tensor, size: int | None = None
    ) -> CifOutput:
        """Training: the weights are scaled so that utterance b fires counts[b] tokens exactly.

        size: tokens of the result, padded with 0 (default: the largest count).
        """
        hidden = zero_padding(hidden, lengths)
        alphas = self.weights(hidden, lengths)
        total = alphas.sum(1)
        sums = scaled_running_sum(alphas, counts)
        embeds = integrate(sums, hidden, int(counts.max()) if size is None else size)
        embeds = zero_padding(embeds, counts)
        scaled = alphas * (counts / total.clamp(min=torch.finfo(torch.float32).tiny))[:, None]
        return CifOutput(embeds, counts, scaled, fire_peaks(sums), total)
