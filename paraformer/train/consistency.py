"""CTC that says the same of two views of an utterance (CR-CTC, arXiv 2410.05101): both are masked
differently, and each learns from the posteriors of the other (`losses.view_distances`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from paraformer.data.batches.augment import SpecAug, SpecAugLfr
from paraformer.data.batches.dataset import Batch
from paraformer.errors import ConfigError
from paraformer.limits import check_fields, limited
from paraformer.train.losses import Weights


@dataclass(frozen=True)
class Consistency:
    """The weight of the distance of two views beside CTC (0.2 in the paper)."""

    weight: float = limited(0.0, 0)  # 0: off, one view

    def __post_init__(self) -> None:
        check_fields(self, "consistency")

    def check(self, weights: Weights, specaug: SpecAug | SpecAugLfr | None, alone: bool) -> None:
        """Refuse what gives nothing to compare, and what it is not made for."""
        if self.weight and not alone:
            raise ConfigError("consistency.weight: goes with neither hotwords nor mwer; set 0")
        if self.weight and not weights.ctc_weight:
            raise ConfigError("consistency.weight: compares what CTC says; set ctc_weight above 0")
        if self.weight and specaug is None:
            raise ConfigError("consistency.weight: views differ by masks; set model.specaug")


def two_views(batch: Batch, specaug: SpecAug | SpecAugLfr) -> Batch:
    """Each row twice, B apart, with masks of its own: frames of both are the same moments, so a
    time warp is drawn once for the two.
    """
    feats, masks = batch.feats, specaug
    if isinstance(specaug, SpecAug) and specaug.apply_time_warp:
        warp = replace(specaug, apply_freq_mask=False, apply_time_mask=False)
        feats, masks = warp(feats, batch.lengths), replace(specaug, apply_time_warp=False)
    lengths = torch.cat((batch.lengths, batch.lengths))
    names = ("text", "text_lengths", "units", "unit_lengths", "marks")
    twice: dict[str, Any] = {name: torch.cat((getattr(batch, name),) * 2) for name in names}
    return batch._replace(feats=masks(torch.cat((feats, feats)), lengths), lengths=lengths, **twice)
