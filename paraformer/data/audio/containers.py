"""Tells what bytes are, so that nothing else is ever taken for samples.

The rule, for bytes, open files, commands, stdin, named pipes, addresses and streams alike:

1. What begins like a container or compressed sound (`kind_of`) is decoded, as a file is.
2. What begins like a text, an archive, an image or a document is refused by its name.
3. Anything else is 16-bit little-endian samples where the caller says so: by giving bytes or an
   open file or stdin itself, by a name in .pcm or .raw, or, of a command or a named pipe, by `fs`.
   Elsewhere it is refused.
4. A stream is judged once, by its beginning (`data.pieces`); from then on its bytes are samples,
   whatever they look like, and an odd one waits for the next piece.
"""

from __future__ import annotations

import codecs
import re

from paraformer.data.audio.bare_frames import MPEG, name_of_frames
from paraformer.data.audio.signatures import (
    FFMPEG,
    FORMS,
    LATE,
    MAGIC,
    PATTERNS,
    SHORTEN,
    SOUNDFILE,
    SPHERE,
    TEXT,
    Kind,
)

# So many bytes of a file tell whether it is a text; fewer bytes of sound may look like one.
LEAST_TEXT, TEXT_HEAD = 4, 4096
_LEAST_FOREIGN = 32
# So many bytes of a stream tell, unless frames have to be followed; no sound is held up longer.
STREAM_HEAD = 512
# A stream of samples does not begin by accident with so many bytes of text, fewer of JSON.
_STREAM_TEXT, _STREAM_JSON = 20, 12
# So many bytes tell the kind of anything: three frames of AAC at their largest.
HEAD = 1 << 15
# Shorter magic may begin a text.
LONG_MAGIC = 5


class UndecidedError(Exception):
    """The bytes that have come do not tell their kind yet."""


_Decoder = codecs.getincrementaldecoder("utf-8")
_JSON = re.compile(rb'\s*[\[{]\s*["\[{]')


def kind_of(content: bytes) -> Kind | None:
    """The kind of a whole recording, of which these are the bytes; None: none that is known.

    >>> kind_of(b"fLaC\\0\\0").name, kind_of(b"\\xff\\xff" * 8)
    ('FLAC', None)
    """
    found = _by_mark(content, LONG_MAGIC if is_text(content) else 0)
    if found == SPHERE and b",embedded-shorten" in content[:1024]:
        return SHORTEN
    written = is_text(content) or _is_foreign_text(content[:TEXT_HEAD])
    return found or (TEXT if written else None) or _late(content) or _framed(content)


def kind_of_stream(head: bytes) -> Kind | None:
    """The kind of a stream that begins so, whatever follows; `UndecidedError` if that matters.

    However the beginning was cut, it is the same: of two kinds the one that shows first counts.
    """
    begun = head.startswith(FORMS) and len(head) < 12
    if begun or any(len(head) < len(magic) and magic.startswith(head) for magic, _ in MAGIC):
        raise UndecidedError
    found = _by_mark(head)
    if found is not None:
        return found
    texts = (_STREAM_JSON,) * bool(_JSON.match(head[:_STREAM_JSON])) + (_STREAM_TEXT,)
    if any(len(head) >= size and is_text(head[:size]) for size in texts):
        return TEXT
    if len(head) < STREAM_HEAD:
        raise UndecidedError
    return _late(head) or _framed(head, whole=len(head) >= HEAD)


def kind_of_head(head: bytes) -> Kind | None:
    """The kind of something that begins so, as far as that is known."""
    try:
        return kind_of_stream(head)
    except UndecidedError:
        return kind_of(head)


def foreign_name(content: bytes) -> str:
    """The format of a file that only ffmpeg reads; "" if it is none of them.

    >>> foreign_name(b"#!AMR-WB"), foreign_name(b"RIFF")
    ('AMR', '')
    """
    kind = kind_of(content)
    return kind.name if kind and kind.reader == FFMPEG else ""


def is_text(content: bytes) -> bool:
    """Whether the beginning of a file is that of a UTF-8 text.

    >>> is_text("id 你好\\n".encode()), is_text("你好".encode()[:-1]), is_text(b"RIFF\\0\\0")
    (True, True, False)
    """
    head = content[:TEXT_HEAD]
    try:
        text = _Decoder().decode(head)  # of which a character may be cut at the end
    except UnicodeDecodeError:
        return False
    return len(head) >= LEAST_TEXT and all(char >= " " or char in "\t\r\n" for char in text)


def _is_foreign_text(head: bytes) -> bool:
    """Whether these are lines in UTF-16, with its mark, or in GB 18030 with some ASCII."""
    is_utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if len(head) < _LEAST_FOREIGN or not (is_utf16 or b"\n" in head):
        return False
    try:
        text = codecs.getincrementaldecoder("utf-16" if is_utf16 else "gb18030")().decode(head)
    except UnicodeDecodeError:
        return False
    simple = sum(char < "\x7f" for char in text)
    known = all(char.isprintable() or char in "\t\r\n" for char in text)
    return known and (is_utf16 or 8 * simple >= len(text))


def _by_mark(content: bytes, least: int = 0) -> Kind | None:
    """The kind by magic of at least so many bytes, and by patterns if magic may be short."""
    for magic, kind in MAGIC:
        if len(magic) >= least and content.startswith(magic):
            return kind
    if least:
        return None
    return next((kind for pattern, kind in PATTERNS if pattern.match(content)), None)


def _late(content: bytes) -> Kind | None:
    return next((kind for pattern, kind in LATE if pattern.match(content)), None)


def _framed(content: bytes, whole: bool = True) -> Kind | None:
    name = name_of_frames(content[:HEAD], whole)
    if name is None:
        raise UndecidedError
    return Kind(name, SOUNDFILE if name == MPEG else FFMPEG) if name else None
