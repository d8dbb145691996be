#!/usr/bin/env python3
"""Choose sentences of plain prose that are worth speaking: short, and rich in rare characters.

    local/select_sentences.py --exclude data/test/text --number 6000 prose_folder data/extra

The folder's `*.txt` files are split at sentence marks. Written are `text` (characters only) and
`text_marks` (with punctuation, what a voice should read). Every prefix of the list is itself a
good choice: the sentence that stands next is the one that adds most to those before it.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

SENTENCE = re.compile(r"[^。！？；…\n]+[。！？；…]*")
MARKS = re.compile(r"[，、：。！？；]")
QUOTES = re.compile(r"[“”‘’「」『』《》〈〉\"'\s]")
SPOKEN = re.compile(r"[\u4e00-\u9fff](?:[，、：]?[\u4e00-\u9fff])*[。！？；]?")
OVERLAP = 6  # characters: a run this long that is a whole sentence elsewhere counts as the same


def sentences(prose: str) -> Iterator[str]:
    """Sentences that hold nothing but Chinese characters and plain marks; others are passed over.

    >>> list(sentences("“你好吗？”他问——很轻。见图3。"))
    ['你好吗？', '他问，很轻。']
    """
    for raw in SENTENCE.findall(prose):
        sentence = QUOTES.sub("", raw).replace("……", "…").replace("…", "。")
        sentence = re.sub(r"[—─－-]+", "，", sentence).strip("，、：")
        sentence = re.sub(r"([。！？；])[。！？；]+", r"\1", sentence)
        if SPOKEN.fullmatch(sentence):
            yield sentence


def without_marks(sentence: str) -> str:
    """The characters of a sentence that are spoken."""
    return MARKS.sub("", sentence)


def pieces(sentence: str) -> Iterator[str]:
    """Every run of `OVERLAP` characters or more, the whole sentence among them."""
    for start in range(len(sentence) - OVERLAP + 1):
        for end in range(start + OVERLAP, len(sentence) + 1):
            yield sentence[start:end]


class Exclusion:
    """Sentences that must not come again: whole, as part of a longer one, or in part."""

    def __init__(self, spoken: Iterable[str]) -> None:
        self.whole = set(spoken)
        self.parts = {piece for sentence in self.whole for piece in pieces(sentence)}

    def __contains__(self, sentence: str) -> bool:
        return (
            sentence in self.whole
            or sentence in self.parts
            or any(piece in self.whole for piece in pieces(sentence))
        )


def candidates(
    prose: list[str], excluded: Exclusion, lengths: range, min_count: int
) -> dict[str, str]:
    """Usable sentences, spoken form -> form with marks, each once, in the order of the prose."""
    counts = Counter("".join(prose))
    found: dict[str, str] = {}
    for sentence in (s for text in prose for s in sentences(text)):
        spoken = without_marks(sentence)
        if len(spoken) not in lengths or spoken in found or spoken in excluded:
            continue
        if min(counts[character] for character in spoken) >= min_count:
            found[spoken] = sentence
    return found


def by_coverage(spoken: list[str], number: int, seed: int) -> Iterator[str]:
    """Greedy order: next comes the sentence whose characters have been taken least so far.

    The gain of a sentence is the sum over its characters of 1 / (1 + times taken), over the root
    of its length. Gains only fall, so a stale one at the top of the heap is computed again and put
    back: the exact greedy order without looking at every sentence every time.
    """
    taken: Counter[str] = Counter()

    def gain(sentence: str) -> float:
        return sum(1 / (1 + taken[c]) for c in set(sentence)) / math.sqrt(len(sentence))

    shuffled = list(spoken)
    random.Random(seed).shuffle(shuffled)
    heap = [(-gain(sentence), rank, sentence) for rank, sentence in enumerate(shuffled)]
    heapq.heapify(heap)
    while heap and number:
        _, rank, sentence = heapq.heappop(heap)
        fresh = -gain(sentence)
        if heap and fresh > heap[0][0]:
            heapq.heappush(heap, (fresh, rank, sentence))
            continue
        taken.update(sentence)
        number -= 1
        yield sentence


def with_plain(chosen: list[str], spoken: list[str], number: int, seed: int) -> list[str]:
    """`number` more sentences, drawn as they come, and all of them shuffled: characters are then
    neither as even as in the chosen ones nor as uneven as in prose.
    """
    shuffled = random.Random(seed)
    rest = sorted(set(spoken) - set(chosen))
    mixed = chosen + shuffled.sample(rest, min(number, len(rest)))
    shuffled.shuffle(mixed)
    return mixed


def read_prose(folder: Path) -> list[str]:
    """The texts of a folder in the order of their names; exits with one line if there are none."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.txt"))]
    if not texts:
        sys.exit(f"{folder}: no *.txt files; name a folder of plain prose")
    return texts


def excluded_sentences(tables: list[Path], shortest: int = 0) -> Exclusion:
    """The sentences of the given Kaldi `text` tables, punctuation removed, but for shorter ones."""
    lines = [line for table in tables for line in table.read_text("utf-8").splitlines()]
    spoken = (without_marks("".join(line.split()[1:])) for line in lines if line.strip())
    return Exclusion(sentence for sentence in spoken if len(sentence) >= shortest)


def arguments() -> argparse.Namespace:
    """The command line; its first paragraph is this file's."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("prose", type=Path, help="folder of *.txt")
    parser.add_argument("output", type=Path, help="folder for text and text_marks")
    parser.add_argument("--exclude", type=Path, nargs="*", default=[], help="Kaldi text tables")
    parser.add_argument("--number", type=int, default=4000)
    parser.add_argument("--min-length", type=int, default=6, help="characters")
    parser.add_argument("--max-length", type=int, default=24, help="characters")
    parser.add_argument("--min-count", type=int, default=10, help="of each character in the prose")
    parser.add_argument("--tokens", type=Path, help="tokens.json: no character but of these")
    parser.add_argument("--plain", type=float, default=0.0, help="share drawn as they come")
    parser.add_argument("--prefix", default="X", help="of the utterance ids")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> int:
    """Select, number and write; 1 if the prose holds fewer sentences than wanted."""
    args = arguments()
    found = candidates(
        read_prose(args.prose),
        excluded_sentences(args.exclude),
        range(args.min_length, args.max_length + 1),
        args.min_count,
    )
    if args.tokens:
        known = set(json.loads(args.tokens.read_text("utf-8")))
        found = {spoken: marked for spoken, marked in found.items() if known.issuperset(spoken)}
    plain = round(args.plain * args.number)
    chosen = list(by_coverage(list(found), args.number - plain, args.seed))
    if plain:
        chosen = with_plain(chosen, list(found), plain, args.seed)
    ids = [f"{args.prefix}{rank:05d}" for rank in range(len(chosen))]
    args.output.mkdir(parents=True, exist_ok=True)
    for name, lines in (("text", chosen), ("text_marks", [found[spoken] for spoken in chosen])):
        table = "".join(f"{key} {line}\n" for key, line in zip(ids, lines, strict=True))
        (args.output / name).write_text(table, encoding="utf-8")
    kinds = len(set("".join(chosen)))
    print(f"selected {len(chosen)} of {len(found)} sentences, {kinds} characters", file=sys.stderr)
    return 0 if len(chosen) == args.number else 1


if __name__ == "__main__":
    sys.exit(main())
