#!/usr/bin/env python3
"""Recordings in which every word's time is known: words of a data directory, one after another.

    local/join_words.py [--count N] [--seed N] DATA OUT

DATA has wav.scp, text, utt2spk and the ctm of find_times.py. Each recording holds 4 to 8 words of
one speaker, cut where their energy begins and ends, with 30 to 400 ms between. OUT gets wav.scp,
text (words between blanks) and ctm.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile

from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.ctm import read_ctm
from paraformer.data.corpus.datadir import write_data_dir
from paraformer.data.corpus.tables import read_table, write_text
from paraformer.errors import ParaformerError

RATE = 16000
WORDS, GAP = (4, 8), (0.03, 0.4)  # in a recording; seconds between
MARGIN = 0.02  # seconds kept around a word, faded
NOISE = 1e-4  # of the gaps


def cut(wave: np.ndarray, start: float, end: float) -> np.ndarray:
    """The word with its margins."""
    size = round(MARGIN * RATE)
    padded = np.pad(wave, size)
    piece = padded[round(start * RATE) : round(end * RATE) + 2 * size].copy()
    ramp = np.linspace(0, 1, size)
    piece[:size] *= ramp
    piece[-size:] *= ramp[::-1]
    return piece


def join(pieces: list[np.ndarray], random: np.random.Generator) -> tuple[np.ndarray, list[float]]:
    """One recording, and the second at which each piece begins."""
    parts, starts, length = [], [], 0
    for piece in [*pieces, np.zeros(0)]:
        gap = random.normal(0, NOISE, round(random.uniform(*GAP) * RATE))
        starts.append((length + len(gap)) / RATE)
        parts += [gap, piece]
        length += len(gap) + len(piece)
    return np.concatenate(parts).astype(np.float32), starts[:-1]


def main() -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    try:
        times, texts = read_ctm(args.data / "ctm"), read_table(args.data / "text")
        waves, speakers = read_table(args.data / "wav.scp"), read_table(args.data / "utt2spk")
        keys = sorted(key for key, rows in times.items() if len(rows) == 1 and key in texts)
        by_speaker: dict[str, list[str]] = {}
        for key in keys:
            by_speaker.setdefault(speakers[key], []).append(key)
        (args.out / "audio").mkdir(parents=True, exist_ok=True)
        scp, text, ctm = {}, {}, []
        for number in range(args.count):
            members = by_speaker[str(random.choice(sorted(by_speaker)))]
            size = min(int(random.integers(WORDS[0], WORDS[1] + 1)), len(members))
            chosen = [members[i] for i in random.choice(len(members), size, replace=False)]
            spans = [times[key][0][:2] for key in chosen]
            pieces = [
                cut(read_audio(waves[key]).numpy(), *span)
                for key, span in zip(chosen, spans, strict=True)
            ]
            wave, starts = join(pieces, random)
            name = f"{args.data.name}-{number:03d}"
            path = args.out / "audio" / f"{name}.flac"
            soundfile.write(path, wave, RATE)
            scp[name], text[name] = str(path), " ".join(texts[key] for key in chosen)
            for key, start, (begin, end) in zip(chosen, starts, spans, strict=True):
                ctm.append(f"{name} 1 {start + MARGIN:.4f} {end - begin:.4f} {texts[key]}\n")
        write_data_dir(args.out, {"wav.scp": scp, "text": text})
        write_text(args.out / "ctm", "".join(ctm))
    except (ParaformerError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
