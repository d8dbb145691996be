"""Whatever holds speech becomes a mono float tensor: files, bytes, URLs, commands, arrays."""

from __future__ import annotations

import http.client
import io
import logging
import math
import os
import re
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import BinaryIO

import kaldiio
import numpy as np
import soundfile
import torch
from torch import Tensor

from paraformer.data import riff
from paraformer.data.containers import is_container
from paraformer.data.resample import resample
from paraformer.errors import AudioError

__all__ = ["from_array", "read_audio", "resample"]

log = logging.getLogger(__name__)

RAW_RATE = 16000
# Both dimensions above this: a feature matrix rather than channels.
MOST_CHANNELS = 16
# No sample in [-1, 1) comes near: such floats are integers that were not divided.
LOUDEST_FLOAT = 256.0
# Samples read at a time from a damaged file: at most so many sound ones are lost.
DAMAGE_BLOCK = 1024
URL_TIMEOUT_SECONDS = 30
RAW_SUFFIXES = (".raw", ".pcm")
_ARK = re.compile(r"(.+):\d+(\[[\d:,]*\])?")
_URL = re.compile(r"https?://", re.IGNORECASE)
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def read_audio(
    source: str | Path | bytes | np.ndarray | Tensor,
    *,
    fs: int | None = None,
    target_fs: int = 16000,
    allow_pipe: bool = False,
) -> Tensor:
    """Samples (N,) in [-1, 1) as float32 at `target_fs`, channels averaged.

    A file's or container's own rate always wins; `fs` (default 16000) is the rate of arrays and of
    bytes without a header, which are 16-bit little-endian. `cmd |` is run only with `allow_pipe`.
    A damaged file gives what can be read and one warning, or an `AudioError`.

    >>> read_audio(np.array([0, 16384], dtype=np.int16))
    tensor([0.0000, 0.5000])
    """
    name = _name(source)
    wave, rate = _read(source, name, fs or RAW_RATE, allow_pipe)
    if not math.isfinite(_loudest(wave)):
        finite = torch.isfinite(wave)
        bad = int((~finite).sum())
        first = int((~finite).int().argmax()) / rate
        raise AudioError(
            f"{name}: {bad} of {len(wave)} samples are NaN or infinite, first at {first:.2f} s; "
            "mend or leave out this audio"
        )
    return resample(wave, rate, target_fs)


def _loudest(wave: Tensor) -> float:
    """The largest of its magnitudes, in one pass and without a copy; NaN if one of them is."""
    if not wave.numel():
        return 0.0
    low, high = wave.aminmax()
    return float(torch.maximum(-low, high))


def _name(source: object) -> str:
    """What messages call the input."""
    if isinstance(source, (str, Path)):
        return str(source) or "empty path"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"{len(source)} bytes of audio"
    return f"{type(source).__name__} {tuple(getattr(source, 'shape', ()))}"


def _read(source: object, name: str, fs: int, allow_pipe: bool) -> tuple[Tensor, int]:
    if isinstance(source, (np.ndarray, Tensor)):
        return from_array(source, name), fs
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read_bytes(bytes(source), name, fs)
    if isinstance(source, Path):
        return _read_file(source, fs)
    if not isinstance(source, str) or not source.strip():
        raise AudioError(f"{name}: holds no audio; give a path, bytes, a numpy array or a tensor")
    if source.rstrip().endswith("|"):
        return _read_pipe(source.strip()[:-1], name, fs, allow_pipe)
    if _URL.match(source):
        return _read_bytes(_download(source), name, fs)
    ark = _ARK.fullmatch(source)
    if ark and os.path.isfile(ark[1]):
        return _read_ark(source, fs)
    return _read_file(Path(source), fs)


def from_array(array: np.ndarray | Tensor, name: str = "array") -> Tensor:
    """(N,), (C, N) or (N, C) of any number type -> (N,) float32.

    Integers are divided by their type's range. int64 is what numbers become that nobody meant as
    64-bit samples, so its range is the smallest of 16, 32 and 64 bits that holds all values.
    """
    if isinstance(array, Tensor) and array.dtype in _UNSIGNED:
        array = array.cpu().numpy()
    wave = array.detach() if isinstance(array, Tensor) else _to_tensor(array, name)
    if wave.dtype == torch.bool or wave.is_complex():
        raise AudioError(f"{name}: {wave.dtype} is no audio; give floats or integers")
    if not wave.is_floating_point():
        wave = _scale_integers(wave)
    elif _loudest(wave) > LOUDEST_FLOAT:
        log.warning("%s: floats far outside of [-1, 1); divide 16-bit samples by 32768", name)
    return _mono(wave.float(), name)


def _to_tensor(array: np.ndarray, name: str) -> Tensor:
    native = array.astype(array.dtype.newbyteorder("="), copy=True)
    if native.dtype in (np.uint16, np.uint32, np.uint64):
        size = native.dtype.itemsize
        native = (native ^ native.dtype.type(1 << 8 * size - 1)).view(f"i{size}")
    elif native.dtype == np.longdouble:
        native = native.astype(np.float64)
    try:
        return torch.from_numpy(native)
    except TypeError as error:
        raise AudioError(f"{name}: {array.dtype} is no audio; give floats or integers") from error


def _scale_integers(wave: Tensor) -> Tensor:
    if wave.dtype == torch.uint8:
        return (wave.float() - 128) / 128
    bits = torch.iinfo(wave.dtype).bits
    if bits == 64 and wave.numel():
        low, high = int(wave.min()), int(wave.max())
        bits = next(b for b in (16, 32, 64) if -(1 << b - 1) <= low and high < 1 << b - 1)
    return wave.float() / 2.0 ** (bits - 1)


def _mono(wave: Tensor, name: str) -> Tensor:
    """Average the channels: the shorter of two dimensions, whichever of the two it is."""
    while wave.dim() > 2 and 1 in wave.shape:
        wave = wave.squeeze(wave.shape.index(1))
    if wave.dim() == 2 and (1 in wave.shape or not wave.numel()):
        wave = wave.flatten()
    if wave.dim() == 1:
        return wave
    if wave.dim() != 2 or wave.shape[0] == wave.shape[1] or min(wave.shape) > MOST_CHANNELS:
        raise AudioError(
            f"{name}: shape {tuple(wave.shape)} does not tell which dimension is time; "
            "give (samples,) or (channels, samples)"
        )
    return wave.mean(0 if wave.shape[0] < wave.shape[1] else 1)


def _read_file(path: Path, fs: int) -> tuple[Tensor, int]:
    name = str(path)
    try:
        with path.open("rb") as file:
            head = file.read(12)
            repaired = _repair(file, name) if riff.is_riff(head) else None
    except (OSError, ValueError) as error:
        where = "" if path.is_absolute() else f" (in {Path.cwd()})"
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{name}: {reason}{where}; check the path") from error
    if not head:
        raise AudioError(f"{name}: the file is empty (0 bytes); record or copy it again")
    if repaired is not None:
        return _decode(io.BytesIO(repaired), name)
    if path.suffix.lower() in RAW_SUFFIXES:
        return _read_bytes(path.read_bytes(), name, fs)
    return _decode(path, name)


def _read_bytes(content: bytes, name: str, fs: int, streamed: bool = False) -> tuple[Tensor, int]:
    """A container, else raw 16-bit samples."""
    if is_container(content):
        file = io.BytesIO(content)
        repaired = _repair(file, name, streamed) if riff.is_riff(content) else None
        return _decode(io.BytesIO(content if repaired is None else repaired), name)
    if len(content) % 2:
        log.warning("%s: no even number for 16-bit samples; the last byte is left out", name)
    samples = np.frombuffer(content[: len(content) // 2 * 2], dtype="<i2")
    return torch.from_numpy(samples.astype(np.float32) / 32768), fs


def _repair(file: BinaryIO, name: str, streamed: bool = False) -> bytes | None:
    try:
        repaired = riff.repair(file, streamed)
    except AudioError as error:
        raise AudioError(f"{name}: {error}") from error
    if repaired is None:
        return None
    content, complaint = repaired
    if complaint:
        log.warning("%s: %s", name, complaint)
    return content


def openable(file: str | Path | io.BytesIO) -> str | bytes | io.BytesIO:
    """What soundfile opens: as text it refuses names that are not UTF-8."""
    if isinstance(file, io.BytesIO) or os.name == "nt":
        return file if isinstance(file, io.BytesIO) else str(file)
    return os.fsencode(file)


def _decode(file: Path | io.BytesIO, name: str) -> tuple[Tensor, int]:
    try:
        with soundfile.SoundFile(openable(file)) as audio:
            announced, rate = audio.frames, audio.samplerate
            try:
                samples = audio.read(dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                samples = None
        if samples is None:
            samples = _read_until_damage(file)
    except soundfile.LibsndfileError as error:
        return _decode_by_ffmpeg(file, name, error)
    if len(samples) < announced:
        log.warning(
            "%s: cut off or damaged; the first %.2f of %.2f s are read",
            name,
            len(samples) / rate,
            announced / rate,
        )
    wave = torch.from_numpy(samples)
    return wave[:, 0] if wave.shape[1] == 1 else wave.mean(1), rate


def _read_until_damage(file: Path | io.BytesIO) -> np.ndarray:
    """The samples (N, C) before the first that cannot be decoded."""
    if isinstance(file, io.BytesIO):
        file.seek(0)
    parts = []
    with soundfile.SoundFile(openable(file)) as audio:
        try:
            while len(part := audio.read(DAMAGE_BLOCK, dtype="float32", always_2d=True)):
                parts.append(part)
        except soundfile.LibsndfileError:
            if not parts:
                raise
    return np.concatenate(parts)


def _decode_by_ffmpeg(
    file: Path | io.BytesIO, name: str, error: soundfile.LibsndfileError
) -> tuple[Tensor, int]:
    """m4a, wma, amr, video ...: what soundfile does not know, if the ffmpeg program is there."""
    if shutil.which("ffmpeg") is None:
        reason = error.error_string.rstrip(".")
        raise AudioError(
            f"{name}: cannot decode it ({reason}); convert it to WAV, or install ffmpeg for "
            "formats other than WAV, FLAC, Ogg, MP3 and AIFF"
        ) from error
    if isinstance(file, Path):
        return _run_ffmpeg(file, name)
    with tempfile.NamedTemporaryFile() as copy:
        copy.write(file.getvalue())
        copy.flush()
        return _run_ffmpeg(Path(copy.name), name)


def _run_ffmpeg(path: Path, name: str) -> tuple[Tensor, int]:
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", f"file:{path.absolute()}", "-vn"]
    done = subprocess.run([*command, "-f", "wav", "-c:a", "pcm_s16le", "-"], capture_output=True)
    if done.returncode or not riff.is_riff(done.stdout):
        raise AudioError(f"{name}: ffmpeg cannot read it ({_last_line(done.stderr)}); convert it")
    return _read_bytes(done.stdout, name, RAW_RATE, streamed=True)


def _read_pipe(command: str, name: str, fs: int, allowed: bool) -> tuple[Tensor, int]:
    if not allowed:
        raise AudioError(f"{name}: a command is run only from a wav.scp, never as an input itself")
    done = subprocess.run(command, shell=True, capture_output=True)
    if done.returncode or not done.stdout:
        raise AudioError(
            f"{name}: exit code {done.returncode}, {len(done.stdout)} bytes "
            f"({_last_line(done.stderr)}); try the command in a shell"
        )
    return _read_bytes(done.stdout, name, fs, streamed=True)


def _last_line(output: bytes) -> str:
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def download(url: str) -> bytes:
    """What an address of the web holds."""
    try:
        with urllib.request.urlopen(url, timeout=URL_TIMEOUT_SECONDS) as answer:
            content: bytes = answer.read()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise AudioError(f"{url}: {error}; check the address or give a file") from error
    return content


def _download(url: str) -> bytes:
    content = download(url)
    if not is_container(content):
        raise AudioError(f"{url}: what came is no audio ({len(content)} bytes); check the address")
    return content


def _read_ark(place: str, fs: int) -> tuple[Tensor, int]:
    """`file.ark:offset`, a WAV or a vector of samples inside a Kaldi archive."""
    try:
        content = kaldiio.load_mat(place)
    except (OSError, ValueError, RuntimeError, soundfile.LibsndfileError) as error:
        raise AudioError(f"{place}: no audio there ({error}); make the scp again") from error
    rate, samples = content if isinstance(content, tuple) else (fs, content)
    return from_array(samples, place), rate
