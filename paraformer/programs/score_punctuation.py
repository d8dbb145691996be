"""Precision, recall and F1 of punctuation marks, for each mark and over all.

Both files are Kaldi `text` with the same words. A mark is right if the same one stands behind the
same word in the reference.
"""

from __future__ import annotations

from collections.abc import Mapping

from omegaconf import DictConfig

from paraformer.data.corpus.tables import read_table, write_text
from paraformer.data.text.score import MarkCounts, count_marks
from paraformer.data.text.words import read_marks, strip_marks
from paraformer.errors import DataError
from paraformer.programs.hydra_main import run

Counts = dict[str, MarkCounts]


def score_punctuation(config: DictConfig) -> int:
    """Print and write the figures of `config.hyp` against `config.ref`."""
    refs, hyps = read_table(config.ref), read_table(config.hyp)
    counts = count(refs, hyps, str(config.marks), config.last)
    lines = [counts[mark].line(mark) for mark in str(config.marks) if mark in counts]
    lines.append(sum(counts.values(), MarkCounts()).line("all"))
    if config.out:
        write_text(config.out, "".join(f"{line}\n" for line in lines))
    print("\n".join(lines))
    return 0


def count(refs: Mapping[str, str], hyps: Mapping[str, str], marks: str, last: bool) -> Counts:
    """Counts of each mark over all lines of the reference."""
    missing = [key for key in refs if key not in hyps]
    if missing:
        raise DataError(f"hypothesis: lacks {len(missing)} lines, such as '{missing[0]}'")
    total: Counts = {}
    for key, ref in refs.items():
        words, right = strip_marks(ref, marks)
        try:
            written = read_marks(words, hyps[key], marks)
        except DataError as error:
            raise DataError(f"hypothesis '{key}': {error}") from error
        end = None if last else -1
        for mark, counts in count_marks(right[:end], written[:end]).items():
            total[mark] = total.get(mark, MarkCounts()) + counts
    return total


def main() -> int:
    """`bin/score_punctuation.py`."""
    return run("score_punctuation", score_punctuation)
