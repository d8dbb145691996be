"""Results of every task: values on their way, dicts with the documented keys at the edge."""

from __future__ import annotations

import json
from collections.abc import Container, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from paraformer.data.audio.channels import MIX
from paraformer.data.inputs.audio_items import Item
from paraformer.data.text.words import HALF_WIDTH
from paraformer.decode.align import Alignment
from paraformer.decode.endpoint import Span as Stretch
from paraformer.decode.itn import Numerals, rewrite_result
from paraformer.decode.longform import HeardRecording
from paraformer.decode.recognize import Outcome, Reading
from paraformer.decode.text import join_texts
from paraformer.decode.timestamps import (
    SILENCE,
    Sentence,
    Span,
    Times,
    clip,
    cut_behind,
    cut_sentences,
    one_line,
    spoken_words,
)
from paraformer.decode.voices import Voice
from paraformer.errors import ParaformerError
from paraformer.output.tables import numbers_of

Fields = dict[str, Any]
# What tables keep of a reading: column to line, or to any number of lines. `text` is as the
# reference writes it, `tight` as it is shown.
Row = dict[str, str | list[str]]
# What `en_post_proc` writes in place of Chinese marks; the reference's.
ENGLISH_MARKS = str.maketrans({**HALF_WIDTH, "、": ","})


@dataclass
class Result:
    """The result of one input; None: no such thing. The fields down to `sentence_info` are the
    documented keys, in their order; times are in ms, those of a segment from its start.
    """

    key: str = ""
    channel: str | int | None = None
    recording: str | None = None  # of a segment, which begins `start` ms after it
    start: int | None = None
    value: list[list[int]] | None = None
    text: str | None = None
    script: str | None = None
    punc_array: list[int] | None = None
    spk_embedding: Tensor | None = None  # (1, E)
    confidence: float | None = None
    tokens: list[str] | None = None
    token_confidence: list[float] | None = None
    timestamp: Times | None = None
    words: list[Fields] | None = None
    audio_seconds: float | None = None
    nbest: list[Fields] | None = None
    segments: list[Fields] | None = None
    partial: str | None = None  # of a piece of a stream: what the next segment says so far
    error: str | None = None
    raw_text: str | None = None
    turns: list[Fields] | None = None  # who speaks when
    spk_embedding_center: list[list[float]] | None = None  # of each speaker
    spk_num_confidence: float | None = None  # 0 to 1, where the number of speakers was found
    sentence_info: list[Fields] | None = None
    # What follows is no key of the dict.
    seconds: float = 0.0  # of audio, not rounded
    rows: list[Row] = field(default_factory=list)  # of each reading, the best one first
    skipped: tuple[str, ...] = ()  # see `Item`
    voices: Sequence[Voice] = ()  # until speakers are told
    origin: tuple[str, float | None] = ("", None)  # file or address, and seconds where it begins
    # From the end of the first token to its text, and from that of the audio to the last text.
    delays_ms: tuple[float | None, float] | None = None

    @classmethod
    def of(cls, item: Item, **found: Any) -> Result:
        """A result of this item, with these fields."""
        return cls(**_origin(item), **found)

    def failed(self, item: Item, error: ParaformerError | str, seconds: float = 0.0) -> Result:
        """The result of an item of which nothing more is known than why; this one is that of
        silence.
        """
        heard = {} if self.audio_seconds is None else {"audio_seconds": round(seconds, 3)}
        told = {**_origin(item), **heard, "error": str(error), "rows": [], "seconds": seconds}
        return replace(deepcopy(self), **told)

    def to_dict(self) -> Fields:
        """The documented keys that there are."""
        return {name: x for name in DOCUMENTED if (x := getattr(self, name)) is not None}


_NAMES = list(Result.__dataclass_fields__)
DOCUMENTED = _NAMES[: _NAMES.index("sentence_info") + 1]


def _origin(item: Item) -> Fields:
    """The fields that say where a result is from."""
    found: Fields = {"key": item.key, "skipped": item.skipped}
    if isinstance(item.source, str | Path):
        found["origin"] = str(item.source), None if item.segment is None else item.segment.start
    if item.channel != MIX:
        found["channel"] = item.channel
    if item.segment is not None and item.recording:
        found |= {"recording": item.recording, "start": round(1000 * item.segment.start)}
    return found


def silence(timed: bool = False, cut: bool = False) -> Result:
    """The result of speech in which nothing was heard; timed: with times, cut: with segments."""
    found = _fields(Reading([], [], "", "", 0.0, [], words=[] if timed else None), 0, 0)
    return Result(**found, audio_seconds=0.0, segments=[] if cut else None)


def outcome_result(
    item: Item, outcome: Outcome, seconds: float, nbest: int = 1, timed: bool = False
) -> Result:
    """Result of one utterance. timed: there are times, none in the place of an error."""
    if isinstance(outcome, ParaformerError):
        return silence(timed).failed(item, outcome, seconds)
    found = [_fields(reading, 0, int(1000 * seconds)) for reading in outcome.nbest]
    result = Result.of(item, **found[0], audio_seconds=round(seconds, 3), seconds=seconds)
    if nbest > 1:
        scores = [round(reading.score, 4) for reading in outcome.nbest]
        result.nbest = [{**row, "score": x} for row, x in zip(found, scores, strict=True)]
    result.rows = [
        _row(fields, reading.tight, reading.score, reading.confidence)
        for fields, reading in zip(found, outcome.nbest, strict=True)
    ]
    return result


def _fields(reading: Reading, begin_ms: int, end_ms: int) -> Fields:
    """Fields of the result of a reading, which is of this stretch of a recording.

    `timestamp` is the reference's: the last frame may reach behind the end of the audio. The times
    of `words` do not.
    """
    fields: Fields = {
        "text": reading.text,
        "confidence": round(reading.confidence, 4),
        "tokens": reading.tokens,
        "token_confidence": [round(c, 4) for c in reading.confidences],
    }
    if reading.words is None:
        return fields
    times = [[begin_ms + word.start, begin_ms + word.end] for word in reading.words]
    texts = [word.text for word in reading.words]
    words = _words(texts, times, end_ms)
    for word, spoken in zip(words, reading.words, strict=True):
        word["confidence"] = round(spoken.confidence, 4)
    return {**fields, "timestamp": times, "words": words}


def recording_result(item: Item, recording: HeardRecording, timed: bool = False) -> Result:
    """Result of a recording: its segments joined, texts by one blank as the reference does it."""
    segments, errors, score = list[Fields](), [], 0.0
    parts: list[Fields] = []
    for start_ms, end_ms, outcome in recording.segments:
        if isinstance(outcome, ParaformerError):
            errors.append(outcome)
            continue
        score += outcome.best.score
        parts.append(_fields(outcome.best, start_ms, end_ms))
        segments.append({"start": start_ms, "end": end_ms, "text": outcome.best.tight})
        if timed:
            segments[-1]["timestamp"] = parts[-1]["timestamp"]
    lists = ("tokens", "token_confidence", *(("timestamp", "words") if timed else ()))
    joined = {name: [value for part in parts for value in part[name]] for name in lists}
    confidences = joined["token_confidence"]
    found: Fields = {
        "text": " ".join(part["text"] for part in parts if part["text"]),
        "confidence": round(float(np.mean(confidences)), 4) if confidences else 0.0,
        **joined,
        "audio_seconds": round(recording.seconds, 3),
        "segments": segments,
    }
    result = Result.of(item, **found, seconds=recording.seconds, voices=recording.voices)
    error = recording.error or (errors[0] if errors else None)
    result.error = None if error is None else str(error)
    tight = join_texts(segment["text"] for segment in segments)
    row = _row(found, tight, score, found["confidence"])
    result.rows = [row if timed else {**row, "text": shown_text(found)}]
    return result


def in_digits(result: Result, numerals: Numerals) -> Result:
    """A result with its numbers in digits, the further readings of `nbest` too; tokens and
    `raw_text` stay as the model wrote them.
    """
    changed = replace(result, **rewrite_result(result.to_dict(), numerals))
    if result.nbest is not None:
        changed.nbest = [rewrite_result(row, numerals) for row in result.nbest]
    times = [changed.timestamp, *(row.get("timestamp") for row in (changed.nbest or [])[1:])]
    changed.rows = [
        {
            **row,
            **{name: numerals.rewrite(str(row[name])) for name in ("text", "tight")},
            **({"timestamp": str(time)} if "timestamp" in row else {}),
        }
        for row, time in zip(result.rows, times, strict=False)
    ]
    return changed


def alignment_result(item: Item, found: Alignment, seconds: float) -> Result:
    """Result of a forced alignment: the words of a text as they stand in it, and their times; the
    text itself, with its marks, is `script`.
    """
    tiled = [f"{start:.3f} {end:.3f} {text}" for text, start, end in tile(found, seconds)]
    return Result.of(
        item,
        text=found.text,
        script=str(item.text),
        timestamp=found.timestamps,
        words=_words(found.words, found.timestamps, int(1000 * seconds)),
        audio_seconds=round(seconds, 3),
        seconds=seconds,
        rows=[
            {
                "timestamp_list": str(found.timestamps),
                "timestamp_str": one_line(found.token_spans),
                "intervals": tiled,
                "utt2dur": f"{seconds:.3f}",
            }
        ],
    )


def tile(found: Alignment, seconds: float) -> list[Span]:
    """Words and silences that follow each other without a gap from 0 to `seconds`, in whole ms."""
    tiled: list[Span] = []
    before = 0.0
    for text, start, end in found.spans:
        start, end = (min(round(x, 3), round(seconds, 3)) for x in (start, end))
        if start > before:
            tiled.append(Span(SILENCE, before, start))
        if text != SILENCE or end > start:
            tiled.append(Span(text, start, end))
        before = end
    if round(seconds, 3) > before:
        tiled.append(Span(SILENCE, before, round(seconds, 3)))
    return tiled


def stream_result(
    item: Item, found: Mapping[str, Any], seconds: float, sentencepiece: bool
) -> Result:
    """Result of a stream, whose `timestamp` is that of its tokens, with its words."""
    times, confidences = found["timestamp"], found["token_confidence"]
    spoken = spoken_words(found["tokens"], times, confidences, sentencepiece)
    words = [{**w._asdict(), "confidence": round(w.confidence, 4)} for w in spoken]
    row: Row = dict.fromkeys(("text", "tight"), found["text"])
    row["token"] = " ".join(found["tokens"])
    return Result.of(
        item,
        **found,
        words=words,
        audio_seconds=round(seconds, 3),
        seconds=seconds,
        rows=[row],
    )


def vad_result(item: Item, spans: Sequence[Stretch], seconds: float) -> Result:
    """Result of a VAD: where there is speech."""
    value = [list(span) for span in spans]
    row: Row = {"text": str(value), "found": json.dumps([seconds, *value])}
    return Result.of(item, value=value, seconds=seconds, rows=[row])


def text_result(item: Item, text: str, punc_array: list[int]) -> Result:
    """Result of a punctuation model."""
    return Result.of(item, text=text, punc_array=punc_array, rows=[{"text": text}])


def embedding_result(item: Item, embedding: Tensor, seconds: float) -> Result:
    """Result of a speaker model: the embedding (E,) of whoever speaks, as a batch of one."""
    row: Row = {"text": json.dumps(numbers_of(embedding))}
    embedding = embedding[None]
    return Result.of(item, spk_embedding=embedding, seconds=seconds, rows=[row])


def turns_result(item: Item, found: Sequence[Fields], seconds: float) -> Result:
    """Result of who speaks when: turns [start, end] in ms, each with its speaker `spk`."""
    speakers = {turn["spk"] for turn in found}
    row: Row = {"text": json.dumps(found, ensure_ascii=False), "speakers": str(len(speakers))}
    told = round(seconds, 3)
    return Result.of(item, turns=[*found], audio_seconds=told, seconds=seconds, rows=[row])


def shown_text(result: Mapping[str, Any]) -> str:
    """The text to print: no blanks in Chinese, though `text` may have one between all words, or
    between segments. Of an alignment, `word start end;` in seconds.
    """
    text = str(result["text"])
    if "words" in result and "tokens" not in result:
        return one_line(
            Span(word["text"], word["start"] / 1000, word["end"] / 1000) for word in result["words"]
        )
    words = [word["text"] for word in result.get("words", ())]
    parts = [segment["text"] for segment in result.get("segments", ())]
    for pieces in (words, parts):
        if pieces and text == " ".join(filter(None, pieces)):
            return join_texts(parts or pieces)
    return text


def sentence_info(
    result: Result, marked: bool, english: bool, raw: bool, starts: Container[int] = ()
) -> list[Fields]:
    """The text of a result in sentences, in ms; joined they are the text.

    marked: it has marks, at which it is cut if its words have times, and ahead of the words whose
    numbers are in `starts`; else, as in the reference, at the segments of the VAD. english: `,`
    and `.` for `，` and `。`; raw: also without marks.
    """
    if marked and result.words is not None:
        words = [word["text"] for word in result.words]
        sentences = cut_sentences(str(result.text), words, _word_times(result), starts=starts)
        own = iter(words)
        bare = [join_texts(next(own) for _ in sentence.timestamp) for sentence in sentences]
    else:
        sentences, bare = _stretches(result, marked)
    found = []
    most = int(1000 * (result.audio_seconds or 0.0))
    for sentence, plain in zip(sentences, bare, strict=True):
        text = sentence.text.translate(ENGLISH_MARKS) if english else sentence.text
        info: Fields = {**sentence._asdict(), "text": text, "end": min(sentence.end, most)}
        if not marked or result.words is None:
            info["sentence"] = text
        found.append({**info, "raw_text": plain} if raw else info)
    return found


def _word_times(result: Result) -> Times:
    """Those of `timestamp`, unless it is that of tokens."""
    own = [[word["start"], word["end"]] for word in result.words or ()]
    times = result.timestamp or []
    same = [start for start, _ in own] == [start for start, _ in times]
    return times if same else own


def _stretches(result: Result, marked: bool) -> tuple[list[Sentence], list[str]]:
    """One sentence a segment, or all of what has none; and each as it was before it had marks."""
    shown, times = shown_text(result.to_dict()), result.timestamp or []
    whole: Fields = {"start": 0, "end": int(1000 * (result.audio_seconds or 0.0)), "text": shown}
    if times:
        whole |= {"start": times[0][0], "end": times[-1][1], "timestamp": times}
    segments = [s for s in ([whole] if result.segments is None else result.segments) if s["text"]]
    bare = [str(segment["text"]) for segment in segments]
    texts = cut_behind(str(result.text), bare) if marked else bare
    sentences = [
        Sentence(text, segment["start"], segment["end"], segment.get("timestamp", []))
        for text, segment in zip(texts, segments, strict=True)
    ]
    return sentences, bare


def _words(texts: Sequence[str], times: Times, end_ms: int) -> list[Fields]:
    """Words and their times, which end with their recording."""
    return [
        {"text": text, "start": start, "end": end}
        for text, (start, end) in zip(texts, clip(times, end_ms), strict=True)
    ]


def _row(fields: Fields, tight: str, score: float, confidence: float) -> Row:
    """The values that tables keep of a reading."""
    times: Row = {"timestamp": str(fields["timestamp"])} if "timestamp" in fields else {}
    score_and_confidence = f"{score:.4f} {confidence:.4f}"
    row: Row = {"text": fields["text"], "tight": tight, "token": " ".join(fields["tokens"])}
    return {**row, "score": score_and_confidence, **times}
