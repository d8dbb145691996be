"""BiCif-Paraformer: a Paraformer that says when each token was spoken."""

from __future__ import annotations

from typing import cast

from torch import Tensor

from paraformer.errors import ConfigError
from paraformer.models.paraformer import Paraformer
from paraformer.nn.cif_v3 import CifPredictorV3, Timeline


class BiCifParaformer(Paraformer):
    """Tokens by the first head of its predictor, their times by the second (released
    `BiCifParaformer`, predictor `CifPredictorV3`).
    """

    @property
    def times_tokens(self) -> bool:
        """Whether the predictor has the second head; SeACo models may lack it."""
        return isinstance(self.predictor, CifPredictorV3)

    def timeline(self, memory: Tensor, memory_lengths: Tensor, counts: Tensor) -> Timeline:
        """Encoder output (B, T, D) and how many tokens fired (B,), the end symbol among them ->
        where they did.
        """
        if not self.times_tokens:
            raise ConfigError("this model has no times: its predictor is not CifPredictorV3")
        return cast(CifPredictorV3, self.predictor).timeline(memory, memory_lengths, counts)
