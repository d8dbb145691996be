"""MP3 files that do not say how long they are: their frames are counted, and it is written down.

A length is otherwise a guess from the first frames, and of a recording that begins louder than it
goes on, most would be lost.
"""

from __future__ import annotations

import io
import struct
from typing import BinaryIO

from paraformer.data.windows import Window

_KBITS = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBITS[0] = _KBITS[2]
SHORTEST_FRAME = 24
LONGEST_FRAME = 1441
_LARGEST_KBITS = 14
_LENGTHS = (b"Xing", b"Info", b"VBRI")
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")


def is_mpeg(content: bytes) -> bool:
    """A layer III frame and another where it ends: raw samples around -1 may start like one."""
    length = frame_length(content)
    return length > 0 and (len(content) <= length or frame_length(content[length : length + 4]) > 0)


def frame_length(head: bytes) -> int:
    """Bytes of the MPEG layer III frame that starts here; 0 if none does.

    >>> frame_length(bytes.fromhex("fffb9064"))
    417
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return 0
    hertz = (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if version == 3 else 576
    return samples // 8 * _KBITS[version][kbits - 1] * 1000 // hertz + (head[2] >> 1 & 1)


def with_length(file: BinaryIO) -> Window | None:
    """The MP3 behind a frame that tells how many there are; None for one that does, or no MP3."""
    total = file.seek(0, io.SEEK_END)
    start = _first_frame(file)
    file.seek(start)
    content = file.read(2 * LONGEST_FRAME)
    first = content[: frame_length(content)]
    if not is_mpeg(content) or any(name in first[:64] for name in _LENGTHS):
        return None
    count = _count(file, start, total)
    return Window(_told(content[:4], count), file, start, total - start)


def _first_frame(file: BinaryIO) -> int:
    """Where it begins: behind tags of ID3v2, whose sizes have 7 bits a byte."""
    start = 0
    while True:
        file.seek(start)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3":
            return start
        a, b, c, d = head[6:10]
        start += 10 + ((a & 127) << 21 | (b & 127) << 14 | (c & 127) << 7 | d & 127)


def _count(file: BinaryIO, place: int, total: int) -> int:
    """Frames, or where they are interrupted, the most that there can be."""
    count = 0
    while place < total:
        file.seek(place)
        head = file.read(4)
        length = frame_length(head)
        if not length:
            file.seek(place)
            ends = file.read(11).startswith(_TAGS) or total - place < LONGEST_FRAME
            return count if ends else count + (total - place) // SHORTEST_FRAME
        count += 1
        place += length
    return count


def _told(head: bytes, count: int) -> bytes:
    """A frame like the first, silent and as large as there are, with Xing's count in its place."""
    first = bytes((head[0], head[1] | 1, _LARGEST_KBITS << 4 | head[2] & 0x0C, head[3]))
    whole, mono = head[1] >> 3 & 3 == 3, head[3] >> 6 == 3
    side = (17 if mono else 32) if whole else (9 if mono else 17)
    frame = first + bytes(side) + b"Xing" + struct.pack(">II", 1, count)
    return frame + bytes(frame_length(first) - len(frame))
