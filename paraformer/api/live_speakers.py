"""Who speaks in a stream: each segment gets a speaker at its end, which does not change later."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer.decode.turns import WINDOW_SECONDS, windows
from paraformer.decode.voices import Known, Voices
from paraformer.errors import ParaformerError

log = logging.getLogger(__name__)

SLOWEST = 20  # a centre moves by this part at least, however often its voice was heard


class VoiceTrack(NamedTuple):
    """The voices of a stream so far, of which there are no more than a given number: a value."""

    centres: Tensor = torch.zeros(0, 0)  # (K, E), each of length 1
    counts: tuple[int, ...] = ()  # segments of each

    def nearest(self, voice: Tensor) -> tuple[int, float]:
        """The voice that one (E,) of length 1 is most like, and the cosine, where there is any."""
        alike = self.centres @ voice
        best = int(alike.argmax())
        return best, float(alike[best])

    def moved(self, number: int, voice: Tensor) -> VoiceTrack:
        """With one more segment of a voice that is known, or of the next new one."""
        if number == len(self.counts):
            rows = voice[None] if number == 0 else torch.cat((self.centres, voice[None]))
            return VoiceTrack(rows, (*self.counts, 1))
        count = self.counts[number] + 1
        centres = self.centres.clone()
        step = 1 / min(count, SLOWEST)
        centres[number] = F.normalize((1 - step) * centres[number] + step * voice, dim=0)
        return VoiceTrack(centres, (*self.counts[:number], count, *self.counts[number + 1 :]))


class LiveVoices:
    """Tells the speakers of segments, by names that are known and by running centres."""

    def __init__(self, voices: Voices, known: Known | None, threshold: float, most: int) -> None:
        """threshold: cosine from which two voices are one speaker's; most: speakers of a stream
        that have no name.
        """
        self.voices, self.known, self.rate = voices, known, voices.rate
        self.threshold, self.most = threshold, most

    def tell(self, track: VoiceTrack, parts: Sequence[Tensor]) -> tuple[str, VoiceTrack]:
        """The speaker of a segment whose audio are these parts (N,): a name, else SPK and a number
        from 0; "" where no voice can be heard. And the voices of the stream then.

        What is shorter than a window never opens a new number, but the first.
        """
        voice = self._hear(parts)
        if voice is None:
            return "", track
        if self.known is not None:
            name, score = self.known.nearest(voice.numpy())
            if score >= self.threshold:
                return name, track
        count, seconds = len(track.counts), sum(map(len, parts)) / self.rate
        number, score = track.nearest(voice) if count else (0, -1.0)
        clear = seconds >= WINDOW_SECONDS or not count
        if score < self.threshold:
            if not clear or count == self.most:
                return f"SPK{number}", track  # the nearest, which it tells nothing about
            number = count
        return f"SPK{number}", track.moved(number, voice)

    def _hear(self, parts: Sequence[Tensor]) -> Tensor | None:
        """The mean voice (E,) of the windows of a segment, of length 1."""
        found = [window.wave for part in parts for window in windows(0.0, part, self.rate)]
        rows = []
        for embedding in self.voices.embed(found):
            if isinstance(embedding, ParaformerError):
                log.warning("spk_model: %s; the segment has no speaker", embedding)
                return None
            rows.append(F.normalize(embedding, dim=0))
        return F.normalize(torch.stack(rows).mean(0), dim=0) if rows else None
