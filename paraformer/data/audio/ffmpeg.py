"""Sound that soundfile does not know (m4a, video, amr, wma ...), decoded by ffmpeg where
there is one, at the times at which a player lets it be heard.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO

from paraformer.data.audio import riff
from paraformer.data.audio.containers import foreign_name
from paraformer.data.audio.file_views import Window
from paraformer.data.audio.media import FORMATS
from paraformer.errors import AudioError

log = logging.getLogger(__name__)

# Formats that ffmpeg itself knows by a name of the file only, or if it is long.
_TOLD = {"GSM 6.10": ("-f", "gsm")}
# ffmpeg is stopped when it has written nothing for so long, or so many bytes of samples.
HANG_SECONDS = 60
MOST_BYTES = 1 << 32
_HEAD_BYTES = 4096
LARGEST_BLOCK = 1 << 28


# A file that says that its sound begins later than this behind its picture, in seconds, is wrong.
LATEST = 3600
# Where the time of a frame is later than the sound so far, there is a gap, which is filled; where
# it is earlier, as in files put together, the frames go on all the same: none is dropped.
_ON_TIME = (
    "asetpts='st(3,if(isnan(PTS),ld(1),PTS+ld(2)));"
    "if(lt(ld(3),ld(1)-0.1/TB),st(2,ld(2)+ld(1)-ld(3))+st(3,ld(1)));"
    "st(1,ld(3)+S/SR/TB);ld(3)',aresample=async=1"
)
_PICTURE = re.compile(r"Stream #0:\d+.*: Video: (?!.*\(attached pic\))")
_CHOSEN = re.compile(r"Stream #0:(\d+) -> #0:0")
_REFUSED = re.compile(r"\[(\S+) @ \w+\].* Format not on whitelist")
_COMPLAINT = re.compile(r"(?:\[[^\]]* @ \w+\] )?\[(?:error|fatal|panic)\] ")
_QUIET = memoryview(bytes(1 << 20))


@contextmanager
def decoded(source: Path | bytes, name: str, reason: str) -> Iterator[Path | Window]:
    """A WAV file of 16 bits with the samples of a file or of bytes; it is gone afterwards.

    Sound that begins after the picture, or has a gap, has silence there, as a player shows it.
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
        log_text = _decode(program, path, wav, name)
        delay = _delay(path, log_text, name) if _PICTURE.search(log_text) else 0.0
        if delay <= 0:
            yield wav
            return
        with wav.open("rb") as file:
            yield _delayed(file, delay)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _missing(source: Path | bytes, name: str, reason: str) -> str:
    known = foreign_name(source[:_HEAD_BYTES] if isinstance(source, bytes) else _head(source))
    if known:
        return f"{name}: it is {known}, which needs ffmpeg; install ffmpeg, or convert it to WAV"
    return (
        f"{name}: cannot decode it ({reason}); convert it to WAV, or install ffmpeg for formats "
        "other than WAV, FLAC, Ogg, MP3, AIFF, AU and CAF"
    )


def _decode(program: str, path: Path, wav: Path, name: str) -> str:
    """Decode a file; returns the log of ffmpeg, which names the streams and the one it took."""
    output, kind = wav.with_suffix(".log"), foreign_name(_head(path))
    command = [program, "-nostdin", "-hide_banner", "-nostats", "-v", "repeat+level+info"]
    command += ["-max_alloc", str(LARGEST_BLOCK), *_TOLD.get(kind, ()), *_input(path)]
    command += ["-vn", "-sn", "-dn"]
    if kind != "AVI":  # whose times are counts of bytes
        command += ["-af", _ON_TIME]
    command += ["-map_metadata", "-1", "-c:a", "pcm_s16le"]
    command += ["-rf64", "auto", "-fs", str(MOST_BYTES), "-f", "wav", f"file:{wav.absolute()}"]
    with output.open("wb") as file:
        code = _watch(command, wav, name, file)
    text = output.read_text("utf-8", "replace")
    said = _last_complaint(text, path)
    if code or not wav.is_file() or not wav.stat().st_size:
        raise AudioError(f"{name}: {_why(text, said)}; convert it to WAV")
    if wav.stat().st_size >= MOST_BYTES:
        raise AudioError(f"{name}: more than {MOST_BYTES} bytes of samples; cut it into pieces")
    if said:
        log.warning("%s: damaged, what ffmpeg can decode is read (%s)", name, said)
    return text


def _input(path: Path) -> list[str]:
    """Options of both programs that name the file, and keep it from leading to another."""
    allowed = ["-protocol_whitelist", "file", "-format_whitelist", ",".join(FORMATS)]
    return [*allowed, "-i", f"file:{path.absolute()}"]


def _why(text: str, said: str) -> str:
    refused = _REFUSED.search(text)
    if refused is None:
        said = said or (text.strip().splitlines() or [""])[-1]
        return f"cannot decode it, nor can ffmpeg ({said})"
    return (
        f"cannot decode it, and ffmpeg, which takes it for '{refused[1]}', is not asked to: that "
        "is no sound by itself, or leads to other files"
    )


def _delay(path: Path, text: str, name: str) -> float:
    """Seconds by which the sound that ffmpeg took begins after all else that is seen or heard."""
    program, chosen = shutil.which("ffprobe"), _CHOSEN.search(text)
    if program is None or chosen is None:
        log.warning(
            "%s: ffprobe is not here, which would tell when the sound of a film begins; its times "
            "are counted from there; install all of ffmpeg",
            name,
        )
        return 0.0
    wanted = "stream=index,codec_type,start_time:stream_disposition=attached_pic"
    command = [program, "-v", "quiet", *_input(path), "-show_entries", wanted, "-of", "json"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=HANG_SECONDS)
        streams = json.loads(done.stdout).get("streams", [])
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise AudioError(
            f"{name}: ffprobe does not tell when it begins ({error}); convert it to WAV"
        ) from error
    starts = {
        stream["index"]: float(stream["start_time"])
        for stream in streams
        if stream.get("codec_type") in ("audio", "video")
        and "start_time" in stream
        and not stream.get("disposition", {}).get("attached_pic")
    }
    delay = starts[int(chosen[1])] - min(starts.values()) if int(chosen[1]) in starts else 0.0
    if delay > LATEST:
        log.warning("%s: its sound would begin %.0f s after its picture; not believed", name, delay)
    return delay if delay <= LATEST else 0.0


def _delayed(file: BinaryIO, seconds: float) -> Window:
    """A WAV with silence before it."""
    layout = riff.read_layout(file)
    rate = int.from_bytes(layout.fmt[4:8], "little")
    left = round(seconds * rate) * layout.block
    head = riff.wav_header(layout.fmt, left + layout.available)
    whole, rest = divmod(left, len(_QUIET))
    silence = [*[_QUIET] * whole, _QUIET[:rest]]
    return Window.of(file, [head, *silence, (layout.data.start, layout.available)])


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


def _last_complaint(text: str, path: Path) -> str:
    """The last complaint of ffmpeg, without the name of the file, which our message has already."""
    lines = [line for line in text.splitlines() if _COMPLAINT.match(line)]
    last = _COMPLAINT.sub("", lines[-1]) if lines else ""
    return last.removeprefix(f"file:{path.absolute()}: ").strip()
