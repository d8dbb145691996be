#!/usr/bin/env python3
"""Errors of the rule for short clips: whether 3 to 15 s are one speaker's or two's, and who is who.

    tests/bench/short_clips.py --model cam++ --data path/to/data [--clips 200] [--seed 0]

Half of the clips are one speaker's and half two's, who take turns of 1 to 4 s; all are made of the
recordings of a Kaldi data directory (wav.scp, utt2spk). Prints how many clips are told as of
another number of speakers, and the share of windows given to the wrong one where it is told.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from paraformer.data.audio.read import read_audio  # noqa: E402
from paraformer.data.corpus.tables import read_table  # noqa: E402
from paraformer.decode.clustering import Bounds, cluster  # noqa: E402
from paraformer.decode.turns import windows  # noqa: E402
from paraformer.decode.voices import Voices  # noqa: E402
from paraformer.hub.directories import find_model  # noqa: E402
from paraformer.models.release import load_speakers  # noqa: E402

RATE = 16000
LENGTHS, TURNS = (3.0, 15.0), (1.0, 4.0)  # seconds
Embed = Callable[[Sequence[Tensor]], np.ndarray]  # windows (N,) -> rows


def clips(data: Path, count: int, seed: int) -> Iterator[list[tuple[int, Tensor]]]:
    """Clips as turns: the number of the speaker, and samples (N,). The second of every two has two
    speakers.
    """
    sources, said = read_table(data / "wav.scp"), defaultdict(list)
    for key, speaker in sorted(read_table(data / "utt2spk").items()):
        said[speaker].append(data / sources[key])
    pick = random.Random(seed)
    for number in range(count):
        seconds = pick.uniform(*LENGTHS)
        voices = pick.sample(sorted(said), 1 + number % 2)
        found: list[tuple[int, Tensor]] = []
        left = seconds
        while left > 0.5 or len(found) < 2:
            speaker = len(found) % len(voices)
            size = round(RATE * max(0.5, min(pick.uniform(*TURNS), left)))
            wave = torch.zeros(0)
            while len(wave) < size:
                more = read_audio(str(pick.choice(said[voices[speaker]])), target_fs=RATE)
                wave = torch.cat((wave, more))
            found.append((speaker, wave[:size]))
            left -= size / RATE
        yield found


def measure(embed: Embed, data: Path, count: int = 200, seed: int = 0) -> str:
    """The line of errors."""
    wrong, shares, sizes = [0, 0], list[float](), list[int]()
    for number, turns in enumerate(clips(data, count, seed)):
        pairs = [(who, w.wave) for who, wave in turns for w in windows(0.0, wave, RATE)]
        truth = np.array([who for who, _ in pairs])
        rows = embed([wave for _, wave in pairs])
        sizes.append(len(rows))
        speakers = 1 + number % 2
        wrong[number % 2] += int(cluster(rows).max()) + 1 != speakers
        if speakers == 2:
            right = float((cluster(rows, Bounds(2)) == truth).mean())
            shares.append(1 - max(right, 1 - right))
    each = count // 2
    return (
        f"{count} clips of {min(sizes)} to {max(sizes)} windows: one speaker told as more "
        f"{wrong[0]} / {each}, two told as another number {wrong[1]} / {each}; number told: "
        f"{100 * np.mean(shares):.1f} % of windows wrong"
    )


def main() -> int:
    """Measure a released model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    voices = Voices(load_speakers(find_model(args.model)))

    def embed(waves: Sequence[Tensor]) -> np.ndarray:
        return torch.stack([row for row in voices.embed(waves) if isinstance(row, Tensor)]).numpy()

    print(measure(embed, args.data, args.clips, args.seed))
    return 0


if __name__ == "__main__":
    sys.exit(main())
