"""Training of voice activity detectors: recordings with spans of speech, pieces of them, the loss,
and how many frames are right on a dev set.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.segments import read_places
from paraformer.data.corpus.tables import read_table
from paraformer.data.features.cmvn import Cmvn, CmvnStatistics
from paraformer.data.features.frontend import ENERGY_FLOOR, Frontend
from paraformer.errors import AudioError, ConfigError, DataError
from paraformer.limits import check_fields, limited
from paraformer.models.fsmn_vad import FsmnVad, VadOptions
from paraformer.train.losses import Losses
from paraformer.train.objective import TrainObjective
from paraformer.train.trainer import Trainer

log = logging.getLogger(__name__)

IGNORED = -1  # label of a frame that fills a row up
SILENCE, SPEECH = 0, 1

Spans = list[tuple[float, float]]  # begin and end in seconds; inf: the end of the recording


class Recording(NamedTuple):
    """Features of a recording, not yet stacked, and which of its frames are speech."""

    key: str
    fbank: Tensor  # (T, n_mels) float16
    labels: Tensor  # (T,) int8, SILENCE or SPEECH


class FrameBatch(NamedTuple):
    """Pieces of one step; rows are filled up with zeros, their labels with `IGNORED`."""

    keys: list[str]
    feats: Tensor  # (B, T, D)
    labels: Tensor  # (B, T) int64
    seconds: float

    def to(self, device: torch.device) -> FrameBatch:
        """The same with its tensors on another device."""
        return self._replace(feats=self.feats.to(device), labels=self.labels.to(device))


class FrameCounts(NamedTuple):
    """Frames of speech that were found, missed, and taken for speech; and those of silence."""

    found: int = 0
    missed: int = 0
    false: int = 0
    silent: int = 0  # in the reference, the false ones included

    @classmethod
    def of(cls, right: np.ndarray, found: np.ndarray) -> FrameCounts:
        """Of two masks (T,), True for speech: what should be found and what was."""
        right, found = right.astype(bool), found.astype(bool)
        hits, both = int((right & found).sum()), int((~right & found).sum())
        return cls(hits, int(right.sum()) - hits, both, int((~right).sum()))

    def plus(self, other: FrameCounts) -> FrameCounts:
        """The counts of both together."""
        return FrameCounts(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def f1(self) -> float:
        """Of speech, in per cent; 0 where nothing was found."""
        return _percent(2 * self.found, 2 * self.found + self.missed + self.false)

    @property
    def miss(self) -> float:
        """Missed frames in per cent of those of speech."""
        return _percent(self.missed, self.found + self.missed)

    @property
    def false_alarm(self) -> float:
        """False frames in per cent of those of silence."""
        return _percent(self.false, self.silent)


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def read_spans(path: Path) -> dict[str, Spans]:
    """Spans of speech of each recording that a Kaldi `segments` names, in order."""
    spans: dict[str, Spans] = {}
    for place in read_places(path).values():
        end = math.inf if place.end is None else place.end
        spans.setdefault(place.recording, []).append((place.start, end))
    return {recording: sorted(found) for recording, found in spans.items()}


def frame_labels(spans: Iterable[tuple[float, float]], count: int, frontend: Frontend) -> Tensor:
    """SPEECH for each of `count` frames whose centre lies in a span: (count,) int8."""
    labels = torch.zeros(count, dtype=torch.int8)
    shift, half = frontend.frame_shift / 1000, frontend.frame_length / 2000
    for span in spans:
        begin, end = (min(seconds, (count + 1) * shift) for seconds in span)
        first, last = (max(0, math.ceil(round((t - half) / shift, 6))) for t in (begin, end))
        labels[first:last] = SPEECH
    return labels


def read_recordings(folder: Path, frontend: Frontend) -> list[Recording]:
    """The recordings of `folder`/wav.scp with the labels of its `segments`; one without segments
    is all silence.
    """
    sources, spans = read_table(folder / "wav.scp"), read_spans(folder / "segments")
    unknown = sorted(spans.keys() - sources.keys())
    if unknown:
        raise DataError(
            f"{folder / 'segments'}: recording '{unknown[0]}' is not in wav.scp; add it"
        )
    found = []
    for key, source in sources.items():
        try:
            fbank = frontend.fbank(read_audio(source, target_fs=frontend.fs, allow_pipe=True))
        except AudioError as error:
            log.warning("recording '%s': %s; left out", key, error)
            continue
        labels = frame_labels(spans.get(key, []), len(fbank), frontend)
        if len(fbank):
            found.append(Recording(key, fbank.half(), labels))
    if len(found) < len(sources):
        log.warning("%s: %d of %d recordings are used", folder, len(found), len(sources))
    if not any(bool(recording.labels.any()) for recording in found):
        raise DataError(f"{folder}: there is no speech in any recording; look at its segments")
    return found


def normalisation(recordings: Sequence[Recording], frontend: Frontend) -> Cmvn:
    """CMVN of stacked features, the same for each frame of a stack."""
    statistics = CmvnStatistics()
    for recording in recordings:
        statistics.add(recording.fbank)
    shift, scale = statistics.result()
    return Cmvn(shift.repeat(frontend.lfr_m), scale.repeat(frontend.lfr_m))


@dataclass(frozen=True)
class Pieces:
    """The size of the pieces that recordings are cut into, and the changes made to them."""

    frames: int = limited(600, 50)  # of one piece
    batch_frames: int = limited(9600, 50)  # of one batch, padding counted
    gain_db: float = limited(10.0, 0)  # louder or softer by up to so much
    tilt_db: float = limited(6.0, 0)  # the highest band against the lowest, by up to so much

    def __post_init__(self) -> None:
        check_fields(self, "pieces")
        if self.batch_frames < self.frames:
            raise ConfigError(
                f"pieces.batch_frames={self.batch_frames}: holds not one of frames={self.frames}; "
                "give more"
            )


class PieceLoader:
    """Batches of one epoch after another, the same whenever they are asked for.

    seed None cuts from the beginning and changes nothing, as validation does.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        frontend: Frontend,
        pieces: Pieces,
        seed: int | None = None,
    ) -> None:
        self.recordings, self.frontend = recordings, frontend
        self.pieces, self.seed = pieces, seed

    def epoch(self, epoch: int, start: int = 0) -> Iterator[FrameBatch]:
        """Batches of an epoch from number `start`."""
        random = None if self.seed is None else np.random.default_rng((self.seed, epoch))
        cuts = list(self._cut(random))
        if random is not None:
            cuts = [cuts[i] for i in random.permutation(len(cuts))]
        size = self.pieces.batch_frames // self.pieces.frames
        for number, place in enumerate(range(0, len(cuts), size)):
            if number >= start:
                yield self._collate(cuts[place : place + size], (self.seed or 0, epoch, number))

    def _cut(self, random: np.random.Generator | None) -> Iterator[tuple[int, int, int]]:
        """Recording, first frame and last of each piece; the first may be shorter."""
        length = self.pieces.frames
        for number, recording in enumerate(self.recordings):
            count = len(recording.labels)
            offset = 0 if random is None else int(random.integers(length))
            bounds = [0, *range(offset or length, count, length), count]
            for begin, end in zip(bounds[:-1], bounds[1:], strict=True):
                yield number, begin, end

    def _collate(self, cuts: Sequence[tuple[int, int, int]], seed: tuple[int, ...]) -> FrameBatch:
        random = None if self.seed is None else np.random.default_rng(seed)
        keys, feats, labels = [], [], []
        for number, begin, end in cuts:
            recording = self.recordings[number]
            keys.append(f"{recording.key}:{begin}-{end}")
            feats.append(self._features(recording.fbank[begin:end].float(), random))
            labels.append(recording.labels[begin:end].long())
        padded = nn.utils.rnn.pad_sequence(feats, batch_first=True)
        marked = nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=IGNORED)
        frames = sum(map(len, labels))
        return FrameBatch(keys, padded, marked, frames * self.frontend.frame_shift / 1000)

    def _features(self, fbank: Tensor, random: np.random.Generator | None) -> Tensor:
        """Log energies (T, n_mels), louder or softer and tilted -> network input (T, D)."""
        if random is not None:
            gain, tilt = random.uniform(-1, 1, 2) * (self.pieces.gain_db, self.pieces.tilt_db)
            decibels = gain + tilt * torch.linspace(-0.5, 0.5, fbank.size(1))
            fbank = (fbank + decibels * math.log(10) / 10).clamp(min=math.log(ENERGY_FLOOR))
        return self.frontend.features(fbank)


class VadObjective(TrainObjective):
    """Batch -> cross-entropy of silence against all other classes together.

    A frame of silence counts `even_odds` times as much as one of speech: the network then gives a
    frame that is as likely the one as the other just the posterior that the threshold asks for.
    """

    model: FsmnVad

    def __init__(self, model: FsmnVad, options: VadOptions) -> None:
        super().__init__(model)
        self.silent = list(options.sil_pdf_ids)
        self.options = options

    def forward(self, batch: FrameBatch, step: int) -> Losses:
        """Losses of optimiser step `step`; their weight is the number of frames."""
        logits, _ = self.model.encoder(batch.feats, self.model.initial_state(len(batch.feats)))
        score = speech_logit(logits.float(), self.silent)
        keep = batch.labels != IGNORED
        weight = torch.where(batch.labels == SILENCE, even_odds(self.options), 1.0)
        loss = F.binary_cross_entropy_with_logits(
            score[keep], batch.labels[keep].float(), weight[keep]
        )
        right = (self.decide(score) == (batch.labels == SPEECH))[keep]
        stats = {"loss": loss.detach(), "acc": right.float().mean()}
        return Losses(loss, float(keep.sum()), stats)

    def decide(self, score: Tensor) -> Tensor:
        """Logits of speech (B, T) -> which frames are speech by the options' threshold."""
        likely = score.sigmoid()
        return likely >= (1 - likely) + self.options.speech_noise_thres


def speech_logit(logits: Tensor, silent: Sequence[int]) -> Tensor:
    """Logits (B, T, K) -> log of speech to silence (B, T), speech being all that is not silent."""
    spoken = [k for k in range(logits.size(-1)) if k not in set(silent)]
    if len(spoken) == logits.size(-1) or not spoken:
        raise ConfigError(f"sil_pdf_ids={list(silent)}: must name a class and leave one for speech")
    return logits[..., spoken].logsumexp(-1) - logits[..., list(silent)].logsumexp(-1)


def even_odds(options: VadOptions) -> float:
    """The weight of silence that puts the threshold of the options where both are as likely.

    >>> round(even_odds(VadOptions(speech_noise_thres=0.6)), 3)
    0.25
    """
    threshold = options.speech_noise_thres
    return (1 - threshold) / (1 + threshold)


class VadTrainer(Trainer):
    """The training loop over frames; an epoch is judged by F1 of speech in the dev set."""

    objective: VadObjective

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mean loss; F1, miss and false alarm in per cent; 1 - F1 as token_error_rate."""
        self.objective.eval()
        objective = self.objective
        counts, loss, frames = FrameCounts(), 0.0, 0.0
        for batch in self.dev_loader.epoch(0):
            moved: FrameBatch = batch.to(self.device)
            result = objective(moved, self.position.step)
            loss, frames = loss + float(result.loss) * result.weight, frames + result.weight
            state = objective.model.initial_state(len(moved.feats))
            logits, _ = objective.model.encoder(moved.feats, state)
            found = objective.decide(speech_logit(logits.float(), objective.silent))
            keep = moved.labels != IGNORED
            right = (moved.labels == SPEECH)[keep].cpu().numpy()
            counts = counts.plus(FrameCounts.of(right, found[keep].cpu().numpy()))
        return {
            "loss": loss / frames,
            "f1": counts.f1,
            "miss": counts.miss,
            "false_alarm": counts.false_alarm,
            "token_error_rate": 1.0 - counts.f1 / 100,
        }
