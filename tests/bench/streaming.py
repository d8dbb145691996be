#!/usr/bin/env python3
"""Streams of 600 ms chunks by one engine; a task is COUNT/BATCH: so many streams, so many at once.

    tests/bench/streaming.py --engine ours --model DIR --tasks 1/1,8/1,8/8 --seconds 24
    PEER/bin/python tests/bench/streaming.py --engine funasr --model DIR --tasks 1/1,8/1

Chunks [0, 10, 5], look-back 4 and 1. Of 8/1 each stream in turn is fed a chunk, of 8/8 all in one
step, which FunASR and funasr-onnx cannot. One line of JSON for each task: mean, median and 99th
percentile of the time of a chunk (with several streams, of all of theirs), `rtf` (seconds for a
second of one stream's audio), the load, the texts.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from tests.bench.measure import (  # noqa: E402
    RATE,
    Answer,
    Meter,
    Run,
    auto_model,
    drive,
    parse_task,
    speech,
)

CHUNK = 9600  # samples
WARM_SECONDS = 48  # of all streams together, before a task counts
CUT = {"chunk_size": [0, 10, 5], "encoder_chunk_look_back": 4, "decoder_chunk_look_back": 1}


class Streams(Protocol):
    """Streams that are fed together."""

    @property
    def texts(self) -> list[str]:
        """What each has said so far."""

    def feed(self, blocks: list[np.ndarray], last: bool) -> None:
        """A chunk (N,) for each."""


class Calls:
    """Ours, or FunASR: one call of the model card for each chunk of each stream."""

    def __init__(self, model: Any, count: int) -> None:
        self.model = model
        self.caches: list[dict[str, Any]] = [{} for _ in range(count)]
        self.texts = [""] * count

    def feed(self, blocks: list[np.ndarray], last: bool) -> None:
        for place, (block, cache) in enumerate(zip(blocks, self.caches, strict=True)):
            result = self.model.generate(input=block, cache=cache, is_final=last, **CUT)
            self.texts[place] += result[0]["text"]


class Together:
    """Ours, all streams in one batch."""

    def __init__(self, model: Any, count: int) -> None:
        self.recognizer = model.streamer(**CUT).recognizer
        self.states = [self.recognizer.open() for _ in range(count)]

    @property
    def texts(self) -> list[str]:
        return [state.text.text for state in self.states]

    def feed(self, blocks: list[np.ndarray], last: bool) -> None:
        import torch

        waves = [torch.from_numpy(block) for block in blocks]
        self.states = self.recognizer.feed_all(self.states, waves, [last] * len(waves))[1]


class FunasrOnnx:
    """funasr-onnx, one call for each chunk of each stream."""

    def __init__(self, model: Any, count: int) -> None:
        self.model = model
        self.params: list[dict[str, Any]] = [{"cache": {}} for _ in range(count)]
        self.texts = [""] * count

    def feed(self, blocks: list[np.ndarray], last: bool) -> None:
        for place, (block, param) in enumerate(zip(blocks, self.params, strict=True)):
            param["is_final"] = last
            for result in self.model(audio_in=block, param_dict=param):
                self.texts[place] += "".join(result["preds"][0])


class SherpaOnnx:
    """sherpa-onnx: all streams that are ready in one call."""

    def __init__(self, model: Any, count: int) -> None:
        self.model = model
        self.streams = [model.create_stream() for _ in range(count)]

    @property
    def texts(self) -> list[str]:
        return [self.model.get_result(stream) for stream in self.streams]

    def feed(self, blocks: list[np.ndarray], last: bool) -> None:
        for stream, block in zip(self.streams, blocks, strict=True):
            stream.accept_waveform(RATE, block)
            if last:
                stream.input_finished()
        while ready := [stream for stream in self.streams if self.model.is_ready(stream)]:
            self.model.decode_streams(ready)


def load_model(args: argparse.Namespace) -> Any:
    """The engine's own object."""
    if args.engine == "funasr-onnx":
        from funasr_onnx.paraformer_online_bin import Paraformer

        return Paraformer(
            str(args.model), batch_size=1, chunk_size=[5, 10, 5], intra_op_num_threads=args.threads
        )
    if args.engine == "sherpa-onnx":
        from sherpa_onnx import OnlineRecognizer

        return OnlineRecognizer.from_paraformer(
            tokens=str(args.model / "tokens.txt"),
            encoder=str(args.model / "sherpa_encoder.onnx"),
            decoder=str(args.model / "sherpa_decoder.onnx"),
            num_threads=args.threads,
        )
    return auto_model(args)


Open = Callable[[Any, int], Streams]
ONE_BY_ONE: dict[str, Open] = {
    "ours": Calls,
    "funasr": Calls,
    "funasr-onnx": FunasrOnnx,
    "sherpa-onnx": SherpaOnnx,
}
IN_A_BATCH: dict[str, Open] = {"ours": Together, "sherpa-onnx": SherpaOnnx}


def open_streams(engine: str, model: Any, task: str) -> list[Streams]:
    """Groups of streams; each is fed in one go."""
    count, batch = parse_task(task)
    kinds = ONE_BY_ONE if batch == 1 else IN_A_BATCH
    if engine not in kinds or batch not in (1, count):
        raise ValueError(f"{task}: {engine} cannot step {batch} of {count} streams in a batch")
    return [kinds[engine](model, batch) for _ in range(count // batch)]


def feed_all(groups: list[Streams], waves: list[np.ndarray]) -> list[float]:
    """Feed each stream its wave (N,), chunk by chunk; the seconds that each round took."""
    seconds, size = [], len(waves) // len(groups)
    for first in range(0, len(waves[0]), CHUNK):
        last = first + CHUNK >= len(waves[0])
        blocks = [wave[first : first + CHUNK] for wave in waves]
        began = time.perf_counter()
        for number, group in enumerate(groups):
            group.feed(blocks[number * size : (number + 1) * size], last)
        seconds.append(time.perf_counter() - began)
    return seconds


def load(args: argparse.Namespace) -> Run:
    """The engine, and a way to measure it."""
    model = load_model(args)
    warm: set[str] = set()

    def run(task: str) -> Answer:
        count = parse_task(task)[0]
        waves = [speech(args.seconds, args.clips, 1.7 * number) for number in range(count)]
        if task not in warm:
            some = WARM_SECONDS * RATE // count
            feed_all(open_streams(args.engine, model, task), [wave[:some] for wave in waves])
        warm.add(task)
        groups = open_streams(args.engine, model, task)
        with Meter() as meter:
            chunks = 1000 * np.array(feed_all(groups, waves))
        return {
            **meter.facts(),
            "chunk_ms_mean": round(float(chunks.mean()), 2),
            "chunk_ms_p50": round(float(np.percentile(chunks, 50)), 2),
            "chunk_ms_p99": round(float(np.percentile(chunks, 99)), 2),
            "rtf": round(meter.wall_s / args.seconds / count, 5),
            "texts": [text for group in groups for text in group.texts],
        }

    return run


if __name__ == "__main__":
    sys.exit(drive(__doc__ or "", list(ONE_BY_ONE), "1/1", load))
