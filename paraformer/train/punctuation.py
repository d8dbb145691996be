"""Training of punctuation models: samples cut from passages, the loss, and F1 on a dev set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer.data.corpus.texts import read_texts
from paraformer.data.text.score import MarkCounts, count_marks
from paraformer.data.text.tokenizer import Vocabulary
from paraformer.data.text.words import strip_marks
from paraformer.errors import ConfigError, DataError
from paraformer.limits import check_fields, limited
from paraformer.models.release import PunctuationRelease
from paraformer.train.losses import Losses
from paraformer.train.objective import TrainObjective
from paraformer.train.trainer import Trainer

IGNORED = 0  # released ignore_id: the class <unk>, which no word has, fills the rows up
NO_MARK = 1  # `_` of a released punc_list


class Passage(NamedTuple):
    """A text in numbers: its words, and the mark behind each."""

    key: str
    ids: np.ndarray  # (U,) int64
    labels: np.ndarray  # (U,) int64, places in punc_list


class WordBatch(NamedTuple):
    """Samples of one step; ids are filled up with 0, labels with `IGNORED`."""

    keys: list[str]
    ids: Tensor  # (B, U)
    lengths: Tensor  # (B,)
    labels: Tensor  # (B, U)
    seconds: float = 0.0  # there is no audio

    def to(self, device: torch.device) -> WordBatch:
        """The same with its tensors on another device."""
        tensors = (self.ids.to(device), self.lengths.to(device), self.labels.to(device))
        return WordBatch(self.keys, *tensors, self.seconds)


@dataclass(frozen=True)
class Sampling:
    """Samples are cut from the beginning of a sentence, as the windows of recognition are."""

    min_words: int = limited(8, 1)
    max_words: int = limited(80, 1)
    whole_share: float = limited(0.5, 0, 1)  # of the samples that end where a sentence does
    unknown_share: float = limited(0.02, 0, 1)  # of the words that are replaced by <unk>
    batch_words: int = limited(2560, 1)  # in one batch, padding counted

    def __post_init__(self) -> None:
        check_fields(self, "sampling")
        if self.min_words > self.max_words:
            raise ConfigError(
                f"sampling.min_words={self.min_words}: more than max_words={self.max_words}; "
                "give less"
            )


def read_passages(path: str | Path, vocabulary: Vocabulary, marks: Sequence[str]) -> list[Passage]:
    """Lines `key text`, or plain ones, with marks; words outside the vocabulary are <unk>."""
    labels = {mark: number for number, mark in enumerate(marks)} | {"": NO_MARK}
    passages = []
    for key, text in read_texts(path).table.items():
        words, behind = strip_marks(text, marks[NO_MARK + 1 :])
        if words:
            ids = np.array(vocabulary.tokens_to_ids(words), dtype=np.int64)
            found = np.array([labels[mark] for mark in behind], dtype=np.int64)
            passages.append(Passage(key, ids, found))
    if not any((passage.labels != NO_MARK).any() for passage in passages):
        raise DataError(f"{path}: no passage with one of {' '.join(marks[NO_MARK + 1 :])}")
    return passages


class PassageLoader:
    """Batches of one epoch after another, the same whenever they are asked for.

    seed None cuts passages into equal pieces, as validation does.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        ends: Sequence[int],
        unk_id: int,
        sampling: Sampling,
        seed: int | None = None,
    ) -> None:
        """ends: the labels that close a sentence."""
        self.passages, self.sampling, self.seed = passages, sampling, seed
        self.unk_id = unk_id
        closing = list(ends)
        self._starts = [_sentence_starts(p.labels, closing) for p in passages]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[WordBatch]:
        """Batches of an epoch from number `start`."""
        random = None if self.seed is None else np.random.default_rng((self.seed, epoch))
        for number, members in enumerate(self._plan(random)):
            if number >= start:
                yield self._collate(members, (self.seed or 0, epoch, number))

    def _plan(self, random: np.random.Generator | None) -> list[list[tuple[int, int, int]]]:
        """Samples (passage, begin, end) in batches of nearly equal length."""
        samples = [
            (number, begin, end)
            for number in range(len(self.passages))
            for begin, end in self._cut(number, random)
        ]
        if random is not None:
            samples = [samples[i] for i in random.permutation(len(samples))]
        samples.sort(key=lambda sample: -((sample[1] - sample[2]) // 8))
        batches: list[list[tuple[int, int, int]]] = []
        while samples:
            longest = max(sample[2] - sample[1] for sample in samples[-8:])
            size = max(1, self.sampling.batch_words // longest)
            batches.append(samples[-size:])
            del samples[-size:]
        if random is not None:
            random.shuffle(batches)
        return batches

    def _cut(self, number: int, random: np.random.Generator | None) -> Iterator[tuple[int, int]]:
        size, conf = len(self.passages[number].ids), self.sampling
        if random is None:
            for begin in range(0, size, conf.max_words):
                yield begin, min(begin + conf.max_words, size)
            return
        starts = self._starts[number]
        begin, least = 0, conf.min_words
        while begin < size:
            end = min(size, begin + int(random.integers(least, conf.max_words + 1)))
            inside = starts[(starts > begin) & (starts <= end)]
            if len(inside) and random.random() < conf.whole_share:
                end = int(inside[-1])
            yield begin, end
            # A sentence that was cut short is seen once more at full length.
            again = not len(inside) and least < conf.max_words
            least = conf.max_words if again else conf.min_words
            if not again:
                begin = int(inside[-1]) if len(inside) else end

    def _collate(self, members: Sequence[tuple[int, int, int]], seed: tuple[int, ...]) -> WordBatch:
        rows = [
            (self.passages[number].ids[begin:end], self.passages[number].labels[begin:end])
            for number, begin, end in members
        ]
        lengths = [len(ids) for ids, _ in rows]
        ids = np.zeros((len(rows), max(lengths)), dtype=np.int64)
        labels = np.full_like(ids, IGNORED)
        for row, (words, marks) in enumerate(rows):
            ids[row, : len(words)], labels[row, : len(marks)] = words, marks
        if self.seed is not None:
            random = np.random.default_rng(seed)
            ids[random.random(ids.shape) < self.sampling.unknown_share] = self.unk_id
        keys = [f"{self.passages[number].key}:{begin}-{end}" for number, begin, end in members]
        return WordBatch(
            keys, torch.from_numpy(ids), torch.tensor(lengths), torch.from_numpy(labels)
        )


def _sentence_starts(labels: np.ndarray, ends: Sequence[int]) -> np.ndarray:
    """The words at which sentences begin, and the end of the passage where one closes there."""
    return np.flatnonzero(np.isin(labels, ends)) + 1


class PunctuationObjective(TrainObjective):
    """Batch -> weighted cross-entropy of the mark behind each word (released `punc_weight`)."""

    def __init__(self, release: PunctuationRelease, smoothing: float = 0.0) -> None:
        super().__init__(release.model)
        self.smoothing = smoothing
        conf = release.config["model_conf"]
        weights = conf.get("punc_weight") or [1.0] * len(release.marks)
        self.weights: Tensor
        self.register_buffer("weights", torch.tensor(weights), persistent=False)

    def forward(self, batch: WordBatch, step: int) -> Losses:
        """Losses of optimiser step `step`; their weight is the number of words."""
        logits = self.model(batch.ids, batch.lengths)
        loss = F.cross_entropy(
            logits.flatten(0, 1).float(),
            batch.labels.flatten(),
            self.weights,
            ignore_index=IGNORED,
            label_smoothing=self.smoothing,
        )
        keep = batch.labels != IGNORED
        right = (logits.argmax(-1) == batch.labels) & keep
        stats = {"loss": loss.detach(), "acc": right.sum() / keep.sum()}
        return Losses(loss, float(keep.sum()), stats)


class PunctuationTrainer(Trainer):
    """The training loop over words; an epoch is judged by F1 over all marks of the dev set."""

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean loss, F1 in per cent, and as token_error_rate its complement."""
        self.objective.eval()
        counts, loss, words = MarkCounts(), 0.0, 0.0
        for batch in self.dev_loader.epoch(0):
            moved: WordBatch = batch.to(self.device)
            result = self.objective(moved, self.position.step)
            loss, words = loss + float(result.loss) * result.weight, words + result.weight
            best = self.objective.model(moved.ids, moved.lengths).argmax(-1)
            counts += _count(moved.labels, best)
        return {"loss": loss / words, "f1": counts.f1, "token_error_rate": 1.0 - counts.f1 / 100}


def _count(labels: Tensor, best: Tensor) -> MarkCounts:
    """Marks of all classes together; labels and best have one shape."""
    keep = labels != IGNORED

    def names(numbers: Tensor) -> list[str]:
        return ["" if n <= NO_MARK else str(n) for n in numbers[keep].tolist()]

    return sum(count_marks(names(labels), names(best)).values(), MarkCounts())
