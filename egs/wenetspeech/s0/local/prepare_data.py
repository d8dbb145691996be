#!/usr/bin/env python3
"""Write Kaldi data directories of WenetSpeech: train, dev, test_net and test_meeting.

    local/prepare_data.py [--subset l|m|s|w] CORPUS OUT

CORPUS holds WenetSpeech.json and audio/. The list is read one recording at a time and the tables
are written as it goes, so that 14 million segments need no memory; `sort` puts them in order.
A recording without file is left out and counted. Its id stands for the speaker, who is not known.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from paraformer.data.corpus.datadir import remove_tables
from paraformer.data.corpus.transcripts import clean_transcript
from paraformer.errors import DataError, ParaformerError

TABLES = ("wav.scp", "segments", "text", "utt2spk", "utt2dur")
TESTS = {"DEV": "dev", "TEST_NET": "test_net", "TEST_MEETING": "test_meeting"}
BLOCK = 1 << 20  # characters read at a time


def read_audios(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of the list `audios` of a JSON file that may be larger than memory."""
    decoder = json.JSONDecoder()
    with open(path, encoding="utf8") as file:
        held = file.read(BLOCK)
        start = held.find("[", held.find('"audios"'))
        if '"audios"' not in held or start < 0:
            raise DataError(f"{path}: no list 'audios' at its beginning; is it WenetSpeech.json?")
        place = start + 1
        while True:
            while place < len(held) and held[place] in " \t\r\n,":
                place += 1
            if held[place : place + 1] == "]":
                return
            try:
                audio, place = decoder.raw_decode(held, place)
            except json.JSONDecodeError as error:
                more = file.read(BLOCK)
                if not more:
                    raise DataError(f"{path}: is cut off or not JSON ({error})") from error
                held, place = held[place:] + more, 0
                continue
            yield audio


def write_audio(audio: dict[str, Any], wav: Path, wanted: dict[str, dict[str, TextIO]]) -> Counter:
    """Append the segments of a recording to the tables of each part; how many went where."""
    aid, counts = audio["aid"], Counter[str]()
    for segment in audio["segments"]:
        text = clean_transcript(segment["text"])
        begin, end = float(segment["begin_time"]), float(segment["end_time"])
        for subset in segment["subsets"]:
            tables = wanted.get(subset)
            if tables is None or not text or end <= begin:
                continue
            sid = segment["sid"]
            if not counts[subset]:
                tables["wav.scp"].write(f"{aid} {wav}\n")
            tables["segments"].write(f"{sid} {aid} {begin:.3f} {end:.3f}\n")
            tables["text"].write(f"{sid} {text}\n")
            tables["utt2spk"].write(f"{sid} {aid}\n")
            tables["utt2dur"].write(f"{sid} {end - begin:.3f}\n")
            counts[subset] += 1
    return counts


def prepare(corpus: Path, out: Path, parts: dict[str, str]) -> None:
    """The parts: the name of a subset -> that of its data directory."""
    listing = corpus / "WenetSpeech.json"
    if not listing.is_file():
        raise DataError(f"{listing}: no such file; give the folder of the corpus")
    counts, missing = Counter[str](), 0
    with ExitStack() as stack:
        wanted: dict[str, dict[str, TextIO]] = {}
        for subset, name in parts.items():
            folder = out / name
            folder.mkdir(parents=True, exist_ok=True)
            remove_tables(folder)  # of an earlier run
            files = {t: open(folder / t, "w", encoding="utf8") for t in TABLES}  # noqa: SIM115
            wanted[subset] = {t: stack.enter_context(file) for t, file in files.items()}
        for audio in read_audios(listing):
            wav = (corpus / audio["path"]).absolute()
            if wav.is_file():
                counts += write_audio(audio, wav, wanted)
            else:
                missing += 1
    for subset, name in parts.items():
        for table in TABLES:
            path = str(out / name / table)
            order = {**os.environ, "LC_ALL": "C"}
            subprocess.run(["sort", "-k1,1", "-o", path, path], check=True, env=order)
        print(f"{name}: {counts[subset]} utterances", file=sys.stderr)
    print(f"{missing} recordings of the list have no file", file=sys.stderr)
    empty = [name for subset, name in parts.items() if not counts[subset]]
    if empty:
        raise DataError(f"{corpus}: nothing for {' '.join(empty)}; is the copy complete?")


def main() -> int:
    """Prepare the training subset and the test sets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--subset", choices=["l", "m", "s", "w"], default="l")
    args = parser.parse_args()
    prepare(args.corpus, args.out, {args.subset.upper(): "train", **TESTS})
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ParaformerError as error:
        sys.exit(f"local/prepare_data.py: {error}")
