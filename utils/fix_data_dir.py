#!/usr/bin/env python3
"""Keep the utterances of a data directory that are sound in all its tables; sort, mend spk2utt.

The old tables are kept in DATA_DIR/.backup, the dropped ids and why in DATA_DIR/dropped.txt.
"""

from __future__ import annotations

import argparse

from door import enter, say

from paraformer.data.corpus.datadir import DataDir


def main() -> int:
    """Report what was dropped, by reason."""
    flag = argparse.BooleanOptionalAction
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", action=flag, default=True, help="drop what has no audio file")
    parser.add_argument("--empty-text", action=flag, default=False, help="keep empty transcripts")
    parser.add_argument("data_dir")
    args = parser.parse_args()
    repair = DataDir(args.data_dir).fix(files=args.files, empty_text=args.empty_text)
    say(f"kept {repair.kept} of {repair.kept + len(repair.dropped)} utterances")
    for reason, count in repair.counts().items():
        say(f"dropped {count} x {reason}")
    if repair.dropped:
        say(f"the dropped ids are listed in {args.data_dir}/dropped.txt")
    if repair.removed:
        say(f"removed, since stale: {' '.join(repair.removed)}")
    say(f"old files are kept in {repair.backup}" if repair.backup else "nothing to change")
    return 0


if __name__ == "__main__":
    enter(main)
