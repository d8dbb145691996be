#!/usr/bin/env python3
"""How long finals wait in the scheduler of `funasr serve`, by a clock that only a stand-in moves: a
pass of the streaming model takes a set time, whatever else the machine does, and nothing else takes
any. So two schedulers can be told apart on a busy machine; how fast the model is, `load.py` tells.

    tests/bench/finals.py 4 8 12 16                             # 150 ms a pass and 35 a row
    tests/bench/finals.py 8 16 24 --pass-ms 55 --row-ms 22 --seconds 9 --spread 9

Each session speaks without a pause, at real-time pace, from another moment on. Prints a line for
each number of sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Callable
from concurrent.futures import Executor, Future
from itertools import pairwise
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from paraformer.api.auto import AutoModel  # noqa: E402
from paraformer.api.live import PARTIAL  # noqa: E402
from paraformer.api.service import ServedModel, Wishes  # noqa: E402
from paraformer.backends.face import StreamEngine  # noqa: E402
from paraformer.options import ServeOptions  # noqa: E402
from paraformer.server.scheduler import Scheduler  # noqa: E402
from tests.bench.measure import speech  # noqa: E402

BLOCK = 960  # samples: 60 ms
RATE = 16000


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time goes on when nothing else is to be done, at once."""

    now = 0.0

    def time(self) -> float:
        """Seconds."""
        return self.now

    def _run_once(self) -> None:
        loop: Any = self
        times = [timer.when() for timer in loop._scheduled if not timer.cancelled()]
        if not loop._ready and times:
            self.now = max(self.now, min(times))
        super()._run_once()  # type: ignore[misc]


class StandIn(Executor):
    """In the place of a thread: does its work at once, and is done when passes of a model would
    have taken the time that they are given.
    """

    def __init__(self, loop: Clock, pass_seconds: float, row_seconds: float) -> None:
        self.loop, self.times, self.spent = loop, (pass_seconds, row_seconds), 0.0

    def passed(self, rows: int) -> None:
        """A pass of the model over so many rows."""
        self.spent += self.times[0] + self.times[1] * rows

    def submit(self, work: Callable[..., Any], /, *given: Any, **more: Any) -> Future[Any]:
        """See `Executor`."""
        self.spent, done = 0.0, Future[Any]()
        work(*given, **more)
        self.loop.call_later(self.spent, done.set_result, None)
        return done


async def speak(scheduler: Scheduler, sound: Tensor, begin: float) -> tuple[float, list[float]]:
    """A session: how long its final took, and the times between its partials."""
    loop, shown = asyncio.get_running_loop(), list[float]()
    await asyncio.sleep(begin)
    stream = scheduler.stream(Wishes(plain=True))

    async def hear() -> None:
        text = ""
        async for news in stream.news():
            if news.kind == PARTIAL and news.answer.text != text:
                text = news.answer.text
                shown.append(loop.time())

    hearing = asyncio.create_task(hear())
    for block in sound.split(BLOCK):
        await asyncio.sleep(len(block) / RATE)
        stream.put(block)
    ended = loop.time()
    stream.end()
    await hearing
    return loop.time() - ended, [after - before for before, after in pairwise(shown)]


async def line(model: ServedModel, given: argparse.Namespace, count: int) -> str:
    """Measure so many sessions side by side."""
    loop: Any = asyncio.get_running_loop()
    scheduler = Scheduler(lambda before: model, ServeOptions())
    running = asyncio.create_task(scheduler.run())
    await scheduler.ready.wait()
    scheduler.close()
    scheduler._live = stand_in = StandIn(loop, given.pass_ms / 1000, given.row_ms / 1000)
    checked = StreamEngine._checked

    def counted(engine: Any, rows: Any) -> Any:
        fired = checked(engine, rows)
        stand_in.passed(len(fired.logp))
        return fired

    StreamEngine._checked = counted  # type: ignore[method-assign]
    finals, gaps, draw = list[float](), list[float](), random.Random(count)
    for _ in range(given.rounds):
        sounds = [
            speech(given.seconds + draw.uniform(0, given.spread), start=draw.uniform(0, 60))
            for _ in range(count)
        ]
        begins = [number / count + draw.uniform(0, 0.05) for number in range(count)]
        pairs = zip(sounds, begins, strict=True)
        speaking = (speak(scheduler, torch.as_tensor(sound), begin) for sound, begin in pairs)
        for final, between in await asyncio.gather(*speaking):
            finals.append(final)
            gaps += between
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    StreamEngine._checked = checked  # type: ignore[method-assign]
    p95, apart = quantiles(finals, n=20)[-1], quantiles(gaps, n=100)[-1]
    return (
        f"{count} sessions: final median {median(finals):.3f} s, p95 {p95:.3f}, "
        f"partials apart p99 {apart:.2f} s"
    )


def main() -> None:
    """Print a line for each number of sessions."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("sessions", type=int, nargs="+")
    parser.add_argument("--model", default="paraformer-zh-mini")
    parser.add_argument("--pass-ms", type=float, default=150.0)
    parser.add_argument("--row-ms", type=float, default=35.0)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--spread", type=float, default=0.0, help="seconds that some speak longer")
    parser.add_argument("--rounds", type=int, default=3, help="of so many sessions each")
    given = parser.parse_args()
    model = ServedModel(AutoModel(given.model, disable_pbar=True, log_level="ERROR", device="cpu"))
    for count in given.sessions:
        clock = Clock()
        print(clock.run_until_complete(line(model, given, count)), flush=True)
        clock.close()


if __name__ == "__main__":
    main()
