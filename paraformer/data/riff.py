"""WAV files with a wrong header: streamed, cut off, or with stray chunks; mended to be decoded."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO, NamedTuple

from paraformer.errors import AudioError

# Who writes to a pipe does not know the length: 0, the largest number, or (sox) nearly that.
UNKNOWN_FROM = 0x7FFFF000
# What may follow a chunk whose padding byte was forgotten.
_KNOWN = {b"data", b"LIST", b"fmt ", b"fact", b"bext", b"cue ", b"id3 ", b"JUNK", b"PEAK", b"iXML"}


class Chunk(NamedTuple):
    """A chunk's name, the size it announces, and where in the file its content starts."""

    name: bytes
    size: int
    start: int


class Layout(NamedTuple):
    """What matters of a WAV: sizes announced and real, format, samples, a chunk of odd length."""

    riff_size: int
    total: int
    fmt: bytes
    data: Chunk
    odd: Chunk | None

    @property
    def block(self) -> int:
        """Bytes of one sample of all channels."""
        return max(1, int(struct.unpack("<H", self.fmt[12:14])[0]))

    @property
    def available(self) -> int:
        """Bytes behind the header of the samples, whatever it announces."""
        return self.total - self.data.start


def is_riff(head: bytes) -> bool:
    """Whether this is the beginning of a WAV of the usual kind (RIFX and RF64 are others)."""
    return head[:4] == b"RIFF" and head[8:12] == b"WAVE"


def repair(file: BinaryIO, streamed: bool = False) -> tuple[bytes, str] | None:
    """The WAV under a right header and what was wrong with it; None if it can be read as it is.

    The fault is "" if `streamed`, as from a pipe, where not to know the length is none.
    """
    layout = read_layout(file)
    complaint = _complaint(layout)
    if complaint is None:
        return None
    if layout.available < layout.block:
        raise AudioError("a WAV header without samples; record or copy it again")
    return _mend(file, layout), "" if streamed and _unknown_length(layout) else complaint


def read_layout(file: BinaryIO) -> Layout:
    """Walk along the chunks up to the samples."""
    total = file.seek(0, io.SEEK_END)
    file.seek(4)
    riff_size = int.from_bytes(file.read(4), "little")
    position, fmt, odd = 12, b"", None
    while position + 8 <= total:
        file.seek(position)
        name, size = struct.unpack("<4sI", file.read(8))
        chunk = Chunk(name, size, position + 8)
        if chunk.name == b"data" and len(fmt) >= 16:
            return Layout(riff_size, total, fmt, chunk, odd)
        if chunk.name == b"fmt ":
            fmt = file.read(chunk.size)
        position = chunk.start + chunk.size
        if chunk.size % 2:
            odd = chunk
            file.seek(position)
            position += 0 if file.read(4) in _KNOWN else 1
    raise AudioError(f"its WAV header ends, after {total} bytes, before the samples; copy it again")


def _unknown_length(layout: Layout) -> bool:
    """A length that was never filled in: 0, with bytes behind it that RIFF's size ignores too."""
    size, end = layout.data.size, layout.riff_size + 8
    if size == 0:
        return layout.available > 0 and not layout.data.start < end <= layout.total + 1
    return size >= UNKNOWN_FROM and size > layout.available


def _complaint(layout: Layout) -> str | None:
    """What the user is told; None if the header is right."""
    size, there = layout.data.size, layout.available
    if _unknown_length(layout):
        return f"the WAV header does not tell the length; all {there} bytes behind it are read"
    if size > there:
        return f"cut off: of {size} bytes of samples {there} are there, and are read"
    if layout.odd is not None:
        name = layout.odd.name.decode("ascii", "replace").strip()
        return f"chunk '{name}' has an odd length ({layout.odd.size} bytes); read all the same"
    if size % layout.block:
        return f"{size} bytes of samples, no multiple of {layout.block}; the last is left out"
    return None


def _mend(file: BinaryIO, layout: Layout) -> bytes:
    size = layout.available
    if not _unknown_length(layout):
        size = min(size, layout.data.size)
    file.seek(layout.data.start)
    data = file.read(size - size % layout.block)
    return _chunk(b"RIFF", b"WAVE" + _chunk(b"fmt ", layout.fmt) + _chunk(b"data", data))


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)
