"""FunASR's websocket protocol: offline, online and 2pass, many utterances on one connection.

Each utterance has exactly one last message, with `is_final`, and only that; times count from the
start of the utterance; what fails is said in the last message, and the connection stays.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from paraformer.api.live import FINAL, START
from paraformer.errors import DataError, ParaformerError
from paraformer.server import funasr_messages as messages
from paraformer.server.funasr_messages import Start
from paraformer.server.scheduler import BrokenError, BusyError, Scheduler
from paraformer.server.sessions import GoneError, Sessions, unless_gone
from paraformer.server.sound import SoundStream, Upload, code_of
from paraformer.server.web import WebSocket, WebSocketDisconnect

log = logging.getLogger(__name__)

DOOR = "funasr"
PROTOCOL = "binary"
# Closing codes of websockets.
REFUSED, TOO_BIG, RESTART, LATER = 1008, 1009, 1012, 1013
# A client that does not read for so long is gone.
SEND_SECONDS = 60.0
Say = Callable[[dict[str, Any]], Awaitable[None]]


class _Stop(Exception):  # noqa: N818
    """The connection is to be closed, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class _Inbox:
    """The frames of a client, read at once and held until their turn comes: a ping never waits
    behind sound; GONE is the end.
    """

    GONE = None

    def __init__(self, socket: WebSocket, most_bytes: int) -> None:
        self._socket, self._most, self._held = socket, most_bytes, 0
        self._frames: deque[str | bytes | None] = deque()
        self.come = asyncio.Event()
        self.gone = asyncio.Event()
        self.over = False  # more waits than is allowed

    async def read(self) -> None:
        """Read to the end."""
        while not self.over:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                break
            text, content = message.get("text"), message.get("bytes")
            frame = content if content is not None else str(text)
            self._held += len(frame)
            self.over = self._held > self._most
            self._frames.append(frame)
            self.come.set()
        else:
            return
        self._frames.append(self.GONE)
        self.gone.set()
        self.come.set()

    def take(self) -> str | bytes | None:
        """The next frame; one must have come."""
        frame = self._frames.popleft()
        self._held -= len(frame or b"")
        return frame

    @property
    def waits(self) -> bool:
        """Whether there is one."""
        return bool(self._frames)


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
        self._telling.add_done_callback(_seen)

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


def _seen(task: asyncio.Task[None]) -> None:
    """Whatever ended a task that nobody waits for any more is known."""
    if not task.cancelled():
        task.exception()


class _Connection:
    """One client, whose utterances come one after another."""

    def __init__(self, socket: WebSocket, scheduler: Scheduler, sessions: Sessions) -> None:
        self.socket, self.scheduler, self.sessions = socket, scheduler, sessions
        self.options = scheduler.options
        most = int(self.options.max_backlog_s * scheduler.model.rate * 2)
        self.inbox = _Inbox(socket, max(most, 64 << 20))
        self.utterance: _Whole | _Live | None = None
        self.start = Start()  # of the newest utterance
        self.skipping = False  # the rest of one that has failed
        self.id = socket.scope["state"]["request_id"]

    async def serve(self) -> None:
        """To the end of the connection."""
        reading = asyncio.create_task(self.inbox.read())
        reading.add_done_callback(_seen)
        self.sessions.listeners.add(self.inbox.come)
        try:
            while (frame := await self._next()) is not _Inbox.GONE:
                await self._guarded(self._take(frame))
        except _Stop as stop:
            await self.socket.close(stop.code, stop.reason)
        finally:
            reading.cancel()
            self.sessions.listeners.discard(self.inbox.come)
            self._close()

    def _close(self) -> None:
        if self.utterance is not None:
            self.utterance.close()
            self.utterance = None

    async def _next(self) -> str | bytes | None:
        """The next frame. Who is silent for too long, and the end of the server, end the utterance,
        and then the connection.
        """
        while not self.inbox.waits:
            stop = self.sessions.flush if self.utterance else self.sessions.draining
            if stop.is_set():
                await self._guarded(self._end({}))
                raise _Stop(RESTART, "the server ends")
            self.inbox.come.clear()
            try:
                await asyncio.wait_for(self.inbox.come.wait(), self.options.idle_s)
            except asyncio.TimeoutError:
                await self._guarded(self._end({}))
                raise _Stop(REFUSED, f"no message for {self.options.idle_s:g} s") from None
        if self.inbox.over:
            await self._fail(BusyError("more sound waits than is allowed; send it more slowly"))
        return self.inbox.take()

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Do something for an utterance; it ends with its fault, if there is one."""
        try:
            await work
        except ParaformerError as error:
            await self._fail(error)

    async def _fail(self, error: ParaformerError) -> None:
        start, code = self.start, _code(error)
        self.scheduler.metrics.failed(code)
        log.info("id=%s door=%s mode=%s outcome=%s", self.id, DOOR, start.mode, code)
        self._close()
        self.skipping = True
        await self._say(messages.failed(start, code, str(error)))
        if isinstance(error, BusyError):
            raise _Stop(LATER, str(error)[:100])

    async def _take(self, frame: str | bytes) -> None:
        if isinstance(frame, bytes):
            if not self.skipping:
                self._utterance({}).put(frame)
            return
        message = messages.read_message(frame)
        if messages.ends(message):
            if self.skipping:  # its last message was that of the fault
                self.skipping = False
                await self._acknowledge(message)
            else:
                await self._end(message)
        elif self.utterance is None or message.get("is_speaking") is True:
            self.skipping = False
            self._close()
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
                self.utterance = _Live(self.start, self.scheduler, self._say)
        return self.utterance

    async def _end(self, message: dict[str, Any]) -> None:
        """The sound is at its end: say the rest, unless the client is gone."""
        if self.utterance is None and not message:
            return
        utterance, begun = self._utterance(message), time.perf_counter()
        try:
            seconds = await unless_gone(utterance.finish(self._say), self.inbox.gone.wait())
        except GoneError:
            return
        mode, waited = utterance.start.mode, time.perf_counter() - begun
        self.scheduler.metrics.ended(DOOR, "ok", waited)
        line = "id=%s door=%s mode=%s outcome=ok seconds=%.2f waited=%.3f"
        log.info(line, self.id, DOOR, mode, seconds, waited)
        self._close()
        await self._acknowledge(message)

    async def _acknowledge(self, message: dict[str, Any]) -> None:
        """Say once more that an utterance has ended, to a client that asks for it."""
        if message.get("is_end") is True:
            await self._say(messages.acknowledged(self.start))

    async def _say(self, message: dict[str, Any]) -> None:
        text = json.dumps(message, ensure_ascii=False)
        try:
            await asyncio.wait_for(self.socket.send_text(text), SEND_SECONDS)
        except asyncio.TimeoutError:
            raise _Stop(REFUSED, "the client does not read") from None


def _code(error: ParaformerError) -> str:
    """The kind of a fault, as clients read it."""
    if isinstance(error, BusyError):
        return "busy"
    return "internal" if isinstance(error, BrokenError) else "invalid_request"


class FunasrDoor:
    """The endpoint of the protocol."""

    def __init__(self, scheduler: Scheduler, sessions: Sessions) -> None:
        self.scheduler, self.sessions = scheduler, sessions

    async def serve(self, socket: WebSocket) -> None:
        """One connection, to its end."""
        offered = socket.scope.get("subprotocols", ())
        await socket.accept(PROTOCOL if PROTOCOL in offered else None)
        if not self.scheduler.ready.is_set():
            await socket.close(LATER, "the model is not loaded yet; try again")
            return
        try:
            with self.sessions.enter(DOOR):
                await _Connection(socket, self.scheduler, self.sessions).serve()
        except BusyError as error:
            self.scheduler.metrics.failed("busy")
            await socket.close(LATER, str(error)[:100])
        except WebSocketDisconnect:
            log.info("door=%s outcome=gone", DOOR)
