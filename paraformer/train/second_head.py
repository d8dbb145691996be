"""The second head of `CifPredictorV3` learns when tokens begin: from how many there are, as in
the released recipe, and from known times where the data has some.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer.decode.timestamps import FIRE_SHIFT
from paraformer.limits import check_fields, limited
from paraformer.nn.cif import LEAST_TOTAL
from paraformer.nn.cif_v3 import CifPredictorV3

# A sum that reaches a whole number inside step t fires at t, half a step early on the whole, and
# the token is said to begin FIRE_SHIFT later.
LAG = 0.5 - FIRE_SHIFT
# The sum has to pass the whole number there, not to rest at it through the silence before: so many
# steps earlier it is to be lower by RISE tokens, and later higher by as much.
AROUND, RISE = 2.0, 0.3


@dataclass(frozen=True)
class SecondHead:
    """Weights of its losses in the sum."""

    count_weight: float | None = limited(None, 0)  # by default as released
    time_weight: float = limited(1.0, 0)

    def __post_init__(self) -> None:
        check_fields(self, "second_head")


def second_head_losses(
    predictor: CifPredictorV3,
    memory: tuple[Tensor, Tensor],
    counts: Tensor,
    marks: Tensor,
    frame_seconds: float,
) -> tuple[Tensor, Tensor | None]:
    """Summed count error, and the mean distance in tokens of the running sum from known times.

    memory: encoder output (B, T, D) and lengths (B,); counts (B,): tokens, the end symbol among
    them; marks (B, M, 2): seconds, and tokens that have begun by then, padded by 0. The second is
    None without marks.
    """
    weights = predictor.fine_weights(*memory)
    error = (counts - weights.sum(1)).abs().sum()
    known = marks[..., 1] > 0
    if not known.any():
        return error, None
    sums = weights.cumsum(1)
    sums = F.pad(sums * (counts / sums[:, -1].clamp(min=LEAST_TOTAL))[:, None], (1, 0))
    place = marks[..., 0] * (predictor.upsample_times / frame_seconds) + LAG
    wanted = marks[..., 1]
    early = at(sums, place - AROUND) - (wanted - RISE)
    late = torch.minimum(wanted + RISE, counts[:, None]) - at(sums, place + AROUND)
    return error, (early.clamp(min=0.0) + late.clamp(min=0.0))[known].mean()


def at(sums: Tensor, place: Tensor) -> Tensor:
    """Values (B, S + 1) at the bounds of steps -> (B, M) at places (B, M) between them.

    >>> at(torch.tensor([[0.0, 1.0, 3.0]]), torch.tensor([[0.5, 1.5, 9.0]]))
    tensor([[0.5000, 2.0000, 3.0000]])
    """
    place = place.clamp(0, sums.size(1) - 1)
    below = place.long().clamp(max=sums.size(1) - 2)
    low, high = sums.gather(1, below), sums.gather(1, below + 1)
    return low + (place - below) * (high - low)
