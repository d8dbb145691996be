"""OpenAI's audio API: `POST /v1/audio/transcriptions`, `GET /v1/models`."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from paraformer.api.service import Answer, ServedModel, Wishes
from paraformer.errors import ParaformerError
from paraformer.options import ServeOptions
from paraformer.server.gate import failure
from paraformer.server.scheduler import BrokenError, BusyError, Scheduler
from paraformer.server.sessions import GoneError, Sessions, unless_gone
from paraformer.server.sound import TooLargeError, Upload
from paraformer.server.turns import StoppedError
from paraformer.server.web import (
    ClientDisconnect,
    FormData,
    HTTPException,
    JSONResponse,
    Message,
    PlainTextResponse,
    Request,
    Response,
    Route,
    StreamingResponse,
    UploadFile,
)

log = logging.getLogger(__name__)

DOOR = "openai"
# What programs that know no other names call the model.
ALIASES = (
    "whisper-1",
    "gpt-transcribe",
    "gpt-4o-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-transcribe-diarize",
    "gpt-live-transcribe",
)
DIARIZED = "diarized_json"
FORMATS = ("json", "text", "srt", "vtt", "verbose_json", DIARIZED)
GRANULARITIES = ("word", "segment")
# Spellings of the languages that a model may know, and the name that an answer has.
LANGUAGES = {
    "zh": ("zh", "cmn", "chinese", "mandarin"),
    "en": ("en", "eng", "english"),
}
NAMES = {"zh": "chinese", "en": "english"}
PART = 1 << 20
# The status of an answer that nobody reads, since the client has left.
LEFT = 499
# That of one to a client that does not send the rest of its request.
STALLED = 408


class ApiError(Exception):
    """A request that is refused: with which status, and for which field."""

    def __init__(
        self, message: str, param: str | None = None, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.status, self.code = message, param, status, code


@dataclass(frozen=True)
class Wanted:
    """The wishes of an upload."""

    response_format: str = "json"
    words: bool = False
    segments: bool = True
    stream: bool = False
    logprobs: bool = False
    language: str = "zh"
    wishes: Wishes = Wishes()


def read_wanted(form: FormData, model: ServedModel, options: ServeOptions) -> Wanted:
    """The fields of a form, or an `ApiError`."""
    name = _text(form, "model")
    if name and name not in model_names(model, options):
        raise ApiError(f"The model '{name}' does not exist", "model", 404, "model_not_found")
    response_format = _text(form, "response_format") or "json"
    if response_format not in FORMATS:
        given = ", ".join(FORMATS)
        raise ApiError(f"response_format '{response_format}': use {given}", "response_format")
    if response_format == DIARIZED and not model.tells_speakers:
        message = "response_format diarized_json: this server has no spk_model"
        raise ApiError(message, "response_format")
    for name in ("known_speaker_names", "known_speaker_references"):
        if _list(form, name):
            raise ApiError(f"{name}: not supported; speakers are A, B ...", name)
    granularities = _list(form, "timestamp_granularities")
    if not {*granularities} <= {*GRANULARITIES}:
        raise ApiError("timestamp_granularities: use word, segment", "timestamp_granularities")
    if granularities and response_format != "verbose_json":
        raise ApiError(
            "timestamp_granularities: goes with response_format verbose_json",
            "timestamp_granularities",
        )
    hotwords = [word.strip() for word in _list(form, "keywords") if word.strip()]
    if len(hotwords) > options.max_hotwords:
        raise ApiError(f"keywords: more than {options.max_hotwords}", "keywords")
    return Wanted(
        response_format,
        "word" in granularities,
        not granularities or "segment" in granularities,
        _text(form, "stream").lower() in ("true", "1"),
        "logprobs" in _list(form, "include"),
        known_language([*_list(form, "language"), *_list(form, "languages")], model),
        Wishes(
            tuple(dict.fromkeys(hotwords)),
            itn=model.defaults.itn,
            speakers=response_format == DIARIZED,
        ),
    )


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    if not isinstance(value, str):
        raise ApiError(f"{name}: give a text, not a file", name)
    return value.strip()


def _list(form: FormData, name: str) -> list[str]:
    """The values of an array, whose name may have brackets."""
    values = [*form.getlist(f"{name}[]"), *form.getlist(name)]
    return [value for value in values if isinstance(value, str) and value]


def known_language(wished: Sequence[str], model: ServedModel) -> str:
    """The code of the first language that is wished, or of the model's; `ApiError` for another."""
    known = sorted(model.languages, reverse=True) or ["zh"]
    for given in wished:
        base = given.lower().replace("_", "-").partition("-")[0]
        found = [code for code, names in LANGUAGES.items() if base in names]
        if base == "auto":
            continue
        if not found or found[0] not in model.languages:
            raise ApiError(f"language '{given}': the model knows {', '.join(known)}", "language")
        return found[0]
    return known[0]


def model_names(model: ServedModel, options: ServeOptions) -> list[str]:
    """The names by which clients may ask for the one model that there is."""
    return list(dict.fromkeys((model.name, *options.names, *ALIASES)))


def body(wanted: Wanted, answer: Answer) -> Response:
    """The answer in the form that was asked for."""
    if wanted.response_format == "text":
        return PlainTextResponse(answer.text + "\n")
    if wanted.response_format in ("srt", "vtt"):
        return PlainTextResponse(answer.subtitles(wanted.response_format))
    if wanted.response_format == "verbose_json":
        return JSONResponse(_verbose(wanted, answer))
    if wanted.response_format == DIARIZED:
        return JSONResponse(_diarized(answer))
    found: dict[str, Any] = {"text": answer.text, "usage": _usage(answer)}
    if wanted.logprobs:
        found["logprobs"] = [
            {
                "token": word["text"],
                "logprob": _log(word.get("confidence")),
                "bytes": list(str(word["text"]).encode()),
            }
            for word in answer.words
        ]
    return JSONResponse(found)


def _usage(answer: Answer) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(answer.seconds)}


def _log(confidence: Any) -> float:
    return round(math.log(max(float(confidence or 0.0), 1e-9)), 4)


def _verbose(wanted: Wanted, answer: Answer) -> dict[str, Any]:
    """Times are in seconds; what is not known here is 0, for clients that want all keys."""
    found: dict[str, Any] = {
        "task": "transcribe",
        "language": NAMES[wanted.language],
        "duration": round(answer.seconds, 3),
        "text": answer.text,
        "usage": _usage(answer),
    }
    if wanted.words:
        found["words"] = [
            {"word": word["text"], "start": word["start"] / 1000, "end": word["end"] / 1000}
            for word in answer.words
        ]
    if wanted.segments:
        left = [_log(word.get("confidence")) for word in answer.words]
        found["segments"] = segments = list[dict[str, Any]]()
        for number, part in enumerate(answer.sentences):
            count = len(part.get("timestamp", ()))
            own, left = left[:count], left[count:]
            segments.append(_segment(number, part, own))
    return found


def _segment(number: int, part: Mapping[str, Any], logs: Sequence[float]) -> dict[str, Any]:
    return {
        "id": number,
        "seek": 0,
        "start": part["start"] / 1000,
        "end": part["end"] / 1000,
        "text": part["text"],
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(logs) / len(logs), 4) if logs else 0.0,
        "compression_ratio": 0.0,
        "no_speech_prob": 0.0,
    }


def _diarized(answer: Answer) -> dict[str, Any]:
    """The sentences of a recording, and who says each."""
    return {
        "task": "transcribe",
        "duration": round(answer.seconds, 3),
        "text": answer.text,
        "segments": _spoken(answer),
        "usage": _usage(answer),
    }


def _spoken(answer: Answer) -> list[dict[str, Any]]:
    return [
        {
            "type": "transcript.text.segment",
            "id": f"seg_{number:03d}",
            "start": part["start"] / 1000,
            "end": part["end"] / 1000,
            "text": part["text"],
            "speaker": part.get("spk_name") or speaker_letter(int(part.get("spk", 0))),
        }
        for number, part in enumerate(answer.sentences, 1)
    ]


def speaker_letter(number: int) -> str:
    """The name of a speaker that has none.

    >>> speaker_letter(0), speaker_letter(25), speaker_letter(26)
    ('A', 'Z', 'AA')
    """
    before, last = divmod(number, 26)
    return (speaker_letter(before - 1) if before else "") + chr(ord("A") + last)


def event_lines(answer: Answer, diarized: bool = False) -> list[str]:
    """Server-sent events whose deltas, joined, are the text; diarized: of who says it, too."""
    parts = [str(part["text"]) for part in answer.sentences]
    if "".join(parts) != answer.text:
        parts = [answer.text] if answer.text else []
    events = [{"type": "transcript.text.delta", "delta": part} for part in parts]
    events += _spoken(answer) if diarized else []
    done = {"type": "transcript.text.done", "text": answer.text, "usage": _usage(answer)}
    return [*(_event(json.dumps(each)) for each in (*events, done)), _event("[DONE]")]


def _event(data: str) -> str:
    return f"data: {data}\n\n"


def error_body(error: ApiError) -> dict[str, Any]:
    """The answer of which a client shows the message."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    kind = "rate_limit_error" if error.status == 429 else kind
    told = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return {"error": told}


def as_api_error(error: ParaformerError) -> ApiError:
    """The status that says whether another try is of use: none is for bad sound."""
    if isinstance(error, TooLargeError):
        return ApiError(str(error), "file", 413, "too_large")
    if isinstance(error, BusyError):
        return ApiError(str(error), None, 429, "busy")
    if isinstance(error, StoppedError):
        return ApiError(str(error), None, 503, "server_ends")
    if isinstance(error, BrokenError):
        return ApiError(str(error), None, 500, "internal")
    return ApiError(str(error), "file", 400, "invalid_audio")


class OpenaiDoor:
    """The endpoints of the API."""

    def __init__(self, scheduler: Scheduler, sessions: Sessions) -> None:
        self.scheduler, self.sessions = scheduler, sessions
        self.options = scheduler.options
        self.begun = int(time.time())

    def routes(self) -> list[Route]:
        """Where they are."""
        return [
            Route("/v1/audio/transcriptions", self.transcribe, methods=["POST"]),
            Route("/v1/audio/translations", self.translate, methods=["POST"]),
            Route("/v1/models", self.models, methods=["GET"]),
            Route("/v1/models/{name:path}", self.model, methods=["GET"]),
        ]

    async def translate(self, request: Request) -> Response:
        """There is none."""
        message = "translation is not supported; use /v1/audio/transcriptions"
        return failure(400, message, "invalid_request_error", "not_supported")

    async def models(self, request: Request) -> Response:
        """All names of the model."""
        if not self.scheduler.ready.is_set():
            return self._loading()
        names = model_names(self.scheduler.model, self.options)
        return JSONResponse({"object": "list", "data": [self._card(name) for name in names]})

    async def model(self, request: Request) -> Response:
        """One of them."""
        if not self.scheduler.ready.is_set():
            return self._loading()
        name = request.path_params["name"]
        if name not in model_names(self.scheduler.model, self.options):
            error = ApiError(f"The model '{name}' does not exist", "model", 404, "model_not_found")
            return JSONResponse(error_body(error), 404)
        return JSONResponse(self._card(name))

    def _card(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self.begun, "owned_by": "paraformer"}

    def _loading(self) -> Response:
        response = failure(503, "the model is not loaded yet", "server_error", "not_ready")
        response.headers["retry-after"] = "2"
        return response

    async def transcribe(self, request: Request) -> Response:
        """The text of an upload."""
        if not self.scheduler.ready.is_set():
            return self._loading()
        try:
            with self.sessions.enter(DOOR):
                self.scheduler.check_room()
                return await self._transcribed(request)
        except ApiError as error:
            return self._refused(error)
        except (ClientDisconnect, GoneError):
            log.info("id=%s door=%s outcome=gone", request.state.request_id, DOOR)
            return Response(status_code=LEFT)
        except BusyError as error:
            return self._refused(as_api_error(error), error.retry_seconds)
        except ParaformerError as error:
            return self._refused(as_api_error(error))

    def _refused(self, error: ApiError, retry_seconds: int = 1) -> Response:
        self.scheduler.metrics.failed(error.code or "invalid_request")
        headers = {"retry-after": str(retry_seconds)} if error.status in (429, 503) else {}
        headers |= {"connection": "close"} if error.status == STALLED else {}
        return JSONResponse(error_body(error), error.status, headers)

    async def _transcribed(self, request: Request) -> Response:
        upload = Upload(self.options.max_upload_mb << 20)
        begun = time.perf_counter()
        try:
            wanted = await self._read(request, upload)
            wave = await asyncio.to_thread(
                upload.read, self.scheduler.model.rate, self.options.max_seconds
            )
        finally:
            await asyncio.to_thread(upload.close)
        work = self.scheduler.recognise(wave, wanted.wishes)
        answer = await unless_gone(work, _left(request))
        waited = time.perf_counter() - begun
        self.scheduler.metrics.ended(DOOR, "ok", waited)
        line = "id=%s door=%s outcome=ok seconds=%.2f waited=%.3f"
        log.info(line, request.state.request_id, DOOR, answer.seconds, waited)
        if not wanted.stream:
            return body(wanted, answer)
        lines = event_lines(answer, wanted.wishes.speakers)
        return StreamingResponse(_events(lines), media_type="text/event-stream")

    async def _read(self, request: Request, upload: Upload) -> Wanted:
        """The fields of a request, and its file in `upload`."""
        request = _limited(request, self.options.max_upload_mb << 20, self.options.idle_s)
        try:
            async with request.form(max_files=4, max_fields=2000) as form:
                wanted = read_wanted(form, self.scheduler.model, self.options)
                file = form.get("file")
                if not isinstance(file, UploadFile):
                    raise ApiError("file: give a recording as a file", "file")
                await asyncio.to_thread(_copy, file.file, upload)
        except HTTPException as error:
            raise ApiError(str(error.detail), None, error.status_code) from error
        return wanted


def _limited(request: Request, most: int, idle_seconds: float) -> Request:
    """The request, refused where it says that it is too large, or as soon as it is, or where the
    rest of it does not come.
    """
    told = request.headers.get("content-length", "")
    fault = TooLargeError(f"audio: more than {most} bytes; send it in parts")
    if told.isdigit() and int(told) > most + PART:
        raise fault
    size = 0

    async def counted() -> Message:
        nonlocal size
        try:
            message = await asyncio.wait_for(request.receive(), idle_seconds)
        except asyncio.TimeoutError:
            waited = f"no more of the request came for {idle_seconds:g} s"
            raise ApiError(waited, None, STALLED, "timeout") from None
        size += len(message.get("body", b""))
        if size > most + PART:
            raise fault
        return message

    return Request(request.scope, counted)


async def _left(request: Request) -> None:
    """Wait until the client, whose request was read, has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _copy(file: BinaryIO, upload: Upload) -> None:
    while part := file.read(PART):
        upload.add(part)


async def _events(lines: Sequence[str]) -> AsyncIterator[str]:
    for line in lines:
        yield line
