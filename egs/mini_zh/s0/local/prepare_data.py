#!/usr/bin/env python3
"""Write Kaldi data directories of the mini_zh corpora: train, dev and one test set for each
question.

    local/prepare_data.py CORPORA OUT [--tiny]

CORPORA holds the folders that the README of the recipe lists. The lists depend on the names of
the recordings alone, so they are the same on every machine: no test word, sentence or speaker
stands in a training list.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.datadir import remove_tables, write_data_dir
from paraformer.data.corpus.tables import read_table
from paraformer.errors import DataError, ParaformerError

CHINESE = re.compile(r"^[\u4e00-\u9fa5]+$")
SPEAKERS = {"test": range(1, 7), "dev": range(7, 9)}  # of DSPSpeech-20: D01..D06 and D07, D08
SHARE = {"hsk": (5.0, 1.5), "synthetic": (7.5, 2.5)}  # per cent of test and of dev
TESTS = ("test_dsp", "test_hsk", "test_synthetic", "test_read")


class Clip(NamedTuple):
    """One recording and where it goes."""

    key: str
    path: Path
    text: str
    speaker: str
    part: str


def part_of(name: str, corpus: str) -> str:
    """test, dev or train by a hash of the name, in the shares of the corpus."""
    place = int(hashlib.md5(name.encode()).hexdigest()[:8], 16) / 16**8 * 100
    test, dev = SHARE[corpus]
    return f"test_{corpus}" if place < test else "dev" if place < test + dev else "train"


def hsk(corpora: Path) -> list[Clip]:
    """Single words of one speaker; the file name is the word, `_` in it a pause."""
    clips = []
    for path in sorted((corpora / "audio-cmn/24k-abr/hsk").glob("cmn-*.mp3")):
        word = path.stem.removeprefix("cmn-").replace("_", "")
        if CHINESE.match(word):
            digest = hashlib.sha1(path.stem.encode()).hexdigest()[:8]
            clips.append(Clip(f"hsk-{digest}", path, word, "hsk", part_of(word, "hsk")))
    return clips


def dspspeech(corpora: Path) -> list[Clip]:
    """Twenty words of 28 speakers; whole speakers are held out."""
    root = corpora / "dspspeech20"
    if not (root / "wav.scp").is_file():
        return []
    text, speakers = read_table(root / "text"), read_table(root / "utt2spk")
    held_out = {f"D{n:02d}": part for part, numbers in SPEAKERS.items() for n in numbers}
    parts = {"test": "test_dsp", "dev": "dev"}
    return [
        Clip(f"dsp-{key}", root / path, text[key].lower(), f"dsp-{speakers[key]}",
             parts.get(held_out.get(speakers[key], ""), "train"))
        for key, path in read_table(root / "wav.scp").items()
    ]  # fmt: skip


def seedlingo(corpora: Path) -> list[Clip]:
    """Words, questions and short sentences; all of it is training material."""
    clips = []
    for path in sorted((corpora / "seedlingo/audio").glob("*.mp3")):
        text = re.sub(r"[^\u4e00-\u9fa5]", "", path.stem)
        if text:
            digest = hashlib.sha1(path.stem.encode()).hexdigest()[:8]
            clips.append(Clip(f"seed-{digest}", path, text, "seed", "train"))
    return clips


def synthetic(root: Path, speaker: str, always_train: bool = False) -> list[Clip]:
    """Sentences of a neural voice, which `local/synthesize.py` makes."""
    if not (root / "wav.scp").is_file():
        return []
    text = read_table(root / "text")
    clips = []
    for key, path in read_table(root / "wav.scp").items():
        if key in text and CHINESE.match(text[key]):
            part = "train" if always_train else part_of(text[key], "synthetic")
            clips.append(Clip(f"{speaker}-{key}", root / path, text[key], speaker, part))
    return clips


def read_sentences(corpora: Path) -> list[Clip]:
    """Three real read sentences of three speakers, a test of what the recipe cannot do yet."""
    root = corpora / "aishell3_samples"
    if not (root / "text").is_file():
        return []
    return [
        Clip(f"read-{key}", root / f"{key}.wav", text, f"read-{key[:7]}", "test_read")
        for key, text in read_table(root / "text").items()
    ]


def training_clips(corpora: Path) -> list[Clip]:
    """Those of the corpora that stage -1 fetches, all of which have to be there."""
    readers = {
        "audio-cmn/24k-abr/hsk": hsk,
        "dspspeech20": dspspeech,
        "seedlingo": seedlingo,
    }
    found = {name: read(corpora) for name, read in readers.items()}
    missing = [name for name, clips in found.items() if not clips]
    if missing:
        raise DataError(
            f"{corpora}: has no recordings in {', '.join(missing)}; fetch them with --stage -1, or "
            "give the folder that has them as --corpora"
        )
    return [clip for clips in found.values() for clip in clips]


def collect(corpora: Path, extra: Path | None) -> list[Clip]:
    """All clips; training clips that say what a test word or sentence says are left out."""
    clips = training_clips(corpora) + read_sentences(corpora)
    clips += synthetic(corpora / "synthetic", "synth")
    if extra is not None:
        more = synthetic(extra, "extra", always_train=True)
        if not more:
            raise DataError(f"{extra}: has no sentences; make them with local/synthesize.py")
        clips += more
    held_out = {c.text for c in clips if c.part in ("test_hsk", "test_synthetic", "test_read")}
    return [c for c in clips if c.part.startswith("test") or c.text not in held_out]


def thin(clips: list[Clip], count: int) -> list[Clip]:
    """The first `count` clips of each part by a hash of their keys."""
    ordered = sorted(clips, key=lambda c: hashlib.sha1(c.key.encode()).hexdigest())
    seen: dict[str, int] = {}
    kept = []
    for clip in ordered:
        seen[clip.part] = seen.get(clip.part, 0) + 1
        if seen[clip.part] <= (count if clip.part == "train" else count // 8):
            kept.append(clip)
    return kept


def write(clips: list[Clip], out: Path) -> None:
    """One data directory for each part that has clips."""
    for part in ("train", "dev", *TESTS):
        members = [c for c in clips if c.part == part]
        if not members:
            remove_tables(out / part)  # of an earlier run
            print(f"{part}: its corpus is not here, it will not be scored", file=sys.stderr)
            continue
        tables = {
            "wav.scp": {c.key: str(c.path) for c in members},
            "text": {c.key: c.text for c in members},
            "utt2spk": {c.key: c.speaker for c in members},
        }
        write_data_dir(out / part, tables)
        print(f"{part}: {len(members)} utterances", file=sys.stderr)


def main() -> int:
    """Prepare all sets; exit 1 where a corpus to train with is not found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--extra", type=Path, help="folder of local/synthesize.py")
    parser.add_argument("--tiny", action="store_true", help="a few hundred utterances")
    args = parser.parse_args()
    clips = collect(args.corpora, args.extra)
    write(thin(clips, 320) if args.tiny else clips, args.out)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ParaformerError as error:
        sys.exit(f"local/prepare_data.py: {error}")
