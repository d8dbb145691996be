"""OpenAI's realtime transcription: a websocket at `/v1/realtime`, whose turns the VAD finds, or the
client ends. Deltas come while somebody speaks, and are never taken back; what is completed is the
text of the second pass.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import math
import time
import uuid
from collections.abc import Mapping
from typing import Any

from paraformer.api.live import FINAL, START
from paraformer.api.service import Answer, News, Wishes, joined
from paraformer.errors import DataError, ParaformerError
from paraformer.server.connection import (
    REFUSED,
    Connection,
    Stop,
    code_of_error,
    seen,
    serve_socket,
)
from paraformer.server.funasr_messages import read_message
from paraformer.server.realtime_messages import (
    RequestError,
    Wanted,
    effective,
    finds_turns,
    read_session,
)
from paraformer.server.scheduler import Scheduler
from paraformer.server.sessions import GoneError, Sessions, unless_gone
from paraformer.server.sound import SoundStream
from paraformer.server.web import WebSocket

log = logging.getLogger(__name__)

DOOR, PROTOCOL = "realtime", "realtime"
# Less sound than this is no turn of a client that says where turns end.
LEAST_MS = 100


class _Turn:
    """The words between two ends, by their id; times are in ms from the start of the session."""

    def __init__(self, before: str | None) -> None:
        self.id, self.before = f"item_{uuid.uuid4().hex[:21]}", before
        self.answers: list[Answer] = []
        self.shown = ""  # of the segment that is open


class _Heard:
    """The sound since the last commit, or since the session has changed."""

    def __init__(self, session: _Session, begin_ms: float) -> None:
        wanted, scheduler = session.wanted, session.scheduler
        wishes = Wishes(wanted.keywords, itn=scheduler.model.defaults.itn)
        options, self.rate = scheduler.options, scheduler.model.rate
        most = options.max_upload_mb << 20, math.inf
        self.session, self.begin_ms = session, begin_ms
        self.sound = SoundStream(wanted.form, wanted.fs, self.rate, *most, raw=True)
        self.stream = scheduler.stream(wishes)
        self.turns = finds_turns(wanted, scheduler.model)
        self.turn = None if self.turns else session.turn()
        self.begun = 0.0
        self.telling = asyncio.create_task(self._tell())
        self.telling.add_done_callback(seen)

    @property
    def ms(self) -> float:
        """How much there is."""
        return 1000 * self.stream.heard / self.rate

    def put(self, part: bytes) -> None:
        """More bytes of sound."""
        if self.telling.done() and (error := self.telling.exception()):
            raise error
        self.begun = self.begun or time.perf_counter()
        self.stream.put(self.sound.take(part))

    async def finish(self) -> None:
        """Say the rest."""
        self.stream.put(self.sound.end())
        self.stream.end()
        await self.telling
        if self.stream.last is not None:
            await self._tell_one(self.stream.last)
        if not self.turns and self.turn is not None:
            await self.complete(self.turn, self.ms)

    def close(self) -> None:
        """Forget it."""
        self.telling.cancel()
        self.stream.drop()
        self.sound.close()

    async def _tell(self) -> None:
        async for news in self.stream.news():
            await self._tell_one(news)

    async def _tell_one(self, news: News) -> None:
        session = self.session
        if news.kind == START:
            if self.turns:
                self.turn = session.turn()
                start = round(self.begin_ms + news.start_ms)
                await session.event(
                    "input_audio_buffer.speech_started", item_id=self.turn.id, audio_start_ms=start
                )
            return
        turn = self.turn = self.turn or session.turn()
        if news.kind == FINAL:
            turn.answers.append(news.answer)
            turn.shown = ""
            if self.turns:
                end = round(self.begin_ms + news.end_ms)
                await session.event(
                    "input_audio_buffer.speech_stopped", item_id=turn.id, audio_end_ms=end
                )
                await session.committed(turn)
                self.turn = None
                await self.complete(turn, news.end_ms - news.start_ms)
        elif len(news.answer.text) > len(turn.shown):
            if not turn.shown and not turn.answers:
                waited = time.perf_counter() - self.begun
                session.scheduler.metrics.first_word.observe(waited)
            delta, turn.shown = news.answer.text[len(turn.shown) :], news.answer.text
            await session.transcribed(turn, "delta", delta=delta)

    async def complete(self, turn: _Turn, ms: float) -> None:
        """Say the text of a turn of so many ms."""
        usage = {"type": "duration", "seconds": math.ceil(ms / 1000)}
        text = joined(turn.answers)
        await self.session.transcribed(turn, "completed", transcript=text, usage=usage)


class _Session(Connection):
    """One client, and what it has asked for."""

    DOOR = DOOR

    def __init__(self, socket: WebSocket, scheduler: Scheduler, sessions: Sessions) -> None:
        super().__init__(socket, scheduler, sessions)
        self.wanted = Wanted(model=socket.query_params.get("model", ""))
        self.name = f"sess_{uuid.uuid4().hex[:21]}"
        self.heard: _Heard | None = None
        self.begin_ms = 0.0  # of what is heard next
        self.last: str | None = None  # the turn before
        self.asked: str | None = None  # the id of the event that is answered

    @property
    def speaking(self) -> bool:
        """See `Connection`."""
        return self.heard is not None

    async def begin(self) -> None:
        """See `Connection`."""
        model = self.scheduler.model
        if model.deaf:
            await self.fail(DataError(model.deaf))
            raise Stop(REFUSED, model.deaf[:100])
        try:
            update = {"audio": {"input": {"transcription": {"model": self.wanted.model}}}}
            self.wanted = read_session(self.wanted, update, model, self.options)
        except DataError as error:
            await self.fail(error)
            raise Stop(REFUSED, str(error)[:100]) from None
        await self.event("session.created", session=self.effective())

    def effective(self) -> dict[str, Any]:
        """The session as it is in effect."""
        return effective(self.wanted, self.name, self.scheduler.model)

    def turn(self) -> _Turn:
        """A new turn behind the last one."""
        found = _Turn(self.last)
        self.last = found.id
        return found

    async def event(self, kind: str, **fields: Any) -> None:
        """Send an event."""
        await self.say({"type": kind, "event_id": f"event_{uuid.uuid4().hex[:21]}", **fields})

    async def committed(self, turn: _Turn) -> None:
        """Say that a turn has its place among the others."""
        place = {"previous_item_id": turn.before}
        await self.event("input_audio_buffer.committed", item_id=turn.id, **place)
        content = [{"type": "input_audio", "transcript": None}]
        item = {"id": turn.id, "type": "message", "role": "user", "status": "completed"}
        item_with = {**item, "object": "realtime.item", "content": content}
        await self.event("conversation.item.added", item=item_with, **place)

    async def transcribed(self, turn: _Turn, kind: str, **fields: Any) -> None:
        """Say something of the text of a turn."""
        kind = f"conversation.item.input_audio_transcription.{kind}"
        await self.event(kind, item_id=turn.id, content_index=0, **fields)

    async def take(self, frame: str | bytes) -> None:
        """See `Connection`."""
        self.asked = None
        if isinstance(frame, bytes):
            raise RequestError("binary frames have no meaning here; send events as JSON")
        try:
            event = read_message(frame)
        except DataError as error:
            raise RequestError(str(error), code="invalid_json") from error
        given, kind = event.get("event_id"), event.get("type")
        self.asked = given if isinstance(given, str) else None
        work = {
            "session.update": self._update,
            "input_audio_buffer.append": self._append,
            "input_audio_buffer.commit": self._commit,
            "input_audio_buffer.clear": self._clear,
        }.get(str(kind))
        if work is None:
            raise RequestError(f"type '{str(kind)[:60]}': no event of transcription", "type")
        await work(event)

    async def _update(self, event: Mapping[str, Any]) -> None:
        wanted = read_session(self.wanted, event.get("session"), self.scheduler.model, self.options)
        if wanted != self.wanted:
            await self.end()
        self.wanted = wanted
        await self.event("session.updated", session=self.effective())

    async def _append(self, event: Mapping[str, Any]) -> None:
        try:
            sound = base64.b64decode(str(event.get("audio", "")), validate=True)
        except (binascii.Error, ValueError) as error:
            raise RequestError(f"audio: no base64 ({error})", "audio") from error
        if sound:
            self.heard = self.heard or _Heard(self, self.begin_ms)
            self.heard.put(sound)

    async def _commit(self, event: Mapping[str, Any]) -> None:
        ms = self.heard.ms if self.heard else 0.0
        if ms < LEAST_MS:
            message = f"the buffer holds {ms:.0f} ms of sound; commit {LEAST_MS} ms or more"
            raise RequestError(message, code="input_audio_buffer_commit_empty")
        await self.end(said=True)

    async def _clear(self, event: Mapping[str, Any]) -> None:
        self.close()
        await self.event("input_audio_buffer.cleared")

    async def end(self, said: bool = False) -> None:
        """See `Connection`; said: the client says that its turn ends."""
        if self.heard is None:
            return
        heard, begun, before = self.heard, time.perf_counter(), self.last
        within = heard.turn is not None  # a turn
        if not heard.turns and heard.turn is not None:
            await self.committed(heard.turn)
        try:
            await unless_gone(heard.finish(), self.inbox.gone.wait())
        except GoneError:
            self.close()
            return
        if said and not within and self.last == before:  # nobody has spoken
            turn = self.turn()
            await self.committed(turn)
            await heard.complete(turn, heard.ms)
        waited = time.perf_counter() - begun
        self.scheduler.metrics.ended(DOOR, "ok", waited)
        line = "id=%s door=%s outcome=ok seconds=%.2f waited=%.3f"
        log.info(line, self.id, DOOR, heard.ms / 1000, waited)
        self.close()

    async def fail(self, error: ParaformerError) -> None:
        """See `Connection`: a request that is refused leaves the sound as it is."""
        code, param, turn = code_of_error(error), None, None
        kind = "server_error" if code == "internal" else "invalid_request_error"
        if isinstance(error, RequestError):
            code, param = error.code or code, error.param
        else:
            turn = self.heard.turn if self.heard else None
            self.close()
        told = {"type": kind, "code": code, "message": str(error), "param": param}
        if turn is not None:
            await self.transcribed(turn, "failed", error=told)
        else:
            await self.event("error", error={**told, "event_id": self.asked})

    def close(self) -> None:
        """See `Connection`."""
        if self.heard is not None:
            self.begin_ms += self.heard.ms
            self.heard.close()
            self.heard = None


class RealtimeDoor:
    """The endpoint."""

    def __init__(self, scheduler: Scheduler, sessions: Sessions) -> None:
        self.scheduler, self.sessions = scheduler, sessions

    async def serve(self, socket: WebSocket) -> None:
        """One connection, to its end."""
        await serve_socket(_Session, DOOR, PROTOCOL, socket, self.scheduler, self.sessions)
