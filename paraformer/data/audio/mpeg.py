"""Counts the frames of MP3 files that do not tell their length, or tell it for a part of what they
hold, and writes it down.

A length is otherwise a guess from the first frames, and of a recording that begins louder than it
goes on, most would be lost; and of files that were put together, only the first would be heard.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import NamedTuple

from paraformer.data.audio.file_views import File, Window

_KBITS = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBITS[0] = _KBITS[2]
# Bit rates of layer II at the higher sampling rates; at the lower it has those of layer III.
_KBITS_2 = (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
LAYER_3, LAYER_2 = 1, 2  # as a header writes them
SHORTEST_FRAME = 24
LONGEST_FRAME = 1441
_LARGEST_KBITS = 14
_XING = (b"Xing", b"Info")
_VBRI_PLACE = 36
_HAS_COUNT, _HAS_BYTES = 1, 2
# Beginnings of tags, which are no sound: ID3v1, APE, Lyrics3.
_TAGS = (b"TAG", b"APETAGEX", b"LYRICSBEGIN")
_ID3V1_BYTES, _APE_FOOTER_BYTES = 128, 32
_HEAD_BYTES = 64
_NOTHING = bytes(9)  # the least that stands between the head of a frame without sound and a count


class _Told(NamedTuple):
    """Counts that the first frame gives of the frames behind it; 0: it does not tell."""

    frames: int
    size: int  # bytes, with itself


class _Run(NamedTuple):
    """Frames one behind another that began as a file: where, and what there is."""

    start: int
    end: int
    frames: int
    told: _Told | None


def is_mpeg(content: bytes) -> bool:
    """A layer III frame and another where it ends: raw samples around -1 may start like one."""
    length = frame_length(content)
    return length > 0 and (len(content) <= length or frame_length(content[length : length + 4]) > 0)


def frame_length(head: bytes, layers: tuple[int, ...] = (LAYER_3,)) -> int:
    """Bytes of the MPEG frame of one of these layers that starts here; 0 if none does.

    >>> frame_length(bytes.fromhex("fffb9064"))
    417
    """
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = head[1] >> 3 & 3, head[1] >> 1 & 3
    kbits, rate = head[2] >> 4, head[2] >> 2 & 3
    if layer not in layers or version == 1 or kbits in (0, 15) or rate == 3:
        return 0
    hertz = (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if version == 3 or layer == LAYER_2 else 576
    table = _KBITS_2 if version == 3 and layer == LAYER_2 else _KBITS[version]
    return samples // 8 * table[kbits - 1] * 1000 // hertz + (head[2] >> 1 & 1)


def links(file: File) -> list[Window]:
    """The MP3 files that follow each other in a file, each behind a frame that tells how many
    there are; none for one that does, or no MP3.
    """
    total = file.seek(0, io.SEEK_END)
    start = _behind_tags(file, 0)
    file.seek(start)
    content = file.read(2 * LONGEST_FRAME)
    if not is_mpeg(content) or _covers(file, start, _told(content), total):
        return []
    runs = [run for run in _runs(file, start, total) if run.frames]
    if len(runs) == 1 and runs[0].told is not None and runs[0].told.frames >= runs[0].frames:
        return []
    return [_window(file, run) for run in runs]


def _covers(file: File, start: int, told: _Told | None, total: int) -> bool:
    """Whether the first frame counts all frames that there are."""
    if told is None or not told.frames or not told.size:
        return False
    file.seek(start + told.size)
    return total - start - told.size < LONGEST_FRAME or file.read(11).startswith(_TAGS[1:])


def _told(frame: bytes) -> _Told | None:
    """The counts in a first frame that holds no sound (Xing, VBRI); None in another frame."""
    if frame[4:13] != _NOTHING:  # soon seen of nearly all others
        return None
    place = 4 + _side_bytes(frame)
    if any(frame[4:place]):
        return None
    if frame[place : place + 4] in _XING:
        flags, count, size = struct.unpack(">III", frame[place + 4 : place + 16].ljust(12, b"\0"))
        if not flags & _HAS_COUNT:
            return _Told(0, 0)
        return _Told(count, size if flags & _HAS_BYTES else 0)
    if frame[_VBRI_PLACE : _VBRI_PLACE + 4] == b"VBRI":
        size, count = struct.unpack(">II", frame[_VBRI_PLACE + 10 :][:8].ljust(8, b"\0"))
        return _Told(count, size)
    return None


def _side_bytes(head: bytes) -> int:
    """Bytes between a frame's head and its sound."""
    whole, mono = head[1] >> 3 & 3 == 3, head[3] >> 6 == 3
    return (17 if mono else 32) if whole else (9 if mono else 17)


def _behind_tags(file: File, place: int) -> int:
    """The place behind all tags that stand one after another at `place`."""
    while True:
        file.seek(place)
        head = file.read(_APE_FOOTER_BYTES)
        if head[:3] == b"ID3" and len(head) >= 10:  # sizes have 7 bits a byte
            a, b, c, d = head[6:10]
            place += 10 + ((a & 127) << 21 | (b & 127) << 14 | (c & 127) << 7 | d & 127)
        elif head[:8] == b"APETAGEX" and len(head) == _APE_FOOTER_BYTES:
            is_header = head[23] & 0x20
            place += _APE_FOOTER_BYTES + (int.from_bytes(head[12:16], "little") if is_header else 0)
        elif head[:3] == b"TAG":
            place += _ID3V1_BYTES
        else:
            return place


def _runs(file: File, place: int, total: int) -> Iterator[_Run]:
    """A run ends where another file begins, or where there is no frame: what cannot be walked
    through is the last one's, with as many frames as there can be.
    """
    start, count, told = place, 0, None
    while place < total:
        file.seek(place)
        head = file.read(_HEAD_BYTES)
        length = frame_length(head)
        if not length:
            behind = _behind_tags(file, place)
            file.seek(behind)
            if behind > place and frame_length(file.read(4)):
                yield _Run(start, place, count, told)
                start = place = behind
                count, told = 0, None
                continue
            ends = behind > place or head.startswith(_TAGS) or total - place < LONGEST_FRAME
            most = count if ends else count + (total - place) // SHORTEST_FRAME
            yield _Run(start, total, most, told)
            return
        own = _told(head)
        if own is not None:
            if count:
                yield _Run(start, place, count, told)
                start, count = place, 0
            told = own
        else:
            count += 1
        place += length
    yield _Run(start, total, count, told)


def _window(file: File, run: _Run) -> Window:
    """A run that tells its length, by its own first frame or by one that is put before it."""
    size = run.end - run.start
    file.seek(run.start)
    first = file.read(LONGEST_FRAME)
    if run.told is None or not run.told.frames:
        return Window(_counting(first[:4], run.frames), file, run.start, size)
    place, length = 4 + _side_bytes(first), frame_length(first)
    if run.told.frames >= run.frames or first[place : place + 4] not in _XING:
        return Window(b"", file, run.start, size)
    has_bytes = first[place + 7] & _HAS_BYTES
    numbers = (
        first[place + 4 : place + 8] + struct.pack(">II", run.frames, size)[: 8 if has_bytes else 4]
    )
    head = first[: place + 4] + numbers + first[place + 4 + len(numbers) : length]
    return Window(head, file, run.start + length, size - length)


def _counting(head: bytes, count: int) -> bytes:
    """A frame like the first, silent and as large as there are, with Xing's count in its place."""
    first = bytes((head[0], head[1] | 1, _LARGEST_KBITS << 4 | head[2] & 0x0C, head[3]))
    frame = first + bytes(_side_bytes(head)) + b"Xing" + struct.pack(">II", 1, count)
    return frame + bytes(frame_length(first) - len(frame))
