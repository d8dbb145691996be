"""The training objective: the losses of the model and, if asked for, CTC over a second inventory
inside the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from paraformer.data.augment import SpecAug, SpecAugLfr
from paraformer.data.dataset import Batch
from paraformer.models.paraformer import CtcHead, Paraformer
from paraformer.nn.chunks import ChunkPlan, make_plan
from paraformer.nn.mask import zero_padding
from paraformer.train.chunking import Chunking
from paraformer.train.losses import Losses, Weights, ctc_losses, paraformer_losses


@dataclass(frozen=True)
class UnitCtc:
    """CTC over units such as initials and toned finals, which characters with one sound share.

    The head exists in training alone and is not part of the model that is saved.
    """

    size: int = 0  # of the inventory with the blank; 0: off
    layer: int = 6  # encoder layer that it listens to, counted from 1
    weight: float = 0.3


class Objective(nn.Module):
    """Batch -> loss; owns the model and the heads that only training needs."""

    def __init__(
        self,
        model: Paraformer,
        weights: Weights,
        unit: UnitCtc | None = None,
        warm_steps: int = 0,
        specaug: SpecAug | SpecAugLfr | None = None,
        chunking: Chunking | None = None,
    ) -> None:
        """warm_steps: for that many first steps the CTC heads and the predictor learn without the
        decoder. specaug and chunking are applied in training mode alone.
        """
        super().__init__()
        self.specaug, self.chunking = specaug, chunking
        self.model, self.weights, self.warm_steps = model, weights, warm_steps
        self.unit = unit if unit is not None and unit.size > 0 else None
        if self.unit is not None:
            self.unit_head = CtcHead(model.encoder.output_size, self.unit.size)

    def forward(self, batch: Batch, step: int) -> Losses:
        """Losses of optimiser step `step`, counted from 1."""
        if self.specaug is not None and self.training:
            batch = batch._replace(feats=self.specaug(batch.feats, batch.lengths))
        rule = self.chunking.draw() if self.chunking is not None and self.training else None
        plan = None if rule is None else make_plan(batch.lengths, rule, batch.feats.size(1))
        memory, lengths, tapped = self._encode(batch, plan)
        if step <= self.warm_steps:
            result = self._warm(memory, lengths, batch, plan)
        else:
            result = paraformer_losses(
                self.model, self.weights, (memory, lengths), batch.text, batch.text_lengths, plan
            )
        if self.unit is None or tapped is None:
            return result
        heard, counts = (tapped, lengths) if plan is None else plan.roll_up(tapped)
        each = ctc_losses(self.unit_head(heard), counts, batch.units, batch.unit_lengths, 0)
        value = each.sum() / self._size(batch)
        stats = {**result.stats, "loss_unit": value.detach()}
        return result._replace(loss=result.loss + self.unit.weight * value, stats=stats)

    def _encode(self, batch: Batch, plan: ChunkPlan | None) -> tuple[Tensor, Tensor, Tensor | None]:
        if plan is not None:
            taps = () if self.unit is None else (self.unit.layer,)
            memory, rows = self.model.encode_in_chunks(batch.feats, batch.lengths, plan, taps)
            return memory, batch.lengths, rows[0] if rows else None
        if self.unit is None:
            return *self.model.encode(batch.feats, batch.lengths), None
        memory, lengths, (tapped,) = self.model.encoder.forward_with_taps(
            batch.feats, batch.lengths, (self.unit.layer,)
        )
        return zero_padding(memory, lengths), lengths, tapped

    def _size(self, batch: Batch) -> Tensor:
        utterances = batch.text_lengths.new_tensor(len(batch.text_lengths))
        return batch.text_lengths.sum() if self.weights.length_normalized_loss else utterances

    def _warm(
        self, memory: Tensor, lengths: Tensor, batch: Batch, plan: ChunkPlan | None
    ) -> Losses:
        """CTC and the count of tokens: cheap steps that teach the encoder where sounds begin."""
        head, size, predictor = self.model.ctc_head, self._size(batch), self.model.predictor
        if plan is None:
            total = predictor.weights(memory, lengths).sum(1)
        else:
            total = predictor.weights_in_chunks(memory, plan).sum(1)
            memory, lengths = plan.roll_up(memory)
        _, counts = self.model.targets(batch.text, batch.text_lengths)
        stats = {"loss_pre": (counts - total).abs().sum() / size}
        loss = self.weights.predictor_weight * stats["loss_pre"]
        if head is not None:
            each = ctc_losses(
                head(memory), lengths, batch.text, batch.text_lengths, self.model.blank_id
            )
            stats["loss_ctc"] = each.sum() / size
            loss = loss + self.weights.ctc_weight * stats["loss_ctc"]
        stats = {name: value.detach() for name, value in stats.items()}
        return Losses(loss, float(size), {**stats, "loss": loss.detach()})


def token_errors(model: Paraformer, batch: Batch) -> tuple[int, int]:
    """Errors and reference tokens of greedy decoding, for validation."""
    from rapidfuzz.distance import Levenshtein

    memory, lengths = model.encode(batch.feats, batch.lengths)
    predicted = model.predict(memory, lengths)
    best = model.decode(predicted.embeds, predicted.token_lengths, memory, lengths).argmax(-1)
    errors = 0
    for row, count, text, length in zip(
        best.tolist(),
        predicted.token_lengths.tolist(),
        batch.text.tolist(),
        batch.text_lengths.tolist(),
        strict=True,
    ):
        guess = [token for token in row[:count] if token > model.eos]
        errors += Levenshtein.distance(guess, text[:length])
    return errors, int(batch.text_lengths.sum())


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Mixed precision `bf16` or none (`fp32`)."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
