"""Errors of recognition as a page to read: one HTML file that needs nothing beside it.

Every text in it is escaped by the template engine, and the page runs no scripts.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import soundfile
from torch import Tensor

from paraformer.data.inputs.sources import Cache, Item
from paraformer.data.text.score import Pair, Report, count
from paraformer.errors import ParaformerError
from paraformer.extras import load_extra
from paraformer.limits import check_fields, limited

if TYPE_CHECKING:
    from jinja2 import Template

KINDS = {"S": "Substitutions", "D": "Deletions", "I": "Insertions"}
RATE = 16000  # of the embedded audio
# The first of these that the installed libsndfile can write; all browsers play the first.
CODECS = (("MP3", "audio/mpeg"), ("OGG", "audio/ogg"), ("WAV", "audio/wav"))
NO_ROOM = "audio left out, since the page would be too large"


@dataclass(frozen=True)
class ReportLimits:
    """The most that the page shows of a large set."""

    utterances: int = limited(1000, 1)
    audio_mb: float = limited(20.0, 0)  # of embedded audio, as it stands in the page
    confusions: int = limited(30, 1)  # rows for each kind of error


class Shown(NamedTuple):
    """An utterance on the page."""

    key: str
    line: str  # its error rate
    pairs: list[Pair]
    audio: str = ""  # a data: URL
    note: str = ""  # why there is no audio, where some was asked for


def report_html(
    report: Report,
    title: str,
    audio: Mapping[str, Item] | None = None,
    limits: ReportLimits | None = None,
) -> str:
    """The page for a scored set. audio: recordings by id, to be embedded for the worst utterances
    until their sizes reach the limit.
    """
    limits = limits or ReportLimits()
    check_fields(limits, "report")
    template = _template()
    shown = list(_utterances(report, audio, limits))
    wrong = sum(any(pair.op != "=" for pair in pairs) for pairs in report.alignments.values())
    return template.render(
        title=title,
        counts=report.counts,
        wrong=wrong,
        total=len(report.alignments),
        notes=_notes(report, shown, limits),
        confusions=confusions(report, limits.confusions),
        utterances=shown,
    )


def worst_first(report: Report) -> list[str]:
    """Ids by error rate, then by number of errors, then as the references are ordered."""
    counts = {key: count(pairs) for key, pairs in report.alignments.items()}
    return sorted(counts, key=lambda key: (-counts[key].percent, -counts[key].errors))


def confusions(report: Report, most: int) -> list[tuple[str, list[tuple[Pair, int]]]]:
    """The most frequent errors of each kind, with how often they were made."""
    made = Counter(pair for pairs in report.alignments.values() for pair in pairs if pair.op != "=")
    ranked = made.most_common()
    return [(name, [e for e in ranked if e[0].op == op][:most]) for op, name in KINDS.items()]


def _template() -> Template:
    jinja2 = load_extra("jinja2", "report")
    source = files("paraformer").joinpath("templates/report.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(source)


def _utterances(
    report: Report, audio: Mapping[str, Item] | None, limits: ReportLimits
) -> Iterator[Shown]:
    voices = _Voices(audio, round(limits.audio_mb * 1e6))
    for key in worst_first(report)[: limits.utterances]:
        pairs = report.alignments[key]
        url, note = voices.of(key)
        yield Shown(key, count(pairs).line(), pairs, url, note)


class _Voices:
    """Recordings as data: URLs, of so many bytes together."""

    def __init__(self, items: Mapping[str, Item] | None, room: int) -> None:
        self.items, self.room = items, room
        self.cache = Cache()

    def of(self, key: str) -> tuple[str, str]:
        """URL of a recording and "", or "" and why there is none."""
        if self.items is None:
            return "", ""
        if key not in self.items:
            return "", "no recording of this id"
        if self.room <= 0:
            return "", NO_ROOM
        try:
            url = audio_url(self.items[key].read(None, RATE, self.cache))
        except ParaformerError as error:
            return "", str(error)
        self.room -= len(url)
        return ("", NO_ROOM) if self.room < 0 else (url, "")


def audio_url(wave: Tensor) -> str:
    """Samples (N,) of 16 kHz as a data: URL, compressed."""
    codec, kind = next(pair for pair in CODECS if pair[0] in soundfile.available_formats())
    options = {"compression_level": 0.8, "bitrate_mode": "VARIABLE"} if codec == "MP3" else {}
    buffer = io.BytesIO()
    soundfile.write(buffer, wave.numpy(), RATE, format=codec, **options)
    return f"data:{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _notes(report: Report, shown: Sequence[Shown], limits: ReportLimits) -> list[str]:
    """Notes that tell a reader what is not on the page."""
    notes = []
    if report.missing:
        notes.append(f"{len(report.missing)} without hypothesis, counted as deletions.")
    if report.extra:
        notes.append(f"{len(report.extra)} without reference, not counted.")
    if len(shown) < len(report.alignments):
        notes.append(f"Only the worst {len(shown)} of {len(report.alignments)} utterances follow.")
    silent = sum(one.note == NO_ROOM for one in shown)
    if silent:
        notes.append(
            f"The audio of {silent} utterances is left out: {limits.audio_mb:g} MB are embedded at "
            "most, of the worst first."
        )
    return notes
