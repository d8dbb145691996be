"""Results of recognition as the dicts that `generate` gives: texts, times, sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paraformer.data.audio.channels import MIX
from paraformer.data.inputs.audio_items import Item
from paraformer.data.text.words import HALF_WIDTH
from paraformer.decode.align import Alignment
from paraformer.decode.itn import Numerals, rewrite_result
from paraformer.decode.longform import Recording
from paraformer.decode.recognize import Outcome, Reading
from paraformer.decode.text import join_texts
from paraformer.decode.timestamps import (
    Sentence,
    Span,
    Times,
    clip,
    cut_behind,
    cut_sentences,
    one_line,
    spoken_words,
)
from paraformer.errors import ParaformerError

Result = dict[str, Any]
# Key of what `output_dir` keeps of each reading, and the user does not get: text, tokens, and times
# where the model gives them.
WRITTEN = "readings"
# What `en_post_proc` writes in place of Chinese marks; the reference's.
ENGLISH_MARKS = str.maketrans({**HALF_WIDTH, "、": ","})


def head(item: Item) -> Result:
    """The fields of a result that say where it is from: of a segment the recording, and where in it
    the segment begins, in ms; the other times of a result count from there.
    """
    found: Result = {"key": item.key}
    if item.channel != MIX:
        found["channel"] = item.channel
    if item.segment is not None and item.recording:
        found |= {"recording": item.recording, "start": round(1000 * item.segment.start)}
    return found


def outcome_result(outcome: Outcome, seconds: float, nbest: int, timed: bool = False) -> Result:
    """Result of one utterance. timed: there are times, none in the place of an error."""
    if isinstance(outcome, ParaformerError):
        nothing = Reading([], [], "", "", 0.0, [], words=[] if timed else None)
        fields = reading_fields(nothing, 0, 0)
        return {**fields, "audio_seconds": seconds, "error": str(outcome)}
    found = [reading_fields(reading, 0, int(1000 * seconds)) for reading in outcome.nbest]
    result = {**found[0], "audio_seconds": round(seconds, 3)}
    if nbest > 1:
        scores = [round(reading.score, 4) for reading in outcome.nbest]
        result["nbest"] = [{**row, "score": x} for row, x in zip(found, scores, strict=True)]
    result[WRITTEN] = [_row(fields, fields["text"]) for fields in found]
    return result


def reading_fields(reading: Reading, begin_ms: int, end_ms: int) -> Result:
    """What is said of a reading of this stretch of a recording.

    `timestamp` is the reference's: the last frame may reach behind the end of the audio. The times
    of `words` do not.
    """
    fields: Result = {
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


def recording_result(recording: Recording, timed: bool = False) -> Result:
    """Result of a recording: its segments joined, texts by one blank as the reference does it."""
    segments, errors = list[Result](), []
    parts: list[Result] = []
    for start_ms, end_ms, outcome in recording.segments:
        if isinstance(outcome, ParaformerError):
            errors.append(outcome)
            continue
        parts.append(reading_fields(outcome.best, start_ms, end_ms))
        segments.append({"start": start_ms, "end": end_ms, "text": outcome.best.tight})
        if timed:
            segments[-1]["timestamp"] = parts[-1]["timestamp"]
    lists = ("tokens", "token_confidence", *(("timestamp", "words") if timed else ()))
    joined = {name: [value for part in parts for value in part[name]] for name in lists}
    confidences = joined["token_confidence"]
    result: Result = {
        "text": " ".join(part["text"] for part in parts if part["text"]),
        "confidence": round(float(np.mean(confidences)), 4) if confidences else 0.0,
        **joined,
        "audio_seconds": round(recording.seconds, 3),
        "segments": segments,
    }
    error = recording.error or (errors[0] if errors else None)
    if error is not None:
        result["error"] = str(error)
    result[WRITTEN] = [_row(result, result["text"] if timed else shown_text(result))]
    return result


def in_digits(result: Result, numerals: Numerals) -> Result:
    """A result with its numbers in digits, the further readings of `nbest` too; tokens and
    `raw_text` stay as the model wrote them.
    """
    changed = rewrite_result(result, numerals)
    if "nbest" in result:
        changed["nbest"] = [rewrite_result(row, numerals) for row in result["nbest"]]
    rows = [changed, *changed.get("nbest", [])[1:]]
    changed[WRITTEN] = [
        (numerals.rewrite(text), tokens, *([row["timestamp"]] if times else []))
        for (text, tokens, *times), row in zip(result[WRITTEN], rows, strict=False)
    ]
    return changed


def alignment_result(found: Alignment, script: str, seconds: float) -> Result:
    """Result of a forced alignment: the words of a text as they stand in it, and their times; the
    text itself, with its marks, is `script`.
    """
    return {
        "text": found.text,
        "script": script,
        "timestamp": found.timestamps,
        "words": _words(found.words, found.timestamps, int(1000 * seconds)),
        "audio_seconds": round(seconds, 3),
    }


def stream_fields(found: Mapping[str, Any], seconds: float, sentencepiece: bool) -> Result:
    """Result of a stream, whose `timestamp` is that of its tokens, with its words."""
    times, confidences = found["timestamp"], found["token_confidence"]
    spoken = spoken_words(found["tokens"], times, confidences, sentencepiece)
    return {
        **found,
        "words": [{**w._asdict(), "confidence": round(w.confidence, 4)} for w in spoken],
        "audio_seconds": round(seconds, 3),
        WRITTEN: [(found["text"], found["tokens"])],
    }


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


def sentence_info(result: Result, marked: bool, english: bool, raw: bool) -> list[Result]:
    """The text of a result in sentences, in ms; joined they are the text.

    marked: it has marks, at which it is cut if its words have times; else, as in the reference, at
    the segments of the VAD. english: `,` and `.` for `，` and `。`; raw: also without marks.
    """
    words = [word["text"] for word in result.get("words", ())]
    by_marks = marked and "words" in result
    if by_marks:
        sentences = cut_sentences(result["text"], words, _word_times(result))
        own = iter(words)
        bare = [join_texts(next(own) for _ in sentence.timestamp) for sentence in sentences]
    else:
        sentences, bare = _stretches(result, marked)
    found = []
    most = int(1000 * result["audio_seconds"])
    for sentence, plain in zip(sentences, bare, strict=True):
        text = sentence.text.translate(ENGLISH_MARKS) if english else sentence.text
        info: Result = {**sentence._asdict(), "text": text, "end": min(sentence.end, most)}
        if not by_marks:
            info["sentence"] = text
        found.append({**info, "raw_text": plain} if raw else info)
    return found


def _word_times(result: Result) -> Times:
    """Those of `timestamp`, unless it is that of tokens."""
    own = [[word["start"], word["end"]] for word in result["words"]]
    times: Times = result["timestamp"]
    same = [start for start, _ in own] == [start for start, _ in times]
    return times if same else own


def _stretches(result: Result, marked: bool) -> tuple[list[Sentence], list[str]]:
    """One sentence a segment, or all of what has none; and each as it was before it had marks."""
    text, times = result["text"], result.get("timestamp", [])
    whole = {"start": 0, "end": int(1000 * result["audio_seconds"]), "text": shown_text(result)}
    if times:
        whole |= {"start": times[0][0], "end": times[-1][1], "timestamp": times}
    segments = [s for s in result.get("segments", [whole]) if s["text"]]
    bare = [str(segment["text"]) for segment in segments]
    texts = cut_behind(text, bare) if marked else bare
    sentences = [
        Sentence(text, segment["start"], segment["end"], segment.get("timestamp", []))
        for text, segment in zip(texts, segments, strict=True)
    ]
    return sentences, bare


def _words(texts: Sequence[str], times: Times, end_ms: int) -> list[Result]:
    """Words and their times, which end with their recording."""
    return [
        {"text": text, "start": start, "end": end}
        for text, (start, end) in zip(texts, clip(times, end_ms), strict=True)
    ]


def _row(fields: Result, text: str) -> tuple[Any, ...]:
    """What `output_dir` keeps."""
    times = [fields["timestamp"]] if "timestamp" in fields else []
    return (text, fields["tokens"], *times)
