#!/usr/bin/env python3
"""What `funasr serve` promises of many clients and of long ones, tried on a server of the bundled
models that is started for it.

    tests/bench/soak.py together --sessions 64   # each gets what it gets alone, text and times
    tests/bench/soak.py short --sessions 1000    # rude clients among them: memory, and what is left
    tests/bench/soak.py surplus --sessions 32    # twice as many as may be open
    tests/bench/soak.py files --sessions 8       # how soon /health answers while they are decoded
    tests/bench/soak.py long --hours 2           # one session, as fast as it goes: memory, times

Beside the waits of `surplus` and `files` stand those of a server that does nothing: what a busy
machine costs by itself. Prints one JSON line; the exit code is 1 if a promise is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402
from websockets.exceptions import ConnectionClosed  # noqa: E402

from tests.bench.long_stream import resident_mb  # noqa: E402
from tests.serving import CLIPS, SECONDS, Running, clip, pcm, started  # noqa: E402

BYTES = 2 * 16000  # of a second
BLOCK = BYTES * 60 // 1000
SIZES = (1, 31, 640, 1921, 9600, 64001)
MANY = {"together": 64, "short": 1000, "surplus": 32, "files": 8}
BESIDE = ("surplus", "files")  # tried beside a server that does nothing
AT_A_TIME = 8  # short sessions
WARM = 50  # short sessions, behind which memory is looked at for the first time
# Seconds by which a wait may be longer than at a server that does nothing, 99 times of 100.
GROWTH, REFUSED_SECONDS, HEALTH_SECONDS = 1.05, 0.2, 0.1
# Of a long session: what a period of it is a multiple of, so that each is cut as the one before,
# and how far its client is ahead of what it has been told.
PERIOD, AHEAD = 0.96, 30.0


class Plan(NamedTuple):
    """What one client says."""

    mode: str
    sound: bytes
    seed: int  # of its blocks


class Told(NamedTuple):
    """What it is told: sentences with their times, and what partials add up to before each."""

    sentences: list[dict[str, Any]]
    partials: list[str]


def plans(count: int) -> list[Plan]:
    """As many, no two alike: one to three clips, each as loud as it happens, with pauses."""
    return [Plan(("online", "2pass")[n % 2], _sound(random.Random(n)), n) for n in range(count)]


def _sound(draw: random.Random) -> bytes:
    parts = []
    for name in draw.sample(CLIPS, draw.randint(1, 3)):
        samples = np.frombuffer(pcm(name), "<i2") * draw.uniform(0.3, 1.0)
        parts += [bytes(2 * draw.randint(0, 24000)), samples.astype("<i2").tobytes()]
    return b"".join(parts)


def told(messages: Sequence[dict[str, Any]]) -> Told:
    """Without confidences, whose last digit depends on a batch."""
    keys = ("text", "timestamp", "index", "start_time", "end_time", "is_final")
    found = Told([], [""])
    for message in messages:
        if message["mode"] == "2pass-offline":
            found.sentences.append({key: message.get(key) for key in keys})
            found.partials.append("")
        else:
            found.partials[-1] += message["text"]
    return found


def agree(one: Told, other: Told) -> bool:
    """Whether two are the same. How much of a segment is shown before its sentence comes is a
    matter of time; where no sentence comes, all of it is.
    """
    if one.sentences != other.sentences or len(one.partials) != len(other.partials):
        return False
    pairs = zip(one.partials, other.partials, strict=True)
    if not one.sentences:
        return one.partials == other.partials
    return all(a.startswith(b) or b.startswith(a) for a, b in pairs)


async def until_final(socket: Any) -> list[dict[str, Any]]:
    """The messages of an utterance."""
    messages: list[dict[str, Any]] = []
    while not messages or not messages[-1]["is_final"]:
        messages.append(json.loads(await asyncio.wait_for(socket.recv(), 10 * SECONDS)))
    return messages


async def speak(
    url: str, sound: bytes, size: Callable[[], int] = lambda: BLOCK, pace: float = 0, **start: Any
) -> list[dict[str, Any]]:
    """The messages of an utterance; size: of the next block; pace: times real time, 0: at once."""
    async with connect(url, max_size=None, ping_interval=None) as socket:
        await socket.send(json.dumps({"is_speaking": True, **start}))
        hearing = asyncio.create_task(until_final(socket))
        try:
            while sound:
                part, sound = sound[: (count := size())], sound[count:]
                await socket.send(part)
                await asyncio.sleep(len(part) / BYTES / pace if pace else 0)
            await socket.send('{"is_speaking": false}')
            return await hearing
        finally:
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)


async def together(url: str, count: int, pace: float) -> dict[str, Any]:
    """Sessions side by side in blocks of any size; how many differ from the same alone."""
    planned = plans(count)
    alone = [told(await speak(url, plan.sound, mode=plan.mode)) for plan in planned]

    async def spoken(plan: Plan) -> Told:
        draw = random.Random(plan.seed)
        size = lambda: draw.choice(SIZES)  # noqa: E731
        return told(await speak(url, plan.sound, size, pace, mode=plan.mode))

    found = await asyncio.gather(*map(spoken, planned))
    pairs = zip(planned, alone, found, strict=True)
    different = [plan.seed for plan, one, other in pairs if not agree(one, other)]
    words = sum(len(part) for one in alone for part in one.partials)
    sentences = sum(len(one.sentences) for one in alone)
    seconds = round(sum(len(plan.sound) for plan in planned) / BYTES)
    return {
        "sessions": count,
        "audio_seconds": seconds,
        "sentences": sentences,
        "words_shown": words,
        "different": different,
        "broken": bool(different) or not sentences or not words,
    }


class Visitors:
    """Short sessions, polite and rude; `wrong`: what they got that they should not."""

    def __init__(self, port: int) -> None:
        self.url, self.http = f"ws://127.0.0.1:{port}", Running(None, port)
        self.sound = pcm("demo_2")[: BYTES * 2]
        self.file = clip("demo_2").read_bytes()
        self.expected: dict[str, str] = {}
        self.wrong: list[str] = []
        self.kinds = (
            *(self.whole, self.stream, self.words, self.odd, self.hotwords, self.late_reader),
            *(self.half_json, self.sound_first, self.nothing, self.unknown_mode),
            *(self.vanishing, self.vanishing_at_the_end, self.upload, self.no_sound),
            self.half_upload,
        )

    async def visit(self, number: int) -> None:
        """One of them."""
        kind = self.kinds[number % len(self.kinds)]
        await asyncio.wait_for(kind(random.Random(number)), 10 * SECONDS)

    def _check(self, name: str, text: str) -> None:
        if self.expected.setdefault(name, text) != text:
            self.wrong.append(f"{name}: {text}")

    async def _said(self, mode: str, draw: random.Random, more: bytes = b"", **start: Any) -> None:
        size = lambda: draw.choice(SIZES)  # noqa: E731
        messages = await speak(self.url, self.sound + more, size, mode=mode, **start)
        self._check(mode, "".join(m["text"] for m in messages if m["mode"] != "2pass-online"))

    async def whole(self, draw: random.Random) -> None:
        await self._said("offline", draw)

    async def stream(self, draw: random.Random) -> None:
        await self._said("2pass", draw)

    async def words(self, draw: random.Random) -> None:
        await self._said("online", draw)

    async def odd(self, draw: random.Random) -> None:
        await self._said(draw.choice(("offline", "online", "2pass")), draw, b"\1")

    async def hotwords(self, draw: random.Random) -> None:
        word = "".join(draw.sample("天地人你我他上下左右", 3))
        await speak(self.url, self.sound, mode="2pass", hotwords=word)

    async def late_reader(self, draw: random.Random) -> None:
        async with connect(self.url, max_size=None, max_queue=1) as socket:
            await socket.send(json.dumps({"mode": "2pass", "wav_name": "x" * 100_000}))
            await socket.send(self.sound)
            await socket.send('{"is_speaking": false}')
            await asyncio.sleep(draw.random())
            self._check("2pass", (await until_final(socket))[-1]["text"])

    async def _fault(self, *frames: str | bytes) -> None:
        async with connect(self.url) as socket:
            for frame in frames:
                await socket.send(frame)
            found = (await until_final(socket))[-1].get("error", {})
            self._check("a fault", str(found.get("code")))

    async def half_json(self, draw: random.Random) -> None:
        await self._fault('{"mode": "2pa')

    async def unknown_mode(self, draw: random.Random) -> None:
        await self._fault('{"mode": "sideways"}', self.sound, '{"is_speaking": false}')

    async def sound_first(self, draw: random.Random) -> None:
        async with connect(self.url) as socket:
            await socket.send(self.sound)
            await socket.send('{"is_speaking": false}')
            self._check("2pass", (await until_final(socket))[-1]["text"])

    async def nothing(self, draw: random.Random) -> None:
        async with connect(self.url) as socket:
            for mode in ("offline", "online", "2pass"):
                await socket.send(json.dumps({"mode": mode}))
                await socket.send(b"")
                await socket.send('{"is_speaking": false}')
                self._check("nothing", "".join(m["text"] for m in await until_final(socket)))

    async def _vanish(self, draw: random.Random, *last: str) -> None:
        async with connect(self.url) as socket:
            await socket.send(json.dumps({"mode": draw.choice(("offline", "online", "2pass"))}))
            for frame in (self.sound, *last):
                await socket.send(frame)
            await asyncio.sleep(draw.choice((0.0, 0.05)))
            socket.transport.abort()

    async def vanishing(self, draw: random.Random) -> None:
        await self._vanish(draw)

    async def vanishing_at_the_end(self, draw: random.Random) -> None:
        await self._vanish(draw, '{"is_speaking": false}')

    async def upload(self, draw: random.Random) -> None:
        found = await asyncio.to_thread(self.http.upload, self.file)
        self._check("an upload", str(found.json.get("text")))

    async def no_sound(self, draw: random.Random) -> None:
        content = draw.choice((b"", b"RIFF", b"id text of a list\n" * 99))
        found = await asyncio.to_thread(self.http.upload, content)
        self._check("no sound", str(found.status))

    async def half_upload(self, draw: random.Random) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self.http.port)
        writer.write(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
        )
        await writer.drain()
        await asyncio.sleep(draw.choice((0.0, 0.05)))
        writer.transport.abort()

    def left(self) -> dict[str, float]:
        """Whatever of the server's is not as before anybody came."""
        page = self.http.ask("/metrics").content.decode()
        names = "funasr_sessions|funasr_backlog_seconds|funasr_queue_recordings"
        found = re.findall(rf"^((?:{names})(?:\{{.*\}})?) (\S+)$", page, re.M)
        return {name: float(value) for name, value in found if float(value)}


async def short(port: int, pid: int, count: int, warm: int = WARM) -> dict[str, Any]:
    """Sessions a few at a time; memory behind some and at the end, and what is left of them."""
    visitors, memory, numbers = Visitors(port), list[float](), itertools.count()
    files = open_files(pid)

    async def visit(most: int) -> None:
        while (number := next(numbers)) < most:
            await visitors.visit(number)
            if (number + 1) % warm == 0:
                memory.append(round(resident_mb(pid), 1))

    await asyncio.gather(*(visit(count) for _ in range(AT_A_TIME)))
    end = time.monotonic() + SECONDS
    while (left := (visitors.left(), open_files(pid) > files)) != ({}, False):
        if time.monotonic() > end:
            break
        await asyncio.sleep(0.1)
    memory.append(round(resident_mb(pid), 1))
    return {
        "sessions": count,
        "wrong": visitors.wrong,
        "left": left[0],
        "files": [files, open_files(pid)],
        "mb": memory,
        "broken": bool(visitors.wrong) or left != ({}, False) or memory[-1] > GROWTH * memory[0],
    }


def open_files(pid: int) -> int:
    """How many files and sockets a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def p99(waits: Sequence[float]) -> float:
    """The longest of 99 in 100."""
    return sorted(waits)[len(waits) * 99 // 100]


async def greeted(url: str) -> float:
    """How long a server takes to open a connection and to answer that an utterance has ended."""
    begun = time.perf_counter()
    await speak(url, b"", mode="2pass")
    return time.perf_counter() - begun


async def surplus(url: str, limit: int, idle_url: str) -> dict[str, Any]:
    """Twice as many sessions as may be open: how soon the surplus is told, the others' texts."""
    sound, refused, texts = pcm("demo_2"), list[float](), list[str]()

    async def come() -> None:
        begun = time.perf_counter()
        try:
            messages = await speak(url, sound, pace=2.0, mode="2pass")
        except ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code == 1013, closed
            refused.append(time.perf_counter() - begun)
        else:
            texts.append(messages[-1]["text"])

    first = [asyncio.create_task(come()) for _ in range(limit)]
    await asyncio.sleep(1.0)
    greetings = [greeted(idle_url) for _ in range(limit)]
    *_, idle = await asyncio.gather(
        *first, *(come() for _ in range(limit)), asyncio.gather(*greetings)
    )
    slowest, own = max(refused, default=0.0), max(idle)
    kept = len(refused) == limit == len(texts) and len({*texts}) == 1
    return {
        "sessions": 2 * limit,
        "refused": len(refused),
        "texts": sorted({*texts}),
        "slowest_refusal_s": round(slowest, 3),
        "slowest_of_idle_s": round(own, 3),
        "broken": not kept or slowest - own >= REFUSED_SECONDS,
    }


async def files(port: int, count: int, seconds: float, idle_port: int) -> dict[str, Any]:
    """How long /health takes while so many recordings are decoded."""
    http, idle = (Running(None, each, 10 * SECONDS) for each in (port, idle_port))
    waits, idle_waits = list[float](), list[float]()
    whole = b"".join(pcm(name) for name in CLIPS)
    whole = (whole * (int(seconds * BYTES) // len(whole) + 1))[: int(seconds * BYTES)]
    head = b"RIFF" + (36 + len(whole)).to_bytes(4, "little") + b"WAVEfmt \x10\0\0\0\1\0\1\0"
    head += (16000).to_bytes(4, "little") + BYTES.to_bytes(4, "little") + b"\2\0\x10\0data"
    content = head + len(whole).to_bytes(4, "little") + whole
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(count + 1) as pool:
        decoding = [loop.run_in_executor(pool, http.upload, content) for _ in range(count)]
        while not all(task.done() for task in decoding):
            for server, took in ((http, waits), (idle, idle_waits)):
                begun = time.perf_counter()
                found = await loop.run_in_executor(pool, server.ask, "/health")
                assert found.status == 200
                took.append(time.perf_counter() - begun)
            await asyncio.sleep(0.02)
    texts = {(await task).json["text"] for task in decoding}
    return {
        "files": count,
        "asked": len(waits),
        "median_s": round(median(waits), 3),
        "idle_median_s": round(median(idle_waits), 3),
        "p99_s": round(p99(waits), 3),
        "idle_p99_s": round(p99(idle_waits), 3),
        "slowest_s": round(max(waits), 3),
        "idle_slowest_s": round(max(idle_waits), 3),
        "broken": len(texts) != 1 or p99(waits) - p99(idle_waits) >= HEALTH_SECONDS,
    }


async def long(url: str, pid: int, hours: float) -> dict[str, Any]:
    """One session that says the same again and again: memory, texts, and whether times drift."""
    sound = pcm("demo_2")
    period = int((len(sound) / BYTES + 1.5) / PERIOD + 1) * PERIOD
    sound += bytes(round(period * BYTES) - len(sound))
    rounds = max(3, round(hours * 3600 / period))
    memory, heard, begun = list[float](), [0.0], time.perf_counter()
    sentences: list[dict[str, Any]] = []
    news = asyncio.Event()

    async def hear(socket: Any) -> None:
        final = False
        while not final:
            message = json.loads(await asyncio.wait_for(socket.recv(), 10 * SECONDS))
            final = message["is_final"]
            if message.get("text") and message["mode"] == "2pass-offline":
                sentences.append({key: message[key] for key in ("text", "timestamp", "start_time")})
                heard[0] = message["end_time"] / 1000
                news.set()

    async with connect(url, max_size=None, ping_interval=None) as socket:
        await socket.send('{"mode": "2pass"}')
        hearing = asyncio.create_task(hear(socket))
        for number in range(rounds):
            while (number + 1) * period - heard[0] > AHEAD and not hearing.done():
                news.clear()
                await asyncio.wait_for(news.wait(), 10 * SECONDS)
            for place in range(0, len(sound), 10 * BLOCK):
                await socket.send(sound[place : place + 10 * BLOCK])
            if number % max(1, rounds // 20) == 0:
                memory.append(round(resident_mb(pid), 1))
        await socket.send('{"is_speaking": false}')
        await hearing
    memory.append(round(resident_mb(pid), 1))
    texts = [sentence["text"] for sentence in sentences]
    drift = [abs(at - sentences[1]["start_time"]) for at in _begins(sentences, period)]
    return {
        "hours": round(rounds * period / 3600, 3),
        "rounds": rounds,
        "sentences": len(sentences),
        "texts": sorted({*texts}),
        "last_start_ms": sentences[-1]["start_time"],
        "last_word_ms": json.loads(sentences[-1]["timestamp"])[-1][1],
        "drift_ms": max(drift),
        "audio_s_per_s": round(rounds * period / (time.perf_counter() - begun), 1),
        "mb": memory,
        "broken": len(texts) != rounds
        or len({*texts[1:]}) != 1
        or max(drift) > 0
        or memory[-1] > GROWTH * memory[1],
    }


def _begins(sentences: Sequence[dict[str, Any]], period: float) -> list[float]:
    """When each sentence but the first would have begun as the second."""
    return [
        sentence["start_time"] - round(1000 * period) * (number - 1)
        for number, sentence in enumerate(sentences)
        if number
    ]


async def tried(given: argparse.Namespace, port: int, pid: int, idle: int) -> dict[str, Any]:
    """The facts of what was asked for; idle: the port of a server that does nothing."""
    url = f"ws://127.0.0.1:{port}"
    if given.what == "together":
        return await together(url, given.sessions, given.pace)
    if given.what == "short":
        return await short(port, pid, given.sessions)
    if given.what == "surplus":
        return await surplus(url, given.sessions, f"ws://127.0.0.1:{idle}")
    if given.what == "files":
        return await files(port, given.sessions, given.seconds, idle)
    return await long(url, pid, given.hours)


def main() -> int:
    """Try one thing and report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("what", choices=(*MANY, "long"))
    parser.add_argument("--sessions", type=int, default=0, help="0: as many as are named above")
    parser.add_argument("--pace", type=float, default=4.0, help="together: times real time")
    parser.add_argument("--seconds", type=float, default=60.0, help="files: of each")
    parser.add_argument("--hours", type=float, default=2.0)
    given = parser.parse_args()
    given.sessions = given.sessions or MANY.get(given.what, 1)
    limit = given.sessions if given.what == "surplus" else 1000
    with ExitStack() as servers:
        here = servers.enter_context(started(f"+max_sessions={limit}", limit_s=24 * 3600))
        process, port, lines = here
        threading.Thread(target=lines.extend, args=(process.stderr,), daemon=True).start()
        idle = servers.enter_context(started(limit_s=24 * 3600))[1] if given.what in BESIDE else 0
        facts = asyncio.run(tried(given, port, process.pid, idle))
        process.terminate()
        facts["exit_code"] = process.wait(SECONDS)
        broken = facts.pop("broken") or facts["exit_code"] or "Traceback" in "".join(lines)
    print(json.dumps(facts, ensure_ascii=False))
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
