#!/usr/bin/env python3
"""Write Kaldi data directories for punctuation: train, dev, and the test sets.

    local/prepare_data.py CORPORA OUT [--modern FOLDER] [--tiny]

CORPORA holds the folders that the README of the recipe lists, FOLDER what fetch_modern.py wrote. A
paragraph that shares 12 Chinese characters in a row with the test is left out. In each directory
`text_marks` has passages with the marks ，。？、 and `text` the same words without them. Prose goes
to train or dev by a hash of its book and place, so the lists are the same on every machine.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Iterator, Sequence, Set
from pathlib import Path

from paraformer.data.corpus.tables import write_table
from paraformer.data.text.words import strip_marks

MARKS = "，。？、"
TESTS = ("test_gsd", "test_gsd_running")
PASSAGE = 600  # characters, at least, in one passage of prose
DEV_SHARE = 3.0  # per cent of the passages
RUNNING = 10  # sentences of the test set joined to one line of running text
SHARED = 12  # Chinese characters in a row that training text may not share with the test

_FULL = str.maketrans(",.?!;:", "，。？！；：")
_AS_MARK = str.maketrans({"！": "。", "；": "，", "：": "，", "…": "，", "—": "，", "―": "，"})
_NOTE = re.compile(r"[〔［\[][０-９0-9注]{1,4}[〕］\]]")
_SILENT = re.compile(r"[“”‘’「」『』《》〈〉（）()〔〕［］\[\]【】{}\"·‧]")
_CHINESE = "\u4e00-\u9fff"
_NUMERALS = {c: i for i, c in enumerate("零一二三四五六七八九")} | {"○": 0, "〇": 0}
_YEAR = re.compile(r"[一二三四五六七八九零○〇]{2,4}(?=年)")
_COUNT = re.compile(
    r"[一二三四五六七八九]?十[一二三四五六七八九]?(?=[年月日个人岁块里天时点分号层间件次万])"
)


def normalize(text: str) -> str:
    """Words and the four marks alone: what a recogniser writes, and what the model may add to it.

    Exclamation marks close a sentence; colons, semicolons, dashes and dots divide one, and close it
    at the end of a paragraph. Quotes, brackets and notes are not spoken.
    """
    text = _SILENT.sub("", _NOTE.sub("", text))
    text = re.sub(
        f"(?<=[{_CHINESE}])[,.?!;:]|(?<!\\S)[,.?!;:](?!\\S)", lambda m: m[0].translate(_FULL), text
    ).translate(_AS_MARK)
    text = re.sub(r"[０-９Ａ-Ｚａ-ｚ]", lambda m: chr(ord(m[0]) - 0xFEE0), text)
    text = re.sub(r"\s*([，。？、])\s*", r"\1", text)
    text = re.sub(r"[，。？、]*([。？])[，。？、]*", r"\1", text)
    text = re.sub(r"[，、]*，[，、]*", "，", text).strip("，。？、 \t\u3000")
    return re.sub(f"(?<=[{_CHINESE}])[ \\t\u3000]+(?=[{_CHINESE}])", "", text)


def grams(text: str) -> set[str]:
    """All runs of `SHARED` Chinese characters, what stands between the characters left out."""
    run = re.sub(f"[^{_CHINESE}]", "", text)
    return {run[i : i + SHARED] for i in range(len(run) - SHARED + 1)}


def paragraphs(path: Path, forbidden: Set[str]) -> Iterator[str]:
    """Normalised paragraphs of a book; titles, lists and notes, which no mark closes, are left
    out, and so is what has one of the forbidden runs of characters.
    """
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        line = line.strip()
        body = line.rstrip('”’」』）"')
        if not body or body[-1] not in "。？！…—.?!" or len(body) < 4:
            continue
        text = normalize(line)
        if text and forbidden.isdisjoint(grams(text)):
            yield text + ("？" if body[-1] in "？?" else "。")


def passages(path: Path, forbidden: Set[str]) -> Iterator[str]:
    """Paragraphs joined until they are long enough to cut training samples from."""
    held: list[str] = []
    for paragraph in paragraphs(path, forbidden):
        held.append(paragraph)
        if sum(map(len, held)) >= PASSAGE:
            yield "".join(held)
            held = []
    if held:
        yield "".join(held)


def in_digits(text: str) -> str:
    """Years and counts in Arabic numerals, as encyclopedias write them.

    >>> in_digits("一九三六年有三十五个人")
    '1936年有35个人'
    """
    text = _YEAR.sub(lambda m: "".join(str(_NUMERALS[c]) for c in m[0]), text)

    def count(match: re.Match[str]) -> str:
        tens, _, ones = match[0].partition("十")
        return str(10 * (_NUMERALS[tens] if tens else 1) + (_NUMERALS[ones] if ones else 0))

    return _COUNT.sub(count, text)


def prose(books: Sequence[Path], forbidden: Set[str]) -> dict[str, dict[str, str]]:
    """train and dev; train has a passage with numbers again, in digits."""
    sets: dict[str, dict[str, str]] = {"train": {}, "dev": {}}
    for path in books:
        book = hashlib.sha1(path.stem.encode()).hexdigest()[:6]
        for number, text in enumerate(passages(path, forbidden)):
            key = f"{path.parent.name}-{book}-{number:05d}"
            place = int(hashlib.sha1(key.encode()).hexdigest()[:8], 16) / 16**8 * 100
            part = "dev" if place < DEV_SHARE else "train"
            sets[part][key] = text
            if part == "train" and (digits := in_digits(text)) != text:
                sets[part][f"{key}-digits"] = digits
    return sets


def encyclopedia(corpora: Path) -> dict[str, dict[str, str]]:
    """test_gsd: a sentence a line. test_gsd_running: several joined, so that the ends of sentences
    have to be found.
    """
    path = corpora / "punctuation/ud_gsdsimp/dev.txt"
    if not path.is_file():
        return {}
    lines = []
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        if text := normalize(line):
            lines.append(text + ("？" if line.rstrip("”")[-1] == "？" else "。"))
    joined = ["".join(lines[i : i + RUNNING]) for i in range(0, len(lines), RUNNING)]
    return {
        "test_gsd": {f"gsd-{i:03d}": text for i, text in enumerate(lines)},
        "test_gsd_running": {f"running-{i:03d}": text for i, text in enumerate(joined)},
    }


def bare(text: str) -> str:
    """The words of a text, English ones apart, Chinese characters without blanks."""
    words, _ = strip_marks(text, MARKS)
    return re.sub(f"(?<=[{_CHINESE}]) | (?=[{_CHINESE}])", "", " ".join(words))


def main() -> int:
    """Prepare all sets; exit 1 where the corpora are not found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--modern", type=Path, help="folder of fetch_modern.py")
    parser.add_argument("--tiny", action="store_true", help="a few passages of each set")
    args = parser.parse_args()
    books = sorted((args.corpora / "punctuation/shu").glob("*.txt"))
    books += sorted(args.modern.glob("*.txt")) if args.modern else []
    tests = encyclopedia(args.corpora)
    forbidden = {run for text in tests.get("test_gsd", {}).values() for run in grams(text)}
    sets = prose(books, forbidden) | tests
    if not sets["train"]:
        print(f"{args.corpora}: punctuation/shu is not here; see the README", file=sys.stderr)
        return 1
    for part in TESTS:
        if part not in sets:
            for name in ("text_marks", "text"):
                (args.out / part / name).unlink(missing_ok=True)  # of an earlier run
            print(f"{part}: its corpus is not here, it will not be scored", file=sys.stderr)
    for part, table in sets.items():
        if args.tiny:
            table = dict(
                list(table.items())[:: max(1, len(table) // (200 if part == "train" else 20))]
            )
        folder = args.out / part
        write_table(folder / "text_marks", table)
        write_table(folder / "text", {key: bare(text) for key, text in table.items()})
        print(
            f"{part}: {len(table)} passages, {sum(map(len, table.values()))} characters",
            file=sys.stderr,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
