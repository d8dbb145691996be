"""Core Audio and AU files whose samples end elsewhere than their header says."""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from paraformer.data.audio.file_views import Window
from paraformer.data.audio.riff import MOST_CHUNKS

CAF, AU = b"caff", b".snd"
# Before the samples of Core Audio stands a count of edits.
_EDITS = 4
_AU_UNKNOWN = b"\xff" * 4


def repair(file: BinaryIO) -> tuple[Window, str] | None:
    """The file under a header with its true length, and the fault; None if it is sound."""
    total = file.seek(0, io.SEEK_END)
    file.seek(0)
    head = file.read(12)
    if head.startswith(CAF):
        return _repair_caf(file, total)
    if head.startswith(AU) and len(head) == 12:
        return _repair_au(file, total, *struct.unpack_from(">II", head, 4))
    return None


def _repair_caf(file: BinaryIO, total: int) -> tuple[Window, str] | None:
    """Repair Core Audio, whose last chunk may leave its length open as -1, which is no fault."""
    position = 8
    for _ in range(MOST_CHUNKS):
        if position + 12 > total:
            return None
        file.seek(position)
        name, size = struct.unpack(">4sq", file.read(12))
        position += 12
        if name == b"data":
            there = total - position
            if 0 <= size <= there or there <= _EDITS:
                return None
            file.seek(0)
            start = file.read(position - 8) + struct.pack(">q", there)
            return Window(start, file, position, there), "" if size < 0 else _cut(size, there)
        position += max(0, size)
    return None


def _repair_au(file: BinaryIO, total: int, start: int, size: int) -> tuple[Window, str] | None:
    there = total - start
    if there <= 0 or size <= there or struct.pack(">I", size) == _AU_UNKNOWN:
        return None
    file.seek(0)
    return Window(file.read(8) + _AU_UNKNOWN, file, 12, total - 12), _cut(size, there)


def _cut(size: int, there: int) -> str:
    return f"cut off: of {size} bytes of samples {there} are there, and are read"
