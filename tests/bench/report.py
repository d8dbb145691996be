"""Answers of engines become a table and JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rapidfuzz.distance import Levenshtein

from paraformer.data.text.score import score

Answer = Mapping[str, Any]
# (program, engine, task) -> one answer for each round
Answers = Mapping[tuple[str, str, str], Sequence[Answer]]
UNITS = {
    "rtf": "real-time factor",
    "chunk_ms_mean": "ms a chunk, mean",
    "chunk_ms_p50": "ms a chunk, median",
    "chunk_ms_p99": "ms a chunk, 99th percentile",
    "ms": "ms",
    "peak_mb": "MB, most of the process",
    "median_step_s": "s a step, median",
}
# The processor time of a round belongs to these.
WHOLE = ("rtf", "chunk_ms_mean", "median_step_s")
HEADER = ("task", "ours", "peer", "ratio", "processor time", "load of others", "target")
QUIET = 0.1  # processors; two threads lose a factor of 2 or 3 to one busy neighbour
ALIKE = 0.99  # outputs that agree less are worth a line


class Contest(NamedTuple):
    """A row to be measured: the less of the metric the better."""

    title: str
    program: str
    task: str
    rival: str  # an engine, which may be ours in another task
    rival_task: str
    metric: str
    target: float | None = None  # the ratio is to be at most this
    own: str = "ours"  # our engine


class Row(NamedTuple):
    """A row measured: medians of the rounds, loads as (during ours, during the peer's)."""

    task: str
    unit: str
    peer: str
    ours_value: float | None = None
    peer_value: float | None = None
    ratio: float | None = None
    processor_ratio: float | None = None
    others: tuple[float | None, float | None] = (None, None)
    agreement: float | None = None  # 1: both said the same
    target: float | None = None
    met: bool | None = None
    skipped: str = ""


def compare(contest: Contest, answers: Answers, skipped: Mapping[tuple[str, str], str]) -> Row:
    """The row of a contest; skipped: (program, engine) -> why it did not run."""
    program, metric = contest.program, contest.metric
    ours = answers.get((program, contest.own, contest.task), [])
    theirs = answers.get((program, contest.rival, contest.rival_task), [])
    engine = contest.rival
    if engine == contest.own:
        engine = "ours, one after another"
    row = Row(contest.title, UNITS[metric], engine, target=contest.target)
    mine, other = median(ours, metric), median(theirs, metric)
    row = row._replace(ours_value=mine, peer_value=other)
    row = row._replace(others=(median(ours, "others"), median(theirs, "others")))
    if mine is None or other is None:
        who = contest.rival if other is None else contest.own
        return row._replace(skipped=skipped.get((program, who), "not measured"))
    ratio = mine / other
    cpu = None
    if metric in WHOLE:
        busy = median(ours, "cpu_s"), median(theirs, "cpu_s")
        cpu = busy[0] / busy[1] if busy[0] and busy[1] else None
    return row._replace(
        ratio=ratio,
        processor_ratio=cpu,
        agreement=agreement(ours[0], theirs[0]),
        met=None if contest.target is None else ratio <= contest.target,
    )


def median(answers: Sequence[Answer], key: str) -> float | None:
    """Of the rounds that have it.

    >>> median([{"rtf": 3.0}, {"rtf": 1.0}, {"rtf": None}], "rtf")
    2.0
    """
    values = [answer[key] for answer in answers if answer.get(key) is not None]
    return statistics.median(values) if values else None


def agreement(ours: Answer, theirs: Answer) -> float | None:
    """How alike the texts, segments or sums of embeddings are, 0 to 1; None where there are none.

    >>> agreement({"texts": ["一 二", "三"]}, {"texts": ["一二", "四"]})
    0.6666666666666667
    """
    for key in ("texts", "spans", "sums"):
        if key in ours and key in theirs:
            said = (_output(answer, key) for answer in (ours, theirs))
            return float(Levenshtein.normalized_similarity(*said))
    return None


def _output(answer: Answer, key: str) -> Sequence[Any]:
    if key == "texts":
        return "".join(answer[key]).replace(" ", "")
    return [tuple(span) for span in answer[key]] if key == "spans" else answer[key]


def table(rows: Sequence[Row]) -> str:
    """Columns in step, as Markdown; then what makes a figure doubtful."""
    lines = [HEADER, *(_cells(row) for row in rows)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(HEADER))]
    lines.insert(1, tuple("-" * width for width in widths))
    text = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    text += dict.fromkeys(  # several figures of one task have one such line
        f"{row.task}, {row.peer}: outputs agree to {100 * row.agreement:.1f} %"
        for row in rows
        if row.agreement is not None and row.agreement < ALIKE
    )
    most = max((load for row in rows for load in row.others if load is not None), default=0.0)
    if most > QUIET:
        text.append(f"others used up to {most:.1f} processors: trust the ratios of processor time")
    return "\n".join(text)


class Texts(NamedTuple):
    """What a format of ours made of a data directory."""

    format: str
    size: int  # of its weights or graphs, in bytes
    hyps: Mapping[str, str]
    answers: Sequence[Answer]  # of each round


def texts_table(refs: Mapping[str, str], formats: Sequence[Texts]) -> str:
    """Columns as Markdown; the first format is what the others are compared with."""
    first = formats[0]
    head = ("format", "MB", f"texts changed of {len(first.hyps)}", "CER", "time", "processor time")
    lines = [(*head, "real-time factor", "MB of memory, most")]
    for each in formats:
        changed = sum(each.hyps[key] != text for key, text in first.hyps.items())
        counts = score(refs, each.hyps).counts
        ratios = [
            (median(each.answers, key) or 0.0) / (median(first.answers, key) or 1.0)
            for key in ("wall_s", "cpu_s")
        ]
        cells = [f"{each.size / 1e6:.1f}", str(changed)]
        cells += [f"{counts.percent:.2f} % ({counts.errors} of {counts.reference})"]
        cells += [f"{ratio:.2f}" for ratio in ratios]
        cells += [_number(median(each.answers, key)) for key in ("rtf", "peak_mb")]
        lines.append((each.format, *cells))
    lines.insert(1, ("---",) * len(lines[0]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cells(row: Row) -> tuple[str, ...]:
    peer = f"{row.peer} {_number(row.peer_value)}"
    if row.skipped:
        peer = f"{row.peer} skipped: {row.skipped}"
    target = "" if row.target is None else f"{row.target:g}"
    if row.met is not None:
        target += ", met" if row.met else ", missed"
    loads = [_number(load, ".1f") for load in row.others]
    others = loads[0] if row.others[1] is None else ", ".join(loads)
    name = f"{row.task}: {row.unit}"
    ratios = (_number(ratio, ".2f") for ratio in (row.ratio, row.processor_ratio))
    return name, _number(row.ours_value), peer, *ratios, others, target


def _number(value: float | None, form: str = ".3g") -> str:
    return "" if value is None else format(value, form)
