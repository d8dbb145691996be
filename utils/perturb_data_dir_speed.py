#!/usr/bin/env python3
"""Make text and speakers for features of several speeds: of u1, for instance, u1 and sp0.9-u1.

steps/make_fbank.sh --speeds 0.9,1.0,1.1 calls this before it makes the features.
"""

from __future__ import annotations

import argparse

from door import enter, say

from paraformer.data.corpus.datadir import DataDir


def main() -> int:
    """Write the directory, still without feats.scp."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("speeds", type=lambda text: [float(speed) for speed in text.split(",")])
    parser.add_argument("source")
    parser.add_argument("destination")
    args = parser.parse_args()
    made = DataDir(args.source).perturb_speed(args.destination, args.speeds)
    say(f"{made.path}: {len(made.utterances)} utterances")
    return 0


if __name__ == "__main__":
    enter(main)
