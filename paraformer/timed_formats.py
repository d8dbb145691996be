"""Results with times as files: subtitles (srt, vtt, lrc, tsv), Praat's TextGrid, NIST's ctm stm."""

from __future__ import annotations

import html
import io
import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from paraformer.errors import DataError
from paraformer.extras import load_extra
from paraformer.formats import (
    TIMED_FILES,
    TIMED_TABLES,
    check_folder,
    format_result,
    row_id,
    table_line,
)
from paraformer.transcripts import Line, LineLimits, Transcript, Word, transcript

# What ends the names of files that hold one recording.
SUFFIXES = {name: name for name in TIMED_FILES} | {"textgrid": "TextGrid"}
# One that holds all.
TABLE_FILES = {name: name for name in TIMED_TABLES} | {"json": "results.jsonl"}
# What some system takes in no name of a file.
_UNSAFE = re.compile(r"""[/\\:*?"<>|\0-\x1f]|^\.+$""")
LONGEST_STEM = 200


def is_timed(output_format: str) -> bool:
    """Whether a format says when things were said, so is written here."""
    return output_format in (*TIMED_FILES, *TIMED_TABLES)


def format_timed(
    result: Mapping[str, Any], output_format: str, limits: LineLimits | None = None
) -> str:
    """The content of a file, or the lines of a table, for one result of recognition.

    >>> word = {"text": "好", "start": 390, "end": 630, "confidence": 0.5}
    >>> result = {"key": "a", "text": "好", "audio_seconds": 1.0, "words": [word]}
    >>> format_timed(result, "ctm")
    'a 1 0.390 0.240 好 0.5000\\n'
    """
    return _FORMATS[output_format](transcript(result), limits or LineLimits())


class TimedFolder:
    """A folder that results go to as they come: for ctm and stm one table of that name, sorted in
    the end as sclite wants it; for json results.jsonl; else a file `key.suffix` for each
    recording. resume: what is there stays.

    Which file is whose depends on the order of all ids, so those that failed are added too, and
    those whose lines or files are there are kept.
    """

    def __init__(
        self,
        folder: str | Path,
        output_format: str,
        limits: LineLimits | None = None,
        resume: bool = False,
    ) -> None:
        check_extra(output_format)
        self.folder = check_folder(folder)
        self.output_format, self.limits = output_format, limits or LineLimits()
        self._names: set[str] = set()
        name = TABLE_FILES.get(output_format)
        self._table = self.folder / name if name else None
        if self._table:
            self._write(self._table, "", "a" if resume else "w")

    def keep(self, key: str) -> None:
        """The next recording is that of this id, whose lines or file are there."""
        if not self._table:
            self._name(key)

    def add(self, result: Mapping[str, Any]) -> None:
        """Write one result; one that failed has nothing to write."""
        if "error" in result:
            self.keep(str(result["key"]))
            return
        if self.output_format == "json":
            text = format_result(result, "json") + "\n"
        else:
            text = format_timed(result, self.output_format, self.limits)
        if self._table:
            self._write(self._table, text, "a")
        else:
            self._write(self.folder / self._name(str(result["key"])), text)

    def close(self) -> None:
        """Sort the table by id; lines of one recording stay in their order."""
        if self._table and self.output_format in TIMED_TABLES:
            lines = self._table.read_bytes().splitlines(keepends=True)
            lines.sort(key=lambda line: line.split(b" ", 1)[0])
            self._table.write_bytes(b"".join(lines))

    def _name(self, key: str) -> str:
        """A file name that no other recording has."""
        stem = _short(_UNSAFE.sub("_", row_id(key))) or "_"
        suffix = SUFFIXES[self.output_format]
        name, number = f"{stem}.{suffix}", 1
        while name in self._names:
            number += 1
            name = f"{stem}_{number}.{suffix}"
        self._names.add(name)
        return name

    @staticmethod
    def _write(path: Path, text: str, mode: str = "w") -> None:
        try:
            # A key need not be text of any encoding.
            with path.open(mode, encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.write(text)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}; give another output_dir") from error


def _short(stem: str) -> str:
    """A file name that is not too long for a file system, which counts bytes.

    >>> len(_short("a" * 300)), _short("好" * 100) == "好" * 66
    (200, True)
    """
    content = stem.encode("utf-8", "surrogatepass")
    return content[:LONGEST_STEM].decode("utf-8", "ignore") if len(content) > LONGEST_STEM else stem


def check_extra(output_format: str) -> None:
    """Refuse a format whose library is not installed, before any work is done."""
    if output_format in ("srt", "vtt"):
        _pysubs2(output_format)
    elif output_format == "textgrid":
        _praatio()


def _pysubs2(output_format: str) -> ModuleType:
    return load_extra("pysubs2", f"output_format={output_format}")


def _praatio() -> ModuleType:
    return load_extra("praatio.textgrid", "output_format=textgrid")


def _spoken(line: Line) -> str:
    """The text of a line, behind the name of who says it where that is known."""
    return f"{line.speaker}: {line.text}" if line.speaker else line.text


def _subtitles(found: Transcript, limits: LineLimits, kind: str) -> str:
    pysubs2 = _pysubs2(kind)
    subtitles = pysubs2.SSAFile()
    for line in found.lines(limits):
        # To pysubs2 a backslash begins a command; WebVTT has marks of its own.
        text = _spoken(line).replace("\\", "＼")
        text = html.escape(text, quote=False) if kind == "vtt" else text
        subtitles.append(pysubs2.SSAEvent(line.start, line.end, text))
    # Its own clock stands still at 99:59:59.
    clock = {"ms_to_timestamp": staticmethod(_srt_time if kind == "srt" else _vtt_time)}
    writer: Any = type("Writer", (pysubs2.formats.get_format_class(kind),), clock)
    content = io.StringIO()
    writer.to_file(subtitles, content, kind, keep_ssa_tags=True)
    return content.getvalue()


def _srt_time(ms: int) -> str:
    """`hh:mm:ss,mmm`, with more digits of hours behind 99.

    >>> _srt_time(100 * 3_600_000 + 61_001), _vtt_time(61_001)
    ('100:01:01,001', '00:01:01.001')
    """
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"


def _vtt_time(ms: int) -> str:
    return _srt_time(ms).replace(",", ".")


def _srt(found: Transcript, limits: LineLimits) -> str:
    return _subtitles(found, limits, "srt")


def _vtt(found: Transcript, limits: LineLimits) -> str:
    return _subtitles(found, limits, "vtt")


def _lrc(found: Transcript, limits: LineLimits) -> str:
    """A line is shown until the next one; an empty one ends it where silence follows."""
    lines = found.lines(limits)
    shown: list[str] = []
    for place, line in enumerate(lines):
        shown.append(f"[{_lrc_time(line.start)}]{_spoken(line)}\n")
        last = place + 1 == len(lines)
        if last or _lrc_time(lines[place + 1].start) > _lrc_time(line.end):
            shown.append(f"[{_lrc_time(line.end)}]\n")
    return "".join(shown)


def _lrc_time(ms: int) -> str:
    """`mm:ss.xx`, as players know it."""
    return f"{ms // 60000:02d}:{ms // 1000 % 60:02d}.{ms // 10 % 100:02d}"


def _tsv(found: Transcript, limits: LineLimits) -> str:
    """Times in ms, in the columns that whisper writes."""
    rows = [f"{line.start}\t{line.end}\t{_spoken(line)}\n" for line in found.lines(limits)]
    return "start\tend\ttext\n" + "".join(rows)


def _textgrid(found: Transcript, limits: LineLimits) -> str:
    """Tiers `words` and `lines`, in seconds; only the latter where no word has times."""
    textgrid = _praatio()
    end = max(found.milliseconds, 1) / 1000
    grid = textgrid.Textgrid(0, end)
    tiers: dict[str, Iterable[Word | Line]] = {"lines": found.lines(limits)}
    if not found.stretches:
        tiers = {"words": found.words, **tiers}
    for name, spans in tiers.items():
        entries = [(span.start / 1000, span.end / 1000, span.text) for span in spans]
        grid.addTier(textgrid.IntervalTier(name, entries, 0, end))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid"
        grid.save(str(path), "long_textgrid", includeBlankSpaces=True)
        return path.read_text(encoding="utf-8")


def _ctm(found: Transcript, limits: LineLimits) -> str:
    """`key channel start duration word [confidence]`, in seconds."""
    if found.stretches:
        raise DataError(
            f"'{found.key}': only segments have times, and ctm needs those of words; take a model "
            "that gives them (BiCifParaformer, SeacoParaformer), or output_format=stm"
        )
    lines = []
    for word in found.words:
        row = f"1 {word.start / 1000:.3f} {(word.end - word.start) / 1000:.3f} {_one(word.text)}"
        row += "" if word.confidence is None else f" {word.confidence:.4f}"
        lines.append(table_line(found.key, row) + "\n")
    return "".join(lines)


def _stm(found: Transcript, limits: LineLimits) -> str:
    """`key channel speaker start end words`, in seconds, a line a sentence, without marks where the
    words are known; who speaks is the key where nobody knows better.
    """
    lines = []
    for line in found.sentences():
        text = " ".join(_one(word.text) for word in line.words) or line.text
        speaker = _one(line.speaker or found.key)
        row = f"1 {speaker} {line.start / 1000:.3f} {line.end / 1000:.3f} {text}"
        lines.append(table_line(found.key, row) + "\n")
    return "".join(lines)


def _one(text: str) -> str:
    """A text as one field of a table."""
    return row_id(text.strip())


_FORMATS: dict[str, Callable[[Transcript, LineLimits], str]] = {
    "srt": _srt,
    "vtt": _vtt,
    "lrc": _lrc,
    "tsv": _tsv,
    "textgrid": _textgrid,
    "ctm": _ctm,
    "stm": _stm,
}
