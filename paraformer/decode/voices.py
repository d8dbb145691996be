"""Whose voice it is: the embedding of what somebody says, and how alike two of them are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer.backends.engines import voice_engine
from paraformer.backends.face import LEAST_FRAMES, SpeakerRelease
from paraformer.data.audio.arrays import check_sound
from paraformer.errors import AudioError, ParaformerError

Embedding = Tensor | ParaformerError  # (E,), or why there is none


class Voice(NamedTuple):
    """The voice in a stretch of a recording, in seconds."""

    start: float
    end: float
    embedding: Embedding


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
