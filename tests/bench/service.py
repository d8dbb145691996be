#!/usr/bin/env python3
"""Many short requests to one model: whether threads get what each alone gets, and whether memory
stays as it is.

    tests/bench/service.py --threads 8 --requests 1000
    tests/bench/service.py --threads 2 --hours 24 --no-streams   # of audio, as fast as it goes

Recordings and options are drawn from a few of each, with a VAD and punctuation. Prints one JSON
line: requests, how many differ from the same request made alone, seconds of audio for one of the
clock, resident memory after a tenth of the requests and at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from paraformer import AutoModel  # noqa: E402
from tests.bench.long_stream import resident_mb  # noqa: E402
from tests.bench.measure import RATE, speech  # noqa: E402

# Options that, if they outlived their call or reached a neighbour's, would change another result.
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"hotword": "今天 明天"},
    {"sentence_timestamp": True},
    {"max_end_silence_time": 200},
    {"merge_vad": True, "batch_size": 1},
    {"return_raw_text": True, "speech_noise_thres": 0.9},
    {"chunk_size": [0, 10, 5]},
)
LENGTHS = (0.4, 1.5, 3.0, 6.0)


class Request(NamedTuple):
    """One call of `generate`."""

    audio: int  # number of the recording
    options: int  # number of the options


class Service:
    """One model, and what it says to each request alone."""

    def __init__(
        self, models: dict[str, str], lengths: Sequence[float] = LENGTHS, streams: bool = True
    ) -> None:
        """lengths: of the recordings, in seconds. streams: some are heard as such."""
        self.model = AutoModel(disable_pbar=True, log_level="ERROR", device="cpu", **models)
        self.audio = [speech(s, start=5.0 * i) for i, s in enumerate(lengths)]
        chosen = [n for n, each in enumerate(OPTIONS) if streams or "chunk_size" not in each]
        self.requests = [Request(a, o) for a in range(len(self.audio)) for o in chosen]
        self.expected = {request: self.answer(request) for request in self.requests}

    def answer(self, request: Request) -> list[dict[str, Any]]:
        """The results of one request."""
        audio, options = self.audio[request.audio], OPTIONS[request.options]
        return self.model.generate(audio, **options)

    def differs(self, request: Request) -> bool:
        """Whether the result is another one than alone."""
        return self.answer(request) != self.expected[request]

    def seconds(self, request: Request) -> float:
        """Of its audio."""
        return len(self.audio[request.audio]) / RATE


def drawn(service: Service, count: int, hours: float, seed: int) -> Iterator[Request]:
    """`count` requests, or with hours as many as have so much audio."""
    draw, made, seconds = random.Random(seed), 0, 0.0
    while seconds < hours * 3600 if hours else made < count:
        request = draw.choice(service.requests)
        made, seconds = made + 1, seconds + service.seconds(request)
        yield request


def serve(service: Service, requests: Sequence[Request], threads: int) -> dict[str, Any]:
    """Answer all of them by so many threads."""
    began, memory, differ = time.perf_counter(), [], 0
    tenth = max(1, len(requests) // 10)
    with ThreadPoolExecutor(threads) as pool:
        for number, other in enumerate(pool.map(service.differs, requests), 1):
            differ += other
            if number % tenth == 0:
                memory.append(round(resident_mb(), 1))
    passed = time.perf_counter() - began
    audio = sum(map(service.seconds, requests))
    return {
        "threads": threads,
        "requests": len(requests),
        "audio_hours": round(audio / 3600, 2),
        "different": differ,
        "audio_s_per_s": round(audio / passed, 1),
        "mb": memory,
    }


def main() -> int:
    """Serve and report; 1 if any result differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="paraformer-zh-mini")
    parser.add_argument("--vad-model", default="fsmn-vad-mini")
    parser.add_argument("--punc-model", default="ct-punc-mini")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=0.0, help="of audio, instead of --requests")
    parser.add_argument("--no-streams", action="store_true", help="recordings alone: quicker")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    names = {"model": args.model, "vad_model": args.vad_model, "punc_model": args.punc_model}
    service = Service(names, streams=not args.no_streams)
    requests = list(drawn(service, args.requests, args.hours, args.seed))
    facts = serve(service, requests, args.threads)
    print(json.dumps(facts))
    return int(facts["different"] > 0)


if __name__ == "__main__":
    sys.exit(main())
