"""Tells audio bytes with a header of their own from raw samples."""

from __future__ import annotations

from paraformer.data.mpeg import is_mpeg
from paraformer.data.riff import WAVE64
from paraformer.errors import DataError

_EBML = b"\x1aE\xdf\xa3"
_MAGIC = (
    *(b"RIFF", b"RIFX", b"RF64", b"BW64", WAVE64[:8], b"OggS", b"fLaC", b"ID3", b"FORM", b".snd"),
    *(b"caff", b"Creative Voice File"),
)
# How much of a file tells whether it is a text; fewer bytes of sound may look like one.
LEAST_TEXT, TEXT_HEAD = 4, 4096
# What soundfile does not read, and what its users call it.
_FOREIGN = {
    _EBML: "Matroska or WebM",
    b"#!AMR": "AMR",
    b"0&\xb2u\x8ef\xcf\x11": "WMA",
    b"FLV\x01": "FLV",
    b"ADIF": "AAC",
    b"MAC ": "Monkey's Audio",
    b"wvpk": "WavPack",
    b"TTA1": "True Audio",
    b".RMF": "RealMedia",
    b"\x00\x00\x01\xba": "MPEG video",
    b"\x0bw": "AC-3",
}


def is_container(content: bytes) -> bool:
    """Whether these are WAV, AIFF, AU, CAF, FLAC, Ogg, MP3, or what `foreign_name` knows.

    >>> is_container(b"fLaC..."), is_container(b"\\xff\\xff" * 8)
    (True, False)
    """
    return content.startswith(_MAGIC) or bool(foreign_name(content)) or is_mpeg(content)


def foreign_name(content: bytes) -> str:
    """The format of a file that only ffmpeg reads; "" if it is none of them.

    >>> foreign_name(b"#!AMR-WB"), foreign_name(b"RIFF")
    ('AMR', '')
    """
    if content[4:8] == b"ftyp":
        return "MP4 or M4A"
    if content[:4] == b"RIFF" and content[8:12] == b"AVI ":
        return "AVI"
    if _is_adts(content):
        return "AAC"
    if content[:1] == b"G" and content[188:189] == b"G" and content[376:377] == b"G":
        return "MPEG transport stream"
    # Two bytes may be a sample of sound: AC-3 has to be followed by another frame's rate code.
    if content[:2] == b"\x0bw":
        return "AC-3" if b"\x0bw" in content[64:4096] else ""
    return next((name for magic, name in _FOREIGN.items() if content.startswith(magic)), "")


def is_text(content: bytes) -> bool:
    """Whether the beginning of a file is that of a UTF-8 text.

    >>> is_text("id 你好\\n".encode()), is_text("你好".encode()[:-1]), is_text(b"RIFF\\0\\0")
    (True, True, False)
    """
    head = content[:TEXT_HEAD]
    text = head.decode("utf-8", "ignore")
    whole = len(head) - len(text.encode("utf-8")) < 4  # a character may be cut at the end
    plain = all(char >= " " or char in "\t\r\n" for char in text)
    return len(head) >= LEAST_TEXT and whole and plain


def refuse_text(content: bytes) -> None:
    """Of what comes on stdin: as raw samples, a list that was meant would be noise."""
    if is_text(content):
        raise DataError("-: text came on stdin, not audio; give a list as a file: +input=list.scp")


def _is_adts(content: bytes) -> bool:
    """A frame of AAC (ADTS) and another where it ends."""
    place = 0
    for _ in range(2):
        head = content[place : place + 7]
        if len(head) < 7 or head[0] != 0xFF or head[1] & 0xF6 != 0xF0 or head[2] >> 2 & 15 > 12:
            return False
        place += (head[3] & 3) << 11 | head[4] << 3 | head[5] >> 5
        if place < 7:
            return False
    return True
