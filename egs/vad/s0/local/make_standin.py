#!/usr/bin/env python3
"""Speech-like sounds by code, as a folder of corpora: for a machine that has none.

    local/make_standin.py [--number N] OUT

Writes OUT/synthetic and OUT/speechocean762/{train,test}: words of voiced syllables (a buzz through
three moving resonances) and hissed ones, in a quiet room. A detector trained on them shows that the
recipe works; it knows no real voice.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile

from paraformer.data.corpus.tables import write_table

RATE = 16000
ROOM_DB = -75.0
FOLDERS = {"synthetic": 0, "speechocean762/train": 12, "speechocean762/test": 4}  # speakers


def resonate(wave: np.ndarray, hertz: float, width: float) -> np.ndarray:
    """One formant: a resonance of (N,) samples, in the frequency domain."""
    size = 1 << len(wave).bit_length()
    spectrum = np.fft.rfft(wave, size)
    bins = np.fft.rfftfreq(size, 1 / RATE)
    passed = np.fft.irfft(spectrum / (1 + 1j * (bins - hertz) / width), size)
    return passed[: len(wave)]


def syllable(random: np.random.Generator, pitch: float) -> np.ndarray:
    """A hiss or nothing, then a vowel; 0.15 to 0.4 s."""
    size = int(random.uniform(0.12, 0.3) * RATE)
    tune = pitch * (1 + np.linspace(0, random.uniform(-0.25, 0.25), size))
    phase = np.cumsum(tune) / RATE
    buzz = 2 * (phase % 1.0) - 1 + 0.02 * random.standard_normal(size)
    formants = (random.uniform(300, 900), random.uniform(900, 2400), random.uniform(2500, 3400))
    vowel = sum(resonate(buzz, hertz, 60 + 0.03 * hertz) for hertz in formants)
    vowel *= np.sin(np.linspace(0, np.pi, size)) ** 0.5
    vowel /= np.abs(vowel).max()
    if random.random() < 0.5:
        return vowel
    hiss = random.standard_normal(int(random.uniform(0.05, 0.12) * RATE))
    hiss = resonate(hiss, random.uniform(3000, 6000), 700)
    hiss *= 0.3 / np.abs(hiss).max() * np.sin(np.linspace(0, np.pi, len(hiss)))
    return np.concatenate([hiss, vowel])


def utterance(random: np.random.Generator, pitch: float, room: np.ndarray) -> np.ndarray:
    """A few words with pauses before, between and behind, in a room's noise."""
    parts = [np.zeros(int(random.uniform(0.4, 0.8) * RATE))]
    for _ in range(int(random.integers(2, 7))):
        parts += [syllable(random, pitch) for _ in range(int(random.integers(1, 4)))]
        parts.append(np.zeros(int(random.uniform(0.02, 0.4) * RATE)))
    parts.append(np.zeros(int(random.uniform(0.4, 0.8) * RATE)))
    speech = 0.3 * np.concatenate(parts)
    noise = np.convolve(random.standard_normal(len(speech) + len(room) - 1), room, "valid")
    wave: np.ndarray = speech + 10 ** (ROOM_DB / 20) * noise
    return wave.astype(np.float32)


def write_folder(folder: Path, seed: int, number: int, speakers: int) -> None:
    """A data directory of so many utterances; speakers 0: each its own."""
    random = np.random.default_rng(seed)
    voices = [random.uniform(90, 280) for _ in range(speakers or number)]
    rooms = [random.standard_normal(16) / 4 for _ in voices]
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    wavs, owners = {}, {}
    for place in range(number):
        voice = place % len(voices)
        key = f"V{seed}{voice:03d}-{place:04d}"
        wave = utterance(random, voices[voice], rooms[voice])
        soundfile.write(folder / "audio" / f"{key}.wav", wave, RATE, subtype="PCM_16")
        wavs[key], owners[key] = f"audio/{key}.wav", f"V{seed}{voice:03d}"
    write_table(folder / "wav.scp", wavs)
    write_table(folder / "utt2spk", owners)


def main() -> int:
    """Write all folders."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--number", type=int, default=40, help="utterances of each folder")
    args = parser.parse_args()
    for seed, (name, speakers) in enumerate(FOLDERS.items()):
        write_folder(args.out / name, seed, args.number, speakers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
