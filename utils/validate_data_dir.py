#!/usr/bin/env python3
"""Check a data directory: print each fault with file, line and remedy; exit code 1 if any.

wav.scp or feats.scp is needed, and text; say otherwise with the options. A table that is there is
checked even where it is not needed.
"""

from __future__ import annotations

import argparse
from collections import Counter

from door import enter, say

from paraformer.data.corpus.datadir import DataDir

SHOWN = 10


def main() -> int:
    """Print the faults to stdout, the counts to stderr."""
    flag = argparse.BooleanOptionalAction
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wav", action=flag, help="wav.scp is (not) needed")
    parser.add_argument("--feats", action=flag, help="feats.scp is (not) needed")
    parser.add_argument("--text", action=flag, default=True, help="text is (not) needed")
    parser.add_argument(
        "--files", action=flag, default=True, help="look whether the audio is there"
    )
    parser.add_argument("--sort", action=flag, default=True, help="the ids must be sorted")
    parser.add_argument("--empty-text", action=flag, default=False, help="allow empty transcripts")
    parser.add_argument("--all", action="store_true", help=f"show more than {SHOWN} of each kind")
    parser.add_argument("data_dir")
    args = parser.parse_args()
    data = DataDir(args.data_dir)
    faults = data.validate(
        wav=args.wav,
        feats=args.feats,
        text=args.text,
        files=args.files,
        order=args.sort,
        empty_text=args.empty_text,
    )
    counts: Counter[str] = Counter()
    for fault in faults:
        counts[fault.reason] += 1
        if args.all or counts[fault.reason] <= SHOWN:
            print(fault)
    for reason, count in counts.most_common():
        say(f"{count} x {reason}{' (--all shows them)' if count > SHOWN and not args.all else ''}")
    if not faults:
        say(f"{data.path} is valid: {len(data.utterances)} utterances")
    return 1 if faults else 0


if __name__ == "__main__":
    enter(main)
