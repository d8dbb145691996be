"""Reads files, bytes, URLs, commands and arrays that hold speech into mono float tensors."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

import numpy as np
import soundfile
import torch
from torch import Tensor

from paraformer.data.audio import cloud
from paraformer.data.audio.arrays import check_sound, from_array, from_bytes
from paraformer.data.audio.channels import MIX, Selector
from paraformer.data.audio.containers import HEAD, TEXT_HEAD, kind_of
from paraformer.data.audio.resample import check_rate, resample
from paraformer.data.audio.signatures import TEXT
from paraformer.data.audio.soundfiles import channels_first, header, is_raw, open_decoder
from paraformer.data.corpus.archives import load_archive
from paraformer.data.corpus.ids import URL
from paraformer.errors import AudioError
from paraformer.limits import Limits, check

__all__ = ["count_channels", "finished", "read_audio", "read_channels", "resample"]

RAW_RATE = 16000
SHOWN = 40  # characters of a text that is no audio
LONGEST_NAME = 500
_IN_ARCHIVES = (b"RIFF", b"fLaC")
_FMT_END = 46  # bytes of a WAV that tell its format, where that stands first
_LINEAR, _EXTENSIBLE = 1, 0xFFFE
_ARK = re.compile(r"(.+):\d+(\[[\d:,]*\])?")


def read_audio(
    source: str | Path | bytes | BinaryIO | np.ndarray | Tensor,
    *,
    fs: int | None = None,
    target_fs: int = 16000,
    allow_pipe: bool = False,
    channel: str | int = MIX,
) -> Tensor:
    """Samples (N,) in [-1, 1) as float32 at `target_fs`, of all channels the mean or only one.

    A file's or container's own rate always wins; `fs` (default 16000) is the rate of arrays and of
    raw samples, which are 16-bit little-endian; what may be raw, `data.containers` says. `cmd |` is
    run only with `allow_pipe`, and gives raw samples only where `fs` says so.
    `channel` is "mix" or a number from 0.
    A damaged file gives what can be read and one warning, or an `AudioError`.

    >>> read_audio(np.array([0, 16384], dtype=np.int16))
    tensor([0.0000, 0.5000])
    """
    name = _name(source)
    wave, rate = _read(source, name, _rate(fs), allow_pipe)
    return finished(Selector(name, channel)(wave), rate, target_fs, name)


def read_channels(
    source: str | Path | bytes | BinaryIO | np.ndarray | Tensor,
    *,
    fs: int | None = None,
    target_fs: int = 16000,
    allow_pipe: bool = False,
) -> Tensor:
    """All channels (C, N), each as `read_audio` gives it.

    >>> read_channels(np.array([[0, 0, 0], [16384, 0, 0]], dtype=np.int16)).shape
    torch.Size([2, 3])
    """
    name = _name(source)
    wave, rate = _read(source, name, _rate(fs), allow_pipe)
    channels = wave[None] if wave.dim() == 1 else wave
    return torch.stack([finished(one, rate, target_fs, name) for one in channels])


def count_channels(
    source: str | Path | bytes | BinaryIO | np.ndarray | Tensor, *, allow_pipe: bool = False
) -> int:
    """The number of channels, by the header of a file or else by reading it."""
    if isinstance(source, (str, Path)) and os.path.isfile(source):
        found = header(Path(source))
        if found is not None:
            return int(found.channels)
    wave, _ = _read(source, _name(source), RAW_RATE, allow_pipe)
    return 1 if wave.dim() == 1 else len(wave)


def finished(wave: Tensor, rate: int, target_fs: int, name: str, begin: float = 0.0) -> Tensor:
    """(N,) at `rate` -> (N',) at `target_fs`; `begin`: where it lies in its recording, seconds."""
    check_sound(wave, name, rate or target_fs, begin)
    return resample(wave, check_rate(rate, name), target_fs)


def _rate(fs: int | None) -> int | None:
    """The rate that the caller gives for sources without their own, checked; None: none given."""
    if fs is not None:
        check("fs", fs, Limits(1, whole=True))
    return fs


def _name(source: object) -> str:
    """The name of the input in messages."""
    if isinstance(source, (str, Path)):
        name = " ".join(str(source).splitlines()) or "empty path"
        return name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}..."
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"{len(source)} bytes of audio"
    return f"{type(source).__name__} {tuple(getattr(source, 'shape', ()))}"


def _content(content: object, name: str) -> bytes:
    """The bytes that an open file gave."""
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise AudioError(f"{name}: gives no bytes; open the file with 'rb'")
    return bytes(content)


def _read(source: object, name: str, fs: int | None, allow_pipe: bool) -> tuple[Tensor, int]:
    raw_fs = fs or RAW_RATE
    if isinstance(source, (np.ndarray, Tensor)):
        return from_array(source, name), raw_fs
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read_bytes(bytes(source), name, raw_fs)
    if isinstance(source, Path):
        return _read_file(source, fs)
    if isinstance(source, soundfile.SoundFile):
        return from_array(source.read(dtype="float32"), name), source.samplerate
    if hasattr(source, "read"):
        return _read_bytes(_content(source.read(), name), name, raw_fs)
    if not isinstance(source, str) or not source.strip():
        raise AudioError(f"{name}: holds no audio; give a path, bytes, a numpy array or a tensor")
    if source.rstrip().endswith("|"):
        return _read_pipe(source.strip()[:-1], name, fs, allow_pipe)
    if URL.match(source):
        return _read_url(source, raw_fs)
    ark = _ARK.fullmatch(source)
    if ark and os.path.isfile(ark[1]):
        return _read_ark(source, raw_fs)
    return _read_file(Path(source), fs)


def named_file(source: str) -> str | None:
    """The file that a place of audio is in, None for a command or an address.

    >>> named_file("a.wav"), named_file("a.ark:15"), named_file("sox a.mp3 -t wav - |")
    ('a.wav', 'a.ark', None)
    """
    if source.rstrip().endswith("|") or URL.match(source):
        return None
    ark = _ARK.fullmatch(source)
    return ark[1] if ark and not os.path.exists(source) else source


def _read_file(path: Path, fs: int | None) -> tuple[Tensor, int]:
    name = _name(path)
    try:
        if path.is_fifo():  # can be read once only
            raw_fs = fs or (RAW_RATE if is_raw(path) else None)
            return _read_bytes(path.read_bytes(), name, raw_fs, streamed=True)
        with path.open("rb") as file:
            head = file.read(12)
    except (OSError, ValueError) as error:
        where = "" if path.is_absolute() else f" (in {Path.cwd()})"
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{name}: {reason}{where}; check the path") from error
    if not head:
        raise AudioError(f"{name}: the file is empty (0 bytes); record or copy it again")
    if is_raw(path):
        return _read_bytes(path.read_bytes(), name, fs or RAW_RATE)
    with open_decoder(path, name) as decoder:
        return channels_first(decoder.read_all()), decoder.rate


def _read_bytes(
    content: bytes, name: str, raw_fs: int | None, streamed: bool = False
) -> tuple[Tensor, int]:
    """Samples of bytes: those of a known kind are decoded or refused, others are raw, given a rate.

    `streamed`: by a program, which could not know the length.
    """
    kind = kind_of(content)
    if kind is None and raw_fs is not None:
        return from_bytes(content, name), raw_fs
    if kind is None:
        raise AudioError(
            f"{name}: gives bytes of no known format; let it give WAV, or give fs if they are raw "
            "16-bit samples"
        )
    if not kind.is_audio:
        begin = f" ({_shown(content)})" if kind is TEXT else ""
        how = ("gives", "mend the command") if streamed else ("it is", "give a recording")
        raise AudioError(f"{name}: {how[0]} {kind.fault}{begin}; {how[1]}")
    with open_decoder(content, name, streamed) as decoder:
        return channels_first(decoder.read_all()), decoder.rate


def _shown(text: bytes) -> str:
    """The beginning of a text, for a message."""
    words = " ".join(text[:TEXT_HEAD].decode("utf-8", "replace").split())
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}..."


def _read_pipe(command: str, name: str, fs: int | None, allowed: bool) -> tuple[Tensor, int]:
    if not allowed:
        raise AudioError(f"{name}: a command is run only from a wav.scp, never as an input itself")
    try:
        done = subprocess.run(command, shell=True, capture_output=True)
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: cannot be run ({error}); mend the command") from error
    if done.returncode or not done.stdout:
        raise AudioError(
            f"{name}: exit code {done.returncode}, {len(done.stdout)} bytes "
            f"({_last_line(done.stderr)}); try the command in a shell"
        )
    return _read_bytes(done.stdout, name, fs, streamed=True)


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def is_address(source: object) -> bool:
    """Whether a recording lies at an address, in a file with a header."""
    return (
        isinstance(source, str)
        and URL.match(source) is not None
        and not source.rstrip().endswith("|")
        and not is_raw(urlsplit(source).path)
    )


@contextmanager
def fetched(url: str) -> Iterator[Path]:
    """A file with the recording at an address; it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="paraformer-") as folder:
        path = Path(folder, "input")
        cloud.save(url, path)
        with path.open("rb") as file:
            _refuse_page(url, file.read(HEAD), path.stat().st_size)
        yield path


def _read_url(url: str, fs: int) -> tuple[Tensor, int]:
    content = cloud.download(url)
    _refuse_page(url, content, len(content))
    return _read_bytes(content, url, fs)


def _refuse_page(url: str, content: bytes, size: int) -> None:
    """Refuse what came where it is no audio: often a page that says why there is none."""
    kind = kind_of(content)
    if kind is None and not is_raw(urlsplit(url).path):
        raise AudioError(f"{url}: what came is no audio ({size} bytes); check the address")
    if kind is TEXT:
        raise AudioError(f"{url}: what came is no audio ({_shown(content)}); check the address")
    if kind is not None and not kind.is_audio:
        raise AudioError(f"{url}: it is {kind.fault}; give a recording")


def _read_ark(place: str, fs: int) -> tuple[Tensor, int]:
    """Read `file.ark:offset`, a WAV or a vector of samples inside a Kaldi archive."""
    unfit = _wav_of_codes(_head_at(place, _FMT_END))
    try:
        content = load_archive(place) if not unfit else None
    except (OSError, ValueError) as error:
        unfit = _sound_of_others(_head_at(place, HEAD))
        if not unfit:
            raise AudioError(f"{place}: no audio there ({error}); make the scp again") from error
    if unfit or content is None:
        raise AudioError(
            f"{place}: {unfit}, which no archive can hold; make it of linear WAV or FLAC"
        )
    rate, samples = content if isinstance(content, tuple) else (fs, content)
    return from_array(samples, place), rate


def _head_at(place: str, size: int) -> bytes:
    """So many bytes at `file.ark:offset`, or as many as there are."""
    path, _, offset = place.partition("[")[0].rpartition(":")
    try:
        with open(path, "rb") as file:
            file.seek(int(offset))
            return file.read(size)
    except OSError:
        return b""


def _wav_of_codes(head: bytes) -> str:
    """The format of a WAV whose bytes are no linear samples, for which kaldiio takes them."""
    if len(head) < _FMT_END or not head.startswith(b"RIFF") or head[12:16] != b"fmt ":
        return ""
    tag = int.from_bytes(head[20:22], "little")
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(head[44:46], "little")
    return "" if tag == _LINEAR else f"WAV of format {tag}"


def _sound_of_others(head: bytes) -> str:
    """The kind of sound that begins so, if it is neither WAV nor FLAC."""
    kind = None if head.startswith(_IN_ARCHIVES) else kind_of(head)
    if kind is None or not kind.is_audio:
        return ""
    return f"{kind.name} of big-endian samples" if kind.name == "WAV" else kind.name
