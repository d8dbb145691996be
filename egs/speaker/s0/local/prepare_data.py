#!/usr/bin/env python3
"""Write Kaldi data directories of voices: real, many, dev, and those of the tests with trials.

    local/prepare_data.py [--fold K] [--folds N] CORPORA OUT

CORPORA holds some of the folders that the README of the recipe lists. real and many are trained
on; no speaker of dev or of a test stands in them. The speakers of DSPSpeech-20 are dealt to N
folds: those of fold K are dsp_test, all others train. A test has a list of all pairs of its clips,
`trials`, and those pairs alone whose words or genders are known and equal: `trials_same_word`,
`trials_same_gender`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from paraformer.data.corpus.datadir import write_data_dir
from paraformer.data.corpus.tables import read_table

AUDIO = (".wav", ".ogg", ".mp3", ".flac")
DEV_SHARE = 0.13  # of the speakers of speechocean762/train
FOLDERS = {"hsk": "audio-cmn/24k-abr/hsk", "seedlingo": "seedlingo/audio"}
FOLDERS |= {"pinyin_syllables": "pinyin_syllables/audio"}
MOST_CLIPS = 250  # of one voice, of which more teach nothing new


class Clip(NamedTuple):
    """A file, who speaks in it, and what is said, where that is known."""

    key: str
    speaker: str
    path: Path
    word: str = ""
    gender: str = ""


def place_of(name: str) -> int:
    """A number by a hash of the name, so that the lists are the same everywhere.

    >>> 0 <= place_of("D01") < 100
    True
    """
    return int(hashlib.sha1(name.encode()).hexdigest()[:8], 16) % 100


def read_clips(folder: Path, name: str, only: str = "") -> list[Clip]:
    """The clips of a data directory, whose speakers are `name-speaker`; of one without utt2spk all
    are one speaker's. only: a list of utterances beside the tables.
    """
    if not (folder / "wav.scp").is_file():
        return []
    table = read_table(folder / "wav.scp")
    speakers, words, genders = (_table(folder, x) for x in ("utt2spk", "text", "spk2gender"))
    keys: Iterable[str] = table
    if only and (folder / only).is_file():
        keys = (folder / only).read_text(encoding="utf8").split()
    found = []
    for key in keys:
        speaker = f"{name}-{speakers[key]}" if key in speakers else name
        told = words.get(key, ""), genders.get(speakers.get(key, ""), "")
        found.append(Clip(f"{speaker}-{key}", speaker, (folder / table[key]).absolute(), *told))
    return found


def _table(folder: Path, name: str) -> dict[str, str]:
    return read_table(folder / name) if (folder / name).is_file() else {}


def one_voice(folder: Path, name: str) -> list[Clip]:
    """Some of the files of a folder that one voice speaks in."""
    files = [path for path in folder.glob("*") if path.suffix in AUDIO]
    spoken = [path for path in files if "placeholder" not in path.name]
    order = sorted(spoken, key=lambda path: hashlib.sha1(path.stem.encode()).hexdigest())
    chosen = enumerate(order[:MOST_CLIPS])
    return [Clip(f"{name}-{number:04d}", name, path.absolute()) for number, path in chosen]


def write_clips(folder: Path, clips: list[Clip]) -> None:
    """The tables of a data directory."""
    wavs = {clip.key: str(clip.path) for clip in clips}
    write_data_dir(folder, {"wav.scp": wavs, "utt2spk": {c.key: c.speaker for c in clips}})
    speakers = len({clip.speaker for clip in clips})
    print(f"{folder.name}: {len(clips)} clips, {speakers} speakers", file=sys.stderr)


def pairs(clips: list[Clip], alike: str = "") -> Iterator[str]:
    """Each pair of clips once, as a trial; alike: pairs alone whose `word` or `gender` is equal."""
    for number, one in enumerate(clips):
        for other in clips[number + 1 :]:
            if not alike or getattr(one, alike) == getattr(other, alike) != "":
                kind = "target" if one.speaker == other.speaker else "nontarget"
                yield f"{one.key} {other.key} {kind}\n"


def write_test(folder: Path, clips: list[Clip]) -> None:
    """A data directory with its lists of trials."""
    if not clips:
        return
    write_clips(folder, clips)
    for alike in ("", "word", "gender"):
        name = f"trials_same_{alike}" if alike else "trials"
        known = not alike or all(getattr(clip, alike) for clip in clips)
        if known and any("nontarget" in line for line in pairs(clips, alike)):
            with (folder / name).open("w", encoding="utf8") as trials:
                trials.writelines(pairs(clips, alike))


def main() -> int:
    """Prepare all sets; exit 1 where no corpus is found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fold", type=int, default=0, help="of DSPSpeech-20, which is the test")
    parser.add_argument("--folds", type=int, default=3, help="splits of its speakers")
    args = parser.parse_args()
    corpora, out = args.corpora, args.out
    people = read_clips(corpora / "speechocean762/train", "ocean")
    order = sorted({clip.speaker for clip in people}, key=lambda name: (place_of(name), name))
    unseen = set(order[: max(2, round(DEV_SHARE * len(order)))])
    words = read_clips(corpora / "dspspeech20", "dsp")
    tested = set(sorted({clip.speaker for clip in words})[args.fold :: args.folds])
    real = [clip for clip in people if clip.speaker not in unseen]
    real += [clip for clip in words if clip.speaker not in tested]
    real += read_clips(corpora / "aishell1_sample", "aishell", "train.list")
    for name, place in FOLDERS.items():
        real += one_voice(corpora / place, name)
    many = read_clips(corpora / "many_voices", "many", "train.list")
    if not real or not people:
        print(f"{corpora}: speechocean762 is not here; see the README", file=sys.stderr)
        return 1
    write_clips(out / "real", real)
    if many:
        write_clips(out / "many", many)
    write_clips(out / "dev", [clip for clip in people if clip.speaker in unseen])
    write_test(out / "ocean_test", read_clips(corpora / "speechocean762/test", "ocean"))
    write_test(out / "dsp_test", [clip for clip in words if clip.speaker in tested])
    return 0


if __name__ == "__main__":
    sys.exit(main())
