"""BiCif-Paraformer: a Paraformer that says when each token was spoken."""

from __future__ import annotations

from paraformer.models.paraformer import Paraformer


class BiCifParaformer(Paraformer):
    """Tokens by the first head of its predictor, their times by the second (released
    `BiCifParaformer`, predictor `CifPredictorV3`).
    """

    @property
    def times_tokens(self) -> bool:
        """Whether the predictor has the second head; SeACo models may lack it."""
        return self.second_head is not None
