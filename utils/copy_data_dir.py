#!/usr/bin/env python3
"""Copy a data directory, with a prefix or suffix on the ids of utterances and speakers."""

from __future__ import annotations

import argparse

from door import enter, say, say_uncarried

from paraformer.data.corpus.datadir import DataDir


def main() -> int:
    """Copy, and say how many utterances there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--utt-prefix", "--utt-suffix", "--spk-prefix", "--spk-suffix"):
        parser.add_argument(option, default="", metavar="TEXT")
    parser.add_argument("source")
    parser.add_argument("destination")
    args = parser.parse_args()
    source = DataDir(args.source)
    copy = source.copy(
        args.destination,
        utt_prefix=args.utt_prefix,
        utt_suffix=args.utt_suffix,
        spk_prefix=args.spk_prefix,
        spk_suffix=args.spk_suffix,
    )
    say_uncarried(source.uncarried)
    say(f"{copy.path}: {len(copy.utterances)} utterances")
    return 0


if __name__ == "__main__":
    enter(main)
