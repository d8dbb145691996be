#!/usr/bin/env python3
"""Make a data directory of some utterances of another.

    subset_data_dir.py [--first | --shortest | --seed S] SOURCE NUMBER DESTINATION
    subset_data_dir.py --utt-list FILE SOURCE DESTINATION
    subset_data_dir.py --spk-list FILE SOURCE DESTINATION

A list has an id at the start of each line. Without an option, NUMBER random utterances are
taken, for a seed the same on every machine.
"""

from __future__ import annotations

import argparse

from door import enter, say, say_uncarried

from paraformer.data.corpus.datadir import DataDir
from paraformer.data.corpus.tables import read_rows


def main() -> int:
    """Write the subset; ids of a list that the source lacks are counted."""
    args = parse()
    source = DataDir(args.directories[0])
    if args.list is None:
        by = "first" if args.first else "shortest" if args.shortest else "random"
        chosen = source.choose(int(args.directories[1]), by, args.seed)
    else:
        speakers = source.table("utt2spk") if args.spk_list else {}
        known = set(speakers.values()) if args.spk_list else set(source.utterances)
        wanted = {row.key for row in read_rows(args.list)}
        missing = sorted(wanted - known)
        if missing:
            few = " ".join(missing[:5])
            say(f"{source.path} lacks {len(missing)} ids of {args.list}, first: {few}")
        chosen = [key for key in source.utterances if speakers.get(key, key) in wanted]
    subset = source.subset(chosen, args.directories[-1])
    say_uncarried(source.uncarried)
    say(f"{subset.path}: {len(subset.utterances)} of {len(source.utterances)} utterances")
    return 0


def parse() -> argparse.Namespace:
    """The arguments, of which `list` is the file of either list option."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--first", action="store_true", help="the first by id")
    kind.add_argument("--shortest", action="store_true", help="by utt2num_frames or utt2dur")
    kind.add_argument("--utt-list", metavar="FILE", help="these utterances")
    kind.add_argument("--spk-list", metavar="FILE", help="all utterances of these speakers")
    kind.add_argument("--seed", type=int, default=0, help="of the random choice (default 0)")
    parser.add_argument("directories", nargs="+", metavar="SOURCE [NUMBER] DESTINATION")
    args = parser.parse_args()
    args.list = args.utt_list or args.spk_list
    if len(args.directories) != (3 if args.list is None else 2):
        parser.error("give SOURCE NUMBER DESTINATION, or a list and SOURCE DESTINATION")
    if args.list is None and not args.directories[1].isdecimal():
        parser.error(f"'{args.directories[1]}' is not a number of utterances")
    return args


if __name__ == "__main__":
    enter(main)
