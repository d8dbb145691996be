#!/usr/bin/env python3
"""Words of a test set that training never saw, as a list of hotwords, and how many are recognised.

    local/rare_words.py list [--distractors N] TRAIN_TEXT TEST_TEXT OUT
    local/rare_words.py score LIST REFERENCE_TEXT HYPOTHESIS_TEXT

list: words of two characters or more (jieba's) of the test that stand nowhere in the training text.
With --distractors, that many words of the training text that stand nowhere in the test, instead.
score: of all places where a word of the list stands in the reference, the share that the hypothesis
has as well.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from paraformer.data.corpus.tables import read_table, write_text
from paraformer.errors import ParaformerError

CHINESE = re.compile("[\u4e00-\u9fa5]{2,6}")


def words_of(texts: list[str]) -> list[str]:
    """Chinese words of two characters or more, the most frequent first."""
    import jieba

    jieba.setLogLevel("WARNING")
    counts: dict[str, int] = {}
    for text in texts:
        for word in jieba.cut(text):
            if CHINESE.fullmatch(word):
                counts[word] = counts.get(word, 0) + 1
    return sorted(counts, key=lambda word: (-counts[word], word))


def absent(words: list[str], texts: list[str]) -> list[str]:
    """Those that stand in none of the texts."""
    everything = "\n".join(texts)
    return [word for word in words if word not in everything]


def recall(words: list[str], reference: dict[str, str], found: dict[str, str]) -> tuple[int, int]:
    """How many of the places of the words are right, and how many there are."""
    right = total = 0
    for key, text in reference.items():
        heard = found.get(key, "").replace(" ", "")
        plain = text.replace(" ", "")
        for word in words:
            there = plain.count(word)
            total += there
            right += min(there, heard.count(word))
    return right, total


def main() -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["list", "score"])
    parser.add_argument("paths", type=Path, nargs=3)
    parser.add_argument("--distractors", type=int, default=0)
    args = parser.parse_args()
    first, second, third = args.paths
    try:
        if args.action == "score":
            words = first.read_text(encoding="utf8").split()
            right, total = recall(words, read_table(second), read_table(third))
            print(f"recall {100 * right / max(1, total):.1f} % [ {right} of {total} places ]")
            return 0
        train, test = (list(read_table(path).values()) for path in (first, second))
        if args.distractors:
            words = absent(words_of(train), test)[: args.distractors]
        else:
            words = absent(words_of(test), train)
        write_text(third, "".join(f"{word}\n" for word in words))
    except (ParaformerError, OSError, ImportError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
