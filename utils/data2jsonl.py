#!/usr/bin/env python3
"""Make a list as FunASR trains with of a data directory (wav.scp and text; utt2dur saves time)."""

from __future__ import annotations

import argparse

from door import enter, report

from paraformer.data.inputs.jsonl import data_to_jsonl


def main() -> int:
    """Convert, and say how many utterances were taken, and why others were not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", metavar="DATA_DIR")
    parser.add_argument("destination", metavar="LIST.jsonl")
    args = parser.parse_args()
    done = data_to_jsonl(args.source, args.destination)
    return report(args.destination, done.kept, done.counts(), f"{args.destination}.dropped")


if __name__ == "__main__":
    enter(main)
