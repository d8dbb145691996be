"""What soundfile does not know (m4a, video, amr, wma ...), by the ffmpeg program where it is."""

from __future__ import annotations

import logging
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from paraformer.data.containers import foreign_name
from paraformer.errors import AudioError

log = logging.getLogger(__name__)

# Formats that hold their own samples: none of playlists, lists of files, devices or pictures.
FORMATS = (
    *("mov", "matroska", "webm", "amr", "amrnb", "amrwb", "asf", "aac", "mp3", "ogg", "flac"),
    *("wav", "w64", "aiff", "caf", "au", "avi", "flv", "mpeg", "mpegts", "rm", "ac3", "eac3"),
    *("dts", "ape", "wv", "tta", "tak", "mpc", "mpc8", "gsm", "voc", "oma", "dsf", "iff", "xwma"),
)
# It is stopped when it has written nothing for so long, or so many bytes of samples.
HANG_SECONDS = 60
MOST_BYTES = 1 << 32
LARGEST_BLOCK = 1 << 28


@contextmanager
def decoded(source: Path | bytes, name: str, reason: str) -> Iterator[Path]:
    """A WAV file of 16 bits with the samples of a file or of bytes; it is gone afterwards.

    `reason` is why soundfile could not read it.
    """
    program = shutil.which("ffmpeg")
    if program is None:
        raise AudioError(_missing(source, name, reason))
    with tempfile.TemporaryDirectory(prefix="paraformer-") as folder:
        if isinstance(source, bytes):
            path = Path(folder, "input")
            path.write_bytes(source)
        else:
            path = source
        wav = Path(folder, "decoded.wav")
        _decode(program, path, wav, name)
        yield wav


def _missing(source: Path | bytes, name: str, reason: str) -> str:
    if isinstance(source, bytes):
        head = source[:4096]
    else:
        with source.open("rb") as file:
            head = file.read(4096)
    known = foreign_name(head)
    if known:
        return f"{name}: it is {known}, which needs ffmpeg; install ffmpeg, or convert it to WAV"
    return (
        f"{name}: cannot decode it ({reason}); convert it to WAV, or install ffmpeg for formats "
        "other than WAV, FLAC, Ogg, MP3, AIFF, AU and CAF"
    )


def _decode(program: str, path: Path, wav: Path, name: str) -> None:
    complaints = wav.with_suffix(".log")
    command = [program, "-nostdin", "-hide_banner", "-v", "error"]
    command += ["-max_alloc", str(LARGEST_BLOCK), "-protocol_whitelist", "file"]
    command += ["-format_whitelist", ",".join(FORMATS), "-i", f"file:{path.absolute()}"]
    command += ["-vn", "-sn", "-dn", "-map_metadata", "-1", "-c:a", "pcm_s16le"]
    command += ["-rf64", "auto", "-fs", str(MOST_BYTES), "-f", "wav", f"file:{wav.absolute()}"]
    with complaints.open("wb") as output:
        code = _watch(command, wav, name, output)
    said = _last_line(complaints.read_bytes(), path)
    if code or not wav.is_file() or not wav.stat().st_size:
        raise AudioError(f"{name}: cannot decode it, nor can ffmpeg ({said}); convert it to WAV")
    if wav.stat().st_size >= MOST_BYTES:
        raise AudioError(f"{name}: more than {MOST_BYTES} bytes of samples; cut it into pieces")
    if said:
        log.warning("%s: damaged, what ffmpeg can decode is read (%s)", name, said)


def _watch(command: list[str], wav: Path, name: str, output: IO[bytes]) -> int:
    """The exit code of ffmpeg, which is ended when its file does not grow any more."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=output
        )
    except OSError as error:
        raise AudioError(f"{name}: ffmpeg does not start ({error}); install it again") from error
    size = -1
    try:
        while True:
            try:
                return process.wait(HANG_SECONDS)
            except subprocess.TimeoutExpired:
                now = wav.stat().st_size if wav.is_file() else 0
                if now <= size or not now:
                    raise AudioError(
                        f"{name}: ffmpeg wrote nothing for {HANG_SECONDS} s; convert it to WAV"
                    ) from None
                size = now
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _last_line(output: bytes, path: Path) -> str:
    """The last complaint, without the name of the file, which the message has already."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix(f"file:{path.absolute()}: ") if lines else ""
