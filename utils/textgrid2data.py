#!/usr/bin/env python3
"""Make a data directory of recordings with TextGrid files, a tier for each speaker.

    utils/textgrid2data.py --drop-tags '<>[]' AISHELL-4/train_L data/aishell4
    utils/textgrid2data.py AliMeeting/Train_Ali_far data/alimeeting

Sources are TextGrid files or folders with them; a recording has the name of its TextGrid, in the
same folder or anywhere in the sources.
"""

from __future__ import annotations

import argparse

from door import enter, report

from paraformer.data.inputs.textgrid import Rules, textgrids_to_data


def main() -> int:
    """Convert, and say how many utterances were taken, and what was not."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("destination", metavar="DESTINATION")
    parser.add_argument(
        "--drop-tags",
        default="",
        metavar="PAIRS",
        help="brackets of what is no speech, such as '<>[]' for <sil>, <%%> and [UNK]; an interval "
        "with nothing else is left out",
    )
    parser.add_argument("--tiers", default="*", help="pattern of the tiers to take, such as 'N_*'")
    parser.add_argument(
        "--same-speakers",
        action="store_true",
        help="a tier's name is the same person in all recordings; else a speaker is that of one",
    )
    args = parser.parse_args()
    rules = Rules(args.drop_tags, args.tiers, args.same_speakers)
    done = textgrids_to_data(args.sources, args.destination, rules)
    return report(args.destination, done.kept, done.counts(), f"{args.destination}/dropped.txt")


if __name__ == "__main__":
    enter(main)
