"""A model learns to hear hotwords: spans of the texts of a batch are its list
(SeACo-Paraformer, arXiv 2308.03266, and the contextual Paraformer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from paraformer.errors import ConfigError
from paraformer.limits import check_fields, limited
from paraformer.models.paraformer import Paraformer
from paraformer.models.seaco import SeacoParaformer
from paraformer.train.lora import is_part
from paraformer.train.losses import (
    Losses,
    Weights,
    batch_size,
    decoder_losses,
    label_smoothed_sum,
    summed,
)
from paraformer.train.parallel import mean_over_ranks

IGNORED = -1
LEAST_SHARE = 1e-6  # of attention, before its logarithm


@dataclass(frozen=True)
class Sampling:
    """The choice of spans of a text as hotwords; the defaults are those of the released recipe."""

    probability: float = limited(0.75, 0, 1)  # that an utterance gives one
    length: tuple[int, int] = limited((2, 8), 1, rising=True)  # tokens of a span
    second_probability: float = limited(0.1, 0, 1)  # that a long one gives two
    long: int = limited(12, 1)  # tokens; longer texts are long
    attention_weight: float = limited(0.0, 0)  # of attention to the right hotword, in the loss
    plain: bool = False  # train without hotwords, whose parts stay as they are

    def __post_init__(self) -> None:
        check_fields(self, "hotwords")


class Hotwords(NamedTuple):
    """The list of a batch, and what the hotword decoder should say and listen to."""

    words: list[list[int]]
    labels: Tensor  # (B, U): the token inside a hotword, else "no hotword", IGNORED past the end
    places: Tensor  # (B, U): which of the list it is, len(words) for none

    def to(self, device: torch.device) -> Hotwords:
        """The same with its tensors on another device."""
        return Hotwords(self.words, self.labels.to(device), self.places.to(device))


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
        rows = [row[:length] for row, length in zip(text.tolist(), lengths.tolist(), strict=True)]
        words = [ids[begin:end] for ids in rows for begin, end in self._spans(len(ids), generator)]
        return label(rows, words, text.size(1), no_bias).to(text.device)

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


def label(rows: list[list[int]], words: list[list[int]], size: int, no_bias: int) -> Hotwords:
    """Texts and hotwords -> labels of `size` tokens a row: wherever a hotword of the list stands,
    in whichever text, and the longest where several do.

    >>> found = label([[5, 6, 7], [9, 6, 7]], [[6, 7]], 3, 2)
    >>> found.labels.tolist(), found.places.tolist()
    ([[2, 6, 7], [2, 6, 7]], [[1, 0, 0], [1, 0, 0]])
    """
    # As strings of one character a token, where a search is a scan by the machine.
    texts = ["".join(map(chr, row)) for row in rows]
    strings = {"".join(map(chr, word)) for word in words}
    listed = sorted(strings, key=lambda word: (-len(word), word))
    labels = torch.full((len(rows), size), IGNORED)
    places = torch.full((len(rows), size), len(listed))
    for row, (ids, text) in enumerate(zip(rows, texts, strict=True)):
        labels[row, : len(ids)] = no_bias
        for place, word in enumerate(listed):
            begin = text.find(word)
            while begin >= 0:
                end = begin + len(word)
                if bool((places[row, begin:end] == len(listed)).all()):
                    labels[row, begin:end] = torch.tensor(ids[begin:end])
                    places[row, begin:end] = place
                begin = text.find(word, begin + 1)
    return Hotwords([[ord(char) for char in word] for word in listed], labels, places)


def shared_layers(model: Paraformer, frozen: Sequence[str]) -> tuple[str, ...]:
    """Of the model's `hotword_parts` the layers that plain training needs too, unless they are
    frozen anyway: what they know has to stay as hotwords are heard by it, what is new is to be
    learnt.
    """
    name = "decoder.embed.0"
    kept = any(is_part(name, part) or is_part(f"{name}.weight", part) for part in frozen)
    shown = model.listens_twice and not model.share_embedding
    return (name,) if shown and not kept else ()


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
    attention_weight: float = 0.0,
) -> Losses:
    """Cross-entropy of the hotword decoder; with `train_decoder` a little of the plain one's.

    encoded: as in `paraformer_losses`; text: ids (B, U) and lengths (B,). The count error of the
    predictor is no part of it, as in the released recipe.
    """
    memory, memory_lengths = encoded
    parts: dict[str, Tensor] = {}
    if seaco.train_decoder:
        taught = model.teach(memory, memory_lengths, *text)
        predicted, lengths = taught.predicted, taught.target_lengths
        size = mean_over_ranks(batch_size(weights, lengths))
        parts = decoder_losses(model, weights, taught, size)
    else:
        targets, lengths = model.targets(*text)
        predicted = model.predictor.forward_to(memory, memory_lengths, lengths, targets.size(1))
        size = mean_over_ranks(batch_size(weights, lengths))
    hidden = model.decoder.hidden(predicted.embeds, lengths, memory, memory_lengths)
    projected = model.remember(hotwords.words).projected
    spoken = model.listen(predicted.embeds, hidden, lengths, projected)[:, : text[0].size(1)]
    parts |= _spoken_losses(spoken, hotwords.labels, model.no_bias, seaco)
    loss = parts["loss_seaco"]
    if attention_weight > 0.0:
        both = torch.cat((predicted.embeds, hidden.to(predicted.embeds.dtype)))
        heard = model.seaco_decoder.attention(both, lengths.repeat(2), projected)
        parts["loss_listen"] = attention_loss(heard, hotwords)
        loss = loss + attention_weight * parts["loss_listen"]
    if seaco.train_decoder:
        loss = loss + seaco.seaco_weight * parts["loss_att"]
    return summed(loss, float(size), parts)


def attention_loss(attention: Tensor, hotwords: Hotwords) -> Tensor:
    """Attention (2 * B, H, U', N) of both passes to the list, its last entry for none -> negative
    log of what the right entry gets, the mean over tokens of which those inside hotwords and the
    others count alike.
    """
    size = hotwords.places.size(1)
    right = hotwords.places.repeat(2, 1)
    shares = attention.mean(1)[:, :size].gather(2, right[..., None]).squeeze(2)
    losses = -shares.clamp(min=LEAST_SHARE).log()
    kept = (hotwords.labels != IGNORED).repeat(2, 1)
    inside = kept & (right < len(hotwords.words))
    means = [losses[part].mean() for part in (inside, kept & ~inside) if part.any()]
    return torch.stack(means).mean()


def _spoken_losses(
    spoken: Tensor, labels: Tensor, no_bias: int, seaco: SeacoWeights
) -> dict[str, Tensor]:
    """Log-probabilities (B, U, V) of the hotword decoder against labels (B, U)."""
    kept = labels != IGNORED
    count = kept.sum() if seaco.seaco_length_normalized_loss else labels.new_tensor(len(labels))
    size = mean_over_ranks(count)
    own = kept & (labels != no_bias)
    right = spoken.detach().argmax(-1) == labels
    return {
        "loss_seaco": label_smoothed_sum(spoken, labels, seaco.seaco_lsm_weight, IGNORED) / size,
        "acc_hotword": (right & own).sum() / own.sum().clamp(min=1),
        "acc_no_hotword": (right & kept & ~own).sum() / (kept & ~own).sum().clamp(min=1),
    }
