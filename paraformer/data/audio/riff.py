"""Mends WAV files that libsndfile misreads: with a wrong header, streamed, cut off, with stray
chunks, of Wave64 with chunks behind the samples, or with MP3 inside.

Of the same kind are RF64 (EBU Tech 3306) and BW64 (ITU-R BS.2088), which keep sizes above 4 GiB in
a chunk `ds64`, and Sony's Wave64, whose chunks have names of 16 bytes and sizes of 8.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from paraformer.data.audio.file_views import Window
from paraformer.errors import AudioError

# A writer to a pipe does not know the length: it says 0, the largest number, or (sox) nearly that.
UNKNOWN_FROM = 0x7FFFF000
UNKNOWN_FROM_64 = 0x7FFFFFFFFFFF0000
# A size of 32 bits that refers to `ds64`.
ELSEWHERE = 0xFFFFFFFF
# More chunks than any program writes, and the largest description of a format.
MOST_CHUNKS = 1000
MOST_FMT = 1 << 16
WAVE64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_WAVE64_END = bytes.fromhex("f3acd3118cd100c04f8edb8a")  # of the names of all its other chunks
_MP3, _GSM = 0x55, 0x31
# Encodings of which a sample or a block has the size that the header says; others have frames.
_BLOCKS = {1, 2, 3, 6, 7, 0x11, _GSM, 0xFFFE}
# Encodings of which libsndfile hears no chunk behind the samples.
_PLAIN = {1, 3, 6, 7, 0xFFFE}
# Names of chunks that may follow one whose padding byte was forgotten.
_KNOWN = {b"data", b"LIST", b"fmt ", b"fact", b"bext", b"cue ", b"id3 ", b"JUNK", b"PEAK", b"iXML"}


class Chunk(NamedTuple):
    """A chunk's name, the size it announces, and where in the file its content starts."""

    name: bytes
    size: int
    start: int


class Layout(NamedTuple):
    """The parts of a WAV: where it says to end and does, format, samples, a chunk not padded."""

    end: int
    total: int
    fmt: bytes
    data: Chunk
    unpadded: Chunk | None  # of an odd length, without the byte that makes it even
    wide: bool  # sizes have 64 bits
    is_rf64: bool
    is_bw64: bool  # which libsndfile does not know by that name

    @property
    def block(self) -> int:
        """Bytes of one sample of all channels, or of what is decoded at a time."""
        size = int(struct.unpack("<H", self.fmt[12:14])[0])
        return max(1, size) if self.tag in _BLOCKS else 1

    @property
    def tag(self) -> int:
        """The number of its encoding."""
        return int(struct.unpack("<H", self.fmt[:2])[0])

    @property
    def is_misread(self) -> bool:
        """Whether libsndfile does not know it, or hears chunks behind the samples, or the byte that
        makes their number even, as samples.
        """
        gsm = self.tag == _GSM and (self.data.size % 2 or self.data.size % self.block)
        if self.tag == _MP3 or self.is_bw64 or gsm:
            return True
        heard = self.tag not in _PLAIN or (self.wide and not self.is_rf64)
        return heard and self.data.size < self.available

    @property
    def available(self) -> int:
        """Bytes behind the header of the samples, whatever it announces."""
        return self.total - self.data.start


def is_riff(head: bytes) -> bool:
    """Whether this is the beginning of a WAV, RF64, BW64 or Wave64 (RIFX is another)."""
    return head[:12] == WAVE64[:12] or (
        head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE"
    )


def repair(file: BinaryIO, streamed: bool = False) -> tuple[Window, str] | None:
    """The WAV under a right header, and the fault of its own; None if it can be read as it is.

    The fault is "" if `streamed`, as from a pipe, where not to know the length is none.
    """
    layout = read_layout(file)
    complaint = _complaint(layout)
    if complaint is None:
        return (_mend(file, layout), "") if layout.is_misread else None
    if layout.available < layout.block:
        raise AudioError("a WAV header without samples; record or copy it again")
    return _mend(file, layout), "" if streamed and _unknown_length(layout) else complaint


def read_layout(file: BinaryIO) -> Layout:
    """Walk along the chunks up to the samples."""
    total = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(24)
    long = head.startswith(WAVE64)
    end = int.from_bytes(head[16:24] if long else head[4:8], "little") + (0 if long else 8)
    fmt, unpadded, sizes = b"", None, None
    for chunk, padded in _wave64_chunks(file, total) if long else _chunks(file, total):
        if chunk.name == b"data" and len(fmt) >= 16:
            if sizes and chunk.size == ELSEWHERE:
                end, chunk = sizes[0] + 8, chunk._replace(size=sizes[1])
            is_rf64, is_bw64 = sizes is not None, head.startswith(b"BW64")
            return Layout(end, total, fmt, chunk, unpadded, long or is_rf64, is_rf64, is_bw64)
        if chunk.name in (b"fmt ", b"ds64"):
            file.seek(chunk.start)
            content = file.read(min(chunk.size, MOST_FMT))
            if chunk.name == b"fmt ":
                fmt = content
            elif len(content) >= 16:
                sizes = struct.unpack_from("<QQ", content)
        if not padded:
            unpadded = chunk
    raise AudioError(f"its WAV header ends, after {total} bytes, before the samples; copy it again")


def next_chunk_end(file: BinaryIO) -> int:
    """The least length at which a file lets `read_layout` find one chunk more than it finds now."""
    total = file.seek(0, io.SEEK_END)
    file.seek(0)
    long = file.read(24).startswith(WAVE64)
    chunks = [chunk for chunk, _ in (_wave64_chunks if long else _chunks)(file, total)]
    end = chunks[-1].start + chunks[-1].size if chunks else 12
    return end + 8 if len(chunks) < MOST_CHUNKS else UNKNOWN_FROM_64


def _chunks(file: BinaryIO, total: int) -> Iterator[tuple[Chunk, bool]]:
    """The chunks, and whether each is followed by the padding byte that it needs."""
    position = 12
    for _ in range(MOST_CHUNKS):
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            return
        name, size = struct.unpack("<4sI", head)
        chunk = Chunk(name, size, position + 8)
        position += 8 + size
        padded = True
        if size % 2 and position < total:
            file.seek(position)
            padded = file.read(4) not in _KNOWN
            position += padded
        yield chunk, padded


def _wave64_chunks(file: BinaryIO, total: int) -> Iterator[tuple[Chunk, bool]]:
    """The chunks: sizes count the 24 bytes of name and size, beginnings are multiples of 8."""
    position = 40
    for _ in range(MOST_CHUNKS):
        if position + 24 > total:
            return
        file.seek(position)
        name, size = struct.unpack("<16sQ", file.read(24))
        yield Chunk(name[:4], max(0, size - 24), position + 24), True
        position += max(24, size + 7 & ~7)


def _unknown_length(layout: Layout) -> bool:
    """Whether the length was never filled in: 0, and the file's leaves out the bytes behind it."""
    size, end = layout.data.size, layout.end
    if size == 0:
        return layout.available > 0 and not layout.data.start < end <= layout.total + 1
    return size >= (UNKNOWN_FROM_64 if layout.wide else UNKNOWN_FROM) and size > layout.available


def _complaint(layout: Layout) -> str | None:
    """The fault of a header, as the user is told of it; None if the header is right."""
    size, there = layout.data.size, layout.available
    if _unknown_length(layout):
        return f"the WAV header does not tell the length; all {there} bytes behind it are read"
    if size > there:
        return f"cut off: of {size} bytes of samples {there} are there, and are read"
    if layout.unpadded is not None:
        name, length = layout.unpadded.name.decode("ascii", "replace").strip(), layout.unpadded.size
        return f"chunk '{name}' of {length} bytes lacks its padding byte; read all the same"
    # sox counts the byte that makes GSM even.
    if size % layout.block > (layout.tag == _GSM):
        return f"{size} bytes of samples, no multiple of {layout.block}; the last is left out"
    return None


def _mend(file: BinaryIO, layout: Layout) -> Window:
    size = layout.available
    if not _unknown_length(layout):
        size = min(size, layout.data.size)
    size -= size % layout.block
    if layout.tag == _MP3:
        return Window(b"", file, layout.data.start, size)
    return Window(wav_header(layout.fmt, size), file, layout.data.start, size)


def wav_header(fmt: bytes, size: int) -> bytes:
    """The header that stands before `size` bytes of samples; an odd number of GSM blocks needs
    Wave64, where they are not made even.
    """
    if fmt[0] == _GSM and size % 2:
        return _wave64_header(fmt, size)
    form = b"WAVE" + struct.pack("<4sI", b"fmt ", len(fmt)) + fmt + b"\0" * (len(fmt) % 2)
    if len(form) + 8 + size < ELSEWHERE:
        return struct.pack("<4sI", b"RIFF", len(form) + 8 + size) + form + _head(b"data", size)
    sizes = struct.pack("<QQQI", len(form) + 44 + size, size, 0, 0)
    ds64 = _head(b"ds64", len(sizes)) + sizes
    return _head(b"RF64", ELSEWHERE) + b"WAVE" + ds64 + form[4:] + _head(b"data", ELSEWHERE)


def _head(name: bytes, size: int) -> bytes:
    return struct.pack("<4sI", name, size)


def _wave64_header(fmt: bytes, size: int) -> bytes:
    content = fmt + bytes(-len(fmt) % 8)
    form = b"wave" + _WAVE64_END + _wave64_head(b"fmt ", len(fmt)) + content
    end = _wave64_head(b"data", size)
    return WAVE64 + struct.pack("<Q", 24 + len(form) + len(end) + size) + form + end


def _wave64_head(name: bytes, size: int) -> bytes:
    return name + _WAVE64_END + struct.pack("<Q", 24 + size)
