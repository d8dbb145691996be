"""The session of OpenAI's realtime transcription: what a client asks for, and what is in effect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from paraformer.api.service import ServedModel
from paraformer.errors import DataError
from paraformer.limits import RATE
from paraformer.options import ServeOptions
from paraformer.server.funasr_messages import read_hotwords
from paraformer.server.openai_door import ApiError, known_language, model_names

PCM, CODES = "audio/pcm", ("audio/pcmu", "audio/pcma")


class RequestError(DataError):
    """An event of a client that is refused, and the field that is wrong."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.code = param, code


class Wanted(NamedTuple):
    """The session that a client has asked for so far."""

    form: str = PCM
    fs: int = 24000
    turns: bool = True  # whether the VAD ends them
    model: str = ""
    language: str | None = None
    prompt: str = ""
    keywords: tuple[str, ...] = ()


def read_session(wanted: Wanted, session: Any, model: ServedModel, options: ServeOptions) -> Wanted:
    """The session behind an update, or a `RequestError`; what it does not name stays."""
    session = _object(session, "session")
    kind = session.get("type", "transcription")
    if kind != "transcription":
        raise RequestError("session.type: use transcription", "session.type")
    sound = _object(_object(session.get("audio"), "session.audio").get("input"), "audio.input")
    if "format" in sound:
        wanted = _read_format(wanted, _object(sound["format"], "session.audio.input.format"))
    if "turn_detection" in sound:
        wanted = wanted._replace(turns=sound["turn_detection"] is not None)
    return _read_transcription(wanted, sound.get("transcription"), model, options)


def _read_transcription(
    wanted: Wanted, transcription: Any, model: ServedModel, options: ServeOptions
) -> Wanted:
    place = "session.audio.input.transcription"
    given = _object(transcription, place)
    name = str(given.get("model") or "")
    if name and name not in model_names(model, options):
        raise RequestError(
            f"The model '{name}' does not exist", f"{place}.model", "model_not_found"
        )
    if "model" in given:
        wanted = wanted._replace(model=name)
    if "language" in given:
        language = str(given["language"] or "")
        try:
            known_language([language] * bool(language), model)
        except ApiError as error:
            raise RequestError(error.message, f"{place}.language") from error
        wanted = wanted._replace(language=language or None)
    if "prompt" in given:
        wanted = wanted._replace(prompt=str(given["prompt"] or ""))
    if "keywords" in given:
        try:
            words = read_hotwords(given["keywords"], options.max_hotwords)
        except DataError as error:
            raise RequestError(str(error), f"{place}.keywords") from error
        wanted = wanted._replace(keywords=tuple(words))
    return wanted


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise RequestError(f"{place}: give an object", place)
    return value or {}


def _read_format(wanted: Wanted, given: Mapping[str, Any]) -> Wanted:
    kind, place = given.get("type", PCM), "session.audio.input.format"
    if kind in CODES:
        return wanted._replace(form=kind, fs=8000)
    rate = given.get("rate", 24000)
    if kind != PCM or not isinstance(rate, int) or not RATE.allow(rate):
        raise RequestError(f"{place}: use {PCM} (rate: {RATE}), {', '.join(CODES)}", place)
    return wanted._replace(form=PCM, fs=rate)


def finds_turns(wanted: Wanted, model: ServedModel) -> bool:
    """Whether the VAD ends turns: where that is wanted, and there is one."""
    return wanted.turns and model.turns is not None


def effective(wanted: Wanted, name: str, model: ServedModel) -> dict[str, Any]:
    """The whole session of this name as it is in effect."""
    form: dict[str, Any] = {"type": wanted.form}
    if wanted.form == PCM:
        form["rate"] = wanted.fs
    found = {
        "format": form,
        "transcription": {
            "model": wanted.model or model.name,
            "language": wanted.language,
            "prompt": wanted.prompt,
            "keywords": list(wanted.keywords),
        },
        "turn_detection": None,
        "noise_reduction": None,
    }
    if finds_turns(wanted, model):
        found["turn_detection"] = {"type": "server_vad", **(model.turns or {})}
    return {
        "type": "transcription",
        "object": "realtime.transcription_session",
        "id": name,
        "expires_at": 0,
        "include": None,
        "audio": {"input": found},
    }
