"""Engines as processes: started, and asked for a round in turn with their rivals."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

from tests.bench.peers import last_line

Answer = dict[str, Any]


class EngineError(Exception):
    """An engine that did not answer, and the last that it said."""


class Engine(Protocol):
    """What can be asked for a round of a task."""

    def ask(self, task: str) -> Answer: ...


class Driver:
    """A driver that stays, with its model loaded: a task on a line, an answer on a line."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process, self._errors = process, errors
        self.loaded = self._answer()

    def ask(self, task: str) -> Answer:
        """One round."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{task}\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._failure() from None
        return self._answer()

    def _answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._failure()
        return dict(json.loads(line))

    def _failure(self) -> EngineError:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._errors.seek(0)
        return EngineError(last_line(self._errors.read()))


@contextlib.contextmanager
def driver(command: Sequence[str], threads: int) -> Iterator[Driver]:
    """Start a driver; its process goes when its input ends."""
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile("w+", encoding="utf8", errors="replace") as errors,
        subprocess.Popen(
            [*command, "--threads", str(threads), "--tasks", "-"],
            stdin=pipe,
            stdout=pipe,
            stderr=errors,
            encoding="utf8",
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        ) as process,
    ):
        try:
            yield Driver(process, errors)
        except BaseException:
            process.terminate()  # whatever stopped us, nobody waits for its answer
            raise


class Once:
    """A program that is started for each round; the last line that it prints is the answer.

    tasks: the options of each.
    """

    def __init__(
        self, command: Sequence[str], tasks: Mapping[str, Sequence[str]] | None = None
    ) -> None:
        self._command, self._tasks = list(command), tasks or {}

    def ask(self, task: str) -> Answer:
        """Run it with the options of a task."""
        command = [*self._command, *self._tasks.get(task, ())]
        done = subprocess.run(command, capture_output=True, encoding="utf8")
        if done.returncode:
            raise EngineError(last_line(done.stderr))
        return dict(json.loads(last_line(done.stdout)))
