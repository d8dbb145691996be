#!/usr/bin/env python3
"""Segments of a long recording by a released FSMN-VAD and one engine; the only task is `all`.

    tests/bench/vad.py --engine ours --model path/to/fsmn-vad --seconds 600 [--clips a.wav ...]
    PEER/bin/python tests/bench/vad.py --engine funasr --model path/to/fsmn-vad --seconds 600

One line of JSON: `rtf` (seconds for a second of audio), the load, the segments in milliseconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from tests.bench.measure import Answer, Meter, Run, auto_model, drive, speech  # noqa: E402


def load(args: argparse.Namespace) -> Run:
    """The engine, after a minute that does not count: the same call for both. The silence that ends
    a segment is named, or the reference takes its dynamic one.
    """
    model = auto_model(args)

    def segment(wave: np.ndarray) -> list[Sequence[int]]:
        return model.generate(input=wave, max_end_silence_time=800)[0]["value"]

    segment(speech(60.0, args.clips))

    def run(task: str) -> Answer:
        wave = speech(args.seconds, args.clips)
        with Meter() as meter:
            spans = segment(wave)
        rtf = round(meter.wall_s / args.seconds, 6)
        return {**meter.facts(), "rtf": rtf, "spans": spans}

    return run


if __name__ == "__main__":
    sys.exit(drive(__doc__ or "", ["ours", "funasr"], "all", load))
