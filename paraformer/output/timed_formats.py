"""Results with times as files: subtitles (srt, vtt, lrc, tsv), Praat's TextGrid, NIST's ctm stm
and rttm.
"""

from __future__ import annotations

import html
import io
import logging
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from operator import itemgetter
from pathlib import Path
from types import ModuleType
from typing import Any

from paraformer.errors import DataError
from paraformer.extras import load_extra
from paraformer.output.subtitle_lines import (
    SILENCE_MS,
    Line,
    LineLimits,
    Transcript,
    Word,
    transcript,
)
from paraformer.output.tables import (
    TIMED_FILES,
    TIMED_TABLES,
    row_id,
    table_line,
)

log = logging.getLogger(__name__)


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
    return format_parts([transcript(result)], output_format, limits or LineLimits())


def format_parts(parts: Sequence[Transcript], output_format: str, limits: LineLimits) -> str:
    """The same for the parts of one recording, each with its times in that."""
    return _FORMATS[output_format](parts, limits)


def check_extra(output_format: str) -> None:
    """Refuse a format whose library is not installed, before any work is done."""
    if output_format == "textgrid":
        _praatio()


def _praatio() -> ModuleType:
    return load_extra("praatio.textgrid", "output_format=textgrid")


def _spoken(line: Line) -> str:
    """The text of a line, behind the name of who says it where that is known."""
    return f"{line.speaker}: {line.text}" if line.speaker else line.text


def _lines(parts: Sequence[Transcript], limits: LineLimits) -> list[Line]:
    """The lines of all parts of a recording in the order of time."""
    lines = [line for part in parts for line in part.lines(limits)]
    return sorted(lines, key=lambda line: (line.start, line.end))


def _subtitles(parts: Sequence[Transcript], limits: LineLimits, kind: str) -> str:
    import pysubs2

    subtitles = pysubs2.SSAFile()
    for line in _lines(parts, limits):
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


def _srt(parts: Sequence[Transcript], limits: LineLimits) -> str:
    return _subtitles(parts, limits, "srt")


def _vtt(parts: Sequence[Transcript], limits: LineLimits) -> str:
    return _subtitles(parts, limits, "vtt")


def _lrc(parts: Sequence[Transcript], limits: LineLimits) -> str:
    """A line is shown until the next one; an empty one ends it where silence follows."""
    lines = _lines(parts, limits)
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


def _tsv(parts: Sequence[Transcript], limits: LineLimits) -> str:
    """Times in ms, in the columns that whisper writes."""
    rows = [f"{line.start}\t{line.end}\t{_spoken(line)}\n" for line in _lines(parts, limits)]
    return "start\tend\ttext\n" + "".join(rows)


def _textgrid(parts: Sequence[Transcript], limits: LineLimits) -> str:
    """Tiers `words` and `lines`, in seconds; only the latter where no word has times. Parts that
    overlap stand in tiers of their own, `words_2` and so on. Behind them each speaker has a tier of
    what he says, or of when he speaks where that is all that is known.
    """
    textgrid = _praatio()
    end = max([1, *(part.milliseconds for part in parts)]) / 1000
    grid = textgrid.Textgrid(0, end)
    for number, layer in enumerate(_layers(parts), 1):
        tiers: dict[str, Iterable[Word | Line]] = {"lines": _lines(layer, limits)}
        if not any(part.stretches for part in parts):
            tiers = {"words": [word for part in layer for word in part.words], **tiers}
        if not any(part.words or part.stretches for part in parts) and _speakers(parts):
            continue
        for name, spans in tiers.items():
            entries = [(span.start / 1000, span.end / 1000, span.text) for span in spans]
            own = name if number == 1 else f"{name}_{number}"
            grid.addTier(textgrid.IntervalTier(own, entries, 0, end))
    for name, spans in _by_speaker(parts, limits).items():
        entries = [(span.start / 1000, span.end / 1000, span.text or name) for span in spans]
        grid.addTier(textgrid.IntervalTier(_free(name, grid.tierNames), entries, 0, end))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "grid"
        grid.save(str(path), "long_textgrid", includeBlankSpaces=True)
        return path.read_text(encoding="utf-8")


def _by_speaker(parts: Sequence[Transcript], limits: LineLimits) -> dict[str, list[Line]]:
    """The lines of each speaker, or the turns where there are no lines; none that overlap."""
    said = _lines(parts, limits) or [turn for part in parts for turn in part.turns]
    found: dict[str, list[Line]] = {name: [] for name in _speakers(parts)}
    for line in sorted(said, key=lambda line: (line.start, line.end)):
        own = found.get(line.speaker)
        if own is None:
            continue
        start = max(line.start, own[-1].end if own else 0)
        if line.end > start:
            own.append(line._replace(start=start))
    return found


def _speakers(parts: Sequence[Transcript]) -> list[str]:
    return list(dict.fromkeys(name for part in parts for name in part.speakers()))


def _free(name: str, taken: Iterable[str]) -> str:
    """A name that no tier has yet: a speaker may be called `words`."""
    return f"{name} (speaker)" if name in taken else name


def _layers(parts: Sequence[Transcript]) -> list[list[Transcript]]:
    """The parts in the order of time, in as few rows as have no two that overlap."""
    layers: list[list[Transcript]] = [[]]
    for part in sorted(parts, key=_begin):
        free = (row for row in layers if not row or _end(row[-1]) <= _begin(part))
        row = next(free, None)
        if row is None:
            row = []
            layers.append(row)
        row.append(part)
    return layers


def _begin(part: Transcript) -> int:
    spans: list[Word | Line] = [*part.words, *part.stretches]
    return min((span.start for span in spans), default=0)


def _end(part: Transcript) -> int:
    spans: list[Word | Line] = [*part.words, *part.stretches]
    return max((span.end for span in spans), default=0)


def _ctm(parts: Sequence[Transcript], limits: LineLimits) -> str:
    """`file channel start duration word [confidence]`, in seconds."""
    rows: list[tuple[int, str]] = []
    for part in parts:
        refuse_stretches(part, "ctm")
        for word in part.words:
            start, length = word.start / 1000, (word.end - word.start) / 1000
            row = f"{part.channel} {start:.3f} {length:.3f} {_one(word.text)}"
            row += "" if word.confidence is None else f" {word.confidence:.4f}"
            rows.append((word.start, table_line(part.key, row) + "\n"))
    return _in_time(rows)


def refuse_stretches(found: Transcript, output_format: str) -> None:
    """Refuse what is without the times that a format needs."""
    if output_format == "ctm" and found.stretches:
        raise DataError(
            f"'{found.key}': only segments have times, and ctm needs those of words; take a model "
            "that gives them (BiCifParaformer, SeacoParaformer), or output_format=stm"
        )


def _stm(parts: Sequence[Transcript], limits: LineLimits) -> str:
    """`file channel speaker start end words`, in seconds, a line a sentence, without marks where
    the words are known; who speaks is the file where nobody knows better.
    """
    rows: list[tuple[int, str]] = []
    for part in parts:
        for line in part.sentences():
            text = " ".join(_one(word.text) for word in line.words) or line.text
            speaker = _one(line.speaker or part.speaker or part.key)
            times = f"{line.start / 1000:.3f} {line.end / 1000:.3f}"
            # A first word in <> would be taken for a label, so one stands before it.
            label = "<o> " if text.startswith("<") else ""
            row = f"{part.channel} {speaker} {times} {label}{text}"
            rows.append((line.start, table_line(part.key, row) + "\n"))
    return _in_time(rows)


def _rttm(parts: Sequence[Transcript], limits: LineLimits) -> str:
    """`SPEAKER file channel start duration <NA> <NA> name <NA> <NA>`, in seconds, a line a turn;
    of what has no turns a line for each stretch in which the sentences of one speaker follow each
    other. The fields hold no blanks, so those of names become `_`.
    """
    rows: list[tuple[int, str]] = []
    names = _speakers(parts)
    if len({_one(name) for name in names}) < len(names):
        raise DataError(
            f"'{parts[0].key}': two of the speakers {', '.join(names)} have one name in rttm, "
            "whose fields hold no blanks; rename one"
        )
    for part in parts:
        for turn in part.turns or _runs(part):
            speaker = field_name(turn.speaker or part.speaker or part.key)
            start, length = turn.start / 1000, (turn.end - turn.start) / 1000
            times = f"{part.channel} {start:.3f} {length:.3f}"
            row = f"SPEAKER {_one(part.key)} {times} <NA> <NA> {speaker} <NA> <NA>\n"
            rows.append((turn.start, row))
    return _in_time(rows)


def _runs(part: Transcript) -> list[Line]:
    runs: list[Line] = []
    for line in part.sentences():
        last = runs[-1] if runs else None
        if last and last.speaker == line.speaker and line.start - last.end < SILENCE_MS:
            runs[-1] = last._replace(end=max(last.end, line.end))
        else:
            runs.append(line)
    return runs


@cache
def field_name(name: str) -> str:
    """A name as one field of a table, its blanks replaced; the first time that is said."""
    found = _one(name)
    if found != name:
        log.warning("rttm: '%s' is written as '%s': its fields hold no blanks", name, found)
    return found


def _in_time(rows: list[tuple[int, str]]) -> str:
    return "".join(row for _, row in sorted(rows, key=itemgetter(0)))


def _one(text: str) -> str:
    """A text as one field of a table."""
    return row_id(text.strip())


_FORMATS: dict[str, Callable[[Sequence[Transcript], LineLimits], str]] = {
    "srt": _srt,
    "vtt": _vtt,
    "lrc": _lrc,
    "tsv": _tsv,
    "textgrid": _textgrid,
    "ctm": _ctm,
    "stm": _stm,
    "rttm": _rttm,
}
