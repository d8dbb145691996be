"""Decodes files from their beginning to their end by libsndfile, and by way of ffmpeg others."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import torch
from torch import Tensor

from paraformer.data.audio import au_caf as big_endian
from paraformer.data.audio import ffmpeg, riff, voc
from paraformer.data.audio.chained import UNKNOWN_FRAMES, Chain, Part, breaks_off, links
from paraformer.data.audio.containers import HEAD, kind_of
from paraformer.data.audio.file_views import Window
from paraformer.data.audio.media import HEADERLESS
from paraformer.data.audio.resample import check_rate
from paraformer.data.audio.signatures import TEXT
from paraformer.errors import AudioError

log = logging.getLogger(__name__)

# Samples read at a time from a damaged file: at most so many sound ones are lost.
DAMAGE_BLOCK = 1024
BLOCK_VALUES = 1 << 20
# A header is believed that tells so many values a byte, and room is made at once: a common codec
# has 64 at most, silence more.
PLAUSIBLE = 64
MOST_VALUES = 1 << 31


class _Forward(soundfile.SoundFile):
    """A file that is only read onwards: FLAC from a pipe has no known length and cannot seek."""

    def seekable(self) -> bool:
        return False


def _forward(file: Part) -> _Forward:
    if isinstance(file, Window):
        file.seek(0)
    return _Forward(openable(file))


def is_raw(path: str | Path) -> bool:
    """Whether a file is named as samples without a header."""
    return str(path).lower().endswith(HEADERLESS)


def openable(file: str | Path | Window) -> str | bytes | Window:
    """The form of a file that soundfile opens: as text it refuses names that are not UTF-8."""
    if isinstance(file, Window) or os.name == "nt":
        return file if isinstance(file, Window) else str(file)
    return os.fsencode(file)


def channels_first(samples: np.ndarray) -> Tensor:
    """Samples as soundfile gives them (N, C) -> (N,), or (C, N) of several channels."""
    wave = torch.from_numpy(samples)
    return wave[:, 0] if wave.shape[1] == 1 else wave.T


def header(source: Path | bytes, first: bool = False) -> soundfile._SoundFileInfo | None:
    """The facts in a file's own header; None if it has none, or one that is wrong or incredible.

    first: what it says of its first part will do, where others may follow behind it.
    """
    if isinstance(source, Path) and is_raw(source):
        return None
    try:
        with source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file:
            if _repaired(file, streamed=False) or (not first and links(file)):
                return None
            size = file.seek(0, io.SEEK_END)
            whole = source if isinstance(source, Path) else Window(b"", file, 0, size)
            found = soundfile.info(openable(whole))
    except (OSError, AudioError, soundfile.LibsndfileError):
        return None
    return found if _plausible(found.frames * found.channels, size) else None


def _plausible(values: int, size: int) -> bool:
    return values <= BLOCK_VALUES + PLAUSIBLE * size


class Decoder:
    """Gives the samples of an open file part by part; of a damaged one those before the damage."""

    def __init__(self, file: Part | Sequence[Part], name: str) -> None:
        """file: several of them are read as one."""
        self._file, self._name = file, name
        self._audio = self._open()
        self.rate: int = check_rate(self._audio.samplerate, name)
        self.channels: int = self._audio.channels
        self.announced: int = self._audio.frames
        self._position = 0
        self._over = False

    def _open(self) -> soundfile.SoundFile | Chain:
        if isinstance(self._file, (Path, Window)):
            return _forward(self._file)
        return Chain(self._file, self._name, Decoder)

    def close(self) -> None:
        """Give the file free."""
        self._audio.close()

    def read(self, frames: int) -> np.ndarray:
        """The next samples (N, C) in [-1, 1) as float32; fewer than `frames` only at the end."""
        if self._over or self._believes(frames):
            return self._read(frames)
        return np.concatenate(list(self._parts(frames)))

    def read_all(self) -> np.ndarray:
        """All samples (N, C)."""
        if self._believes(self.announced):
            return self._read(self.announced)
        most = MOST_VALUES // self.channels
        parts = list(self._parts(most + 1))
        if self._position > most:
            raise AudioError(f"{self._name}: more than {MOST_VALUES} samples; cut it into pieces")
        return np.concatenate(parts)

    def _believes(self, frames: int) -> bool:
        """Whether there may be so many, by the size of the file."""
        parts = [self._file] if isinstance(self._file, (Path, Window)) else self._file
        size = sum(p.stored if isinstance(p, Window) else os.path.getsize(p) for p in parts)
        return _plausible(frames * self.channels, size)

    def _parts(self, frames: int) -> Iterator[np.ndarray]:
        """The next samples, for which room is made as they come."""
        block, left = max(1, BLOCK_VALUES // self.channels), frames
        while left and not self._over:
            part = self._read(min(block, left))
            left -= len(part)
            yield part

    def _read(self, frames: int) -> np.ndarray:
        if self._over:
            return np.empty((0, self.channels), np.float32)
        try:
            part = self._audio.read(frames, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError:
            part = self._until_damage(frames)
        self._position += len(part)
        if len(part) < frames:
            self._end()
        return part

    def _until_damage(self, frames: int) -> np.ndarray:
        """The next samples that can be decoded, by a new decoder that goes there.

        Wherever it begins, it comes to the same place: the last multiple of `DAMAGE_BLOCK`.
        """
        self.close()
        parts = [np.empty((0, self.channels), np.float32)]
        place, end = 0, self._position + frames
        try:
            self._audio = self._open()
            while place < end:
                step = min(DAMAGE_BLOCK, end - place)
                part = self._audio.read(step, dtype="float32", always_2d=True)
                if place + len(part) > self._position:
                    parts.append(part[max(0, self._position - place) :])
                place += len(part)
                if len(part) < step:
                    break
        except soundfile.LibsndfileError as error:
            if not place:
                raise AudioError(
                    f"{self._name}: damaged from its beginning on ({error.error_string.strip()}); "
                    "copy or convert it again"
                ) from error
        return np.concatenate(parts)

    def _end(self) -> None:
        self._over = True
        # The parts of a chain speak for themselves.
        if self._position < self.announced < UNKNOWN_FRAMES and not isinstance(self._audio, Chain):
            log.warning(
                "%s: cut off or damaged; the first %.2f of %.2f s are read",
                self._name,
                self._position / self.rate,
                self.announced / self.rate,
            )


@contextmanager
def open_decoder(source: Path | bytes, name: str, streamed: bool = False) -> Iterator[Decoder]:
    """The decoder of a file, or of all bytes of one; wrong headers are mended with a warning.

    `streamed`: from a program that could not know the length, which is nothing to warn of.
    """
    with _faults_of(name), ExitStack() as stack:
        file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
        stack.callback(file.close)
        mended = _mend(file, name, streamed)
        whole = Window(b"", file, 0, len(source)) if isinstance(source, bytes) else source
        parts, broken = links(mended or file), breaks_off(mended or file)
        try:
            decoder = Decoder(parts or mended or whole, name)
        except soundfile.LibsndfileError as error:
            _refuse(file, name)
            reason = error.error_string.rstrip(".")
            if parts:
                decoder = Decoder(_decodable(parts, name, stack), name)
            else:
                decoder = Decoder(stack.enter_context(ffmpeg.decoded(source, name, reason)), name)
        stack.callback(decoder.close)
        if broken:
            log.warning("%s: cut off; what is there is read", name)
        yield decoder


def _decodable(parts: Sequence[Window], name: str, stack: ExitStack) -> list[Part]:
    """The parts that libsndfile or ffmpeg can decode; a warning names each of the others."""
    found, faults = list[Part](), list[AudioError]()
    for number, part in enumerate(parts, 1):
        try:
            with _forward(part):
                found.append(part)
        except soundfile.LibsndfileError as error:
            part.seek(0)
            reason = error.error_string.rstrip(".")
            try:
                decoded = ffmpeg.decoded(part.read(), name, reason)
                found.append(stack.enter_context(decoded))
            except AudioError as fault:
                faults.append(fault)
                why = str(fault).removeprefix(f"{name}: ")
                log.warning("%s: part %d of %d is left out: %s", name, number, len(parts), why)
    if not found:
        raise faults[0]
    return found


def _refuse(file: BinaryIO, name: str) -> None:
    """Refuse what surely is no audio, such as a list or a picture, by the name of its kind."""
    file.seek(0)
    kind = kind_of(file.read(HEAD))
    if kind is None or kind.is_audio:
        return
    remedy = "the name of a list ends in .scp, .txt, .json or .jsonl"
    if kind is not TEXT:
        raise AudioError(f"{name}: cannot decode it, it is {kind.fault}; convert it to WAV")
    raise AudioError(f"{name}: cannot decode it, it is a text; {remedy}")


@contextmanager
def _faults_of(name: str) -> Iterator[None]:
    """Turn a refusal of the system or of libsndfile into an `AudioError` of one recording."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise AudioError(f"{name}: {reason}; check the file, and the room on the disk") from error
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise AudioError(f"{name}: cannot decode it ({reason}); convert it to WAV") from error


def _mend(file: BinaryIO, name: str, streamed: bool) -> Window | None:
    try:
        repaired = _repaired(file, streamed)
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error
    if repaired is None:
        return None
    window, complaint = repaired
    if complaint:
        log.warning("%s: %s", name, complaint)
    return window


def _repaired(file: BinaryIO, streamed: bool) -> tuple[Window, str] | None:
    """The file under a right header, and what was wrong; None if it can be read as it is."""
    head = file.read(len(voc.MAGIC))
    if riff.is_riff(head):
        return riff.repair(file, streamed)
    if head.startswith((big_endian.CAF, big_endian.AU)):
        return big_endian.repair(file)
    return voc.repair(file) if head == voc.MAGIC else None


def header_samples(source: str, fs: int) -> int | None:
    """Samples at `fs` of a file whose header can be trusted, else None."""
    found = header(Path(source)) if os.path.isfile(source) else None
    return None if found is None else -(-fs * found.frames // found.samplerate)
