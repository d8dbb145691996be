"""Makes samples of a stream that comes in pieces of any size, as soon as they are whole."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from paraformer.data.audio import riff
from paraformer.data.audio.arrays import from_bytes
from paraformer.data.audio.containers import UndecidedError, kind_of_stream
from paraformer.data.audio.read import read_audio
from paraformer.data.audio.signatures import Kind
from paraformer.errors import AudioError

BYTES = (bytes, bytearray, memoryview)
NAME = "stream"
# A header of WAV that is larger holds pictures, or is none.
LARGEST_HEADER = 1 << 20
_PCM, _EXTENSIBLE = 1, 0xFFFE


class RefusedError(AudioError):
    """A stream is refused for good: it begins as something else than samples."""


class _Session(Protocol):
    state: Any


class Pieces(NamedTuple):
    """The bytes of a stream that wait for more, and the kind of stream that it has begun as.

    A stream is judged once. It is 16-bit little-endian samples of one channel, bare or behind a
    header of WAV, or else it is refused; but one that comes whole, in one piece, is read as a file.
    Its first bytes wait until they tell (see `kind_of_stream`), later an odd one does.
    """

    held: tuple[bytes, ...] = ()  # each longer than the next: few, however small the pieces are
    begun: bool = False
    left: int | None = None  # bytes of samples to come, by the header; None: all that comes
    refusal: str = ""
    least: int = 0  # bytes from the beginning without which nothing more can be told

    def take(self, piece: Any, rate: int, final: bool = False) -> tuple[Tensor, Pieces]:
        """The samples (N,) that a piece completes, and what waits then; after `final`, nothing.

        A piece is bytes, samples (N,) in a tensor, or what else `read_audio` takes, at `rate`.
        """
        if self.refusal and final and isinstance(piece, bytes) and not piece:
            return _NOTHING, Pieces()
        if self.refusal:
            raise RefusedError(self.refusal)
        if not isinstance(piece, BYTES):
            return self._array(piece, rate, final)
        held = _appended(self.held, bytes(piece))
        if not final and sum(map(len, held)) < self.least:
            return _NOTHING, self._replace(held=held)
        content = b"".join(held)
        if self.begun:
            return self._samples(content, final)
        try:
            kind = kind_of_stream(content)
            if final and (kind is None or kind.is_audio):
                return _whole(content, rate), Pieces()
            if kind is None:
                return Pieces(begun=True)._samples(content, final)
            start, left = _header(content, kind, rate)
        except UndecidedError:
            if final:
                return _whole(content, rate), Pieces()
            return _NOTHING, Pieces(held, least=_least(content))
        return Pieces(begun=True, left=left)._samples(content[start:], final)

    def behind(self, error: Exception) -> Pieces:
        """The state behind a fault of `take`: refused for good, or as it was before."""
        return Pieces(refusal=str(error)) if isinstance(error, RefusedError) else self

    def _array(self, piece: Any, rate: int, final: bool) -> tuple[Tensor, Pieces]:
        wave = piece if isinstance(piece, Tensor) else read_audio(piece, fs=rate, target_fs=rate)
        if self.held:  # no bytes will complete them
            wave = torch.cat((self.take(b"", rate, final=True)[0], wave))
        begun = Pieces(begun=self.begun or len(wave) > 0, left=self.left)
        return wave, Pieces() if final else begun

    def _samples(self, content: bytes, final: bool) -> tuple[Tensor, Pieces]:
        """The samples of a stream that has begun; behind those of a WAV stands no sound."""
        content = content[: self.left]
        whole = len(content) if final else len(content) // 2 * 2
        left = None if self.left is None else self.left - whole
        waits = Pieces() if final else Pieces(_appended((), content[whole:]), True, left)
        return from_bytes(content[:whole], NAME), waits


@contextmanager
def staying_refused(session: _Session) -> Iterator[None]:
    """Refuse the next pieces of a stream that is refused too, until it is flushed."""
    try:
        yield
    except RefusedError as error:
        session.state = session.state._replace(pieces=Pieces(refusal=str(error)))
        raise


_NOTHING = torch.zeros(0)


def _appended(held: tuple[bytes, ...], piece: bytes) -> tuple[bytes, ...]:
    """Bytes with more behind them, each of which is copied a number of times that grows as the
    logarithm of theirs.

    >>> _appended(_appended(_appended((), b"ab"), b"c"), b"d")
    (b'abcd',)
    """
    while held and len(held[-1]) <= len(piece):
        held, piece = held[:-1], held[-1] + piece
    return (*held, piece) if piece else held


def _least(content: bytes) -> int:
    """The bytes that a WAV's header must have to tell more than these do; 0: any more may."""
    if not riff.is_riff(content):
        return 0
    return min(riff.next_chunk_end(io.BytesIO(content)), LARGEST_HEADER)


def _whole(content: bytes, rate: int) -> Tensor:
    return read_audio(content, fs=rate, target_fs=rate)


def _header(content: bytes, kind: Kind, rate: int) -> tuple[int, int | None]:
    """The place of the samples behind a WAV's header, and the bytes that it says they have."""
    if not riff.is_riff(content):
        raise _refused(kind.name, rate)
    try:
        layout = riff.read_layout(io.BytesIO(content))
    except AudioError:
        if len(content) < LARGEST_HEADER:
            raise UndecidedError from None
        raise _refused(f"{kind.name} without samples", rate) from None
    form, channels, hertz, _, _, bits = struct.unpack("<HHIIHH", layout.fmt[:16])
    if form == _EXTENSIBLE:
        form = int.from_bytes(layout.fmt[24:26], "little")
    if (form, channels, hertz, bits) != (_PCM, 1, rate, 16):
        what = f"{kind.name} of {hertz} Hz, channels: {channels}, bits: {bits}, format: {form}"
        raise _refused(what, rate)
    size, start = layout.data.size, layout.data.start
    unknown = riff.UNKNOWN_FROM_64 if layout.wide else riff.UNKNOWN_FROM
    empty = start < layout.end < unknown  # by the size of all
    return start, None if size >= unknown or not (size or empty) else size


def _refused(what: str, rate: int) -> RefusedError:
    return RefusedError(
        f"{NAME}: begins as {what}; give 16-bit samples of {rate} Hz, one channel, bare or as WAV"
    )
