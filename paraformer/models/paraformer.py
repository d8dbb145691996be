"""Paraformer (arXiv 2206.08317): encoder, CIF predictor, glancing sampler, parallel decoder."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.nn.cif import CifOutput, CifPredictor
from paraformer.nn.conformer import ConformerEncoder
from paraformer.nn.mask import length_mask, zero_padding
from paraformer.nn.sanm import SanmDecoder, SanmEncoder
from paraformer.nn.transformer import SanDecoder, TransformerEncoder

Encoder = SanmEncoder | ConformerEncoder | TransformerEncoder
Decoder = SanmDecoder | SanDecoder


class CtcHead(nn.Module):
    """Linear output over the encoder for CTC."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.ctc_lo = nn.Linear(width, vocab_size)

    def forward(self, memory: Tensor) -> Tensor:
        """(B, T, D) -> log-probabilities (B, T, V)."""
        return F.log_softmax(self.ctc_lo(memory).float(), dim=-1)


class Teaching(NamedTuple):
    """What the losses need of a forward pass with known text."""

    logits: Tensor  # (B, U, V) of the last decoder pass
    first_guess: Tensor  # (B, U) argmax of the first pass, the measure of accuracy
    targets: Tensor  # (B, U) with the end symbol if the model predicts it, ignore_id past the end
    target_lengths: Tensor  # (B,)
    predicted: CifOutput


class Paraformer(nn.Module):
    """Non-autoregressive recogniser; `encoder`, `predictor`, `decoder` may be any of `nn/`.

    The attribute names are those of released checkpoints. Training options mirror `model_conf` of
    a released config.yaml and are read by `train/losses.py`.
    """

    def __init__(
        self,
        encoder: Encoder,
        predictor: CifPredictor,
        decoder: Decoder,
        ctc: CtcHead | None = None,
        *,
        predictor_bias: int = 0,
        sampling_ratio: float = 0.2,
        share_embedding: bool = False,
        blank_id: int = 0,
        eos: int = 2,
        ignore_id: int = -1,
    ) -> None:
        super().__init__()
        self.encoder, self.predictor, self.decoder = encoder, predictor, decoder
        if ctc is not None:
            self.ctc = ctc
        self.predictor_bias, self.sampling_ratio = predictor_bias, sampling_ratio
        self.share_embedding = share_embedding
        self.blank_id, self.eos, self.ignore_id = blank_id, eos, ignore_id

    @property
    def ctc_head(self) -> CtcHead | None:
        """The CTC head, None where the model has none."""
        return getattr(self, "ctc", None)

    def encode(self, feats: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, D) -> encoder output (B, T', D'), 0 past its lengths, and those lengths
        (B,).
        """
        memory, memory_lengths = self.encoder(feats, lengths)
        return zero_padding(memory, memory_lengths), memory_lengths

    def predict(self, memory: Tensor, memory_lengths: Tensor) -> CifOutput:
        """Encoder output -> acoustic embeddings, as many as the predictor hears tokens."""
        return self.predictor(memory, memory_lengths)

    def decode(
        self, embeds: Tensor, token_lengths: Tensor, memory: Tensor, memory_lengths: Tensor
    ) -> Tensor:
        """Acoustic embeddings (B, U, D) -> log-probabilities (B, U, V)."""
        logits = self.decoder(embeds, token_lengths, memory, memory_lengths)
        return F.log_softmax(logits.float(), dim=-1)

    def targets(self, text: Tensor, text_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids (B, U) padded by ignore_id -> the same with the end symbol if the model
        predicts it.
        """
        if self.predictor_bias != 1:
            return text, text_lengths
        text = F.pad(text, (0, 1), value=self.ignore_id)
        return text.scatter(1, text_lengths[:, None], self.eos), text_lengths + 1

    def teach(
        self, memory: Tensor, memory_lengths: Tensor, text: Tensor, text_lengths: Tensor
    ) -> Teaching:
        """Decode with the true number of tokens and, by the sampler, some of the true tokens
        shown.
        """
        targets, lengths = self.targets(text, text_lengths)
        predicted = self.predictor.forward_to(memory, memory_lengths, lengths, targets.size(1))
        embeds, guess = predicted.embeds, None
        if self.sampling_ratio > 0.0:
            embeds, guess = self.sample(predicted, memory, memory_lengths, targets)
        logits = self.decoder(embeds, lengths, memory, memory_lengths)
        if guess is None:
            guess = logits.detach().argmax(-1)
        return Teaching(logits, guess, targets, lengths, predicted)

    def sample(
        self, predicted: CifOutput, memory: Tensor, memory_lengths: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Replace acoustic embeddings by those of true tokens, the more the worse the first pass
        was.

        The number is trunc(ratio * wrong tokens), the places are drawn among all tokens (as the
        reference; the paper rounds up). Returns the mixed embeddings (B, U, D) and the first
        guess (B, U).
        """
        lengths = predicted.token_lengths
        with torch.no_grad():
            logits = self.decoder(predicted.embeds, lengths, memory, memory_lengths)
            guess = logits.argmax(-1)
        wrong = ((guess != targets) & length_mask(lengths, targets.size(1))).sum(1)
        counts = (wrong.float() * self.sampling_ratio).long()
        shown = torch.zeros_like(targets, dtype=torch.bool)
        for row, (count, length) in enumerate(zip(counts.tolist(), lengths.tolist(), strict=True)):
            if count > 0:
                shown[row, torch.randperm(length)[:count].to(shown.device)] = True
        known = self.embed_tokens(targets.clamp(min=0)).to(predicted.embeds.dtype)
        mixed = torch.where(shown[..., None], known, predicted.embeds)
        return zero_padding(mixed, lengths), guess

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, U) -> the embeddings (B, U, D) that the sampler shows."""
        if self.share_embedding:
            return F.embedding(ids, self.decoder.output_layer.weight)
        return self.decoder.embed_tokens(ids)
