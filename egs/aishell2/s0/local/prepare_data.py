#!/usr/bin/env python3
"""Write Kaldi data directories of AISHELL-2: train, dev and test_{ios,android,mic}.

    local/prepare_data.py TRAIN EVAL OUT

TRAIN (iOS/data of the corpus) holds wav.scp and trans.txt, whose paths are relative to it, and
EVAL such folders {iOS,Android,Mic}/{dev,test}. dev is that of iOS, as the training recordings
are; those of other channels become dev_android and dev_mic.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from paraformer.data.corpus.datadir import remove_tables
from paraformer.data.corpus.tables import read_table
from paraformer.data.corpus.transcripts import read_recordings, write_recordings
from paraformer.errors import DataError, ParaformerError


def prepare(source: Path, out: Path) -> None:
    """One folder."""
    texts, places = read_table(source / "trans.txt"), read_table(source / "wav.scp")
    kept, silent, broken = read_recordings(
        (key, source.absolute() / place, texts.get(key, "")) for key, place in places.items()
    )
    if not kept:
        raise DataError(f"{source}: no recording with a transcript; is the copy complete?")
    count = write_recordings(out, kept)
    print(f"{out.name}: {count} utterances; {silent} without transcript, {broken} unreadable",
          file=sys.stderr)  # fmt: skip


def main() -> int:
    """Prepare train, and what there is to evaluate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("eval", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    prepare(args.train, args.out / "train")
    for channel in ("iOS", "Android", "Mic"):
        for part in ("dev", "test"):
            name = "dev" if (part, channel) == ("dev", "iOS") else f"{part}_{channel.lower()}"
            if name == "dev" or (args.eval / channel / part).is_dir():
                prepare(args.eval / channel / part, args.out / name)
            else:
                remove_tables(args.out / name)  # of an earlier run
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ParaformerError as error:
        sys.exit(f"local/prepare_data.py: {error}")
