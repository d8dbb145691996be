#!/usr/bin/env python3
"""How far the times of one ctm are from those of another, word by word.

    local/score_times.py REFERENCE_CTM CTM

The second may have finer words, such as single characters: a word of the reference begins with its
first one and ends with its last.
"""

from __future__ import annotations

import sys

import numpy as np

from paraformer.data.corpus.ctm import read_ctm
from paraformer.errors import DataError, ParaformerError

Rows = list[tuple[float, float, str]]


def spans(key: str, reference: Rows, found: Rows) -> list[tuple[float, float]]:
    """Times in `found` of each word of the reference."""
    rows = iter(found)
    result = []
    for _, _, word in reference:
        start, end, text = next(rows, (0.0, 0.0, ""))
        while text and len(text) < len(word):
            _, end, more = next(rows, (0.0, 0.0, ""))
            if not more:
                break
            text += more
        if text != word:
            raise DataError(f"{key}: '{text}' stands where '{word}' should; align the same text")
        result.append((start, end))
    return result


def errors(reference: dict[str, Rows], found: dict[str, Rows]) -> np.ndarray:
    """(N, 2) seconds by which start and end of each word are late."""
    late = []
    for key, rows in reference.items():
        for (start, end, _), (a, b) in zip(rows, spans(key, rows, found.get(key, [])), strict=True):
            late.append((a - start, b - end))
    return np.array(late)


def main() -> int:
    """See the top of this file."""
    if len(sys.argv) != 3:
        print("usage: local/score_times.py REFERENCE_CTM CTM", file=sys.stderr)
        return 2
    try:
        late = 1000 * errors(*map(read_ctm, sys.argv[1:]))
    except ParaformerError as error:
        print(error, file=sys.stderr)
        return 1
    distance = np.abs(late)
    print(
        f"mean absolute error {distance.mean():.1f} ms (start {distance[:, 0].mean():.1f}, end "
        f"{distance[:, 1].mean():.1f}); median {np.median(distance):.1f}, 90th percentile "
        f"{np.percentile(distance, 90):.1f}; mean start {late[:, 0].mean():+.1f}, end "
        f"{late[:, 1].mean():+.1f} [ {len(late)} words ]"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
