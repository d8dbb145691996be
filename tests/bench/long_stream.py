#!/usr/bin/env python3
"""A stream of hours: whether memory and speed stay as they are, and whether the times are right.

    tests/bench/long_stream.py --model exp/x/final --hours 2
    tests/bench/long_stream.py --model DIR --vad-model DIR [--punc-model DIR] [--second-pass DIR]

One recording is said again and again. Prints one JSON line: resident memory and real-time factor
in the first and the last minutes, and how many tokens have times outside of the chunk of the audio
that brought them and its look-ahead; of a live session, with a VAD, how many segments it ended.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from paraformer import AutoModel  # noqa: E402
from paraformer.api.live import FINAL, LiveSession  # noqa: E402
from paraformer.data.audio.read import read_audio  # noqa: E402
from paraformer.decode.streaming import Streamer, StreamingRecognizer, Token  # noqa: E402
from paraformer.models.release import load_directory  # noqa: E402

EXAMPLE = ROOT / "paraformer/bundled/paraformer-zh-mini/example/demo_2.wav"
RATE = 16000
MINUTES = 5  # at the start and at the end, that are compared


def resident_mb(process: int | str = "self") -> float:
    """Memory of this process, or of another."""
    pages = int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def outside(tokens: list[Token], first_ms: float, last_ms: float) -> int:
    """How many tokens end at another time."""
    return sum(not first_ms <= token.end_ms <= last_ms for token in tokens)


def facts(spent: list[float], memory: list[float], seconds: float, rounds: int) -> dict[str, float]:
    """What all rounds took, of `seconds` of audio each."""
    some = max(1, min(round(60 * MINUTES / seconds), rounds // 3))
    return {
        "audio_seconds": round(seconds * rounds, 1),
        "mb_first": round(memory[some - 1], 1),
        "mb_last": round(memory[-1], 1),
        "rtf_first": round(sum(spent[:some]) / some / seconds, 5),
        "rtf_last": round(sum(spent[-some:]) / some / seconds, 5),
    }


def measure_live(session: LiveSession, wave: torch.Tensor, rounds: int) -> dict[str, float]:
    """The same of a live session, with a second of silence after each time."""
    rate = session.pipeline.rate
    wave = torch.nn.functional.pad(wave, (0, rate))
    spent, memory, finals, disorder, last = [], [], 0, 0, -1
    for _ in range(rounds):
        began = time.perf_counter()
        for block in wave.split(rate * 6 // 10):
            for event in session.feed(block):
                if event.kind == FINAL:
                    finals += 1
                    disorder += not last <= event.start_ms < event.end_ms
                    last = event.end_ms
        spent.append(time.perf_counter() - began)
        memory.append(resident_mb())
    return {
        **facts(spent, memory, len(wave) / rate, rounds),
        "segments": finals,
        "said": rounds,
        "wrong_times": disorder,
    }


def measure(streamer: Streamer, wave: torch.Tensor, rounds: int) -> dict[str, float]:
    """Say the recording so many times, a chunk at a time."""
    recognizer = streamer.recognizer
    rate, stride = recognizer.release.frontend.fs, recognizer.stride
    ahead_ms = 1000 * recognizer.engine.pad * recognizer.frame_samples / rate
    spent, memory, heard, tokens, wrong = [], [], 0, 0, 0
    for _ in range(rounds):
        began = time.perf_counter()
        for block in wave.split(stride):
            new = streamer.feed(block)
            first = 1000 * heard / rate - ahead_ms
            heard += len(block)
            tokens += len(new)
            wrong += outside(new, first, 1000 * heard / rate)
        spent.append(time.perf_counter() - began)
        memory.append(resident_mb())
    return {
        **facts(spent, memory, len(wave) / rate, rounds),
        "tokens": tokens,
        "last_end_ms": streamer.state.said_ms,
        "wrong_times": wrong,
    }


def main() -> int:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--audio", type=Path, default=EXAMPLE)
    parser.add_argument("--hours", type=float, default=2.0)
    for name in ("vad", "punc"):
        parser.add_argument(f"--{name}-model", default="")
    parser.add_argument("--second-pass", default="")
    args = parser.parse_args()
    if args.vad_model:
        others = {"vad_model": args.vad_model, "punc_model": args.punc_model}
        passes = {"second_pass": args.second_pass, "chunk_size": [0, 10, 5]}
        model = AutoModel(args.model, **others, **passes)
        wave = read_audio(args.audio)
        rounds = max(3, round(args.hours * 3600 / (len(wave) / RATE + 1)))
        print(json.dumps(measure_live(model.live(), wave, rounds)))
        return 0
    streamer = Streamer(StreamingRecognizer(load_directory(args.model)))
    wave = read_audio(args.audio)
    stride = streamer.recognizer.stride
    wave = torch.nn.functional.pad(wave, (0, -len(wave) % stride))
    rate = streamer.recognizer.release.frontend.fs
    result = measure(streamer, wave, max(3, round(args.hours * 3600 * rate / len(wave))))
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
