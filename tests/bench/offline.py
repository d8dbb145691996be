#!/usr/bin/env python3
"""Whole recordings to text by one engine; a task is COUNT/BATCH: so many equal parts, so many in
a batch; of a data directory so many recordings.

    tests/bench/offline.py --engine ours --model DIR --tasks 7/1,7/7,1/1
    PEER/bin/python tests/bench/offline.py --engine funasr --model DIR

One line of JSON for each task: `rtf` (seconds for a second of audio), the load, the texts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import wave
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from tests.bench.measure import (  # noqa: E402
    GRAPHS,
    OURS,
    RATE,
    Answer,
    Meter,
    Run,
    auto_model,
    drive,
    parse_task,
    speech,
)

WARM = 20  # recordings of a data directory before it counts
# Samples of each recording and how many at once -> their texts.
Recognize = Callable[[list[np.ndarray], int], list[str]]


def torch_engine(args: argparse.Namespace) -> Recognize:
    """Ours, or FunASR: the call of the model card."""
    model = auto_model(args)
    # Ours limits a batch in seconds too; the reference does so after a VAD only.
    mine = args.engine in OURS
    limit: dict[str, Any] = {"batch_size_s": 1e6, "lm_file": "none"} if mine else {}

    def recognize(waves: list[np.ndarray], batch: int) -> list[str]:
        return [r["text"] for r in model.generate(input=waves, batch_size=batch, **limit)]

    return recognize


def funasr_onnx_engine(args: argparse.Namespace) -> Recognize:
    """Takes several recordings as files only; they are small beside what is measured."""
    from funasr_onnx import Paraformer

    settings = {"quantize": args.engine in GRAPHS, "intra_op_num_threads": args.threads}
    model = Paraformer(str(args.model), batch_size=1, **settings)

    def recognize(waves: list[np.ndarray], batch: int) -> list[str]:
        model.batch_size = batch
        with tempfile.TemporaryDirectory() as folder:
            paths = [f"{folder}/{number:03d}.wav" for number in range(len(waves))]
            for path, samples in zip(paths, waves, strict=True):
                write_wav(path, samples)
            found = [result["preds"] for result in model(paths)]
        # (text, tokens), or the text alone
        return [preds if isinstance(preds, str) else preds[0] for preds in found]

    return recognize


def write_wav(path: str, samples: np.ndarray) -> None:
    """16 bits: what the clips had."""
    with wave.open(path, "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((samples * 32768).astype("<i2").tobytes())


def sherpa_onnx_engine(args: argparse.Namespace) -> Recognize:
    """The graph that carries sherpa-onnx's metadata: the peers' own, or that of our export."""
    from sherpa_onnx import OfflineRecognizer

    name = "model_quant.onnx" if args.engine in GRAPHS else "sherpa.onnx"
    model = OfflineRecognizer.from_paraformer(
        paraformer=str(args.model / name),
        tokens=str(args.model / "tokens.txt"),
        num_threads=args.threads,
    )

    def recognize(waves: list[np.ndarray], batch: int) -> list[str]:
        streams = [model.create_stream() for _ in waves]
        for stream, samples in zip(streams, waves, strict=True):
            stream.accept_waveform(RATE, samples)
        for first in range(0, len(streams), batch):
            model.decode_streams(streams[first : first + batch])
        return [stream.result.text for stream in streams]

    return recognize


ENGINES = {
    **dict.fromkeys(OURS, torch_engine),
    "funasr": torch_engine,
    **dict.fromkeys(("funasr-onnx", "funasr-onnx, int8"), funasr_onnx_engine),
    **dict.fromkeys(("sherpa-onnx", "sherpa-onnx, int8"), sherpa_onnx_engine),
}


@cache
def recordings(data: Path) -> list[np.ndarray]:
    """Samples (N,) of each recording of a data directory."""
    from paraformer.data.audio.read import read_audio
    from paraformer.data.corpus.tables import read_table

    paths = read_table(data / "wav.scp").values()
    return [read_audio(path, target_fs=RATE).numpy() for path in paths]


def load(args: argparse.Namespace) -> Run:
    """The engine, and a way to measure it."""
    recognize = ENGINES[args.engine](args)
    warm: set[str] = set()

    def run(task: str) -> Answer:
        count, batch = parse_task(task)
        if args.data:
            waves = recordings(args.data)[:count]
        else:
            waves = np.array_split(speech(args.seconds, args.clips), count)
        seconds = sum(map(len, waves)) / RATE
        if task not in warm:
            recognize(waves[:WARM] if args.data else waves, batch)
        warm.add(task)
        with Meter() as meter:
            texts = recognize(waves, batch)
        return {**meter.facts(), "rtf": round(meter.wall_s / seconds, 5), "texts": texts}

    return run


if __name__ == "__main__":
    sys.exit(drive(__doc__ or "", list(ENGINES), "7/1,7/7,1/1", load))
