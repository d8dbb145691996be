#!/usr/bin/env python3
"""Embeddings of the windows of a long recording by a CAM++ and one engine; the only task is `all`.

    tests/bench/speakers.py --engine ours --model path/to/cam++ --seconds 600
    PEER/bin/python tests/bench/speakers.py --engine funasr --model path/to/cam++ --seconds 600

Windows are those of diarisation, 1.5 s every 0.75 s. One line of JSON: `rtf` (seconds for a second
of audio), the load, peak memory, the sum of each embedding.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from tests.bench.measure import RATE, Answer, Meter, Run, auto_model, drive, speech  # noqa: E402

WINDOW, STEP = 3 * RATE // 2, 3 * RATE // 4  # samples


def load(args: argparse.Namespace) -> Run:
    """The engine, after twenty windows that do not count: the same call for both."""
    model = auto_model(args)

    def sums(seconds: float) -> list[float]:
        wave = speech(seconds, args.clips)
        windows = [wave[at : at + WINDOW] for at in range(0, len(wave) - WINDOW + 1, STEP)]
        found = model.generate(input=windows, fs=RATE)
        return [round(float(np.asarray(one["spk_embedding"]).sum()), 1) for one in found]

    sums(20 * STEP / RATE)

    def run(task: str) -> Answer:
        with Meter() as meter:
            found = sums(args.seconds)
        rtf = round(meter.wall_s / args.seconds, 6)
        return {**meter.facts(), "rtf": rtf, "sums": found}

    return run


if __name__ == "__main__":
    sys.exit(drive(__doc__ or "", ["ours", "funasr"], "all", load))
