"""Puts the samples of Creative Voice files, which lie in blocks, behind a WAV header, without a
copy: libsndfile takes the bytes between two blocks for samples too.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import BinaryIO, NamedTuple

from paraformer.data.audio.file_views import Piece, Window
from paraformer.data.audio.riff import wav_header
from paraformer.errors import AudioError

MAGIC = b"Creative Voice File\x1a"
MOST_BLOCKS = 100_000
_END, _SOUND, _MORE, _SILENCE, _EXTENDED, _NEW_SOUND = 0, 1, 2, 3, 8, 9
# Encodings of both kinds of blocks: tag of a WAV, bits.
_CODECS = {0: (1, 8), 4: (1, 16), 6: (6, 8), 7: (7, 8)}
_SHORT = 8
_LONGEST_SILENCE = 1 << 16  # samples of one block
_QUIET = {(1, 8): b"\x80", (1, 16): b"\0\0", (6, 8): b"\xd5", (7, 8): b"\xff"}


class _Form(NamedTuple):
    rate: int
    channels: int
    codec: int

    @property
    def block(self) -> int:
        """Bytes of a sample of all channels."""
        return self.channels * _CODECS[self.codec][1] // 8

    @property
    def fmt(self) -> bytes:
        """Content of the chunk `fmt ` of a WAV."""
        tag, bits = _CODECS[self.codec]
        size = self.block
        return struct.pack("<HHIIHH", tag, self.channels, self.rate, self.rate * size, size, bits)


def repair(file: BinaryIO) -> tuple[Window, str] | None:
    """The samples of all blocks behind the header of a WAV, and what is wrong with the file; None
    for encodings that are not here, and for what is no such file.
    """
    total = file.seek(0, io.SEEK_END)
    pieces, form, lost = list[Piece](), None, 0
    extended: _Form | None = None
    for kind, start, size in _blocks(file, total):
        file.seek(start)
        head = file.read(min(size, 12))
        there = min(start + size, total)
        lost = max(lost, start + size - total)
        if kind == _EXTENDED and len(head) >= 4:
            extended = _extended(head)
        elif kind in (_SOUND, _NEW_SOUND):
            own, skip = _form(kind, head, extended)
            extended = None
            if own is None or own.codec not in _CODECS:
                return None
            if form not in (None, own):
                raise AudioError("its blocks differ in rate, channels or encoding; convert it")
            form = own
            pieces.append((start + skip, there - start - skip))
        elif kind == _MORE:
            pieces.append((start, there - start))
        elif kind == _SILENCE and form is not None and len(head) >= 3:
            pieces.append(_silence(form, head))
    if form is None:
        return None
    length = Window.of(file, pieces).total
    window = Window.of(file, [wav_header(form.fmt, length - length % form.block), *pieces])
    return window, f"cut off: {lost} bytes of its last block are missing" if lost else ""


def _blocks(file: BinaryIO, total: int) -> Iterator[tuple[int, int, int]]:
    """Kind, start and size of the content of each block; that of a new kind of sound is written 8
    bytes too small by sox, which is seen where it is the last.
    """
    file.seek(len(MAGIC))
    place = int.from_bytes(file.read(2), "little")
    for _ in range(MOST_BLOCKS):
        file.seek(place)
        head = file.read(4)
        if len(head) < 4 or head[0] == _END:
            return
        size = int.from_bytes(head[1:], "little")
        if head[0] == _NEW_SOUND and total - (place + 4 + size) == _SHORT + 1:
            file.seek(place + 4 + size)
            size += 0 if file.read(4)[1:] == (_SHORT - 4).to_bytes(3, "little") else _SHORT
        yield head[0], place + 4, size
        place += 4 + size
    raise AudioError(f"more than {MOST_BLOCKS} blocks; convert it to WAV")


def _extended(head: bytes) -> _Form:
    """Rate, channels and encoding of the block of sound behind this one."""
    time, codec, stereo = struct.unpack_from("<HBB", head)
    channels = 2 if stereo else 1
    return _Form(round(256_000_000 / (channels * (65536 - time))), channels, codec)


def _form(kind: int, head: bytes, extended: _Form | None) -> tuple[_Form | None, int]:
    """The form of the samples of a block, and behind how many bytes they begin."""
    if kind == _SOUND and len(head) >= 2:
        own = _Form(round(1_000_000 / (256 - head[0])), 1, head[1])
        return extended or own, 2
    if kind == _NEW_SOUND and len(head) >= 12:
        rate, bits, channels, codec = struct.unpack_from("<IBBH", head)
        right = codec in _CODECS and _CODECS[codec][1] == bits and 0 < channels < 256
        return (_Form(rate, channels, codec) if right else None), 12
    return None, 0


def _silence(form: _Form, head: bytes) -> Piece:
    """Samples that a block leaves out; its rate may be its own."""
    count, time = struct.unpack_from("<HB", head)
    samples = round((count + 1) * form.rate * (256 - time) / 1_000_000)
    return _quiet(form)[: samples * form.block]


@lru_cache(maxsize=4)
def _quiet(form: _Form) -> memoryview:
    """The longest silence, of which others are a part."""
    return memoryview(_QUIET[_CODECS[form.codec]] * (form.channels * _LONGEST_SILENCE))
