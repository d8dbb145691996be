"""The losses that training minimises: cross-entropy of the decoder, count error of the
predictor, CTC of the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer.models.paraformer import Paraformer, Teaching
from paraformer.nn.chunks import ChunkPlan
from paraformer.nn.mask import length_mask
from paraformer.train.parallel import mean_over_ranks


def label_smoothed_sum(logits: Tensor, targets: Tensor, smoothing: float, ignore_id: int) -> Tensor:
    """KL divergence from the smoothed targets, summed over tokens.

    logits (B, U, V), targets (B, U). The target keeps 1 - smoothing, each other class gets
    smoothing / (V - 1); the entropy of that distribution is subtracted, so that a perfect model
    scores 0.
    """
    size = logits.size(-1)
    keep = targets.flatten() != ignore_id
    logp = F.log_softmax(logits.flatten(0, 1)[keep].float(), dim=-1)
    other = smoothing / (size - 1)
    true = logp.gather(1, targets.flatten()[keep][:, None]).sum()
    cross = -((1.0 - smoothing - other) * true + other * logp.sum())
    entropy = _xlogx(1.0 - smoothing) + (size - 1) * _xlogx(other)
    return cross + entropy * keep.sum()


def _xlogx(p: float) -> float:
    value = torch.tensor(p, dtype=torch.float64)
    return float(torch.xlogy(value, value))


def ctc_losses(
    logp: Tensor, lengths: Tensor, text: Tensor, text_lengths: Tensor, blank: int
) -> Tensor:
    """CTC loss of each utterance (B,), 0 where the text cannot fit into the frames.

    logp (B, T, V) log-probabilities; text (B, U), whatever stands past text_lengths.
    """
    return F.ctc_loss(
        logp.transpose(0, 1),
        text.clamp(min=0),
        lengths,
        text_lengths,
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )


def view_distances(logp: Tensor, lengths: Tensor) -> Tensor:
    """KL divergence of each view (2B, T, V), log-probabilities, from the other one of its
    utterance, B rows away, which is taken for given: (2B,), summed over the frames of `lengths`.
    """
    other = torch.cat(logp.detach().chunk(2)[::-1])
    each = (other.exp() * (other - logp)).sum(-1)
    return each.masked_fill(~length_mask(lengths, logp.size(1)), 0.0).sum(1)


class Weights(NamedTuple):
    """Weights of the sum, named as in `model_conf` of a released config.yaml."""

    ctc_weight: float = 0.5
    lsm_weight: float = 0.0
    length_normalized_loss: bool = False
    predictor_weight: float = 0.0


class Losses(NamedTuple):
    """One batch: the loss to minimise, its size for averages, and its parts as plain tensors."""

    loss: Tensor
    weight: float  # tokens if length_normalized_loss, else utterances
    stats: dict[str, Tensor]


def paraformer_losses(
    model: Paraformer,
    weights: Weights,
    encoded: tuple[Tensor, Tensor],
    text: Tensor,
    text_lengths: Tensor,
    plan: ChunkPlan | None = None,
    beside: Mapping[str, Tensor] | None = None,
    consistency: float = 0.0,
) -> Losses:
    """CE + MAE (+ CTC) of a batch (`spec` names: loss_att, loss_pre, loss_ctc).

    encoded: output and lengths of `model.encode`; text (B, U) padded by ignore_id, text_lengths
    (B,). With a plan, the output is that of `model.encode_in_chunks`. beside: see `teach`.
    consistency: weight, beside CTC, of the distance of the two views that the batch then holds.
    """
    taught = model.teach(*encoded, text, text_lengths, plan, beside)
    texts = (text, text_lengths)
    return taught_losses(model, weights, taught, encoded, texts, plan, consistency=consistency)


def taught_losses(
    model: Paraformer,
    weights: Weights,
    taught: Teaching,
    encoded: tuple[Tensor, Tensor],
    text: tuple[Tensor, Tensor],
    plan: ChunkPlan | None = None,
    decoder_weight: float = 1.0,
    consistency: float = 0.0,
) -> Losses:
    """The same of a pass that is done; decoder_weight: of cross-entropy in the sum."""
    memory, memory_lengths = encoded
    size = mean_over_ranks(batch_size(weights, taught.target_lengths))
    stats = decoder_losses(model, weights, taught, size)
    count_error = (taught.target_lengths - taught.predicted.total).abs().sum()
    stats["loss_pre"] = count_error / size
    loss = decoder_weight * stats["loss_att"]
    if model.ctc_head is not None and weights.ctc_weight > 0.0:
        frames, memory_lengths = encoded if plan is None else plan.roll_up(memory)
        logp = model.ctc_head(frames)
        each = ctc_losses(logp, memory_lengths, *text, model.blank_id)
        # The reference divides by utterances; per token where the other parts are, so that they
        # keep one scale.
        share = size
        if not weights.length_normalized_loss:
            share = mean_over_ranks((each > 0).sum().clamp(min=1))
        stats["loss_ctc"] = heard = each.sum() / share
        if consistency > 0.0:
            stats["loss_cr"] = view_distances(logp, memory_lengths).sum() / share
            heard = heard + consistency * stats["loss_cr"]
        loss = weights.ctc_weight * heard + (1.0 - weights.ctc_weight) * loss
    return summed(loss + weights.predictor_weight * stats["loss_pre"], float(size), stats)


def batch_size(weights: Weights, target_lengths: Tensor) -> Tensor:
    """The number of tokens of a batch, or else of its utterances, which divides sums over it; of
    the rows of this process alone (see `mean_over_ranks`).
    """
    if weights.length_normalized_loss:
        return target_lengths.sum()
    return target_lengths.new_tensor(len(target_lengths))


def decoder_losses(
    model: Paraformer, weights: Weights, taught: Teaching, size: Tensor
) -> dict[str, Tensor]:
    """Cross-entropy of a pass with known text (`loss_att`), divided by `size` (), and the accuracy
    of its first guess.
    """
    smoothed = label_smoothed_sum(
        taught.logits, taught.targets, weights.lsm_weight, model.ignore_id
    )
    right = (taught.first_guess == taught.targets).sum()
    return {
        "loss_att": smoothed / size,
        "acc": right / mean_over_ranks(taught.target_lengths.sum()),
    }


def summed(loss: Tensor, weight: float, parts: dict[str, Tensor]) -> Losses:
    """A loss with the parts that it is the sum of."""
    stats = {name: value.detach() for name, value in parts.items()}
    return Losses(loss, weight, {**stats, "loss": loss.detach()})
