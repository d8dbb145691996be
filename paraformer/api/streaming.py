"""A streaming model by the calls of `AutoModel`: a piece of audio a call, or whole recordings."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from itertools import islice
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paraformer.data.audio.containers import HEAD, UndecidedError, kind_of_head, kind_of_stream
from paraformer.data.audio.signatures import TEXT
from paraformer.data.inputs.audio_items import check_piece
from paraformer.data.inputs.sources import Cache, Item
from paraformer.data.text.ngram_table import NgramTable
from paraformer.decode.language_model import LanguageModel, shared_language_model
from paraformer.decode.streaming import Chunking, Stream, Streamer, StreamingRecognizer, Token
from paraformer.errors import ConfigError, DataError, ParaformerError
from paraformer.output.result import Fields

# Recordings that are decoded side by side.
SIDE_BY_SIDE = 8


class Manner(NamedTuple):
    """How streams are cut, and the n-grams that decide with the decoder."""

    chunking: Chunking
    lm: NgramTable | None = None
    lm_weight: float | None = None  # None: the model's own


def manner_of(
    config: Mapping[str, Any], chunking: Chunking, lm_file: str = "", lm_weight: float | None = None
) -> Manner:
    """How streams are heard by a model of this configuration; lm_file: instead of its own n-grams,
    or none.
    """
    lm = shared_language_model(lm_file, config)
    if isinstance(lm, LanguageModel):
        raise ConfigError(f"lm_file={lm_file}: streams want what make_arpa out=x.lm makes")
    return Manner(chunking, lm, lm_weight)


class OnlineModel:
    """The recognisers of one model, one for each manner of streaming."""

    def __init__(
        self, release: Any, device: torch.device, dtype: torch.dtype | None = None
    ) -> None:
        self._made = (release, device, dtype)
        self._recognizers: dict[Manner, StreamingRecognizer] = {}

    def recognizer(self, manner: Manner) -> StreamingRecognizer:
        """The recogniser that cuts and decides so; refused for a model that does not stream."""
        if manner not in self._recognizers:
            release, device, dtype = self._made
            chunking, lm, weight = manner
            found = StreamingRecognizer(release, chunking, device, dtype, lm, weight)
            self._recognizers[manner] = found
        return self._recognizers[manner]

    def feed(self, item: Item, fs: int | None, manner: Manner, cache: Any, end: bool) -> Fields:
        """Fields of the result that one more piece of a stream adds, as the model card calls it.

        cache: a dict of the caller, empty at first, in which the stream stands between the calls.
        After the last piece it is empty again. The texts of all calls, joined, are that of the
        whole.
        """
        if not isinstance(cache, dict):
            raise ConfigError("cache: give a dict, empty at first, the same one for every call")
        chunking = manner.chunking
        if cache.get("chunking", chunking) != chunking:
            raise ConfigError(
                f"chunk_size={list(chunking.chunk_size)}: chunk_size and look-backs stay as they "
                "were when the stream began; begin another with an empty cache"
            )
        recognizer = self.recognizer(manner)
        rate = recognizer.release.frontend.fs
        check_piece(item, fs, rate)
        before: Stream = cache.get("stream") or recognizer.open()
        tokens, stream = recognizer.feed(before, item.piece(rate), end)
        text = stream.text.text if end else stream.text.settled
        if end:
            cache.clear()
        else:
            cache.update(stream=stream, chunking=chunking)
        return stream_fields(text[len(before.text.settled) :], tokens)

    def transcribe(
        self, items: Iterable[Item], fs: int | None, manner: Manner
    ) -> Iterator[tuple[Item, Fields | ParaformerError, float]]:
        """Whole recordings, each a stream: what is found in them, or why nothing, and seconds."""
        recognizer, cache = self.recognizer(manner), Cache()
        rate = recognizer.release.frontend.fs
        left = iter(items)
        while group := list(islice(left, SIDE_BY_SIDE)):
            waves = [_read(item, fs, rate, cache) for item in group]
            sound = [wave for wave in waves if isinstance(wave, Tensor)]
            tokens, streams = recognizer.feed_all(
                [recognizer.open() for _ in sound], sound, [True] * len(sound)
            )
            decoded = iter(zip(tokens, streams, strict=True))
            for item, wave in zip(group, waves, strict=True):
                if isinstance(wave, ParaformerError):
                    yield item, wave, 0.0
                    continue
                said, stream = next(decoded)
                if isinstance(said, ParaformerError):
                    yield item, said, 0.0
                else:
                    yield item, stream_fields(stream.text.text, said), len(wave) / rate


def _read(item: Item, fs: int | None, rate: int, cache: Cache) -> Tensor | ParaformerError:
    try:
        return item.read(fs, rate, cache)
    except ParaformerError as error:
        return error


def stream_fields(text: str, tokens: Sequence[Token]) -> Fields:
    """Fields of the result of a stream; `timestamp`: [start, end] of each token in milliseconds."""
    confidences = [token.confidence for token in tokens]
    return {
        "text": text,
        "confidence": round(sum(confidences) / len(tokens), 4) if tokens else 0.0,
        "tokens": [token.text for token in tokens],
        "token_confidence": [round(c, 4) for c in confidences],
        "timestamp": [[token.start_ms, token.end_ms] for token in tokens],
    }


def growing_text(streamer: Streamer, blocks: Iterable[Any]) -> Iterator[str]:
    """The text of a stream as it grows: parts that, joined, are the whole."""
    shown = 0
    for block in blocks:
        streamer.feed(block)
        text = streamer.state.text.settled
        yield text[shown:]
        shown = len(text)
    streamer.flush()
    yield streamer.text[shown:]


class _Begun(io.RawIOBase):
    """A stream, of which first comes as much as tells its kind."""

    def __init__(self, source: BufferedReader) -> None:
        self._source = source
        self._head: bytes | None = None

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """The beginning at once, then what there is."""
        if self._head is None:
            self._head = _head_of(self._source)
        part = self._head[: len(buffer)] or self._source.read1(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(part)] = part
        return len(part)


def with_head(source: BufferedReader) -> BufferedReader:
    """The same stream, of which `peek` gives so much that its kind is told, once it has come."""
    return BufferedReader(_Begun(source), 2 * HEAD)


def _head_of(source: BufferedReader) -> bytes:
    head = b""
    while part := source.read1(HEAD):
        head += part
        try:
            kind_of_stream(head)
        except UndecidedError:
            continue
        break
    return head


def refuse_no_audio(content: bytes) -> None:
    """Refuse what is no sound on stdin: a list that was meant would be heard as noise."""
    kind = kind_of_head(content)
    if kind is not None and not kind.is_audio:
        remedy = "give a list as a file: +input=list.scp" if kind is TEXT else "give a recording"
        raise DataError(f"-: {kind.name} came on stdin, not audio; {remedy}")


def is_audio_file(source: BufferedReader) -> bool:
    """Whether an input that has not been read begins like an audio file, not like raw samples."""
    kind = kind_of_head(source.peek())
    return kind is not None and kind.is_audio


def raw_blocks(source: BufferedReader, samples: int) -> Iterator[bytes]:
    """Raw 16-bit samples as soon as they come, at most so many at a time."""
    held = b""
    while part := source.read1(2 * samples):
        held += part
        even = len(held) - len(held) % 2
        yield held[:even]
        held = held[even:]
    if held:
        yield held
