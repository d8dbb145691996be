"""Decodes a file that is several, one behind another, each by itself: chained Ogg (RFC 3533), and
FLAC and MP3 files that were put together. libsndfile alone hears the first of them.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from paraformer.data.audio import mpeg
from paraformer.data.audio.file_views import File, Window, places_of
from paraformer.data.audio.resample import resample
from paraformer.errors import AudioError

log = logging.getLogger(__name__)

# More than any program or broadcast writes into one file.
MOST_LINKS = 10_000
# A header's length that means that it is not known, as of FLAC through a pipe.
UNKNOWN_FRAMES = (1 << 36) - 1
Part = Path | Window
_OGG, _FLAC = b"OggS", b"fLaC"
# The first page of a logical stream; a FLAC file begins with its one STREAMINFO of 34 bytes.
_OGG_BEGINS = b"OggS\0\2"
_ENDS, _LARGEST_PAGE, _LONGEST_TAG = 4, 65307, 4096
_FLAC_BEGINS = (b"fLaC\0\0\0\x22", b"fLaC\x80\0\0\x22")


def links(file: File) -> list[Window]:
    """The parts of a file that is several; none if it can be read as the one that it looks like."""
    file.seek(0)
    head = file.read(len(_OGG))
    if head == _OGG:
        return _cut(file, _ogg_starts(file))
    if head == _FLAC:
        return _cut(file, [place for place in places_of(file, _FLAC) if _is_flac(file, place)])
    return mpeg.links(file)


def _ogg_starts(file: File) -> list[int]:
    """The places at which a chain begins anew; streams that are heard at the same time all begin
    page behind page, and count as one beginning.
    """
    starts, behind = list[int](), -1
    for place in places_of(file, _OGG_BEGINS):
        if place != behind:
            starts.append(place)
        file.seek(place + 26)
        count = file.read(1)
        lacing = file.read(count[0]) if count else b""
        behind = place + 27 + len(lacing) + sum(lacing)
    return starts


def _is_flac(file: File, place: int) -> bool:
    file.seek(place)
    return file.read(8) in _FLAC_BEGINS


def breaks_off(file: File) -> bool:
    """Whether an Ogg lacks its end: libsndfile takes the last page for it, whichever that is."""
    total = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(len(_OGG)) != _OGG:
        return False
    file.seek(max(0, total - _LARGEST_PAGE - _LONGEST_TAG))
    content = file.read()
    place = content.rfind(b"OggS\0")
    page = content[place:]
    if place < 0 or len(page) < 27:
        return True
    lacing = page[27 : 27 + page[26]]
    return not page[5] & _ENDS or len(page) < 27 + page[26] + sum(lacing)


def _cut(file: File, starts: Sequence[int]) -> list[Window]:
    if len(starts) < 2 or starts[0]:
        return []
    if len(starts) > MOST_LINKS:
        raise AudioError(f"more than {MOST_LINKS} files in one; take it apart")
    ends = [*starts[1:], file.seek(0, io.SEEK_END)]
    return [Window(b"", file, a, b - a) for a, b in zip(starts, ends, strict=True)]


class Decoded(Protocol):
    """The samples of one part."""

    rate: int
    channels: int
    announced: int  # samples, by its header

    def read(self, frames: int) -> np.ndarray:
        """The next samples (N, C); fewer than `frames` only at the end, or where it is damaged."""

    def read_all(self) -> np.ndarray:
        """All samples (N, C)."""

    def close(self) -> None:
        """Give the file free."""


class Chain:
    """Linked files read as one `SoundFile`, with the rate and the channels of the first. Damage in
    one costs nothing of the others; what is lost is said.
    """

    def __init__(self, parts: Sequence[Part], name: str, open_one: Callable[..., Decoded]) -> None:
        """open_one: opens a part under a name."""
        self._count, self._open_one, self._name = len(parts), open_one, name
        self._now: Decoded | None = None
        self._rest = enumerate(parts, 1)
        self._held: np.ndarray | None = None
        self._fault: AudioError | None = None  # of a part of which nothing is heard
        self._heard = False
        self.frames = self.samplerate = self.channels = 0
        for number, part in enumerate(parts, 1):
            with closing(open_one(part, self._called(number))) as audio:
                self.samplerate = self.samplerate or audio.rate
                self.channels = self.channels or audio.channels
                count = -(-audio.announced * self.samplerate // audio.rate)
                unknown = audio.announced >= UNKNOWN_FRAMES or self.frames >= UNKNOWN_FRAMES
                self.frames = UNKNOWN_FRAMES if unknown else self.frames + count

    def _called(self, number: int) -> str:
        return f"{self._name}: part {number} of {self._count}"

    def close(self) -> None:
        """Give the files free."""
        if self._now is not None:
            self._now.close()

    def read(self, frames: int, dtype: str, always_2d: bool) -> np.ndarray:
        """The next samples (N, C); fewer than `frames` only at the end of the last file."""
        parts, left = [np.empty((0, self.channels), dtype)], frames
        while left:
            try:
                if self._held is None and self._now is None and not self._begin():
                    break
                part = self._next(left)
            except AudioError as error:
                log.warning("%s; it is left out", error)
                self._fault, self._now = error, None
                continue
            self._heard = self._heard or len(part) > 0
            parts.append(part)
            left -= len(part)
        if self._fault and not self._heard:
            raise self._fault
        return np.concatenate(parts) if len(parts) != 2 else parts[1]

    def _begin(self) -> bool:
        """Open the next file; one of another form is brought to that of the first as a whole."""
        number, part = next(self._rest, (0, None))
        if part is None:
            return False
        self._now = self._open_one(part, self._called(number))
        if (self._now.rate, self._now.channels) != (self.samplerate, self.channels):
            self._held = self._adapted(self._now.read_all(), self._now.rate)
            self._now.close()
            self._now = None
        return True

    def _next(self, frames: int) -> np.ndarray:
        if self._held is not None:
            part, rest = self._held[:frames], self._held[frames:]
            self._held = rest if len(rest) else None
            return part
        assert self._now is not None
        part = self._now.read(frames)
        if len(part) < frames:
            self._now.close()
            self._now = None
        return part

    def _adapted(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """(N, C) -> (N', C') at the rate of the first, each of its channels the mean of all where
        there are not as many.
        """
        if samples.shape[1] != self.channels:
            samples = samples.mean(1, keepdims=True).repeat(self.channels, 1)
        channels = torch.from_numpy(np.ascontiguousarray(samples.T))
        return torch.stack([resample(one, rate, self.samplerate) for one in channels]).numpy().T
