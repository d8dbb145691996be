"""The messages of FunASR's websocket protocol, both ways; see `funasr_door`."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from paraformer.api.service import Answer, News, Wishes
from paraformer.documents import parse_json
from paraformer.errors import DataError
from paraformer.limits import RATE

OFFLINE, ONLINE, TWO_PASS = "offline", "online", "2pass"
PARTIAL_MODES = {ONLINE: "online", TWO_PASS: "2pass-online"}
FINAL_MODES = {OFFLINE: "offline", ONLINE: "online", TWO_PASS: "2pass-offline"}
NAME = "microphone"
_SEPARATORS = re.compile(r"[\s,，、;；]+")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
LONGEST_HOTWORD = 64  # characters


class Start(NamedTuple):
    """The first message of an utterance; what a client leaves out is as in FunASR's servers."""

    mode: str = TWO_PASS
    wav_name: str = NAME
    wav_format: str = "pcm"
    fs: int = 16000
    wishes: Wishes = Wishes()


def read_message(text: str, most: float = math.inf) -> dict[str, Any]:
    """The object that a text frame of so many characters holds, or a `DataError`."""
    if len(text) > most:
        raise DataError(f"the message is longer than {most} characters; send sound as bytes")
    try:
        found = parse_json(text)
    except ValueError as error:
        raise DataError(f"the message is no JSON ({error}); send an object") from error
    if not isinstance(found, dict):
        raise DataError("the message is no JSON object; send one")
    return found


def ends(message: Mapping[str, Any]) -> bool:
    """Whether a message says that the sound is at its end."""
    return message.get("is_speaking") is False or message.get("is_finished") is True


def read_start(message: Mapping[str, Any], itn: bool, can_itn: bool, most_hotwords: int) -> Start:
    """The first message of an utterance; itn: of a client that does not say; can_itn: whether
    digits can be written.
    """
    mode = str(message.get("mode") or TWO_PASS)
    if mode not in FINAL_MODES:
        raise DataError(f"mode '{mode[:20]}': not known; use offline, online or 2pass")
    wished = message.get("itn")
    wishes = Wishes(
        hotwords=tuple(read_hotwords(message.get("hotwords"), most_hotwords)),
        itn=can_itn and (wished if isinstance(wished, bool) else itn) and mode != ONLINE,
        plain=mode == ONLINE,
        chunk_size=None if mode == OFFLINE else read_chunk_size(message.get("chunk_size")),
    )
    name, form = message.get("wav_name"), message.get("wav_format")
    return Start(
        mode,
        NAME if name is None else str(name),
        "pcm" if form is None else str(form),
        _rate(message.get("audio_fs")),
        wishes,
    )


def _rate(given: Any) -> int:
    try:
        rate = int(given or Start().fs)
    except (TypeError, ValueError):
        rate = 0
    if not RATE.allow(rate):
        raise DataError(f"audio_fs: give {RATE}")
    return rate


def read_chunk_size(given: Any) -> tuple[int, int, int] | None:
    """Three numbers in a list or a string; None: not given, or something else.

    >>> read_chunk_size("5,10,5"), read_chunk_size([5, 10]), read_chunk_size("[5, 0, 5]")
    ((5, 10, 5), None, None)
    """
    parts = re.split(r"[\s,]+", given.strip("[] ")) if isinstance(given, str) else given
    try:
        sizes = tuple(int(part) for part in parts)
    except (TypeError, ValueError):
        return None
    if len(sizes) != 3 or min(sizes) < 0 or sizes[1] < 1:
        return None
    return (sizes[0], sizes[1], sizes[2])


def read_hotwords(given: Any, most: int) -> list[str]:
    """The words of any spelling in use; what a client writes is never a file or an address.

    >>> read_hotwords('{"阿里巴巴": 20, "x": "100"}', 9), read_hotwords("阿里, 达摩院 20", 9)
    (['阿里巴巴', 'x'], ['阿里', '达摩院'])
    """
    if isinstance(given, str) and given.lstrip().startswith(("{", "[")):
        try:
            given = parse_json(given)
        except ValueError:
            given = given.strip("{[]} ")
    if isinstance(given, str):
        given = [word for line in given.splitlines() for word in _words(line)]
    elif isinstance(given, Mapping):
        given = list(given)
    words = [str(word).strip() for word in given or ()] if isinstance(given, list | None) else []
    found = list(dict.fromkeys(word for word in words if 0 < len(word) <= LONGEST_HOTWORD))
    if len(found) > most:
        raise DataError(f"hotwords: {len(found)}, more than {most} (max_hotwords); send fewer")
    return found


def _words(line: str) -> list[str]:
    """The words of a line without a weight behind the last."""
    words = [word for word in _SEPARATORS.split(line) if word]
    return words[:-1] if len(words) > 1 and _NUMBER.fullmatch(words[-1]) else words


def partial(start: Start, text: str) -> dict[str, Any]:
    """New words that were heard, to be put behind those before them."""
    return _message(PARTIAL_MODES[start.mode], text, start, False)


def sentence(start: Start, news: News, number: int, last: bool) -> dict[str, Any]:
    """A segment that has ended; it takes the place of its partials."""
    found = _message(FINAL_MODES[start.mode], news.answer.text, start, last)
    return {
        **found,
        **_times(news.answer),
        "index": number,
        "slice_type": 2,
        "start_time": news.start_ms,
        "end_time": news.end_ms,
    }


def whole(start: Start, answer: Answer) -> dict[str, Any]:
    """A recording that was heard as a whole."""
    return {**_message(FINAL_MODES[start.mode], answer.text, start, True), **_times(answer)}


def nothing_more(start: Start, text: str = "") -> dict[str, Any]:
    """The end of an utterance, with words that are left."""
    return _message(FINAL_MODES[start.mode], text, start, True)


def failed(start: Start, code: str, message: str) -> dict[str, Any]:
    """The end of an utterance of which nothing more comes, and why."""
    error = {"code": code, "message": message}
    return {**nothing_more(start), "error": error}


def acknowledged(start: Start) -> dict[str, Any]:
    """The end, once more, for a client that asks for it."""
    return {"mode": start.mode, "wav_name": start.wav_name, "is_final": True, "is_end": True}


def _message(mode: str, text: str, start: Start, final: bool) -> dict[str, Any]:
    return {"mode": mode, "text": text, "wav_name": start.wav_name, "is_final": final}


def _times(answer: Answer) -> dict[str, Any]:
    """When words and sentences were said, where that is known; a time for each word."""
    if not answer.words:
        return {}
    words = [dict(word) for word in answer.words]
    return {
        "timestamp": json.dumps([[word["start"], word["end"]] for word in words]),
        "stamp_sents": _stamps(answer),
        "words": words,
    }


def _stamps(answer: Answer) -> list[dict[str, Any]]:
    """Sentences with the words of each, the mark behind it, and the times of its words."""
    found, left = [], [str(word["text"]) for word in answer.words]
    for part in answer.sentences:
        count = len(part["timestamp"])
        own, left = left[:count], left[count:]
        text = str(part["text"]).strip()
        mark = text[-1] if text and not text[-1].isalnum() else ""
        found.append(
            {
                "text_seg": " ".join(own),
                "punc": mark,
                "start": part["start"],
                "end": part["end"],
                "ts_list": part["timestamp"],
            }
        )
    return found
