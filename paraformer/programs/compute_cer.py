"""Character error rate of recognised text against a reference (both Kaldi `text`: `id text`).

A Chinese character, an English word or a number is one unit; width, case, marks, blanks and tags
such as <noise> do not count unless raw=true. Prints lines such as

  %CER 5.10 [ 51 / 1000, 3 ins, 4 del, 44 sub ]
  %SER 20.00 [ 20 / 100 ]

and writes into `out`: cer (these lines), aligned (every utterance, reference above hypothesis),
missing_ids (no hypothesis: counted as deletions) and extra_ids (no reference: not counted). With
`report`, an HTML page of the same in colour, the worst utterances first, with what is most often
confused; with `report_wav` one can listen to them.

Of two STM files (`stm` or x.stm, with speakers), %CER is that of all words in the order of time and
%cpCER that of each speaker's, against those of whoever stands for him at the least errors: a word
that is given to a wrong speaker counts there. A line `recording:speaker=speaker %CER ...` for each
pair is printed, or with `out` written into `speakers`; the other files are of these pairs too.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from omegaconf import DictConfig

from paraformer.data.corpus.tables import read_table, readable, write_text
from paraformer.data.corpus.tags import TAGS
from paraformer.data.text.score import Report, count, format_aligned, pinyin, score, units
from paraformer.data.text.speaker_score import is_stm, read_stm, speaker_texts, whole_texts
from paraformer.errors import ConfigError, DataError
from paraformer.files import check_folder, together
from paraformer.programs.hydra_main import run

_log = logging.getLogger(__name__)


def compute_cer(config: DictConfig) -> int:
    """Print and write the error rates of `config.hyp` against `config.ref`."""
    spoken = is_stm(config.ref) and is_stm(config.hyp)
    read = _whole if spoken else read_table
    refs, hyps = read(config.ref), read(config.hyp)
    if refs and not any(refs.values()):
        raise DataError(f"{config.ref}: no text behind any id; give `id text` a line")
    if config.raw and (config.simplified or config.tags != TAGS):
        raise ConfigError("raw: each character counts as it stands; leave out simplified and tags")
    split = partial(units, raw=config.raw, tags=config.tags, simplified=config.simplified)
    report = score(refs, hyps, split)
    lines = [report.counts.line(), report.sentence_line()]
    each = list[str]()
    if spoken:
        lines.pop()
        pairs = speaker_texts(read_stm(config.ref), read_stm(config.hyp), split)
        report = score(*pairs, split)
        lines.append(report.counts.line("cpCER"))
        each = [f"{key} {count(own).line()}" for key, own in report.alignments.items()]
    if config.pinyin:
        lines += _pinyin_lines(refs, hyps, config.tags)
    _warn("without hypothesis, counted as deletions", report.missing)
    _warn("without reference, not counted", report.extra)
    if config.out:
        _write(check_folder(config.out), report, lines, each)
        each = []
    if config.report:
        _write_report(config, report)
    print("\n".join([*lines, *each]))
    return 0


def _whole(path: str) -> dict[str, str]:
    return whole_texts(read_stm(path))


def _pinyin_lines(refs: Mapping[str, str], hyps: Mapping[str, str], tags: str) -> Iterable[str]:
    for name, tones in (("PER_TONED", True), ("PER_TONELESS", False)):
        yield score(refs, hyps, partial(pinyin, tones=tones, tags=tags)).counts.line(name)


def _warn(what: str, ids: list[str]) -> None:
    if ids:
        shown = " ".join(ids[:5]) + (" ..." if len(ids) > 5 else "")
        _log.warning("%d utterances %s: %s", len(ids), what, shown)


def _write(out: Path, report: Report, lines: Iterable[str], each: Iterable[str]) -> None:
    aligned = (format_aligned(key, pairs) for key, pairs in report.alignments.items())
    with together(out, ["cer"]) as draft:
        write_text(draft / "cer", "".join(f"{line}\n" for line in lines))
        if each:
            write_text(draft / "speakers", "".join(f"{line}\n" for line in each))
        write_text(draft / "aligned", (f"{rows}\n\n" for rows in aligned))
        write_text(draft / "missing_ids", "".join(f"{key}\n" for key in report.missing))
        write_text(draft / "extra_ids", "".join(f"{key}\n" for key in report.extra))


def _write_report(config: DictConfig, report: Report) -> None:
    # They need torch, for which the scores alone do not wait.
    from paraformer.data.inputs.sources import list_items
    from paraformer.report.error_page import ReportLimits, report_html

    path = Path(config.report)
    check_folder(path.parent)
    audio = (
        {item.key: item for item in list_items(config.report_wav)} if config.report_wav else None
    )
    limits = ReportLimits(config.report_utterances, config.report_audio_mb)
    write_text(path, report_html(report, readable(str(config.hyp)), audio, limits))


def main() -> int:
    """`bin/compute_cer.py`."""
    return run("score", compute_cer)
