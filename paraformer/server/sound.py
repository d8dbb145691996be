"""Sound as clients send it: any rate, 16-bit samples, G.711 or the bytes of a file, by its content;
whole, or as it comes.
"""

from __future__ import annotations

import io
import tempfile
from functools import cache
from pathlib import Path

import soundfile
import torch
from torch import Tensor

from paraformer.data.audio.arrays import from_bytes
from paraformer.data.audio.channels import Selector
from paraformer.data.audio.containers import (
    HEAD,
    UndecidedError,
    kind_of,
    kind_of_stream,
)
from paraformer.data.audio.read import finished
from paraformer.data.audio.resample import Resampling, check_rate
from paraformer.data.audio.soundfiles import channels_first, open_decoder
from paraformer.errors import AudioError

NAME = "audio"
# More bytes than these of one recording lie in a file.
IN_MEMORY = 1 << 20
BLOCK_SECONDS = 60
# What clients call G.711.
_CODES = {
    "ALAW": ("alaw", "a-law", "pcma", "g711a", "g711_alaw", "audio/pcma"),
    "ULAW": ("ulaw", "mulaw", "u-law", "mu-law", "pcmu", "g711u", "g711_ulaw", "audio/pcmu"),
}


class TooLargeError(AudioError):
    """A recording has more bytes or seconds than the server takes."""


def code_of(name: str) -> str:
    """The subtype of G.711 that a name of a format means; empty: it means another format.

    >>> code_of("PCMU"), code_of("pcm")
    ('ULAW', '')
    """
    return next((code for code, names in _CODES.items() if name.lower() in names), "")


@cache
def _table(code: str) -> Tensor:
    """The sample (256,) that each byte of G.711 stands for."""
    found, _ = soundfile.read(
        io.BytesIO(bytes(range(256))),
        samplerate=8000,
        channels=1,
        format="RAW",
        subtype=code,
        dtype="float32",
    )
    return torch.from_numpy(found)


def _expanded(content: bytes, code: str) -> Tensor:
    """Bytes of G.711 as samples (N,)."""
    places = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.zeros(0)
    return _table(code)[places.long()]


class Upload:
    """The bytes of one recording, as they come; many lie in a file, which goes with the upload."""

    def __init__(self, most_bytes: int) -> None:
        self._most, self.size = most_bytes, 0
        self._parts: list[bytes] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, part: bytes) -> None:
        """More bytes, or `TooLargeError`."""
        self.size += len(part)
        if self.size > self._most:
            raise TooLargeError(f"{NAME}: more than {self._most} bytes; send it in parts")
        self._parts.append(part)
        if self.size > IN_MEMORY:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="funasr-serve-")
            with self._path.open("ab") as file:
                file.writelines(self._parts)
            self._parts = []

    @property
    def _path(self) -> Path:
        assert self._folder is not None
        return Path(self._folder.name) / NAME

    def close(self) -> None:
        """Forget the bytes."""
        self._parts, self.size = [], 0
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def read(
        self, rate: int, most_seconds: float, raw_fs: int | None = None, code: str = ""
    ) -> Tensor:
        """Samples (N,) at `rate`; raw_fs: the rate of bytes of no known format, which are samples
        then; code: they are G.711 of that kind.
        """
        source = b"".join(self._parts) if self._folder is None else self._path
        kind = None if code else kind_of(_head(source))
        if code or (kind is None and raw_fs is not None):
            own = check_rate(raw_fs or 8000, NAME)
            _check_seconds(self.size / own / (1 if code else 2), most_seconds)
            content = source if isinstance(source, bytes) else source.read_bytes()
            wave = _expanded(content, code) if code else from_bytes(content, NAME)
            return finished(wave, own, rate, NAME)
        if kind is not None and not kind.is_audio:
            raise AudioError(f"{NAME}: it is {kind.fault}; give a recording")
        try:
            return _decoded(source, rate, most_seconds)
        except AudioError as error:  # which must not tell where the file lies
            if isinstance(source, bytes) or str(source) not in str(error):
                raise
            raise AudioError(str(error).replace(str(source), NAME)) from None


def _check_seconds(seconds: float, most: float) -> None:
    if seconds > most:
        raise TooLargeError(f"{NAME}: longer than {most:g} s; send it in parts")


def _head(source: bytes | Path) -> bytes:
    if isinstance(source, bytes):
        return source
    with source.open("rb") as file:
        return file.read(HEAD)


def _decoded(source: bytes | Path, rate: int, most_seconds: float) -> Tensor:
    """Samples (N,) of a file, of which no more is decoded than may be too long."""
    if not source:
        raise AudioError(f"{NAME}: it is empty (0 bytes); record or send it again")
    with open_decoder(source, NAME) as decoder:
        select, own = Selector(NAME), decoder.rate
        parts, seconds = list[Tensor](), 0
        while True:
            block = decoder.read(BLOCK_SECONDS * own)
            parts.append(select(channels_first(block)))
            if len(block) < BLOCK_SECONDS * own:
                break
            seconds += BLOCK_SECONDS
            _check_seconds(seconds, most_seconds)
    return finished(torch.cat(parts), own, rate, NAME)


class SoundStream:
    """The bytes of a stream become samples as they come; those of a file when it is whole."""

    def __init__(
        self,
        name: str,
        fs: int,
        rate: int,
        most_bytes: int,
        most_seconds: float,
        raw: bool = False,
    ) -> None:
        """name: of the format, by the client; fs: of its samples; rate: the model's; raw: it is
        never that of a file.
        """
        self._code = code_of(name)
        self._rate, self._fs = rate, check_rate(fs, NAME)
        self._most = most_bytes, most_seconds
        self._resampling = Resampling(fs, rate)
        self._held = b""  # a beginning that does not tell what it is, or half a sample
        self._begun = raw or bool(self._code)
        self._file: Upload | None = None

    def take(self, part: bytes) -> Tensor:
        """The samples (N,) at the model's rate that more bytes complete."""
        if self._file is not None:
            self._file.add(part)
            return torch.zeros(0)
        content = self._held + part
        if not self._begun and not self._begin(content):
            return torch.zeros(0)
        whole = len(content) if self._code else len(content) // 2 * 2
        self._held = content[whole:]
        return self._samples(content[:whole], False)

    def _begin(self, content: bytes) -> bool:
        """Whether these are the first bytes of samples; else they wait, or are those of a file."""
        try:
            kind = kind_of_stream(content)
        except UndecidedError:
            self._held = content
            return False
        if kind is None:
            self._begun = True
            return True
        if not kind.is_audio:
            raise AudioError(f"{NAME}: it is {kind.fault}; give sound")
        self._file, self._held = Upload(self._most[0]), b""
        self._file.add(content)
        return False

    def end(self) -> Tensor:
        """The last samples; of a file, all of them, which is work for a thread."""
        if self._file is not None:
            return self._file.read(self._rate, self._most[1])
        held, self._held = self._held, b""
        return self._samples(held[: len(held) // 2 * 2], True)

    @property
    def is_file(self) -> bool:
        """Whether the bytes are those of a file."""
        return self._file is not None

    def close(self) -> None:
        """Forget what waits."""
        if self._file is not None:
            self._file.close()

    def _samples(self, content: bytes, final: bool) -> Tensor:
        wave = _expanded(content, self._code) if self._code else from_bytes(content, NAME)
        found, self._resampling = self._resampling.take(wave, final)
        return found
