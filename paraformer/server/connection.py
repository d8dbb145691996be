"""A websocket of any protocol: frames are read at once, silence and the end of the server end it,
a fault of the client's is told and leaves the connection.
"""

from __future__ import annotations

import asyncio
import json
import logging
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from paraformer.errors import ParaformerError
from paraformer.server.scheduler import BrokenError, BusyError, Scheduler
from paraformer.server.sessions import Sessions
from paraformer.server.web import WebSocket, WebSocketDisconnect

log = logging.getLogger(__name__)

# Closing codes of websockets.
REFUSED, RESTART, LATER = 1008, 1012, 1013
# A client that does not read for so long is gone.
SEND_SECONDS = 60.0
# For the word that the connection is closed; it may not fit behind what was not read.
CLOSE_SECONDS = 1.0


class Stop(Exception):  # noqa: N818
    """The connection is to be closed, with a code and a reason."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code, self.reason = code, reason


class Inbox:
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


class Connection(ABC):
    """One client."""

    DOOR = ""

    def __init__(self, socket: WebSocket, scheduler: Scheduler, sessions: Sessions) -> None:
        self.socket, self.scheduler, self.sessions = socket, scheduler, sessions
        self.options = scheduler.options
        most = int(self.options.max_backlog_s * scheduler.model.rate * 2)
        self.inbox = Inbox(socket, max(most, 64 << 20))
        self.id = socket.scope["state"]["request_id"]

    async def serve(self) -> None:
        """To the end of the connection."""
        reading = asyncio.create_task(self.inbox.read())
        reading.add_done_callback(seen)
        self.sessions.listeners.add(self.inbox.come)
        try:
            await self.begin()
            while (frame := await self._next()) is not Inbox.GONE:
                await self.guarded(self.take(frame))
        except Stop as stop:
            await self._leave(stop)
        finally:
            reading.cancel()
            self.sessions.listeners.discard(self.inbox.come)
            self.close()

    async def _leave(self, stop: Stop) -> None:
        """Close the connection; a client that reads nothing any more does not hold the session."""
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.socket.close(stop.code, stop.reason), CLOSE_SECONDS)

    async def begin(self) -> None:
        """Say what comes first."""
        return

    @property
    @abstractmethod
    def speaking(self) -> bool:
        """Whether sound is open, of which the rest is to be said before the server ends."""

    @abstractmethod
    async def take(self, frame: str | bytes) -> None:
        """Do what a frame asks for."""

    @abstractmethod
    async def end(self) -> None:
        """Say the rest of what is open, if anything is."""

    @abstractmethod
    async def fail(self, error: ParaformerError) -> None:
        """Tell the client of a fault."""

    @abstractmethod
    def close(self) -> None:
        """Forget what is open."""

    async def _next(self) -> str | bytes | None:
        """The next frame. Who is silent for too long, and the end of the server, end the utterance,
        and then the connection.
        """
        while not self.inbox.waits:
            stop = self.sessions.flush if self.speaking else self.sessions.draining
            if stop.is_set():
                await self.guarded(self.end())
                raise Stop(RESTART, "the server ends")
            self.inbox.come.clear()
            try:
                await asyncio.wait_for(self.inbox.come.wait(), self.options.idle_s)
            except asyncio.TimeoutError:
                await self.guarded(self.end())
                raise Stop(REFUSED, f"no message for {self.options.idle_s:g} s") from None
        if self.inbox.over:
            await self.fault(BusyError("more sound waits than is allowed; send it more slowly"))
        return self.inbox.take()

    async def guarded(self, work: Awaitable[None]) -> None:
        """Do something, whose fault is told, if there is one."""
        try:
            await work
        except ParaformerError as error:
            await self.fault(error)

    async def fault(self, error: ParaformerError) -> None:
        """Count and tell a fault; a client for which there is no room is closed."""
        code = code_of_error(error)
        self.scheduler.metrics.failed(code)
        log.info("id=%s door=%s outcome=%s", self.id, self.DOOR, code)
        await self.fail(error)
        if isinstance(error, BusyError):
            raise Stop(LATER, str(error)[:100])

    async def say(self, message: dict[str, Any]) -> None:
        """Send an object."""
        text = json.dumps(message, ensure_ascii=False)
        try:
            await asyncio.wait_for(self.socket.send_text(text), SEND_SECONDS)
        except asyncio.TimeoutError:
            raise Stop(REFUSED, "the client does not read") from None


def seen(task: asyncio.Task[None]) -> None:
    """Whatever ended a task that nobody waits for any more is known."""
    if not task.cancelled():
        task.exception()


def code_of_error(error: ParaformerError) -> str:
    """The kind of a fault, as clients read it."""
    if isinstance(error, BusyError):
        return "busy"
    return "internal" if isinstance(error, BrokenError) else "invalid_request"


async def serve_socket(
    make: Callable[[WebSocket, Scheduler, Sessions], Connection],
    door: str,
    protocol: str,
    socket: WebSocket,
    scheduler: Scheduler,
    sessions: Sessions,
) -> None:
    """One connection of a door, to its end; protocol: the subprotocol that is taken if offered."""
    offered = socket.scope.get("subprotocols", ())
    await socket.accept(protocol if protocol in offered else None)
    if not scheduler.ready.is_set():
        await socket.close(LATER, "the model is not loaded yet; try again")
        return
    try:
        with sessions.enter(door):
            await make(socket, scheduler, sessions).serve()
    except BusyError as error:
        scheduler.metrics.failed("busy")
        await socket.close(LATER, str(error)[:100])
    except WebSocketDisconnect:
        log.info("door=%s outcome=gone", door)
