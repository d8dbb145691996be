#!/usr/bin/env python3
"""Write Kaldi data directories of the mini_zh corpora: train, dev and one test set for each
question.

    local/prepare_data.py CORPORA OUT [--extra DIR] [--voices DIR] [--share 0.1] [--tiny true]

CORPORA holds the folders that the README of the recipe lists. The lists depend on the names of
the recordings alone, so they are the same on every machine: no test word, sentence or speaker
stands in a training list.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.datadir import remove_tables, write_data_dir
from paraformer.data.corpus.tables import read_table
from paraformer.errors import DataError, ParaformerError

CHINESE = re.compile(r"^[\u4e00-\u9fa5]+$")
SPEAKERS = {"test": range(1, 7), "dev": range(7, 9)}  # of DSPSpeech-20: D01..D06 and D07, D08
# Per cent of test and of dev: of words, of sentences, and of the voices that are mixed.
SHARE = {"hsk": (5.0, 1.5), "synthetic": (7.5, 2.5), "voices": (0.0, 2.5)}
TESTS = ("test_dsp", "test_hsk", "test_synthetic", "test_voices", "test_real", "test_read")


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


def table_clips(
    root: Path, prefix: str, part: Callable[[str, str, str], str], speaker: str = ""
) -> list[Clip]:
    """The Chinese sentences of a data directory, none where it is not there; `part` says by key,
    text and speaker where one goes. speaker: of all of them, else utt2spk says who speaks.
    """
    if not (root / "wav.scp").is_file():
        return []
    text = read_table(root / "text")
    speakers = {} if speaker else read_table(root / "utt2spk")
    clips = []
    for key, path in read_table(root / "wav.scp").items():
        if key in text and CHINESE.match(text[key]):
            who = speaker or f"{prefix}-{speakers[key]}"
            goes = part(key, text[key], who)
            clips.append(Clip(f"{prefix}-{key}", root / path, text[key], who, goes))
    return clips


def synthetic(corpora: Path, share: float) -> list[Clip]:
    """Sentences of one neural voice, which `local/synthesize.py` makes; of those to train with only
    `share`.
    """

    def part(key: str, text: str, _: str) -> str:
        found = part_of(text, "synthetic")
        place = int(hashlib.md5(key.encode()).hexdigest()[:8], 16) / 16**8
        return found if found != "train" or place < share else ""

    return table_clips(corpora / "synthetic", "synth", part, "synth")


def many_voices(corpora: Path) -> list[Clip]:
    """Sentences of hundreds of mixed voices; test.list is the test, a few of the others are dev."""
    root = corpora / "many_voices"
    listed = root / "test.list"
    tests = set(listed.read_text().split()) if listed.is_file() else set()

    def part(key: str, _: str, speaker: str) -> str:
        return "test_voices" if key in tests else part_of(speaker, "voices")

    return table_clips(root, "voices", part)


def aishell1(corpora: Path) -> list[Clip]:
    """Real read sentences of two speakers, of which dev_seen.list is dev."""
    root = corpora / "aishell1_sample"
    listed = root / "dev_seen.list"
    seen = set(listed.read_text().split()) if listed.is_file() else set()
    return table_clips(root, "aishell1", lambda key, *_: "dev" if key in seen else "train")


def real_sentences(corpora: Path) -> list[Clip]:
    """Real read sentences of some sixty speakers, a test."""
    return table_clips(corpora / "real_sentences", "real", lambda *_: "test_real")


def made_here(root: Path) -> list[Clip]:
    """Sentences of local/synthesize.py or local/speak_voices.py, all of them to train with."""
    several = (root / "utt2spk").is_file()
    clips = table_clips(root, "extra", lambda *_: "train", "" if several else "extra")
    if not clips:
        raise DataError(f"{root}: has no sentences; make them with local/speak_voices.py")
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


def collect_voices(root: Path) -> list[Clip]:
    """The utterances that the jobs of local/make_voices.sh have made, if there were any."""
    return [clip for part in sorted((root / "parts").glob("*")) for clip in made_here(part)]


def collect(corpora: Path, more: list[Clip], share: float) -> list[Clip]:
    """All clips; those to train with that say what a test word or sentence says are left out."""
    clips = training_clips(corpora) + read_sentences(corpora) + synthetic(corpora, share)
    clips += many_voices(corpora) + aishell1(corpora) + real_sentences(corpora)
    clips += more
    held_out = {c.text for c in clips if c.part.startswith("test") and c.part != "test_dsp"}
    return [c for c in clips if c.part and (c.part.startswith("test") or c.text not in held_out)]


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
    parser.add_argument("--extra", default="", help="folder of local/synthesize.py")
    parser.add_argument(
        "--voices", type=Path, help="folder of local/make_voices.sh, if it is there"
    )
    parser.add_argument("--share", type=float, default=1.0, help="of the one old voice, to train")
    parser.add_argument("--tiny", default="false", help="true: a few hundred utterances")
    args = parser.parse_args()
    more = made_here(Path(args.extra)) if args.extra else []
    more += collect_voices(args.voices) if args.voices else []
    clips = collect(args.corpora, more, args.share)
    write(thin(clips, 320) if args.tiny == "true" else clips, args.out)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ParaformerError as error:
        sys.exit(f"local/prepare_data.py: {error}")
