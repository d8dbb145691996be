#!/usr/bin/env python3
"""Make a data directory of lists as FunASR trains with, {"key", "source", "target"} a line."""

from __future__ import annotations

import argparse

from door import enter, report

from paraformer.data.inputs.jsonl import jsonl_to_data


def main() -> int:
    """Convert, and say how many lines were taken, and why others were not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lists", nargs="+", metavar="LIST.jsonl")
    parser.add_argument("destination", metavar="DESTINATION")
    args = parser.parse_args()
    done = jsonl_to_data(args.lists, args.destination)
    return report(args.destination, done.kept, done.counts(), f"{args.destination}/dropped.txt")


if __name__ == "__main__":
    enter(main)
