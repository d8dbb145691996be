#!/usr/bin/env python3
"""Write the `ctm` of a data directory: when words and phrases of clean recordings begin and end.

    local/find_times.py [--marks text_marks ...] DATA

By the energy of the features (DATA/feats.scp), so only where the pauses are clearly quieter. A word
by itself is one line, the loudest stretch. Of a sentence with marks (a table `id text`, ids as in
DATA but for what stands before any `-`) each phrase is one, if there are as many pauses as marks
between; else the sentence as a whole.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from paraformer.data.corpus.archives import load_archive
from paraformer.data.corpus.tables import read_table, write_text
from paraformer.decode.token_ends import CLOSURE, loud_frames, stretches
from paraformer.errors import ParaformerError

SHIFT, WINDOW = 0.01, 0.025  # seconds
MARKS = re.compile("[，。？！、；：,.?!;:—…]+")


class Rule(NamedTuple):
    """How frames that are loud (`loud_frames`) become stretches of speech."""

    least_db: float = 30.0  # between loud and quiet frames, else nothing is told
    burst: int = 4  # frames; shorter speech is a click
    closure: int = CLOSURE  # frames; shorter silence is part of a sound
    pause: int = 12  # frames; a silence between phrases
    apart: int = 25  # frames; a noise that is so far from a word by itself is not of it


def levels(feats: np.ndarray) -> np.ndarray:
    """Log-mel (T, n_mels) -> decibels (T,)."""
    decibels: np.ndarray = np.log(np.exp(feats.astype(np.float64)).sum(1)) * (10 / np.log(10))
    return decibels


def spans(level: np.ndarray, rule: Rule) -> list[tuple[int, int]]:
    """First frames of speech, and of the silence behind; none where it is too noisy to tell."""
    if len(level) < 10:
        return []
    loud = loud_frames(torch.from_numpy(level), least_db=rule.least_db)
    found = stretches(loud, rule.closure)
    return [(begin, end) for begin, end in found if end - begin >= rule.burst]


def loudest(level: np.ndarray, found: list[tuple[int, int]], rule: Rule) -> list[tuple[int, int]]:
    """Of stretches of speech those around the loudest sounds: a word without clicks and steps."""
    groups: list[list[tuple[int, int]]] = []
    for span in found:
        if groups and span[0] - groups[-1][-1][1] < rule.apart:
            groups[-1].append(span)
        else:
            groups.append([span])
    power = 10 ** (level / 10)
    return max(groups, key=lambda group: power[group[0][0] : group[-1][1]].sum())


def phrases(text: str, marked: str | None, found: list[tuple[int, int]], rule: Rule) -> list[str]:
    """Texts of the stretches of speech: one each, or the whole text where they do not match."""
    parts = [part for part in MARKS.split(marked or text) if part]
    long = [b for (_, a), (b, _) in zip(found[:-1], found[1:], strict=True) if b - a >= rule.pause]
    fits = len(long) == len(parts) - 1 == len(found) - 1 and "".join(parts) == text
    return parts if fits else [text]


def marks_of(key: str, marked: dict[str, str]) -> str | None:
    """The text with marks of an utterance, whatever stands before a `-` in its id.

    >>> [marks_of("sp0.9-voices-K0-7", {name: "好。"}) for name in ("K0-7", "7", "0-7")]
    ['好。', '好。', None]
    """
    parts = key.split("-")
    names = ("-".join(parts[start:]) for start in range(len(parts)))
    return next((marked[name] for name in names if name in marked), None)


def seconds(frame: int) -> float:
    """When the middle of a frame's window is half a shift ahead."""
    return frame * SHIFT + (WINDOW - SHIFT) / 2


def lines(key: str, text: str, marked: str | None, feats: np.ndarray, rule: Rule) -> list[str]:
    """Lines of an utterance."""
    level = levels(feats)
    found = spans(level, rule)
    if not found:
        return []
    if marked is None:
        found = loudest(level, found, rule)
    words = phrases(text, marked, found, rule)
    ends = found if len(words) > 1 else [(found[0][0], found[-1][1])]
    return [
        f"{key} 1 {seconds(begin):.4f} {seconds(end) - seconds(begin):.4f} {word}\n"
        for word, (begin, end) in zip(words, ends, strict=True)
    ]


def main() -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--marks", type=Path, nargs="*", default=[])
    args = parser.parse_args()
    try:
        marked = {key: text for path in args.marks for key, text in read_table(path).items()}
        texts = read_table(args.data / "text")
        rule, out, told = Rule(), [], 0
        for key, place in read_table(args.data / "feats.scp").items():
            text = texts.get(key, "").replace(" ", "")
            try:
                feats = np.asarray(load_archive(place)) if text else np.zeros((0, 1))
            except (OSError, ValueError) as error:
                print(f"{key}: no features at {place} ({error}); left out", file=sys.stderr)
                continue
            rows = lines(key, text, marks_of(key, marked), feats, rule)
            out += rows
            told += bool(rows)
        write_text(args.data / "ctm", "".join(out))
    except (ParaformerError, OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{args.data / 'ctm'}: {len(out)} words or phrases of {told} utterances", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
