"""What a model does with its inputs: each task turns items into results, in their order."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from tqdm import tqdm

from paraformer.data.blocks import read_blocks
from paraformer.data.inputs import Cache, Item, list_items
from paraformer.data.recordings import header_samples
from paraformer.data.tables import read_table
from paraformer.decode.longform import Cutting, LongRecognizer, Recording, Segmenter
from paraformer.decode.punctuate import PunctuationState, Punctuator
from paraformer.decode.recognize import Batching, Outcome, Reading, Recognizer, Search
from paraformer.decode.streaming import Chunking, Streamer
from paraformer.decode.text import join_texts
from paraformer.decode.vad import VadState, VoiceActivity
from paraformer.errors import ConfigError, ParaformerError
from paraformer.formats import ResultFolder
from paraformer.live import FINAL, LivePipeline
from paraformer.online import OnlineModel
from paraformer.online import result as stream_result
from paraformer.options import CallOptions

log = logging.getLogger(__name__)

Result = dict[str, Any]
TEXT_LISTS = (".txt", ".text", ".scp")


class Task(Protocol):
    """One kind of model at work."""

    def stream(self, source: Any, call: CallOptions, cut: bool) -> Iterator[Result]:
        """Results of an input of `generate`; cut: the call says how a stream is to be cut."""

    def feed(self, source: Any, call: CallOptions) -> Result:
        """What the next piece of a stream adds, which stands in `call.cache`."""


class SpeechTask:
    """Recognition: whole, in segments of a VAD, or as a stream; with marks if there is a model."""

    def __init__(
        self,
        recognizer: Recognizer,
        streaming: bool,
        vad: VoiceActivity | None = None,
        punctuator: Punctuator | None = None,
        second: Recognizer | None = None,
    ) -> None:
        """second: of streams, writes the text of what has ended anew."""
        self.recognizer, self.streaming = recognizer, streaming
        self.vad, self.punctuator, self.second = vad, punctuator, second
        self.online = OnlineModel(recognizer.release, recognizer.device, recognizer.dtype)

    def stream(self, source: Any, call: CallOptions, cut: bool) -> Iterator[Result]:
        """See `Task`."""
        items = list_items(source, call.key, call.segments)
        search = Search(**{f.name: getattr(call, f.name) for f in fields(Search)})
        batching = Batching(call.batch_size, call.batch_size_s)
        if (cut or self.streaming) and (self.vad or self.second):
            results = self._live_streams(items, call)
        elif cut or self.streaming:
            results = self._streams(items, call)
        elif self.vad is not None:
            results = self._recordings(items, call, search, batching)
        else:
            results = self._utterances(items, call, search, batching)
        folder = ResultFolder(call.output_dir, call.nbest) if call.output_dir else None
        return self._written(items, results, folder, call)

    def _written(
        self,
        items: Sequence[Item],
        results: Iterator[Result],
        folder: ResultFolder | None,
        call: CallOptions,
    ) -> Iterator[Result]:
        """Results with their keys and marks, each in the folder before it is given out."""
        with closing(folder) if folder else nullcontext():
            for item, found in zip(items, results, strict=True):
                result = {"key": item.key, **found}
                readings = result.pop("readings", [])
                if "error" in result:
                    log.error("'%s': %s", item.key, result["error"].replace("\n", " "))
                elif self.punctuator is not None:
                    readings = [(self._punctuate(result, call), result["tokens"])]
                if folder:
                    folder.add(item.key, readings, result.get("error", ""))
                yield result

    def _punctuate(self, result: Result, call: CallOptions) -> str:
        assert self.punctuator is not None
        raw = result["text"]
        parts = [segment["text"] for segment in result.get("segments", [{"text": raw}])]
        text = self.punctuator.punctuate(join_texts(parts)).text if raw.strip() else ""
        result["text"] = text
        if call.return_raw_text:
            result["raw_text"] = raw
        return text

    def _utterances(
        self, items: Sequence[Item], call: CallOptions, search: Search, batching: Batching
    ) -> Iterator[Result]:
        frontend = self.recognizer.release.frontend
        seconds: list[float] = []

        def features() -> Iterator[Tensor | ParaformerError]:
            cache = Cache()
            for item in items:
                try:
                    wave = item.read(call.fs, frontend.fs, cache)
                except ParaformerError as error:
                    seconds.append(0.0)
                    yield error
                    continue
                seconds.append(len(wave) / frontend.fs)
                yield frontend(wave)

        outcomes = self.recognizer.stream(features(), search, batching)
        for place, outcome in enumerate(_bar(outcomes, len(items), call)):
            yield outcome_result(outcome, seconds[place], search.nbest)

    def _recordings(
        self, items: Sequence[Item], call: CallOptions, search: Search, batching: Batching
    ) -> Iterator[Result]:
        if search.nbest > 1:
            raise ConfigError("nbest: is for single utterances; leave out vad_model, or nbest")
        assert self.vad is not None
        cutting = Cutting(call.max_segment_s, call.merge_vad, call.merge_length_s)
        segmenter = Segmenter(_adjusted(self.vad, call), cutting)
        rate = self.recognizer.release.frontend.fs
        lengths = [header_samples(i.source, rate) for i in items if isinstance(i.source, str)]
        total = sum(n or 0 for n in lengths) / rate if all(lengths) else None
        with tqdm(
            total=total and round(total), unit="s", disable=call.disable_pbar or None, leave=False
        ) as bar:
            makers = [_blocks(item, call.fs, rate, bar) for item in items]
            long = LongRecognizer(self.recognizer, segmenter)
            for recording in long.stream(makers, search, batching):
                yield recording_result(recording)

    def _streams(self, items: Sequence[Item], call: CallOptions) -> Iterator[Result]:
        outcomes = self.online.transcribe(items, call.fs, chunking(call))
        for outcome in _bar(outcomes, len(items), call):
            if isinstance(outcome, ParaformerError):
                yield outcome_result(outcome, 0.0, 1)
            else:
                found, seconds = outcome
                yield {
                    **found,
                    "audio_seconds": round(seconds, 3),
                    "readings": [(found["text"], found["tokens"])],
                }

    def _live_streams(self, items: Sequence[Item], call: CallOptions) -> Iterator[Result]:
        """Recordings by the live pipeline; marks come when a recording is whole."""
        pipeline = self.live(call, marks=False)
        for item in _bar(iter(items), len(items), call):
            seconds: list[float] = []
            blocks = _counted(_blocks(item, call.fs, pipeline.rate, None)(), pipeline.rate, seconds)
            try:
                ended = [e for e in pipeline.session().events(blocks) if e.kind == FINAL]
            except ParaformerError as error:
                yield outcome_result(error, sum(seconds), 1)
                continue
            text = join_texts(event.text for event in ended)
            found = stream_result(
                item.key, text, [token for event in ended for token in event.tokens]
            )
            yield {
                **found,
                "audio_seconds": round(sum(seconds), 3),
                "segments": [
                    {"start": event.start_ms, "end": event.end_ms, "text": event.text}
                    for event in ended
                ],
                "readings": [(text, found["tokens"])],
            }

    def feed(self, source: Any, call: CallOptions) -> Result:
        """See `Task`."""
        item = _one_item(source, call)
        end = call.is_final or isinstance(item.source, (str, Path))  # a file is a whole stream
        found = self.online.feed(item, call.fs, chunking(call), call.cache, end)
        return {"key": item.key, **found}

    def streamer(self, call: CallOptions) -> Streamer:
        """A stream to feed step by step."""
        return Streamer(self.online.recognizer(chunking(call)))

    def live(self, call: CallOptions, marks: bool = True) -> LivePipeline:
        """Live recognition by all models that there are; marks: also that of punctuation."""
        vad = _adjusted(self.vad, call) if self.vad else None
        punctuator = self.punctuator if marks else None
        return LivePipeline(self.online.recognizer(chunking(call)), vad, punctuator, self.second)


class VadTask:
    """Segments of speech: `value` is a list of [start, end] in ms."""

    def __init__(self, vad: VoiceActivity) -> None:
        self.vad = vad

    def stream(self, source: Any, call: CallOptions, cut: bool) -> Iterator[Result]:
        """See `Task`; with chunk_size in ms the audio is heard in such pieces."""
        items = list_items(source, call.key, call.segments)
        vad = _adjusted(self.vad, call)
        piece = {"piece_ms": _piece_ms(call)} if cut else {}
        for item in _bar(iter(items), len(items), call):
            try:
                blocks = _blocks(item, call.fs, vad.frontend.fs, None)()
                spans = vad.segments(blocks, **piece)
                yield {"key": item.key, "value": [list(span) for span in spans]}
            except ParaformerError as error:
                log.error("'%s': %s", item.key, error)
                yield {"key": item.key, "value": [], "error": str(error)}

    def feed(self, source: Any, call: CallOptions) -> Result:
        """See `Task`: [start, -1] where speech begins, [-1, end] where it ends."""
        vad, item = _adjusted(self.vad, call), _one_item(source, call)
        rate = vad.frontend.fs
        if call.fs not in (None, rate):
            raise ConfigError(f"fs={call.fs}: the pieces of a stream must have {rate} Hz")
        state: VadState = call.cache.get("state") or vad.initial_state()
        wave = item.read(rate, rate)
        spans, state = vad.feed(wave, state, call.is_final, _piece_ms(call))
        call.cache.clear()
        if not call.is_final:
            call.cache["state"] = state
        return {"key": item.key, "value": [list(span) for span in spans]}


class PunctuationTask:
    """Texts with marks."""

    def __init__(self, punctuator: Punctuator) -> None:
        self.punctuator = punctuator

    def stream(self, source: Any, call: CallOptions, cut: bool) -> Iterator[Result]:
        """See `Task`: a text, a list of texts, or a file of lines `id text`."""
        texts = list_texts(source, call.key)
        for key, text in _bar(iter(texts), len(texts), call):
            found = self.punctuator.punctuate(text)
            yield {"key": key, "text": found.text, "punc_array": found.punc_array}

    def feed(self, source: Any, call: CallOptions) -> Result:
        """See `Task`."""
        ((key, text),) = list_texts(source, call.key)
        state: PunctuationState = call.cache.get("state") or PunctuationState()
        marked, state = self.punctuator.punctuate_chunk(text, state)
        if call.is_final:
            marked += self.punctuator.finish(state)
        call.cache.clear()
        if not call.is_final:
            call.cache["state"] = state
        return {"key": key, "text": marked}


def list_texts(source: Any, key: Any = "") -> list[tuple[str, str]]:
    """Keys and texts of an input of a punctuation model."""
    if isinstance(source, str) and source.endswith(TEXT_LISTS) and Path(source).is_file():
        return list(read_table(source).items())
    texts: list[str] = [source] if isinstance(source, str) else list(source)
    if not all(isinstance(text, str) for text in texts):
        raise ConfigError("input: is no text; give a text, a list of texts or a file `id text`")
    keys = [key] if isinstance(key, str) and key else list(key or [])
    keys = keys or [f"text_{n}" if len(texts) > 1 else "text" for n in range(1, len(texts) + 1)]
    if len(keys) != len(texts):
        raise ConfigError(f"key: {len(keys)} for {len(texts)} texts; give one for each")
    return list(zip(map(str, keys), texts, strict=True))


def chunking(call: CallOptions) -> Chunking:
    """How a stream is cut."""
    return Chunking(
        tuple(call.chunk_size),  # type: ignore[arg-type]  # its length is checked there
        call.encoder_chunk_look_back,
        call.decoder_chunk_look_back,
    )


def _piece_ms(call: CallOptions) -> int:
    """`chunk_size` of a VAD: milliseconds."""
    sizes = call.chunk_size if isinstance(call.chunk_size, list) else [call.chunk_size]
    if len(sizes) != 1 or not isinstance(sizes[0], int) or sizes[0] < 1:
        raise ConfigError(f"chunk_size={call.chunk_size}: a VAD takes milliseconds, such as 200")
    return sizes[0]


def _adjusted(vad: VoiceActivity, call: CallOptions) -> VoiceActivity:
    """The detector with the options of the call."""
    return vad.adjusted(
        max_end_silence_time=call.max_end_silence_time,
        max_single_segment_time=call.max_single_segment_time,
        speech_noise_thres=call.speech_noise_thres,
    )


def _one_item(source: Any, call: CallOptions) -> Item:
    items = list_items(source, call.key, call.segments)
    if not isinstance(call.cache, dict):
        raise ConfigError("cache: give a dict, empty at first, the same one for every call")
    if len(items) != 1 or call.output_dir:
        raise ConfigError("cache: give one piece of one stream a call, and no output_dir")
    return items[0]


def _blocks(
    item: Item, fs: int | None, rate: int, bar: tqdm[Any] | None
) -> Callable[[], Iterator[Tensor]]:
    """What gives the audio of an item in blocks, and moves the bar."""

    def blocks() -> Iterator[Tensor]:
        is_file = isinstance(item.source, (str, Path))
        for block in read_blocks(item, rate) if is_file else [item.read(fs, rate)]:
            yield block
            if bar is not None:
                bar.update(len(block) / rate)

    return blocks


def _counted(blocks: Iterable[Tensor], rate: int, seconds: list[float]) -> Iterator[Tensor]:
    """The blocks, while their lengths are written down."""
    for block in blocks:
        seconds.append(len(block) / rate)
        yield block


def _bar(outcomes: Iterator[Any], total: int, call: CallOptions) -> Iterator[Any]:
    hidden = True if call.disable_pbar or total < 2 else None
    return iter(tqdm(outcomes, total=total, unit="utt", disable=hidden, leave=False))


def shown_text(result: Result) -> str:
    """The text to print: that of segments without the blanks that join them in `text`."""
    parts = [segment["text"] for segment in result.get("segments", ())]
    bare = result["text"] == " ".join(filter(None, parts))
    return join_texts(parts) if parts and bare else str(result["text"])


def outcome_result(outcome: Outcome, seconds: float, nbest: int) -> Result:
    """Result of one utterance; `readings` are what `output_dir` keeps."""
    if isinstance(outcome, ParaformerError):
        reading = Reading([], [], "", "", 0.0, [])
        return {**reading_fields(reading), "audio_seconds": seconds, "error": str(outcome)}
    result = {**reading_fields(outcome.best), "audio_seconds": round(seconds, 3)}
    if nbest > 1:
        result["nbest"] = [{**reading_fields(r), "score": round(r.score, 4)} for r in outcome.nbest]
    result["readings"] = [(reading.tight, reading.tokens) for reading in outcome.nbest]
    return result


def reading_fields(reading: Reading) -> Result:
    """What is said of a reading."""
    return {
        "text": reading.text,
        "confidence": round(reading.confidence, 4),
        "tokens": reading.tokens,
        "token_confidence": [round(c, 4) for c in reading.confidences],
    }


def recording_result(recording: Recording) -> Result:
    """Result of a recording: its segments joined, texts by one blank as the reference does it."""
    segments: list[dict[str, Any]] = []
    readings, errors = [], []
    for start_ms, end_ms, outcome in recording.segments:
        if isinstance(outcome, ParaformerError):
            errors.append(outcome)
            continue
        readings.append(outcome.best)
        segments.append({"start": start_ms, "end": end_ms, "text": outcome.best.tight})
    confidences = [c for reading in readings for c in reading.confidences]
    result: Result = {
        "text": " ".join(reading.text for reading in readings if reading.text),
        "confidence": round(float(np.mean(confidences)), 4) if confidences else 0.0,
        "tokens": [token for reading in readings for token in reading.tokens],
        "token_confidence": [round(c, 4) for c in confidences],
        "audio_seconds": round(recording.seconds, 3),
        "segments": segments,
    }
    error = recording.error or (errors[0] if errors else None)
    if error is not None:
        result["error"] = str(error)
    text = join_texts([segment["text"] for segment in segments])
    result["readings"] = [(text, result["tokens"])]
    return result
