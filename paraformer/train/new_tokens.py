"""New tokens at the end of a model's list learn faster than what it knows already.

At the rate that suits a trained model, a row that begins far below all others would take thousands
of steps. What a new row learns is a tensor of its own, which is added to the weights in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from paraformer.errors import ConfigError
from paraformer.limits import check_fields, limited

# Layers that have a row for each token, by the names of released checkpoints.
TOKEN_LAYERS = (
    "decoder.embed.0",
    "decoder.output_layer",
    "ctc.ctc_lo",
    "hotword_output_layer",
    "bias_embed",
)


@dataclass(frozen=True)
class NewTokens:
    """The number of new tokens at the end of the list, and the rate at which their rows learn."""

    count: int = limited(0, 0)
    rate: float = limited(20.0, 0, above=True)  # times the learning rate

    def __post_init__(self) -> None:
        check_fields(self, "new_tokens")


class NewRows(nn.Module):
    """A tensor that is added to the last rows of a weight (V, ...)."""

    def __init__(self, weight: Tensor, count: int) -> None:
        super().__init__()
        self.extra = nn.Parameter(weight.new_zeros(count, *weight.shape[1:]))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with what was learnt."""
        before = len(weight) - len(self.extra)
        return weight + F.pad(self.extra, (0, 0) * (weight.dim() - 1) + (before, 0))


def add_rows(
    model: nn.Module, tokens: NewTokens, vocabulary: int, beside: Sequence[str] = ()
) -> list[str]:
    """Give the rows of new tokens tensors of their own, in all `TOKEN_LAYERS` that there are.

    Parameters that are frozen are left as they are, but for those of the layers `beside`, whose new
    rows learn and whose others stay. Returns the names of the tensors.
    """
    if tokens.count >= vocabulary:
        raise ConfigError(
            f"new_tokens.count={tokens.count}: give less than all {vocabulary} tokens"
        )
    found = []
    layers = dict(model.named_modules())
    for name in (name for name in TOKEN_LAYERS if name in layers):
        module = layers[name]
        for part, weight in list(module.named_parameters(recurse=False)):
            if weight.requires_grad or name in beside:
                rows = NewRows(cast(Tensor, getattr(module, part)), tokens.count)
                parametrize.register_parametrization(module, part, rows)
                found.append(f"{name}.parametrizations.{part}.0.extra")
    return found
