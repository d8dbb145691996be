#!/usr/bin/env python3
"""Write sentences for a language model: those of plain prose and of Kaldi tables, without any that
a test set has.

    local/lm_text.py --exclude data/test_real/text data/dev/text --out data/lm/text SOURCE...

A source is a folder of *.txt, or a Kaldi `text`, whose texts are taken as they are. A sentence of
prose with something else in it than Chinese characters and marks gives the clauses beside that.
Single words that a test set asks for are no sentences, and stay.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from select_sentences import MARKS, OVERLAP, QUOTES, SENTENCE, excluded_sentences, read_prose

LONGEST = 80  # characters; a longer sentence is taken by its clauses
CLAUSE = re.compile(r"[^，—─…,:;()（）-]+")
CHINESE = re.compile(r"[\u4e00-\u9fff]+")


def spoken(prose: str) -> Iterator[str]:
    """The sentences of a text as they are spoken, or runs of their clauses.

    >>> list(spoken("“你好吗？”他问——很轻。见图3，那里有山，有水。"))
    ['你好吗', '他问很轻', '那里有山有水']
    """
    for raw in SENTENCE.findall(prose):
        run = ""
        for clause in CLAUSE.findall(MARKS.sub("，", QUOTES.sub("", raw))):
            clean = CHINESE.fullmatch(clause) is not None
            if run and (not clean or len(run) + len(clause) > LONGEST):
                yield run
                run = ""
            run += clause if clean else ""
        if run:
            yield run


def texts_of(source: Path) -> Iterator[str]:
    """The sentences of one source."""
    if source.is_dir():
        for prose in read_prose(source):
            yield from spoken(prose)
    else:
        for line in source.read_text("utf-8").splitlines():
            yield line.partition(" ")[2]


def main() -> int:
    """Write each different sentence once; stderr says how many there are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("sources", type=Path, nargs="+", help="folders of *.txt, Kaldi text tables")
    parser.add_argument("--out", type=Path, required=True, help="a sentence a line, with ids")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="Kaldi text tables")
    args = parser.parse_args()
    excluded = excluded_sentences(args.exclude, OVERLAP)
    texts = dict.fromkeys(text for source in args.sources for text in texts_of(source))
    found = [text for text in texts if text and (text.isascii() or text not in excluded)]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    lines = (f"lm_{number:07d} {sentence}\n" for number, sentence in enumerate(found))
    args.out.write_text("".join(lines), encoding="utf-8")
    print(f"{args.out}: {len(found)} sentences, {sum(map(len, found))} characters", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
