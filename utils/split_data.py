#!/usr/bin/env python3
"""Split a data directory into DATA_DIR/splitN/1 … N, the utterances of a speaker in one part.

With --per-utt into DATA_DIR/splitNutt/1 … N by utterance. The parts are of about equal length.
"""

from __future__ import annotations

import argparse

from door import enter, say, say_uncarried

from paraformer.data.corpus.datadir import DataDir


def main() -> int:
    """Split, and say how many utterances each part has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-utt", action="store_true", help="split by utterance")
    parser.add_argument("data_dir")
    parser.add_argument("parts", type=int)
    args = parser.parse_args()
    source = DataDir(args.data_dir)
    parts = source.split(args.parts, "utterance" if args.per_utt else "speaker")
    sizes = [len(part.utterances) for part in parts]
    say_uncarried(source.uncarried)
    say(f"{parts[0].path.parent}: {len(parts)} parts of {min(sizes)} to {max(sizes)} utterances")
    return 0


if __name__ == "__main__":
    enter(main)
