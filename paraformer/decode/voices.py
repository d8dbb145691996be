"""Whose voice it is: the embedding of what somebody says, and how alike two of them are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer.backends.engines import voice_engine
from paraformer.backends.face import LEAST_FRAMES, SpeakerRelease, likeness_of
from paraformer.data.audio.arrays import check_sound
from paraformer.errors import AudioError, DataError, ParaformerError

Embedding = Tensor | ParaformerError  # (E,), or why there is none


class Voice(NamedTuple):
    """The voice in a stretch of a recording, in seconds."""

    start: float
    end: float
    embedding: Embedding


def window_rows(voices: Sequence[Voice]) -> np.ndarray:
    """The embeddings of voices as rows (N, E); (0, 0) of none. One that failed is an error."""
    rows = list[np.ndarray]()
    for voice in voices:
        if isinstance(voice.embedding, ParaformerError):
            raise DataError(f"spk_model: {voice.embedding}")
        rows.append(voice.embedding.numpy())
    return np.stack(rows) if rows else np.zeros((0, 0), np.float32)


class Known(NamedTuple):
    """Voices that have a name: centres (K, E)."""

    names: tuple[str, ...]
    centres: np.ndarray

    def nearest(self, voice: np.ndarray) -> tuple[str, float]:
        """The name whose centre is most like a voice (E,), and its cosine.

        >>> Known(("A", "B"), np.eye(2)).nearest(np.array([3.0, 4.0]))
        ('B', 0.8)
        """
        lengths = np.linalg.norm(self.centres, axis=1) * np.linalg.norm(voice)
        alike = self.centres @ voice / np.where(lengths > 0, lengths, 1.0)
        best = int(alike.argmax())
        return self.names[best], float(alike[best])


class Voices:
    """Embeddings by a released speaker model; holds no state."""

    def __init__(
        self,
        release: SpeakerRelease,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self.engine = voice_engine(release, device, dtype)
        self.release, self.device = self.engine.release, self.engine.device
        self.rate = release.frontend.fs
        self.likeness = likeness_of(release.config)

    def embed(self, waves: Sequence[Tensor]) -> list[Embedding]:
        """Samples (N,) in [-1, 1) of utterances -> the embedding of each, which does not depend on
        what stands beside it.
        """
        found: list[Embedding | None] = []
        feats: list[Tensor] = []
        for wave in waves:
            try:
                feats.append(self.features(wave))
                found.append(None)
            except AudioError as error:
                found.append(error)
        embedded = iter(self.engine.embed(feats))
        return [next(embedded) if each is None else each for each in found]

    def threshold(self, asked: float | None) -> float:
        """The cosine from which two voices are one speaker's: the model's own, unless asked for."""
        return self.likeness.spk_threshold if asked is None else asked

    def features(self, wave: Tensor) -> Tensor:
        """Samples (N,) -> log-mel features (T, D) without their mean over time."""
        frontend = self.release.frontend
        check_sound(wave, "audio", self.rate)
        feats = frontend(wave)
        if len(feats) < LEAST_FRAMES:
            least = frontend.frame_length + (LEAST_FRAMES - 1) * frontend.frame_shift
            raise AudioError(
                f"{1000 * len(wave) / self.rate:.0f} ms are too short to hear a voice in; give "
                f"{least:g} ms or more"
            )
        return feats - feats.mean(0)


def similarity(one: Tensor, other: Tensor) -> float:
    """The cosine of two embeddings (E,), -1 to 1.

    >>> round(similarity(torch.tensor([1.0, 1.0]), torch.tensor([3.0, 0.0])), 3)
    0.707
    """
    return float(F.cosine_similarity(one.double(), other.double(), dim=0))
