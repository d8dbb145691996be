"""The training objective: the losses of the model, of its heads for times and hotwords and, if
asked for, CTC over a second inventory inside the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from paraformer.data.batches.augment import SpecAug, SpecAugLfr
from paraformer.data.batches.dataset import Batch
from paraformer.errors import ConfigError
from paraformer.limits import check_fields, limited
from paraformer.models.aligner import Aligner
from paraformer.models.paraformer import CtcHead, Paraformer
from paraformer.models.seaco import SeacoParaformer
from paraformer.nn.bias import Bias
from paraformer.nn.chunks import ChunkPlan, make_plan
from paraformer.nn.cif_v3 import CifPredictorV3
from paraformer.nn.mask import zero_padding
from paraformer.train.chunking import Chunking
from paraformer.train.consistency import Consistency, two_views
from paraformer.train.hotwords import (
    Hotwords,
    Sampler,
    SeacoWeights,
    check_no_bias,
    seaco_losses,
    shared_layers,
)
from paraformer.train.lora import Lora, add_adapters, check_parts, is_part, merged_state
from paraformer.train.losses import (
    Losses,
    Weights,
    batch_size,
    ctc_losses,
    paraformer_losses,
    summed,
)
from paraformer.train.mwer import Mwer, mwer_losses
from paraformer.train.new_tokens import NewTokens, add_rows
from paraformer.train.parallel import mean_over_ranks
from paraformer.train.second_head import SecondHead, second_head_losses

NO_MWER = "mwer.weight: readings are drawn of a decoder without hotwords, as in Paraformer; set 0"


@dataclass(frozen=True)
class UnitCtc:
    """CTC over units such as initials and toned finals, which characters with one sound share.

    The head exists in training alone and is not part of the model that is saved.
    """

    size: int = 0  # of the inventory with the blank; 0: off
    layer: int = 6  # encoder layer that it listens to, counted from 1
    weight: float = limited(0.3, 0)

    def __post_init__(self) -> None:
        check_fields(self, "unit_ctc")


@dataclass(frozen=True)
class Heads:
    """Settings that only models with a second head (times) or with hotwords need."""

    frame_seconds: float = 0.06  # of the encoder's output
    second: SecondHead = SecondHead()
    hotwords: Sampler = field(default_factory=Sampler)
    seaco: SeacoWeights = SeacoWeights()


@dataclass(frozen=True)
class Added:
    """Tensors that learn beside the parameters of a model of so many tokens, or instead of them."""

    lora: Lora = Lora()
    tokens: NewTokens = NewTokens()
    vocabulary: int = 0


class TrainObjective(nn.Module):
    """Batch -> loss, and what the training loop asks of it.

    Parts of its `model` may be frozen: they get no gradient, and run as in recognition, without
    dropout.
    """

    model: nn.Module
    warm_steps = 0
    metric = "token_error_rate"  # of validation, the smaller the better

    def __init__(
        self,
        model: nn.Module,
        frozen: Sequence[str] = (),
        added: Added | None = None,
        shared: Sequence[str] = (),
    ) -> None:
        """frozen: the first parts of the names of parameters, such as `encoder`. added: what learns
        beside the parameters or instead of them. shared: layers that are frozen for the tokens
        that they know, but not for new ones.
        """
        super().__init__()
        self.model = model
        check_parts(model, frozen, "freeze")
        for name, parameter in model.named_parameters():
            if any(is_part(name, prefix) for prefix in frozen):
                parameter.requires_grad_(False)
        added, rows = added or Added(), list[str]()
        if added.tokens.count:
            rows = add_rows(model, added.tokens, added.vocabulary, shared)
        lora = added.lora
        self.adapted = add_adapters(model, lora, frozen, rows) if lora.rank else []
        self.faster = {f"model.{name}": added.tokens.rate for name in rows}
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ConfigError("freeze: leaves nothing to train; name fewer parts")

    def weights_to_keep(self) -> dict[str, Tensor]:
        """The state dict of the model as it is used: adapters are part of its weights."""
        return merged_state(self.model)

    def errors(self, batch: Any) -> tuple[int, int]:
        """Errors and reference tokens of recognition, for validation; 0 and 0: there is no text."""
        return 0, 0

    @property
    def leaves_out(self) -> bool:
        """Whether there are steps whose loss does not depend on all parameters that learn."""
        return True

    def train(self, mode: bool = True) -> TrainObjective:
        """As of any module, but parts that are frozen as a whole stay in evaluation mode."""
        super().train(mode)
        for module in self.model.modules():
            own = list(module.parameters())
            if own and not any(parameter.requires_grad for parameter in own):
                module.eval()
        return self


class Objective(TrainObjective):
    """The losses of a recogniser; owns the model and the heads that only training needs."""

    model: Paraformer

    def __init__(
        self,
        model: Paraformer,
        weights: Weights,
        unit: UnitCtc | None = None,
        warm_steps: int = 0,
        specaug: SpecAug | SpecAugLfr | None = None,
        chunking: Chunking | None = None,
        heads: Heads | None = None,
        frozen: Sequence[str] = (),
        mwer: Mwer | None = None,
        added: Added | None = None,
        consistency: Consistency | None = None,
    ) -> None:
        """warm_steps: for that many first steps the CTC heads and the predictor learn without the
        decoder. specaug, chunking and the two views of consistency are applied in training mode
        alone.
        """
        self.hears = model.hotword_parts
        shared: tuple[str, ...] = ()
        if self.hears and heads is not None and heads.hotwords.sampling.plain:
            shared = shared_layers(model, frozen)
            frozen, self.hears = (*frozen, *self.hears), ()
        super().__init__(model, frozen, added, shared)
        self.specaug, self.chunking, self.heads = specaug, chunking, heads or Heads()
        self.listens_twice = bool(self.hears) and model.listens_twice
        if self.listens_twice:
            check_no_bias(cast(SeacoParaformer, model))
        if chunking is not None and model.hears_hotwords:
            raise ConfigError("dynamic_chunk: hotwords are learnt from whole utterances; set 0")
        self.mwer = mwer if mwer is not None and mwer.weight > 0.0 else None
        self.consistency = consistency or Consistency()
        self.consistency.check(weights, specaug, alone=not self.hears and self.mwer is None)
        if self.mwer is not None and model.hears_hotwords:
            raise ConfigError(NO_MWER)
        self.weights, self.warm_steps = weights, warm_steps
        self.unit = unit if unit is not None and unit.size > 0 else None
        if self.unit is not None:
            self.unit_head = CtcHead(model.encoder.output_size, self.unit.size)

    def forward(self, batch: Batch, step: int) -> Losses:
        """Losses of optimiser step `step`, counted from 1."""
        batch = self._augmented(batch)
        rule = self.chunking.draw() if self.chunking is not None and self.training else None
        plan = None if rule is None else make_plan(batch.lengths, rule, batch.feats.size(1))
        memory, lengths, tapped = self._encode(batch, plan)
        if step <= self.warm_steps:
            result = self._warm(memory, lengths, batch, plan)
        else:
            result = self._whole(memory, lengths, batch, plan)
        if self.unit is None or tapped is None:
            return result
        heard, counts = (tapped, lengths) if plan is None else plan.roll_up(tapped)
        each = ctc_losses(self.unit_head(heard), counts, batch.units, batch.unit_lengths, 0)
        value = each.sum() / self._size_over_ranks(batch)
        stats = {**result.stats, "loss_unit": value.detach()}
        return result._replace(loss=result.loss + self.unit.weight * value, stats=stats)

    def _augmented(self, batch: Batch) -> Batch:
        """Masked while training, in two views where these are compared."""
        if self.specaug is None or not self.training:
            return batch
        if self.consistency.weight:
            return two_views(batch, self.specaug)
        return batch._replace(feats=self.specaug(batch.feats, batch.lengths))

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

    def _whole(
        self, memory: Tensor, lengths: Tensor, batch: Batch, plan: ChunkPlan | None
    ) -> Losses:
        """The losses of the model itself."""
        encoded, text = (memory, lengths), (batch.text, batch.text_lengths)
        if self.listens_twice:
            seaco = cast(SeacoParaformer, self.model)
            words = self._hotwords(batch, seaco.no_bias)
            listening = self.heads.hotwords.sampling.attention_weight
            result = seaco_losses(
                seaco, self.weights, self.heads.seaco, encoded, text, words, listening
            )
        elif self.mwer is not None:
            draws = self._generator()
            result = mwer_losses(self.model, self.weights, self.mwer, encoded, text, plan, draws)
        else:
            listed = self._hotwords(batch, self.model.eos).words if self.hears else []
            beside = self.model.taught_beside(listed)
            alike = self.consistency.weight if self.training else 0.0
            result = paraformer_losses(
                self.model, self.weights, encoded, *text, plan, beside, alike
            )
        head = self.model.second_head
        if plan is not None or head is None:
            return result
        return self._with_times(result, head, encoded, batch)

    def _hotwords(self, batch: Batch, no_bias: int) -> Hotwords:
        """Those of a batch; in validation the same ones each time."""
        text = batch.text, batch.text_lengths
        return self.heads.hotwords.draw(*text, no_bias, self._generator())

    def _generator(self) -> torch.Generator | None:
        """Of random numbers: torch's own, in validation one that begins anew with each batch."""
        return None if self.training else torch.Generator().manual_seed(0)

    def _with_times(
        self,
        result: Losses,
        predictor: CifPredictorV3,
        encoded: tuple[Tensor, Tensor],
        batch: Batch,
    ) -> Losses:
        """The losses of the second head added."""
        second, weight = self.heads.second, self._second_weight
        _, counts = self.model.targets(batch.text, batch.text_lengths)
        size = mean_over_ranks(batch_size(self.weights, counts))  # where all processes come by
        if weight == 0.0 and (second.time_weight == 0.0 or not batch.marks.numel()):
            return result
        error, distance = second_head_losses(
            predictor, encoded, counts, batch.marks, self.heads.frame_seconds
        )
        parts = {"loss_pre2": error / size}
        loss = result.loss + weight * parts["loss_pre2"]
        if distance is not None:
            parts["loss_time"] = distance
            loss = loss + second.time_weight * distance
        return summed(loss, result.weight, {**result.stats, **parts})

    @property
    def _second_weight(self) -> float:
        """Of the count error of the second head."""
        if self.heads.second.count_weight is not None:
            return self.heads.second.count_weight
        return 0.0 if self.listens_twice else 0.5 * self.weights.predictor_weight  # as released

    @property
    def leaves_out(self) -> bool:
        """See `TrainObjective`."""
        model = self.model
        if self.warm_steps or self.listens_twice:
            return True
        deaf = model.ctc_head is not None and self.weights.ctc_weight == 0.0
        shows = model.sampling_ratio > 0.0 and not model.share_embedding
        counts = self.chunking is None and self._second_weight > 0.0
        return deaf or not shows or (model.second_head is not None and not counts)

    def errors(self, batch: Batch) -> tuple[int, int]:
        """Errors and reference tokens of greedy decoding, for validation: a model that learns to
        hear hotwords is given those of the batch.
        """
        model = self.model
        if self.hears:
            memory = model.remember(self._hotwords(batch, model.eos).words)
            return token_errors(
                model, batch, partial(model.decode, **model.bias_options(Bias(memory)))
            )
        return token_errors(model, batch, model.decode)

    def _size_over_ranks(self, batch: Batch) -> Tensor:
        return mean_over_ranks(batch_size(self.weights, batch.text_lengths))

    def _warm(
        self, memory: Tensor, lengths: Tensor, batch: Batch, plan: ChunkPlan | None
    ) -> Losses:
        """CTC and the count of tokens: cheap steps that teach the encoder where sounds begin."""
        head, predictor = self.model.ctc_head, self.model.predictor
        size = self._size_over_ranks(batch)
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
        return summed(loss, float(size), stats)


class AlignerObjective(TrainObjective):
    """Batch -> how far the second head of an aligner is from the number of tokens and from known
    times (released `MonotonicAligner`).
    """

    model: Aligner
    metric = "loss"

    def __init__(
        self,
        model: Aligner,
        weights: Weights,
        specaug: SpecAug | SpecAugLfr | None = None,
        heads: Heads | None = None,
        frozen: Sequence[str] = (),
        added: Added | None = None,
    ) -> None:
        super().__init__(model, frozen, added)
        self.weights, self.specaug, self.heads = weights, specaug, heads or Heads()

    def forward(self, batch: Batch, step: int) -> Losses:
        """Losses of an optimiser step."""
        if self.specaug is not None and self.training:
            batch = batch._replace(feats=self.specaug(batch.feats, batch.lengths))
        encoded = self.model.encode(batch.feats, batch.lengths)
        counts = batch.text_lengths + self.model.predictor_bias
        head = self.heads
        error, distance = second_head_losses(
            self.model.predictor, encoded, counts, batch.marks, head.frame_seconds
        )
        size = mean_over_ranks(batch_size(self.weights, counts))
        parts = {"loss_pre2": error / size}
        weight = 1.0 if head.second.count_weight is None else head.second.count_weight
        loss = weight * parts["loss_pre2"]
        if distance is not None:
            parts["loss_time"] = distance
            loss = loss + head.second.time_weight * distance
        return summed(loss, float(size), parts)


def token_errors(model: Paraformer, batch: Batch, decode: Callable[..., Tensor]) -> tuple[int, int]:
    """Errors and reference tokens of greedy decoding by a model's `decode`, for validation."""
    from rapidfuzz.distance import Levenshtein

    memory, lengths = model.encode(batch.feats, batch.lengths)
    predicted = model.predict(memory, lengths)
    best = decode(predicted.embeds, predicted.token_lengths, memory, lengths).argmax(-1)
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
