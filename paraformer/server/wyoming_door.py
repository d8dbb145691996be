"""The Wyoming protocol, by which Home Assistant asks for text: a line of JSON an event, and bytes
of sound behind it. It has no token and no TLS, by design.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import numpy as np

from paraformer import __version__
from paraformer.api.live import FINAL, START
from paraformer.api.service import Answer, ServedModel, Wishes, joined
from paraformer.documents import parse_json
from paraformer.errors import DataError, ParaformerError
from paraformer.limits import RATE
from paraformer.server.connection import CLOSE_SECONDS, SEND_SECONDS, code_of_error, seen
from paraformer.server.funasr_messages import read_hotwords
from paraformer.server.openai_door import ApiError, known_language
from paraformer.server.scheduler import Scheduler
from paraformer.server.sessions import GoneError, Sessions
from paraformer.server.sound import SoundStream, Upload

log = logging.getLogger(__name__)

DOOR, VERSION = "wyoming", "1.10.2"  # of the protocol
# Bytes of a line, of its data, and of the sound behind it.
MOST_LINE, MOST_DATA, MOST_PAYLOAD = 1 << 20, 1 << 20, 16 << 20
WIDTHS = (1, 2, 3, 4)


class Event(NamedTuple):
    """One event of either side."""

    kind: str
    data: Mapping[str, Any]
    payload: bytes = b""


async def read_event(reader: asyncio.StreamReader) -> Event | None:
    """The next event; None: the client has left, or sends something else."""
    try:
        line = await reader.readuntil(b"\n")
        head = parse_json(line)
        sizes = [int(head.get(name) or 0) for name in ("data_length", "payload_length")]
        if not (0 <= sizes[0] <= MOST_DATA and 0 <= sizes[1] <= MOST_PAYLOAD):
            return None
        more, payload = [await reader.readexactly(size) for size in sizes]
        data = {**(head.get("data") or {}), **(parse_json(more) if more else {})}
        return Event(str(head["type"]), data, payload)
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def event_line(kind: str, **data: Any) -> bytes:
    """An event without sound as it is sent.

    >>> event_line("pong", text="x")
    b'{"type": "pong", "version": "1.10.2", "data": {"text": "x"}}\\n'
    """
    event = {"type": kind, "version": VERSION, "data": data}
    return json.dumps(event, ensure_ascii=False).encode() + b"\n"


def info(model: ServedModel) -> dict[str, Any]:
    """The answer to `describe`."""
    known = {
        "attribution": {"name": "paraformer-toolkit", "url": "https://arxiv.org/abs/2206.08317"},
        "installed": True,
        "version": __version__,
    }
    languages = sorted(model.languages, reverse=True) or ["zh"]
    card = {"name": model.name, "description": model.name, "languages": languages, **known}
    program = {
        "name": "paraformer",
        "description": "Speech recognition by Paraformer",
        **known,
        "models": [card],
        "supports_transcript_streaming": not model.deaf,
        "requires_external_vad": False,
        "prefers_auto_gain_enabled": False,
        "prefers_noise_reduction_enabled": False,
    }
    others = ("tts", "handle", "intent", "wake", "mic", "snd")
    return {"asr": [program], **{name: [] for name in others}, "satellite": None}


def mono16(content: bytes, width: int, channels: int) -> bytes:
    """Samples of so many bytes and channels as 16 bits of one channel.

    >>> mono16(bytes([0, 1, 0, 3]), 2, 2), mono16(bytes([9, 0, 1]), 3, 1)
    (b'\\x00\\x02', b'\\x00\\x01')
    """
    if (width, channels) == (2, 1):
        return content
    size = width * channels
    parts = np.frombuffer(content[: len(content) // size * size], dtype=np.uint8)
    parts = parts.reshape(-1, width)[:, -2:]
    if width == 1:
        parts = np.concatenate([np.zeros_like(parts), parts], axis=1)
    samples = np.ascontiguousarray(parts).view("<i2").reshape(-1, channels)
    return samples.mean(axis=1).astype("<i2").tobytes()


class _Command:
    """One command that somebody speaks, heard as it comes, or whole by a model that hears no
    streams.
    """

    def __init__(self, speaker: _Speaker, wishes: Wishes, form: Mapping[str, Any]) -> None:
        scheduler, options = speaker.scheduler, speaker.scheduler.options
        self.speaker, self.wishes, self.rate = speaker, wishes, scheduler.model.rate
        self.fs, self.width, self.channels = (
            int(form.get(name) or usual)
            for name, usual in (("rate", 16000), ("width", 2), ("channels", 1))
        )
        if not RATE.allow(self.fs) or self.width not in WIDTHS or not 0 < self.channels <= 64:
            raise DataError(f"audio: give a rate ({RATE}), a width of 1 to 4 bytes, channels")
        most = options.max_upload_mb << 20
        self.answers: list[Answer] = []
        self.upload = self.sound = self.stream = self.telling = None
        if scheduler.model.deaf:
            self.upload = Upload(most)
            return
        self.sound = SoundStream("pcm", self.fs, self.rate, most, options.max_seconds, raw=True)
        self.stream = scheduler.stream(wishes)
        self.telling = asyncio.create_task(self._tell())
        self.telling.add_done_callback(seen)

    def put(self, content: bytes) -> None:
        """More of its sound."""
        content = mono16(content, self.width, self.channels)
        if self.upload is not None:
            self.upload.add(content)
        elif self.stream is not None and self.sound is not None:
            if self.telling is not None and self.telling.done():
                self.telling.result()
            self.stream.put(self.sound.take(content))

    async def finish(self) -> str:
        """All of its text."""
        if self.upload is not None:
            if not self.upload.size:
                return ""
            scheduler = self.speaker.scheduler
            most = scheduler.options.max_seconds
            wave = await asyncio.to_thread(self.upload.read, self.rate, most, self.fs)
            return (await scheduler.recognise(wave, self.wishes)).text
        assert self.stream is not None and self.sound is not None and self.telling is not None
        self.stream.put(self.sound.end())
        self.stream.end()
        await self.telling
        if self.stream.last is not None:
            self.answers.append(self.stream.last.answer)
        return joined(self.answers)

    async def _tell(self) -> None:
        """Say new words as they are heard."""
        shown = ""
        assert self.stream is not None
        async for news in self.stream.news():
            if news.kind in (START, FINAL):
                self.answers += [news.answer] if news.kind == FINAL else []
                shown = ""
            elif len(news.answer.text) > len(shown):
                chunk, shown = news.answer.text[len(shown) :], news.answer.text
                await self.speaker.say("transcript-chunk", text=chunk)

    def close(self) -> None:
        """Forget it."""
        if self.telling is not None:
            self.telling.cancel()
        for part in (self.upload, self.sound):
            if part is not None:
                part.close()
        if self.stream is not None:
            self.stream.drop()


class _Speaker:
    """One client."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        scheduler: Scheduler,
        sessions: Sessions,
    ) -> None:
        self._reader, self._writer = reader, writer
        self.scheduler, self.sessions = scheduler, sessions
        self._reading: asyncio.Task[Event | None] | None = None
        self._come = asyncio.Event()
        self._asked: Mapping[str, Any] = {}  # by the newest `transcribe`
        self._command: _Command | None = None
        self._room = ExitStack()

    async def serve(self) -> None:
        """To the end of the connection."""
        self.sessions.listeners.add(self._come)
        try:
            while (event := await self._next()) is not None:
                await self._guarded(event)
        except GoneError:
            log.info("door=%s outcome=gone", DOOR)
        finally:
            self.sessions.listeners.discard(self._come)
            self._close()
            if self._reading is not None:
                self._reading.cancel()

    async def say(self, kind: str, **data: Any) -> None:
        """Send an event; `GoneError` where nobody reads."""
        try:
            self._writer.write(event_line(kind, **data))
            await asyncio.wait_for(self._writer.drain(), SEND_SECONDS)
        except (OSError, asyncio.TimeoutError) as error:
            raise GoneError from error

    async def _next(self) -> Event | None:
        """The next event; None: the client has left, was silent for too long, or the server ends,
        behind the end of what it was saying.
        """
        reading = self._read()
        end = time.monotonic() + self.scheduler.options.idle_s
        while not reading.done():
            stop = self.sessions.flush if self._command else self.sessions.draining
            left = end - time.monotonic()
            if stop.is_set() or left <= 0:
                await self._guarded(Event("audio-stop", {}))
                return None
            self._come.clear()
            coming = asyncio.ensure_future(self._come.wait())
            both = {reading, coming}
            await asyncio.wait(both, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            coming.cancel()
        self._reading = None
        return reading.result()

    def _read(self) -> asyncio.Task[Event | None]:
        if self._reading is None:
            self._reading = asyncio.create_task(read_event(self._reader))
        return self._reading

    async def _guarded(self, event: Event) -> None:
        """Do what an event asks for; what cannot be done is told."""
        try:
            await self._take(event)
        except (ApiError, ParaformerError) as error:
            code = code_of_error(error) if isinstance(error, ParaformerError) else "invalid_request"
            self.scheduler.metrics.failed(code)
            log.info("door=%s outcome=%s", DOOR, code)
            self._close()
            await self.say("error", text=str(error), code=code)

    async def _take(self, event: Event) -> None:
        if event.kind == "describe":
            await self.scheduler.ready.wait()
            await self.say("info", **info(self.scheduler.model))
        elif event.kind == "ping":
            await self.say("pong", **event.data)
        elif event.kind == "transcribe":
            self._close()
            self._asked = event.data
        elif event.kind in ("audio-start", "audio-chunk"):
            if event.kind == "audio-start":
                self._close()
            if self._command is None:
                await self._begin(event.data)
            if self._command is not None:
                self._command.put(event.payload)
        elif event.kind == "audio-stop":
            await self._finish()

    async def _begin(self, form: Mapping[str, Any]) -> None:
        await self.scheduler.ready.wait()
        model, options = self.scheduler.model, self.scheduler.options
        words = [
            word
            for name in ("transcript_names", "transcript_terms")
            for word in self._asked.get(name) or ()
        ]
        language = str(self._asked.get("language") or "")
        known_language([language] * bool(language), model)
        self._room.enter_context(self.sessions.enter(DOOR))
        hotwords = tuple(read_hotwords(words, options.max_hotwords))
        self._command = _Command(self, Wishes(hotwords, itn=model.defaults.itn), form)
        if not model.deaf:
            await self.say("transcript-start", language=self._language)

    @property
    def _language(self) -> str:
        known = sorted(self.scheduler.model.languages, reverse=True) or ["zh"]
        return str(self._asked.get("language") or known[0])

    async def _finish(self) -> None:
        """Say the text of the command; of none, an empty one."""
        await self.scheduler.ready.wait()
        text, command, begun = "", self._command, time.perf_counter()
        if command is not None:
            text = await self._unless_gone(command)
            waited = time.perf_counter() - begun
            self.scheduler.metrics.ended(DOOR, "ok", waited)
            log.info("door=%s outcome=ok waited=%.3f", DOOR, waited)
        self._close()
        await self.say("transcript", text=text, language=self._language)
        if command is not None and not self.scheduler.model.deaf:
            await self.say("transcript-stop")

    async def _unless_gone(self, command: _Command) -> str:
        """The text of a command; `GoneError` where the client leaves before, whose next event may
        come meanwhile.
        """
        work, reading = asyncio.create_task(command.finish()), self._read()
        try:
            await asyncio.wait({work, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and reading.result() is None:
                raise GoneError
            return await work
        finally:
            work.cancel()
            with suppress(asyncio.CancelledError, ParaformerError, GoneError):
                await work

    def _close(self) -> None:
        if self._command is not None:
            self._command.close()
            self._command = None
        self._room.close()


class WyomingDoor:
    """A server of the protocol at a port of its own."""

    def __init__(self, scheduler: Scheduler, sessions: Sessions) -> None:
        self.scheduler, self.sessions = scheduler, sessions

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        try:
            await _Speaker(reader, writer, self.scheduler, self.sessions).serve()
        finally:
            writer.close()
            try:
                await asyncio.wait_for(writer.wait_closed(), CLOSE_SECONDS)
            except asyncio.TimeoutError:  # the client does not read what was written last
                writer.transport.abort()
            except OSError:
                pass
