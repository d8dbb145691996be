#!/usr/bin/env python3
"""The clip beside fsmn-vad-mini: two of the project's own demo sentences with a pause between them.

local/make_example.py DEMO_1.wav DEMO_2.wav OUT.wav
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import soundfile
from labels import RATE

from paraformer.data.audio.read import read_audio

SILENCE = (0.8, 1.4, 1.0)  # seconds before, between and behind
NOISE = 3e-4


def main() -> int:
    """Write the clip."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", type=Path, nargs=2)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    gaps = [np.zeros(int(seconds * RATE), np.float32) for seconds in SILENCE]
    first, second = (read_audio(path, target_fs=RATE).numpy() for path in args.clips)
    wave = np.concatenate([gaps[0], first, gaps[1], second, gaps[2]])
    wave = wave + NOISE * np.random.default_rng(0).standard_normal(len(wave))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(args.out, wave.clip(-1, 1 - 2**-15), RATE, subtype="PCM_16")
    return 0


if __name__ == "__main__":
    sys.exit(main())
