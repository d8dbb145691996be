#!/usr/bin/env python3
"""Combine data directories into one; tables that not all of them have are left out.

An id that stands in two of them must have the same entry in both.
"""

from __future__ import annotations

import argparse

from door import enter, say, say_uncarried

from paraformer.data.corpus.combination import combine
from paraformer.data.corpus.datadir import DataDir


def main() -> int:
    """Combine, and name the tables that were left out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("destination")
    parser.add_argument("sources", nargs="+")
    args = parser.parse_args()
    sources = [DataDir(source) for source in args.sources]
    left_out = combine(args.destination, sources)
    say_uncarried(sorted({name for source in sources for name in source.uncarried}))
    if left_out:
        say(f"left out, since the sources do not share it: {' '.join(left_out)}")
    say(f"{args.destination}: {len(DataDir(args.destination).utterances)} utterances")
    return 0


if __name__ == "__main__":
    enter(main)
