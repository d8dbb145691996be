"""How many live sessions a server holds: clients that speak without a pause, at real-time pace,
each from another place of the sound, by FunASR's protocol or by that of sherpa-onnx.

    funasr serve +port=10095
    python tests/bench/load.py ws://127.0.0.1:10095 x.wav 8 16 32
    sherpa-onnx-online-websocket-server --port=6006 ...
    python tests/bench/load.py ws://127.0.0.1:6006 x.wav 8 16 32 --protocol sherpa

A session is held if each partial comes within a second of its sound and the final, 95 times of 100,
within half a second of the end. The processor time of the clients is told too, since they share it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
import wave
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from statistics import median, quantiles
from typing import Any, Protocol

import numpy as np
from websockets.asyncio.client import connect

BLOCK_MS, RATE = 60, 16000
LATE_SECONDS, FINAL_SECONDS = 1.0, 0.5


@dataclass
class Session:
    """One client's measurements, in seconds."""

    gaps: list[float] = field(default_factory=list)  # between two partials
    final: float = 0.0  # from the end of the sound to the last message
    text: str = ""


class Speech(Protocol):
    """What a client of a server says and hears."""

    opening: str | None
    ending: str

    def block(self, samples: bytes) -> bytes:
        """The message of some samples of PCM16."""

    def heard(self, message: str) -> tuple[str, bool]:
        """The words that a message adds, and whether it is the last one."""


class FunASRSpeech:
    """FunASR's protocol; each message has new words."""

    ending = '{"is_speaking": false}'

    def __init__(self, mode: str) -> None:
        start = {"mode": mode, "chunk_size": [0, 10, 5], "is_speaking": True}
        self.opening = json.dumps(start)

    def block(self, samples: bytes) -> bytes:
        """See `Speech`."""
        return samples

    def heard(self, message: str) -> tuple[str, bool]:
        """See `Speech`."""
        told: dict[str, Any] = json.loads(message)
        return told["text"], told["is_final"]


class SherpaSpeech:
    """The protocol of sherpa-onnx: float32, and each message has all words of a segment."""

    opening, ending = None, "Done"

    def __init__(self) -> None:
        self.segments: dict[int, str] = {}

    def block(self, samples: bytes) -> bytes:
        """See `Speech`."""
        return (np.frombuffer(samples, "<i2") / np.float32(32768)).astype("<f4").tobytes()

    def heard(self, message: str) -> tuple[str, bool]:
        """See `Speech`."""
        if message == "Done!":
            return "", True
        told: dict[str, Any] = json.loads(message)
        before = self.segments.get(told["segment"], "")
        self.segments[told["segment"]] = told["text"]
        return told["text"].removeprefix(before), False


async def speak(url: str, speech: Speech, sound: bytes, delay: float) -> Session:
    """One utterance at real-time pace."""
    found, size = Session(), RATE * BLOCK_MS // 1000 * 2
    await asyncio.sleep(delay)
    async with connect(url, max_size=None, ping_interval=None) as socket:
        if speech.opening is not None:
            await socket.send(speech.opening)
        hearing = asyncio.create_task(hear(socket, speech, found))
        begun = time.perf_counter()
        for number, place in enumerate(range(0, len(sound), size), 1):
            await asyncio.sleep(begun + number * BLOCK_MS / 1000 - time.perf_counter())
            await socket.send(speech.block(sound[place : place + size]))
        ended = time.perf_counter()
        await socket.send(speech.ending)
        await hearing
        found.final = time.perf_counter() - ended
    return found


async def hear(socket, speech: Speech, found: Session) -> None:
    """The messages of one utterance, to the last."""
    came = []
    async for message in socket:
        text, last = speech.heard(message)
        found.text += text
        if last:
            break
        if text:
            came.append(time.perf_counter())
    found.gaps = [after - before for before, after in pairwise(came)]


def turned(sound: bytes, number: int, count: int, seconds: float) -> bytes:
    """So many seconds of the sound, from another place for each session."""
    begin = len(sound) * number // count // 2 * 2
    size, whole = int(seconds * RATE) * 2, sound[begin:] + sound[:begin]
    return (whole * (size // len(whole) + 1))[:size]


async def measure(
    url: str,
    speech: Callable[[], Speech],
    sound: bytes,
    count: int,
    seconds: float,
    spread: float = 0.0,
    rounds: int = 1,
) -> str:
    """A line on so many sessions side by side, each up to `spread` seconds longer, in `rounds`."""
    used, begun = sum(os.times()[:2]), time.perf_counter()
    sessions, draw = list[Session](), random.Random(0)
    for _ in range(rounds):
        lengths = [seconds + draw.uniform(0, spread) for _ in range(count)]
        sounds = [turned(sound, number, count, length) for number, length in enumerate(lengths)]
        delays = [number / count for number in range(count)]
        speaking = (speak(url, speech(), *each) for each in zip(sounds, delays, strict=True))
        sessions += await asyncio.gather(*speaking)
    finals = sorted(session.final for session in sessions)
    p95 = quantiles(finals, n=20)[-1] if len(finals) > 1 else finals[0]
    # A chunk brings words every 0.6 s; words that are missing for longer than two are late.
    worst = max((gap for session in sessions for gap in session.gaps), default=0.0)
    own = (sum(os.times()[:2]) - used) / (time.perf_counter() - begun)
    held = p95 <= FINAL_SECONDS and worst <= LATE_SECONDS + 1.2
    return (
        f"{count} sessions: final p95 {p95:.3f} s, median {median(finals):.3f}, "
        f"longest wait between partials {worst:.2f} s, clients used {own:.2f} processors: "
        f"{'held' if held else 'not held'}"
    )


def main() -> None:
    """Print a line for each number of sessions."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("wav")
    parser.add_argument("sessions", type=int, nargs="+")
    parser.add_argument("--mode", default="2pass")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--spread", type=float, default=0.0, help="seconds that some speak longer")
    parser.add_argument("--rounds", type=int, default=1, help="of so many sessions each")
    parser.add_argument("--protocol", choices=("funasr", "sherpa"), default="funasr")
    given = parser.parse_args()
    with wave.open(given.wav) as file:
        assert file.getframerate() == RATE and file.getnchannels() == 1
        sound = file.readframes(file.getnframes())
    speech = SherpaSpeech if given.protocol == "sherpa" else partial(FunASRSpeech, given.mode)
    for count in given.sessions:
        how = given.seconds, given.spread, given.rounds
        print(asyncio.run(measure(given.url, speech, sound, count, *how)), flush=True)


if __name__ == "__main__":
    main()
