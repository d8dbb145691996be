#!/usr/bin/env python3
"""Write Kaldi data directories of AISHELL-1: train, dev and test.

    local/prepare_data.py DATA_AISHELL OUT [--limit N]

DATA_AISHELL is the unpacked archive: wav/{train,dev,test}/SPEAKER/*.wav and
transcript/aishell_transcript_v0.8.txt. The keys are the names of the files. A recording without
transcript (the archive has some), and one that is cut off or empty, is left out and counted.
"""

from __future__ import annotations

import argparse
import sys
from itertools import islice
from pathlib import Path

from paraformer.data.corpus.tables import read_table
from paraformer.data.corpus.transcripts import read_recordings, write_recordings
from paraformer.errors import DataError, ParaformerError

PARTS = ("train", "dev", "test")


def prepare(corpus: Path, out: Path, limit: int | None) -> None:
    """All three parts; no speaker may be in two of them."""
    texts = read_table(corpus / "transcript/aishell_transcript_v0.8.txt")
    owner: dict[str, str] = {}
    for part in PARTS:
        paths = sorted((corpus / "wav" / part).absolute().glob("*/*.wav"))
        kept, silent, broken = read_recordings((p.stem, p, texts.get(p.stem, "")) for p in paths)
        if not kept:
            raise DataError(
                f"{corpus / 'wav' / part}: no recordings; unpack the archive (stage -1)"
            )
        for speaker in {recording.speaker for recording in kept}:
            if owner.setdefault(speaker, part) != part:
                raise DataError(f"{speaker}: in {owner[speaker]} and in {part}; unpack again")
        count = write_recordings(out / part, islice(kept, limit))
        print(f"{part}: {count} utterances; {silent} without transcript, {broken} unreadable",
              file=sys.stderr)  # fmt: skip


def main() -> int:
    """Prepare the parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, help="first utterances of each part alone")
    args = parser.parse_args()
    prepare(args.corpus, args.out, args.limit)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ParaformerError as error:
        sys.exit(f"local/prepare_data.py: {error}")
