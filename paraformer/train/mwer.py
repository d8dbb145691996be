"""Minimum word error rate by negative samples (Paraformer, arXiv 2206.08317): of several readings
of an utterance, those with fewer errors than the mean become likelier.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from paraformer.decode.search import SOS
from paraformer.errors import ConfigError
from paraformer.limits import check_fields, limited
from paraformer.models.paraformer import Paraformer, Teaching
from paraformer.nn.chunks import ChunkPlan
from paraformer.nn.mask import length_mask
from paraformer.train.losses import Losses, Weights, batch_size, summed, taught_losses
from paraformer.train.parallel import mean_over_ranks

CHOICES = {
    "edit": ("token",),
    "length": ("teacher", "predicted"),
    "draw": ("second", "sample", "closest"),
}
CLOSE = 8  # positions, the least certain ones, at which the closest readings may differ


@dataclass(frozen=True)
class Mwer:
    """A fine-tuning stage on a model that cross-entropy has trained; off where its weight is 0."""

    weight: float = limited(0.0, 0)  # of the expected errors in the sum
    nbest: int = limited(4, 1)  # readings of an utterance, the best one among them
    mask_ratio: float = limited(0.2, 0, 1)  # of its tokens, that another reading changes
    gamma: float = limited(0.01, 0)  # weight of cross-entropy in the sum
    edit: str = "token"  # what errors are counted in
    length: str = "teacher"  # tokens of a reading: the true number, or as predicted
    # The token instead of the best: the second, or sampled among the others. closest: nothing is
    # drawn, these are the most likely of the readings with second tokens (not in the paper).
    draw: str = "second"

    def __post_init__(self) -> None:
        check_fields(self, "mwer")
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ConfigError(f"mwer.{name}={value}: not known; {' or '.join(choices)}")


class Paths(NamedTuple):
    """Readings of a batch, before special ids are left out."""

    ids: Tensor  # (B, N, U): first the best one; arbitrary past an utterance's length
    kept: Tensor  # (B, N): False where an earlier one is equal


@torch.no_grad()
def draw_paths(
    logits: Tensor, lengths: Tensor, mwer: Mwer, generator: torch.Generator | None = None
) -> Paths:
    """The best path, and others that miss the best token at `mask_ratio` of the positions.

    logits (B, U, V), lengths (B,). Positions are drawn without replacement, at least one. The
    numbers are drawn on the CPU, the same ones whatever the device.
    """
    top = logits.topk(2, dim=-1)
    best, second = top.indices.unbind(-1)
    inside = length_mask(lengths, logits.size(1))
    others = mwer.nbest - 1
    if mwer.draw == "closest":
        gaps = top.values[..., 0] - top.values[..., 1]
        return _distinct(best, second[:, None], _cheapest(gaps, inside, others), inside)
    noise = torch.rand(len(best), others, best.size(1), generator=generator).to(logits.device)
    rank = noise.masked_fill(~inside[:, None], 2.0).argsort(-1).argsort(-1)
    counts = (lengths.double() * mwer.mask_ratio).round().clamp(min=1)
    masked = (rank < counts[:, None, None]) & inside[:, None]
    instead = second[:, None]
    if mwer.draw == "sample":
        instead = _sample_others(logits, best, others, generator)
    return _distinct(best, instead, masked, inside)


def _distinct(best: Tensor, instead: Tensor, masked: Tensor, inside: Tensor) -> Paths:
    """The best path (B, U), and it with other tokens (B, N or 1, U) where masked (B, N, U)."""
    ids = torch.cat((best[:, None], torch.where(masked, instead, best[:, None])), dim=1)
    equal = ((ids[:, :, None] == ids[:, None]) | ~inside[:, None, None]).all(-1)
    return Paths(ids, ~equal.tril(-1).any(-1))


def _cheapest(gaps: Tensor, inside: Tensor, count: int) -> Tensor:
    """Sets of positions (B, count, U) with the smallest sums of gaps (B, U), of the CLOSE smallest.

    Fewer sets than asked for come back as empty ones.
    """
    size = min(CLOSE, gaps.size(1))
    worst = torch.finfo(torch.float32).max / (2 * CLOSE)
    near = gaps.float().masked_fill(~inside, worst).topk(size, largest=False)
    sets = torch.arange(1, 2**size, device=gaps.device)[:, None] >> torch.arange(
        size, device=gaps.device
    )
    members = (sets & 1).bool()  # (S, size)
    chosen = (near.values @ members.T.float()).topk(min(count, len(members)), largest=False)
    taken = members[chosen.indices]
    masked = torch.zeros(len(gaps), count, gaps.size(1), dtype=torch.bool, device=gaps.device)
    places = near.indices[:, None].expand_as(taken)
    masked[:, : taken.size(1)] = masked[:, : taken.size(1)].scatter(2, places, taken)
    return masked & inside[:, None]


def _sample_others(
    logits: Tensor, best: Tensor, count: int, generator: torch.Generator | None
) -> Tensor:
    """Logits (B, U, V) -> tokens (B, count, U) by their probabilities, never the best (B, U)."""
    shares = logits.float().softmax(-1).scatter(-1, best[..., None], 0.0).cumsum(-1)
    noise = torch.rand(*best.shape, count, generator=generator).to(logits.device)
    place = torch.searchsorted(shares, noise * shares[..., -1:], right=True)
    return place.clamp(max=logits.size(-1) - 1).transpose(1, 2)


def path_scores(logits: Tensor, lengths: Tensor, ids: Tensor) -> Tensor:
    """Log-probabilities (B, N) of paths (B, N, U), less what all paths of an utterance share.

    That is the normaliser of each position: the softmax over paths and its gradient are the same
    without it, and no tensor of the size of the logits is made.
    """
    chosen = logits.gather(2, ids.transpose(1, 2)).float()
    outside = ~length_mask(lengths, logits.size(1))[..., None]
    return chosen.masked_fill(outside, 0.0).sum(1)


def count_errors(
    ids: Tensor, lengths: Tensor, text: Tensor, text_lengths: Tensor, special: Sequence[int]
) -> Tensor:
    """Levenshtein distances (B, N) of paths (B, N, U) to texts (B, U'), on the CPU.

    A path ends with the last id of `special`; the others are left out of it.
    """
    from rapidfuzz.distance import Levenshtein
    from rapidfuzz.process import cpdist

    ids, number = ids.cpu(), ids.size(1)
    keep = (ids == special[-1]).cumsum(-1) == 0
    keep &= length_mask(lengths.cpu(), ids.size(2))[:, None]
    keep &= ~torch.isin(ids, torch.tensor(special))
    said = _strings(ids.flatten(0, 1), keep.flatten(0, 1))
    true = _strings(text.cpu(), length_mask(text_lengths.cpu(), text.size(1)))
    repeated = [reference for reference in true for _ in range(number)]
    distances = cpdist(repeated, said, scorer=Levenshtein.distance, dtype=np.int32)
    return torch.from_numpy(distances).view(-1, number)


def _strings(ids: Tensor, keep: Tensor) -> list[str]:
    """Ids (R, U) of which some stay -> a string of one character a token for each row."""
    everything = "".join(map(chr, ids[keep].tolist()))
    ends = keep.sum(1).cumsum(0).tolist()
    return [everything[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


def error_risk(scores: Tensor, errors: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """sum_i P_i (W_i - mean W) of each utterance (B,), P the softmax of scores (B, N) over the
    paths that are kept, and sum_i P_i W_i, the errors that are to be expected.

    >>> scores, kept = torch.zeros(1, 2), torch.ones(1, 2, dtype=torch.bool)
    >>> error_risk(scores, torch.tensor([[0.0, 4.0]]), kept)
    (tensor([0.]), tensor([2.]))
    """
    shares = scores.masked_fill(~kept, -torch.inf).softmax(-1)
    errors = errors.to(shares) * kept
    mean = errors.sum(-1, keepdim=True) / kept.sum(-1, keepdim=True)
    return (shares * (errors - mean)).sum(-1), (shares * errors).sum(-1)


def mwer_losses(
    model: Paraformer,
    weights: Weights,
    mwer: Mwer,
    encoded: tuple[Tensor, Tensor],
    text: tuple[Tensor, Tensor],
    plan: ChunkPlan | None = None,
    generator: torch.Generator | None = None,
) -> Losses:
    """`paraformer_losses` with gamma times its cross-entropy, and the risk of errors (`loss_werr`;
    `expected_errors` are those of a reading, by true tokens).

    encoded, text (ids and lengths) and plan: as in `paraformer_losses`.
    """
    taught = model.teach(*encoded, *text, plan)
    rest = taught_losses(model, weights, taught, encoded, text, plan, mwer.gamma)
    logits, lengths = _logits(model, mwer, taught, encoded, plan)
    paths = draw_paths(logits, lengths, mwer, generator)
    special = (model.blank_id, SOS, model.eos)
    errors = count_errors(paths.ids, lengths, *text, special).to(logits.device)
    scores = path_scores(logits, lengths, paths.ids)
    risks, expected = error_risk(scores, errors, paths.kept)
    risk = risks.sum() / mean_over_ranks(batch_size(weights, taught.target_lengths))
    tokens = mean_over_ranks(text[1].sum())
    parts = {"loss_werr": risk, "expected_errors": expected.sum() / tokens}
    return summed(rest.loss + mwer.weight * risk, rest.weight, {**rest.stats, **parts})


def _logits(
    model: Paraformer,
    mwer: Mwer,
    taught: Teaching,
    encoded: tuple[Tensor, Tensor],
    plan: ChunkPlan | None,
) -> tuple[Tensor, Tensor]:
    """Logits (B, U, V) without any true token shown, and their lengths (B,).

    A batch in chunks has the true number of tokens always.
    """
    predicted, lengths = taught.predicted, taught.target_lengths
    seen = {}
    if mwer.length == "predicted" and plan is None:
        predicted = model.predict(*encoded)
        lengths = predicted.token_lengths
    elif model.sampling_ratio == 0.0:
        return taught.logits, lengths
    elif plan is not None:
        seen["keys"] = plan.token_keys(predicted.sums, lengths, predicted.embeds.size(1))
    return model.decoder(predicted.embeds, lengths, *encoded, **seen), lengths
