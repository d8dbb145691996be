#!/usr/bin/env python3
"""Make a data directory of lists as FunASR trains with, {"key", "source", "target"} a line."""

from __future__ import annotations

import argparse

from door import enter, say

from paraformer.data.jsonl import jsonl_to_data


def main() -> int:
    """Convert, and say how many lines were taken, and why others were not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lists", nargs="+", metavar="LIST.jsonl")
    parser.add_argument("destination", metavar="DESTINATION")
    args = parser.parse_args()
    done = jsonl_to_data(args.lists, args.destination)
    say(f"{args.destination}: {done.kept} utterances, {len(done.dropped)} dropped")
    for reason, count in done.counts().items():
        say(f"{count} dropped: {reason}; see {args.destination}/dropped.txt")
    return 0


if __name__ == "__main__":
    enter(main)
