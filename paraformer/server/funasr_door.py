"""FunASR's websocket protocol: offline, online and 2pass, many utterances on one connection.

Each utterance has exactly one last message, with `is_final`, and only that; times count from the
start of the utterance; what fails is said in the last message, and the connection stays.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from paraformer.api.live import FINAL, START
from paraformer.errors import DataError, ParaformerError
from paraformer.server import funasr_messages as messages
from paraformer.server.connection import Connection, code_of_error, seen, serve_socket
from paraformer.server.funasr_messages import Start
from paraformer.server.scheduler import Scheduler
from paraformer.server.sessions import GoneError, Sessions, unless_gone
from paraformer.server.sound import SoundStream, Upload, code_of
from paraformer.server.web import WebSocket

log = logging.getLogger(__name__)

DOOR = "funasr"
PROTOCOL = "binary"
MOST_TEXT = 1 << 20  # characters of a text frame; sound comes in others
Say = Callable[[dict[str, Any]], Awaitable[None]]


class _Whole:
    """An utterance that is heard as a whole, once its sound has come."""

    def __init__(self, start: Start, scheduler: Scheduler) -> None:
        self.start, self._scheduler = start, scheduler
        self._upload = Upload(scheduler.options.max_upload_mb << 20)

    def put(self, part: bytes) -> None:
        """More bytes of its sound."""
        self._upload.add(part)

    async def finish(self, say: Say) -> float:
        """Say what was heard; returns the seconds of its sound."""
        scheduler, start = self._scheduler, self.start
        code = code_of(start.wav_format)
        if not self._upload.size:
            await say(messages.nothing_more(start))
            return 0.0
        scheduler.check_room()
        wave = await asyncio.to_thread(
            self._upload.read,
            scheduler.model.rate,
            scheduler.options.max_seconds,
            start.fs,
            code,
        )
        answer = await scheduler.recognise(wave, start.wishes)
        await say(messages.whole(start, answer))
        return len(wave) / scheduler.model.rate

    def close(self) -> None:
        """Forget its sound."""
        self._upload.close()


class _Live:
    """An utterance of which is said what is heard while it comes."""

    def __init__(self, start: Start, scheduler: Scheduler, say: Say) -> None:
        if scheduler.model.deaf:
            raise DataError(f"mode {start.mode}: {scheduler.model.deaf}")
        options, rate = scheduler.options, scheduler.model.rate
        self.start, self._scheduler, self._say = start, scheduler, say
        most = options.max_upload_mb << 20, options.max_seconds
        self._sound = SoundStream(start.wav_format, start.fs, rate, *most)
        self._stream = scheduler.stream(start.wishes)
        self._begun = 0.0
        self._shown = ""  # of the segment that is open
        self._number = 0  # of the next sentence
        self._telling = asyncio.create_task(self._tell())
        self._telling.add_done_callback(seen)

    def put(self, part: bytes) -> None:
        """More bytes of its sound."""
        if self._telling.done() and (error := self._telling.exception()):
            raise error
        self._begun = self._begun or time.perf_counter()
        self._stream.put(self._sound.take(part))

    async def finish(self, say: Say) -> float:
        """Say the rest; returns the seconds of its sound."""
        if self._sound.is_file:
            self._stream.put(await asyncio.to_thread(self._sound.end))
        else:
            self._stream.put(self._sound.end())
        self._stream.end()
        await self._telling
        last = self._stream.last
        if last is not None and self.start.mode == messages.TWO_PASS:
            await say(messages.sentence(self.start, last, self._number, True))
        else:
            text = "" if last is None else last.answer.text
            await say(messages.nothing_more(self.start, text[len(self._shown) :]))
        return self._stream.heard / self._scheduler.model.rate

    async def _tell(self) -> None:
        """Say what happens as soon as it does, but for the end."""
        async for news in self._stream.news():
            if news.kind == FINAL:
                await self._say(messages.sentence(self.start, news, self._number, False))
                self._number += 1
            if news.kind in (START, FINAL):
                self._shown = ""
                continue
            text = news.answer.text
            if len(text) > len(self._shown):
                await self._say(messages.partial(self.start, text[len(self._shown) :]))
                if not self._shown and not self._number:
                    waited = time.perf_counter() - self._begun
                    self._scheduler.metrics.first_word.observe(waited)
                self._shown = text

    def close(self) -> None:
        """Forget it."""
        self._telling.cancel()
        self._stream.drop()
        self._sound.close()


class _Connection(Connection):
    """One client, whose utterances come one after another."""

    DOOR = DOOR

    def __init__(self, socket: WebSocket, scheduler: Scheduler, sessions: Sessions) -> None:
        super().__init__(socket, scheduler, sessions)
        self.utterance: _Whole | _Live | None = None
        self.start = Start()  # of the newest utterance
        self.skipping = False  # the rest of one that has failed

    @property
    def speaking(self) -> bool:
        """See `Connection`."""
        return self.utterance is not None

    def close(self) -> None:
        """See `Connection`."""
        if self.utterance is not None:
            self.utterance.close()
            self.utterance = None

    async def fail(self, error: ParaformerError) -> None:
        """See `Connection`: the last message of an utterance says it."""
        self.close()
        self.skipping = True
        await self.say(messages.failed(self.start, code_of_error(error), str(error)))

    async def end(self) -> None:
        """See `Connection`."""
        if self.utterance is not None:
            await self._end({})

    async def take(self, frame: str | bytes) -> None:
        """See `Connection`."""
        if isinstance(frame, bytes):
            if not self.skipping:
                self._utterance({}).put(frame)
            return
        message = messages.read_message(frame, MOST_TEXT)
        if messages.ends(message):
            if self.skipping:  # its last message was that of the fault
                self.skipping = False
                await self._acknowledge(message)
            else:
                await self._end(message)
        elif self.utterance is None or message.get("is_speaking") is True:
            self.skipping = False
            self.close()
            self._utterance(message)

    def _utterance(self, message: dict[str, Any]) -> _Whole | _Live:
        """The one that is open, or a new one by its first message."""
        if self.utterance is None:
            model = self.scheduler.model
            digits = model.defaults.itn, model.writes_digits
            self.start = Start()
            self.start = messages.read_start(message, *digits, self.options.max_hotwords)
            if self.start.mode == messages.OFFLINE:
                self.utterance = _Whole(self.start, self.scheduler)
            else:
                self.utterance = _Live(self.start, self.scheduler, self.say)
        return self.utterance

    async def _end(self, message: dict[str, Any]) -> None:
        """The sound is at its end: say the rest, unless the client is gone."""
        utterance, begun = self._utterance(message), time.perf_counter()
        try:
            seconds = await unless_gone(utterance.finish(self.say), self.inbox.gone.wait())
        except GoneError:
            return
        mode, waited = utterance.start.mode, time.perf_counter() - begun
        self.scheduler.metrics.ended(DOOR, "ok", waited)
        line = "id=%s door=%s mode=%s outcome=ok seconds=%.2f waited=%.3f"
        log.info(line, self.id, DOOR, mode, seconds, waited)
        self.close()
        await self._acknowledge(message)

    async def _acknowledge(self, message: dict[str, Any]) -> None:
        """Say once more that an utterance has ended, to a client that asks for it."""
        if message.get("is_end") is True:
            await self.say(messages.acknowledged(self.start))


class FunasrDoor:
    """The endpoint of the protocol."""

    def __init__(self, scheduler: Scheduler, sessions: Sessions) -> None:
        self.scheduler, self.sessions = scheduler, sessions

    async def serve(self, socket: WebSocket) -> None:
        """One connection, to its end."""
        await serve_socket(_Connection, DOOR, PROTOCOL, socket, self.scheduler, self.sessions)
