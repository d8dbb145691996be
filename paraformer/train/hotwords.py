"""How a model learns to hear hotwords: spans of the texts of a batch are its list
(SeACo-Paraformer, arXiv 2308.03266, and the contextual Paraformer).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from paraformer.errors import ConfigError
from paraformer.limits import check_fields, limited
from paraformer.models.seaco import SeacoParaformer
from paraformer.train.losses import (
    Losses,
    Weights,
    batch_size,
    decoder_losses,
    label_smoothed_sum,
    summed,
)

IGNORED = -1


@dataclass(frozen=True)
class Sampling:
    """Which spans of a text are hotwords; the defaults are those of the released recipe."""

    probability: float = limited(0.75, 0, 1)  # that an utterance gives one
    length: tuple[int, int] = limited((2, 8), 1, rising=True)  # tokens of a span
    second_probability: float = limited(0.1, 0, 1)  # that a long one gives two
    long: int = limited(12, 1)  # tokens; longer texts are long

    def __post_init__(self) -> None:
        check_fields(self, "hotwords")


class Hotwords(NamedTuple):
    """The list of a batch, and what the hotword decoder should say."""

    words: list[list[int]]
    labels: Tensor  # (B, U): the token inside the utterance's own spans, else "no hotword"


class SeacoWeights(NamedTuple):
    """Weights of the sum, named as in `model_conf` of a released config.yaml."""

    seaco_weight: float = 0.01
    seaco_lsm_weight: float = 0.0
    seaco_length_normalized_loss: bool = True
    train_decoder: bool = True


class Sampler:
    """Draws hotwords for batches."""

    def __init__(self, sampling: Sampling | None = None) -> None:
        self.sampling = sampling or Sampling()

    def draw(
        self,
        text: Tensor,
        lengths: Tensor,
        no_bias: int,
        generator: torch.Generator | None = None,
    ) -> Hotwords:
        """Text (B, U) of lengths (B,) -> its hotwords; no_bias: the label where there is none."""
        inside = torch.arange(text.size(1), device=text.device) < lengths[:, None]
        labels = torch.where(inside, no_bias, IGNORED)
        words = []
        for row, (ids, length) in enumerate(zip(text.tolist(), lengths.tolist(), strict=True)):
            for begin, end in self._spans(length, generator):
                words.append(ids[begin:end])
                labels[row, begin:end] = text[row, begin:end]
        return Hotwords(words, labels)

    def _spans(self, length: int, generator: torch.Generator | None) -> list[tuple[int, int]]:
        """One span of a text of so many tokens, two that do not meet, or none."""
        draw = torch.rand(4, generator=generator).tolist()
        options = self.sampling
        if draw[0] >= options.probability or length < options.length[0]:
            return []
        if length > options.long and draw[1] < options.second_probability:
            middle = length // 2
            first, second = (self._span(size, generator) for size in (middle, length - middle))
            return [first, (second[0] + middle, second[1] + middle)]
        return [self._span(length, generator)]

    def _span(self, length: int, generator: torch.Generator | None) -> tuple[int, int]:
        low, high = self.sampling.length
        size = int(torch.randint(low, min(high, length) + 1, (), generator=generator))
        begin = int(torch.randint(0, length - size + 1, (), generator=generator))
        return begin, begin + size


def check_no_bias(model: SeacoParaformer) -> None:
    """The token that means "no hotword" has to be one of the model's."""
    size = model.hotword_output_layer.out_features
    if not 0 <= model.no_bias < size:
        raise ConfigError(
            f"model.model_conf.NO_BIAS={model.no_bias}: the model has {size} tokens; name one of "
            "them, such as that of <unk>"
        )


def seaco_losses(
    model: SeacoParaformer,
    weights: Weights,
    seaco: SeacoWeights,
    encoded: tuple[Tensor, Tensor],
    text: tuple[Tensor, Tensor],
    hotwords: Hotwords,
) -> Losses:
    """Cross-entropy of the hotword decoder; with `train_decoder` a little of the plain one's.

    encoded: as in `paraformer_losses`; text: ids (B, U) and lengths (B,). The count error of the
    predictor is no part of it, as in the released recipe.
    """
    memory, memory_lengths = encoded
    parts: dict[str, Tensor] = {}
    if seaco.train_decoder:
        taught = model.teach(memory, memory_lengths, *text)
        parts = decoder_losses(model, weights, taught)
        predicted, lengths = taught.predicted, taught.target_lengths
    else:
        targets, lengths = model.targets(*text)
        predicted = model.predictor.forward_to(memory, memory_lengths, lengths, targets.size(1))
    hidden = model.decoder.hidden(predicted.embeds, lengths, memory, memory_lengths)
    projected = model.remember(hotwords.words).projected
    spoken = model.listen(predicted.embeds, hidden, lengths, projected)[:, : text[0].size(1)]
    parts |= _spoken_losses(spoken, hotwords.labels, model.no_bias, seaco)
    loss = parts["loss_seaco"]
    if seaco.train_decoder:
        loss = loss + seaco.seaco_weight * parts["loss_att"]
    return summed(loss, float(batch_size(weights, lengths)), parts)


def _spoken_losses(
    spoken: Tensor, labels: Tensor, no_bias: int, seaco: SeacoWeights
) -> dict[str, Tensor]:
    """Log-probabilities (B, U, V) of the hotword decoder against labels (B, U)."""
    kept = labels != IGNORED
    size = kept.sum() if seaco.seaco_length_normalized_loss else len(labels)
    own = kept & (labels != no_bias)
    right = spoken.detach().argmax(-1) == labels
    return {
        "loss_seaco": label_smoothed_sum(spoken, labels, seaco.seaco_lsm_weight, IGNORED) / size,
        "acc_hotword": (right & own).sum() / own.sum().clamp(min=1),
        "acc_no_hotword": (right & kept & ~own).sum() / (kept & ~own).sum().clamp(min=1),
    }


def seaco_weights(conf: Mapping[str, object]) -> SeacoWeights:
    """What `model_conf` says of them."""
    known = {key: value for key, value in conf.items() if key in SeacoWeights._fields}
    return SeacoWeights(**known)  # type: ignore[arg-type]
