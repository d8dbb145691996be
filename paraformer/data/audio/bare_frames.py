"""Compressed sound without a header: frames in a row, each with its mark where the last one ends.

A mark of two bytes may stand in samples by accident; that another stands where the first frame says
that it ends may not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from paraformer.data.audio import mpeg

_AC3_KBITS = (
    *(32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640),
)
_DTS, _DTS_SWAPPED = b"\x7f\xfe\x80\x01", b"\xfe\x7f\x01\x80"
# Bytes of a frame's beginning that the functions below look at.
_HEAD = 8


class _Framed(NamedTuple):
    name: str
    length: Callable[[bytes], int]  # of the frame that starts here; 0 if none does
    least: int  # so many frames in a row are no accident


def name_of_frames(content: bytes, whole: bool = True) -> str | None:
    """The format of the frames that bytes are, "" if they are none; None if bytes that are still to
    come have to tell, unless this is the `whole`.

    >>> name_of_frames(b"\\xd0" + bytes(32)), name_of_frames((b"\\xd0" + bytes(32)) * 10)
    ('', 'GSM 6.10')
    """
    found: str | None = ""
    for kind in _KINDS:
        row = _in_row(content, kind)
        if row:
            return kind.name
        if row is None and whole and kind.name == MPEG:
            return kind.name
        if row is None and not whole:
            found = None
    return found


def _in_row(content: bytes, kind: _Framed) -> bool | None:
    """Whether enough frames follow each other; None if all do, as far as the bytes reach."""
    place = 0
    for _ in range(kind.least):
        head = content[place : place + _HEAD]
        if len(head) < _HEAD:
            return None if place else False
        length = kind.length(head)
        if not length:
            return False
        place += length
    return True


def _adts(head: bytes) -> int:
    """AAC, ISO/IEC 14496-3, 1.A.3.2."""
    if head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
        return 0
    length = (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
    return length if length >= 7 else 0


def _loas(head: bytes) -> int:
    """AAC, ISO/IEC 14496-3, 1.7.2."""
    marked = head[0] == 0x56 and head[1] & 0xE0 == 0xE0
    return ((head[1] & 31) << 8 | head[2]) + 3 if marked else 0


def _ac3(head: bytes) -> int:
    """ETSI TS 102 366, 4.3 and, of E-AC-3, E.1.2."""
    if head[:2] != b"\x0bw":
        return 0
    if head[5] >> 3 > 10:
        return 2 * ((head[2] & 7) << 8 | head[3]) + 2
    rate, code = head[4] >> 6, head[4] & 63
    if rate == 3 or code >= 2 * len(_AC3_KBITS):
        return 0
    kbits = _AC3_KBITS[code >> 1]
    return 2 * (2 * kbits, kbits * 96000 // 44100 + (code & 1), 3 * kbits)[rate]


def _dts(head: bytes) -> int:
    """ETSI TS 102 114, 5.3, with 16 bits a word."""
    if head.startswith(_DTS_SWAPPED):
        head = b"".join(head[n : n + 2][::-1] for n in range(0, _HEAD, 2))
    if not head.startswith(_DTS):
        return 0
    return ((head[5] & 3) << 12 | head[6] << 4 | head[7] >> 4) + 1


def _packets(size: int, place: int) -> Callable[[bytes], int]:
    """A test for transport streams (ISO/IEC 13818-1): packets with a mark, all of one size."""
    return lambda head: size if head[place] == 0x47 else 0


def _gsm(head: bytes) -> int:
    """ETSI EN 300 961, as in files of 33 bytes a frame."""
    return 33 if head[0] >> 4 == 0xD else 0


MPEG = "MP3 or MP2"
_STREAM = "MPEG transport stream"
_KINDS = (
    _Framed(MPEG, lambda head: mpeg.frame_length(head, (mpeg.LAYER_3, mpeg.LAYER_2)), 2),
    _Framed("AAC", _adts, 2),
    _Framed("AAC (LATM)", _loas, 3),
    _Framed("AC-3", _ac3, 2),
    _Framed("DTS", _dts, 2),
    _Framed(_STREAM, _packets(188, 0), 3),
    _Framed(_STREAM, _packets(192, 4), 3),
    _Framed(_STREAM, _packets(204, 0), 3),
    _Framed("GSM 6.10", _gsm, 10),
)
