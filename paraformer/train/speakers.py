"""Training of speaker models: clips of many speakers, crops of them, the loss with an angular
margin (AAM-softmax, arXiv 1801.07698), and how well speakers of a dev set are told apart.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.data.batches.augment import Augment
from paraformer.data.corpus.archives import StoredFbank
from paraformer.data.corpus.tables import read_table
from paraformer.errors import DataError
from paraformer.limits import check_fields, limited
from paraformer.models.campplus import LEAST_FRAMES, CamPlusPlus
from paraformer.train.losses import Losses
from paraformer.train.objective import TrainObjective
from paraformer.train.trainer import Trainer

log = logging.getLogger(__name__)

FRAME_SECONDS = 0.01
LOG_OF_A_DB = math.log(10) / 10  # of power


class Voice(NamedTuple):
    """A clip in which one speaker is heard."""

    key: str
    speaker: int
    fbank: np.ndarray  # (T, D) float16


class VoiceBatch(NamedTuple):
    """Crops of one length, without their means over time, and who speaks in each."""

    keys: list[str]
    feats: Tensor  # (B, T, D)
    speakers: Tensor  # (B,) int64
    seconds: float

    def to(self, device: torch.device) -> VoiceBatch:
        """The same with its tensors on another device."""
        return self._replace(feats=self.feats.to(device), speakers=self.speakers.to(device))


@dataclass(frozen=True)
class Crops:
    """The crops that clips are cut into, and the voices that are mixed into some of them."""

    frames: tuple[int, int] = limited((120, 180), LEAST_FRAMES, rising=True)  # of all of a batch
    batch_size: int = limited(32, 2)
    per_speaker: int = limited(8, 1)  # of each speaker in an epoch
    dev_frames: int = limited(300, LEAST_FRAMES)  # the first ones of a clip are heard on dev
    babble_probability: float = limited(0.2, 0, 1)  # that another clip is heard behind it
    babble_snr_db: tuple[float, float] = limited((10.0, 25.0), -50, 100, rising=True)

    def __post_init__(self) -> None:
        check_fields(self, "crops")


@dataclass(frozen=True)
class Margin:
    """The angle by which a speaker must be nearer than all others; it grows while training."""

    scale: float = limited(32.0, 0, above=True)  # of cosines
    margin: float = limited(0.2, 0, 1)  # radians
    start_step: int = limited(0, 0)  # until then there is no margin
    end_step: int = limited(0, 0)  # from then on it is whole

    def __post_init__(self) -> None:
        check_fields(self, "margin")

    def at(self, step: int) -> float:
        """The margin at an optimiser step.

        >>> [Margin(margin=0.2, start_step=10, end_step=20).at(step) for step in (1, 15, 30)]
        [0.0, 0.1, 0.2]
        """
        if step >= self.end_step:
            return self.margin
        span = max(self.end_step - self.start_step, 1)
        return self.margin * max(0.0, (step - self.start_step) / span)


def read_voices(folder: Path, n_mels: int) -> tuple[list[Voice], list[str]]:
    """The clips of a data directory by its feats.scp and utt2spk, and the names of the speakers by
    their numbers.
    """
    places, table = read_table(folder / "feats.scp"), read_table(folder / "utt2spk")
    strangers = sorted(places.keys() - table.keys())
    if strangers:
        raise DataError(f"{folder / 'utt2spk'}: lacks '{strangers[0]}'; run utils/fix_data_dir.py")
    names = sorted({table[key] for key in places})
    numbers = {name: number for number, name in enumerate(names)}
    found = []
    for key, place in places.items():
        fbank = StoredFbank(place).read(n_mels).astype(np.float16)
        if len(fbank) < LEAST_FRAMES:
            log.warning("clip '%s': is too short; left out", key)
            continue
        found.append(Voice(key, numbers[table[key]], fbank))
    if len({voice.speaker for voice in found}) < 2:
        raise DataError(f"{folder}: needs clips of two speakers or more")
    return found, names


class CropLoader:
    """Batches of one epoch after another, the same whenever they are asked for; each epoch has
    equally many crops of every speaker.
    """

    def __init__(self, voices: Sequence[Voice], crops: Crops, augment: Augment, seed: int) -> None:
        self.voices, self.crops, self.augment, self.seed = voices, crops, augment, seed
        clips: dict[int, list[int]] = {}
        for number, voice in enumerate(voices):
            clips.setdefault(voice.speaker, []).append(number)
        self.clips = [clips[speaker] for speaker in sorted(clips)]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[VoiceBatch]:
        """Batches of an epoch from number `start`."""
        random = np.random.default_rng((self.seed, epoch))
        drawn = np.concatenate([self._draw(clips, random) for clips in self.clips])
        drawn = drawn[random.permutation(len(drawn))]
        size = self.crops.batch_size
        # The last crops that fill no batch are left out: BatchNorm needs its companions.
        for number in range(start, len(drawn) // size):
            chosen = drawn[number * size : (number + 1) * size].tolist()
            yield self._collate(chosen, np.random.default_rng((self.seed, epoch, number)))

    def _draw(self, clips: Sequence[int], random: np.random.Generator) -> np.ndarray:
        """Clips of one speaker, none a second time before all had their turn."""
        wanted = self.crops.per_speaker
        rounds = -(-wanted // len(clips))
        return np.concatenate([random.permutation(clips) for _ in range(rounds)])[:wanted]

    def _collate(self, chosen: Sequence[int], random: np.random.Generator) -> VoiceBatch:
        low, high = self.crops.frames
        frames = int(random.integers(low, high + 1))
        voices = [self.voices[number] for number in chosen]
        feats = torch.from_numpy(np.stack([self._crop(voice, frames, random) for voice in voices]))
        speakers = torch.tensor([voice.speaker for voice in voices])
        seconds = len(voices) * frames * FRAME_SECONDS
        keys = [voice.key for voice in voices]
        return VoiceBatch(keys, feats - feats.mean(1, keepdim=True), speakers, seconds)

    def _crop(self, voice: Voice, frames: int, random: np.random.Generator) -> np.ndarray:
        """A stretch of a clip, changed at random: (frames, D)."""
        x = _stretch(voice.fbank, frames, random)
        if random.random() < self.crops.babble_probability:
            other = self.voices[int(random.integers(len(self.voices)))]
            babble = _stretch(other.fbank, frames, random)
            distance = np.log(np.exp(x).mean() / np.exp(babble).mean())
            distance -= random.uniform(*self.crops.babble_snr_db) * LOG_OF_A_DB
            x = np.logaddexp(x, babble + np.float32(distance))
        return self.augment(x, x.mean(0), random)


def _stretch(fbank: np.ndarray, frames: int, random: np.random.Generator) -> np.ndarray:
    """So many frames from a place at random; a short clip is heard several times."""
    times = -(-frames // len(fbank))
    if times > 1:
        fbank = np.tile(fbank, (times, 1))
    begin = int(random.integers(len(fbank) - frames + 1))
    return fbank[begin : begin + frames].astype(np.float32)


class ClipLoader:
    """Clips of a dev set one by one, from their beginnings and unchanged."""

    def __init__(self, voices: Sequence[Voice], frames: int) -> None:
        self.voices, self.frames = voices, frames

    def epoch(self, epoch: int, start: int = 0) -> Iterator[VoiceBatch]:
        """The same in each epoch."""
        for voice in self.voices[start:]:
            feats = torch.from_numpy(voice.fbank[: self.frames].astype(np.float32))
            seconds = len(feats) * FRAME_SECONDS
            centred = (feats - feats.mean(0))[None]
            yield VoiceBatch([voice.key], centred, torch.tensor([voice.speaker]), seconds)


class MarginSoftmax(nn.Module):
    """A direction for each speaker of the training data; used in training alone."""

    def __init__(self, speakers: int, width: int, margin: Margin) -> None:
        super().__init__()
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(speakers, width) / math.sqrt(width))

    def forward(self, embeddings: Tensor, speakers: Tensor, margin: float) -> tuple[Tensor, Tensor]:
        """Embeddings (B, E), numbers of speakers (B,) -> the loss, and cosines (B, N)."""
        cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight))
        own = cosines.gather(1, speakers[:, None])
        moved = cosines.scatter(1, speakers[:, None], with_margin(own, margin))
        return F.cross_entropy(self.margin.scale * moved, speakers), cosines


def with_margin(cosines: Tensor, margin: float) -> Tensor:
    """The cosines of angles that are larger by `margin`; where that would pass pi, a line that
    falls on.

    >>> with_margin(torch.tensor([1.0, -1.0]), math.pi / 3)
    tensor([ 0.5000, -1.9069])
    """
    sines = (1.0 - cosines.square()).clamp(min=0.0).sqrt()
    turned = cosines * math.cos(margin) - sines * math.sin(margin)
    falling = cosines - margin * math.sin(margin)
    return torch.where(cosines > math.cos(math.pi - margin), turned, falling)


class SpeakerObjective(TrainObjective):
    """Batch -> AAM-softmax over the speakers of the training data."""

    model: CamPlusPlus
    metric = "eer"

    def __init__(self, model: CamPlusPlus, speakers: int, margin: Margin) -> None:
        super().__init__(model)
        self.head = MarginSoftmax(speakers, model.embedding_size, margin)

    def forward(self, batch: VoiceBatch, step: int) -> Losses:
        """Losses of optimiser step `step`; their weight is the number of crops."""
        embeddings = self.model(batch.feats)
        margin = self.head.margin.at(step)
        with torch.autocast(embeddings.device.type, enabled=False):
            loss, cosines = self.head(embeddings.float(), batch.speakers, margin)
        right = (cosines.argmax(1) == batch.speakers).float().mean()
        return Losses(loss, float(len(cosines)), {"loss": loss.detach(), "acc": right})

    @torch.no_grad()
    def set_directions(self, voices: Sequence[Voice], frames: int, clips: int) -> None:
        """Begin with the mean of some clips of each speaker, as the model embeds them now."""
        self.eval()
        seen, sums = [0] * len(self.head.weight), torch.zeros_like(self.head.weight)
        for batch in ClipLoader(voices, frames).epoch(0):
            speaker = int(batch.speakers)
            if seen[speaker] < clips:
                seen[speaker] += 1
                sums[speaker] += F.normalize(self.model(batch.feats.to(sums.device)))[0]
        self.head.weight.copy_(F.normalize(sums))


def equal_error(scores: np.ndarray, targets: np.ndarray) -> float:
    """The mean of the shares of targets missed and of others taken, at the threshold where these
    are nearest: scores (N,), targets (N,) bool.

    >>> equal_error(np.array([0.1, 0.4, 0.3, 0.9]), np.array([False, False, True, True]))
    0.5
    """
    wanted = targets[np.argsort(scores, kind="stable")]
    miss = np.append(0, np.cumsum(wanted)) / wanted.sum()
    taken = 1 - np.append(0, np.cumsum(~wanted)) / (~wanted).sum()
    place = int(np.argmin(np.abs(miss - taken)))
    return float(miss[place] + taken[place]) / 2


class SpeakerTrainer(Trainer):
    """The training loop over crops; an epoch is judged by the equal error rate of all pairs of
    clips of the dev set, whose speakers are not those of the training data.
    """

    objective: SpeakerObjective

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """`eer` in per cent; as a share it is `token_error_rate`, by which epochs are chosen."""
        self.objective.eval()
        found, speakers = [], []
        for batch in self.dev_loader.epoch(0):
            found.append(F.normalize(self.objective.model(batch.feats.to(self.device)))[0])
            speakers.append(int(batch.speakers))
        units, names = torch.stack(found), np.asarray(speakers)
        one, other = np.triu_indices(len(names), 1)
        scores = (units @ units.T).cpu().numpy()[one, other]
        rate = equal_error(scores, names[one] == names[other])
        self.objective.train()
        return {"eer": 100 * rate, "token_error_rate": rate}
