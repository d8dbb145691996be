"""Forced alignment (released `MonotonicAligner`, fa-zh): when a known text was spoken."""

from __future__ import annotations

from torch import Tensor, nn

from paraformer.models.paraformer import Encoder
from paraformer.nn.cif_v3 import CifPredictorV3, Timeline
from paraformer.nn.mask import zero_padding


class Aligner(nn.Module):
    """Encoder and second head of a `BiCifParaformer`, without a decoder: the text is given."""

    def __init__(
        self, encoder: Encoder, predictor: CifPredictorV3, *, predictor_bias: int = 0
    ) -> None:
        """predictor_bias: what fires behind the text, 1 in released models (the end symbol)."""
        super().__init__()
        self.encoder, self.predictor = encoder, predictor
        self.predictor_bias = predictor_bias

    def encode(self, feats: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, D) -> encoder output (B, T', D'), 0 past its lengths, and those lengths
        (B,).
        """
        memory, memory_lengths = self.encoder(feats, lengths)
        return zero_padding(memory, memory_lengths), memory_lengths

    def timeline(self, memory: Tensor, memory_lengths: Tensor, text_lengths: Tensor) -> Timeline:
        """Encoder output and the number of tokens of each text (B,) -> where they begin."""
        return self.predictor.timeline(memory, memory_lengths, text_lengths + self.predictor_bias)

    def forward(self, feats: Tensor, lengths: Tensor, text_lengths: Tensor) -> Timeline:
        """Features (B, T, D) and the number of tokens of each text (B,) -> where they begin."""
        return self.timeline(*self.encode(feats, lengths), text_lengths)
