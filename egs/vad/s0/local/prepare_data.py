#!/usr/bin/env python3
"""Write Kaldi data directories for a VAD: train, dev, test_clean, test_noisy; whole recordings too.

    local/prepare_data.py [--extra FOLDER] [--hours H] [--nj N] [--tiny] CORPORA OUT

CORPORA holds some of the folders that the README of the recipe lists. Each directory has wav.scp
and `segments`, which says where somebody speaks. test_meeting and test_real are whole recordings;
those of test_real have no labels.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from labels import RATE, Spans, join
from mix import Clip, Recipe, collect_pauses, load_clip, mix
from sources import Clips, find_clips

from paraformer.data.corpus.datadir import remove_tables, write_data_dir

SETS = {  # part whose clips are mixed, hours, how
    "train": ("train", 10.0, Recipe()),
    "dev": ("dev", 0.25, Recipe()),
    "test_clean": ("test", 0.3, Recipe(clean=True)),
    "test_noisy": ("test", 0.3, Recipe(snr=(5.0, 30.0))),
}
# How often a corpus is drawn from; sentences are worth more than words.
SHARES = {"synthetic": 4, "extra": 3, "speechocean762": 6, "hsk": 1.5, "dspspeech20": 1}
OTHER_SHARE = 0.7
ROOMS = ("speechocean762", "dspspeech20")
ROOM_CLIPS = 150
REAL = ("../audio/vad_example.wav", "../audio/long.wav", "../audio/mid.wav")
MEETING = "diarization/EN2002a_30s"
MOST_TRIES = 200


def drawer(random: np.random.Generator, clips: dict[str, list[Path]]) -> Callable[[], Clip]:
    """Clips at random, those that cannot be labelled passed over."""
    names = sorted(clips)
    shares = np.array([SHARES.get(name, OTHER_SHARE) for name in names], dtype=float)

    def draw() -> Clip:
        for _ in range(MOST_TRIES):
            paths = clips[names[int(random.choice(len(names), p=shares / shares.sum()))]]
            clip = load_clip(paths[int(random.integers(len(paths)))])
            if clip is not None:
                return clip
        sys.exit(f"{MOST_TRIES} clips in a row are too noisy for labels by energy; give others")

    return draw


class Maker:
    """Makes the recordings of one set, each by its number alone; can be sent to processes."""

    def __init__(self, folder: Path, recipe: Recipe, clips: dict[str, list[Path]]) -> None:
        self.part, self.recipe, self.clips = folder.name, recipe, clips
        self.seed = zlib.crc32(self.part.encode())
        self.audio = folder.absolute() / "audio"
        noisy = [path for name in ROOMS for path in clips.get(name, [])]
        order = np.random.default_rng(self.seed).permutation(len(noisy))
        self.rooms = collect_pauses([noisy[i] for i in order[:ROOM_CLIPS]])

    def make(self, number: int) -> tuple[str, int, Spans]:
        """Id, samples and spans of a recording that is then on disk."""
        random = np.random.default_rng((self.seed, number))
        wave, spans = mix(random, drawer(random, self.clips), self.rooms, self.recipe)
        key = f"{self.part}-{number:05d}"
        soundfile.write(self.audio / f"{key}.wav", wave, RATE, subtype="PCM_16")
        return key, len(wave), spans


def write_set(maker: Maker, folder: Path, hours: float, nj: int) -> None:
    """Recordings of so many hours, and their tables."""
    maker.audio.mkdir(parents=True, exist_ok=True)
    numbers = range(max(2, round(hours * 3600 / np.mean(maker.recipe.seconds))))
    if nj > 1:
        with multiprocessing.get_context("fork").Pool(nj) as pool:
            made = pool.map(maker.make, numbers, chunksize=1)
    else:
        made = [maker.make(number) for number in numbers]
    wavs = {key: str(maker.audio / f"{key}.wav") for key, _, _ in made}
    lines: dict[str, str] = {}
    for key, _, spans in made:
        lines |= segments(key, spans)
    write_data_dir(folder, {"wav.scp": wavs, "segments": lines})
    print(
        f"{maker.part}: {len(made)} recordings, {sum(n for _, n, _ in made) / RATE / 60:.1f} "
        f"minutes, {len(lines)} spans of speech, noise of {len(maker.rooms)} rooms",
        file=sys.stderr,
    )


def segments(key: str, spans: Spans) -> dict[str, str]:
    """Lines of a Kaldi `segments`."""
    times = [(begin / RATE, end / RATE) for begin, end in spans]
    return {
        f"{key}-{round(a * 100):07d}-{round(b * 100):07d}": f"{key} {a:.3f} {b:.3f}"
        for a, b in times
    }


def write_real(corpora: Path, out: Path) -> None:
    """Whole recordings: test_meeting with labels by people, test_real with none."""
    found = [(corpora / name).resolve() for name in REAL]
    table = {path.stem: str(path) for path in found if path.is_file()}
    for name in ("test_real", "test_meeting"):
        remove_tables(out / name)  # of an earlier run
    if table:
        write_data_dir(out / "test_real", {"wav.scp": table})
    audio, rttm = (corpora / f"{MEETING}.{end}" for end in ("wav", "rttm"))
    if audio.is_file() and rttm.is_file():
        rows = [line.split() for line in rttm.read_text(encoding="utf8").splitlines()]
        times = [(float(row[3]), float(row[4])) for row in rows if row and row[0] == "SPEAKER"]
        spans = [(round(begin * RATE), round((begin + size) * RATE)) for begin, size in times]
        spoken = segments(audio.stem, join(spans, 0))
        tables = {"wav.scp": {audio.stem: str(audio.resolve())}, "segments": spoken}
        write_data_dir(out / "test_meeting", tables)


def main() -> int:
    """Prepare all sets; exit 1 where no corpus is found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("corpora", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--extra", type=Path, help="a data directory with more clips to train on")
    parser.add_argument("--hours", type=float, help="of training recordings")
    parser.add_argument("--tiny", action="store_true", help="a few minutes of each set")
    parser.add_argument("--nj", type=int, default=1, help="processes")
    parser.add_argument("--only", choices=SETS, help="this set alone")
    args = parser.parse_args()
    clips: Clips = find_clips(args.corpora, args.extra)
    if not all(clips.values()):
        print(f"{args.corpora}: none of the corpora is here; see the README", file=sys.stderr)
        return 1
    for name, (part, hours, recipe) in SETS.items():
        if name == "train" and args.hours:
            hours = args.hours
        hours = min(hours, 0.1 if name == "train" else 0.03) if args.tiny else hours
        if args.only in (None, name):
            folder = args.out / name
            write_set(Maker(folder, recipe, clips[part]), folder, hours, args.nj)
    if args.only is None:
        write_real(args.corpora, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
