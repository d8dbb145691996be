"""Tells audio bytes with a header of their own from raw samples."""

from __future__ import annotations

_EBML = b"\x1aE\xdf\xa3"
_WAVE64 = b"riff\x2e\x91\xcf\x11"
_MAGIC = (b"RIFF", b"RIFX", b"RF64", _WAVE64, b"OggS", b"fLaC", b"ID3", b"FORM", b".snd", b"caff")
_KBITS = {
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    2: (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBITS[0] = _KBITS[2]


def is_container(content: bytes) -> bool:
    """Whether these are WAV, AIFF, AU, CAF, FLAC, Ogg, MP3, MP4 or Matroska/WebM.

    >>> is_container(b"fLaC..."), is_container(b"\\xff\\xff" * 8)
    (True, False)
    """
    return content.startswith((*_MAGIC, _EBML)) or content[4:8] == b"ftyp" or _is_mpeg(content)


def _is_mpeg(content: bytes) -> bool:
    """A layer III frame and another where it ends: raw samples around -1 may start like one."""
    length = _mpeg_frame_length(content)
    return length > 0 and (len(content) <= length or _mpeg_frame_length(content[length:]) > 0)


def _mpeg_frame_length(head: bytes) -> int:
    """Bytes of the MPEG layer III frame that starts here; 0 if none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return 0
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return 0
    hertz = (44100, 48000, 32000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    samples = 1152 if version == 3 else 576
    return samples // 8 * _KBITS[version][kbits - 1] * 1000 // hertz + (head[2] >> 1 & 1)
