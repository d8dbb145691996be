"""Streams: samples come in blocks of any size, tokens go out as soon as their chunk is whole.

A stream is cut every `chunk_size[1]` frames (60 ms each, 960 samples). Where it stands is a value,
`Stream`; the model holds nothing of it. Streams that have a chunk ready are computed in one batch.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paraformer.backends.engines import stream_engine
from paraformer.backends.face import BEHIND, Fired, Release
from paraformer.data.audio.arrays import check_sound
from paraformer.data.audio.read import read_audio
from paraformer.data.features import streaming as streaming_frontend
from paraformer.data.features.streaming import FrontendState
from paraformer.data.inputs.pieces import BYTES, Pieces, staying_refused
from paraformer.data.text.ngram_table import NgramTable
from paraformer.data.text.tokenizer import SentencepieceTokenizer
from paraformer.decode.language_model import own_weight, words_of
from paraformer.decode.ngram_search import Path, ngram_search
from paraformer.decode.search import SOS
from paraformer.decode.text import GrowingText
from paraformer.errors import ConfigError, ParaformerError
from paraformer.limits import MOST_CHUNK_FRAMES

# A token begins where this share of its weight has come, and ends where all of it has.
BEGIN = 0.1
ALL = -1  # chunks looked back to
MOST_PIECES = 2  # of a stream in one pass


@dataclass(frozen=True)
class Chunking:
    """How a stream is cut: frames [computed again, new, looked ahead], chunks looked back to.

    [0, 10, 5] are 600 ms a chunk and 300 ms of look-ahead. Look-backs 4 and 1 are those of the
    model card; -1: the encoder sees all of the past.
    """

    chunk_size: tuple[int, int, int] = (0, 10, 5)
    encoder_chunk_look_back: int = 4
    decoder_chunk_look_back: int = 1

    def __post_init__(self) -> None:
        sizes = tuple(self.chunk_size)
        whole = len(sizes) == 3 and all(isinstance(size, int) for size in sizes)
        if not whole or min(sizes) < 0 or sizes[1] < 1:
            raise ConfigError(
                f"chunk_size={list(sizes)}: give three numbers of 60 ms frames, such as [0,10,5]"
            )
        if sum(sizes) > MOST_CHUNK_FRAMES:
            raise ConfigError(
                f"chunk_size={list(sizes)}: give at most {MOST_CHUNK_FRAMES} frames of 60 ms in all"
            )
        if self.encoder_chunk_look_back < ALL or self.decoder_chunk_look_back < ALL:
            raise ConfigError(
                f"encoder_chunk_look_back={self.encoder_chunk_look_back}, decoder_chunk_look_back="
                f"{self.decoder_chunk_look_back}: give 0 or more, or -1 for all"
            )
        object.__setattr__(self, "chunk_size", sizes)


class Token(NamedTuple):
    """A token, and when it was said, counted from the start of the stream."""

    text: str
    start_ms: int
    end_ms: int
    confidence: float


class Stream(NamedTuple):
    """Where a stream stands; a value that may be stored, copied and continued."""

    samples: Tensor  # (R,): less than a chunk
    frontend: FrontendState
    model: Any  # of the engine
    text: GrowingText
    heard: int = 0  # samples
    frames: int = 0  # given to the encoder
    begun: int = 0  # frame in which the next token has begun
    said_ms: int = 0  # end of the last token
    said: tuple[int, ...] = ()  # the last tokens, as many as n-grams ask for
    pieces: Pieces = Pieces()  # bytes that wait

    def __reduce__(self) -> tuple[Any, ...]:
        """Stored without what the tensors of a batch share."""
        return Stream, tuple(_alone(part) for part in self)


def _alone(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, tuple):
        parts = [_alone(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    return value


# The tokens that samples bring, or why they bring none.
Fed = list[Token] | ParaformerError


class _Piece(NamedTuple):
    place: int  # of its stream
    feats: Tensor  # (n, D)
    final: bool
    behind: bool  # the piece before it is of the same stream


class _Fired(NamedTuple):
    """The output of the model for a piece."""

    state: Any  # of the engine
    ids: list[int]
    confidences: list[float]
    sums: list[float]  # see `backends.face.Fired`
    tokens: int


class _Feeding:
    """A stream that is given more samples, as far as it has come."""

    def __init__(self, stream: Stream, block: Any, final: bool, rate: int) -> None:
        self.before = self.stream = stream
        self.result: Fed = []
        self.ended = not final  # a stream that goes on has no last piece to give
        try:
            wave, pieces = stream.pieces.take(block, rate, final)
            check_sound(wave, "stream", rate, stream.heard / rate)
        except ParaformerError as error:
            self.before = stream._replace(pieces=stream.pieces.behind(error))
            self.fail(error)
            return
        samples, heard = torch.cat((stream.samples, wave)), stream.heard + len(wave)
        self.stream = stream._replace(samples=samples, heard=heard, pieces=pieces)

    def add(self, tokens: list[Token], stream: Stream) -> None:
        """More tokens, and where the stream stands then."""
        assert isinstance(self.result, list)
        self.result += tokens
        self.stream = stream

    def fail(self, error: ParaformerError) -> None:
        """Nothing more comes of these samples."""
        self.result, self.ended = error, True
        self.stream = self.before._replace(samples=self.before.samples[:0])  # less than a chunk

    @property
    def place(self) -> Stream:
        """Where the stream stands in the end."""
        if isinstance(self.result, ParaformerError):
            return self.before
        # The rest is copied, or it would keep the whole block in memory.
        return self.stream._replace(samples=self.stream.samples.clone())


class StreamingRecognizer:
    """A loaded model on a device, and how it cuts streams. Holds no state of any stream."""

    def __init__(
        self,
        release: Release,
        chunking: Chunking | None = None,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        lm: NgramTable | None = None,
        lm_weight: float | None = None,
    ) -> None:
        """dtype: a half precision to compute in (by autocast), None: float32. lm: n-grams that
        decide with the decoder within a chunk, behind what stands before it.
        """
        cut = chunking or Chunking()
        looks = cut.encoder_chunk_look_back, cut.decoder_chunk_look_back
        self.engine = engine = stream_engine(release, cut.chunk_size, *looks, device, dtype)
        self.release = engine.release
        self.silent = {engine.blank_id, SOS, engine.eos}
        self.lm = lm
        self.lm_weight = own_weight(release.config) if lm_weight is None else lm_weight
        _, shift = streaming_frontend.frame_samples(release.frontend)
        self.frame_samples = shift * release.frontend.lfr_n

    @property
    def stride(self) -> int:
        """Samples of a chunk."""
        return self.engine.stride * self.frame_samples

    def open(self) -> Stream:
        """A stream that has not begun."""
        pieces = isinstance(self.release.tokenizer, SentencepieceTokenizer)
        frontend = streaming_frontend.initial_state(self.release.frontend)
        text = GrowingText(sentencepiece=pieces)
        return Stream(torch.zeros(0), frontend, self.engine.initial_state(), text)

    def feed(self, stream: Stream, samples: Any, final: bool = False) -> tuple[list[Token], Stream]:
        """The tokens that more samples (N,) or bytes (see `Pieces.take`) bring, and where the
        stream stands then.
        """
        (tokens,), (stream,) = self.feed_all([stream], [samples], [final])
        if isinstance(tokens, ParaformerError):
            raise tokens
        return tokens, stream

    def feed_all(
        self, streams: Sequence[Stream], blocks: Sequence[Any], final: Sequence[bool]
    ) -> tuple[list[Fed], list[Stream]]:
        """The same for many streams, those with a whole chunk in one batch. What a stream gives
        does not depend on the others: where one fails, the error stands in the place of its tokens,
        and the stream where it was before these samples.
        """
        rate = self.release.frontend.fs
        feeding = [
            _Feeding(stream, block, end, rate)
            for stream, block, end in zip(streams, blocks, final, strict=True)
        ]
        while True:
            pieces = [
                piece for place, one in enumerate(feeding) for piece in self._next(one, place)
            ]
            if pieces:
                self._step(pieces, feeding)
            elif all(one.ended for one in feeding):
                return [one.result for one in feeding], [one.place for one in feeding]

    def _next(self, one: _Feeding, place: int) -> list[_Piece]:
        """Cut off what is ready of a stream: a chunk, and the next or the end behind it for the
        same pass, which costs less than a pass of its own.
        """
        pieces: list[_Piece] = []
        while len(pieces) < MOST_PIECES:
            last = len(one.stream.samples) < self.stride
            if last and one.ended:
                break
            one.ended |= last
            one.stream, piece = self._cut(one.stream, place, last, bool(pieces))
            if piece is not None:
                pieces.append(piece)
        return pieces

    def _cut(
        self, stream: Stream, place: int, last: bool, behind: bool
    ) -> tuple[Stream, _Piece | None]:
        """Take the samples of one chunk from a stream, None if a stream ends without any frame."""
        piece, rest = stream.samples[: self.stride], stream.samples[self.stride :]
        feats, frontend = streaming_frontend.forward_chunk(
            self.release.frontend, piece, stream.frontend, last
        )
        stream = stream._replace(samples=rest, frontend=frontend)
        nothing = last and not behind and stream.frames + len(feats) == 0
        return stream, None if nothing else _Piece(place, feats, last, behind)

    def _step(self, pieces: list[_Piece], feeding: Sequence[_Feeding]) -> None:
        """One pass of the model; the streams are brought up to date."""
        found = self._compute(pieces, [feeding[piece.place].stream for piece in pieces])
        for piece, fired in zip(pieces, found, strict=True):
            one = feeding[piece.place]
            if isinstance(fired, ParaformerError):
                one.fail(fired)
            elif not isinstance(one.result, ParaformerError):
                one.add(*self._read(one.stream, fired, len(piece.feats)))

    @torch.inference_mode()
    def _compute(
        self, pieces: Sequence[_Piece], streams: Sequence[Stream]
    ) -> list[_Fired | ParaformerError]:
        """The tokens that each piece of a batch makes fire, and the states behind."""
        found: list[_Fired | ParaformerError] = []
        for fired in self.engine.forward_chunk(
            [piece.feats for piece in pieces],
            [piece.final for piece in pieces],
            [
                BEHIND if piece.behind else stream.model
                for piece, stream in zip(pieces, streams, strict=True)
            ],
        ):
            done = slice(len(found), len(found) + len(fired.logp))
            decided = self._decide(fired, pieces[done], streams[done])
            columns = (fired.states, *decided, fired.sums.tolist(), fired.counts.tolist())
            rows = zip(*columns, strict=True)
            found += [
                _Fired(*row) if error is None else error
                for row, error in zip(rows, fired.errors, strict=True)
            ]
        return found

    def _decide(
        self, fired: Fired, pieces: Sequence[_Piece], streams: Sequence[Stream]
    ) -> tuple[list[list[int]], list[list[float]]]:
        """The token at each position of some pieces, and its confidence."""
        if self.lm is None or not self.lm_weight:
            best, ids = fired.logp.max(-1)
            return ids.tolist(), best.exp().tolist()
        before, paths = [stream.said for stream in streams], dict[int, Path]()
        for behind in (False, True):
            rows = [row for row, piece in enumerate(pieces) if piece.behind == behind]
            for row in rows if behind else ():
                before[row] = self._last_said(before[row], paths[row - 1].ids)
            ends = [pieces[row].final for row in rows]
            if rows:
                paths.update(
                    zip(rows, self._paths(self.lm, fired, rows, before, ends), strict=True)
                )
        found = [paths[row] for row in range(len(pieces))]
        return [path.ids for path in found], [[math.exp(x) for x in path.logp] for path in found]

    def _paths(
        self,
        lm: NgramTable,
        fired: Fired,
        rows: list[int],
        before: Sequence[tuple[int, ...]],
        ends: Sequence[bool],
    ) -> list[Path]:
        """The best path of some rows, each behind what has been said before it."""
        logp = fired.logp[rows]
        found = ngram_search(
            *(logp, fired.counts[rows], torch.zeros_like(logp[..., 0], dtype=torch.bool)),
            *(lm, words_of(lm, self.release.tokenizer)),
            weight=self.lm_weight,
            special=sorted(self.silent),
            before=[before[row] for row in rows],
            ends=ends,
        )
        nothing = Path([], [], 0.0)  # of a stream that has failed
        return [best[0] if best else nothing for best in found]

    def _last_said(self, said: tuple[int, ...], ids: Sequence[int]) -> tuple[int, ...]:
        """The last tokens, as many as n-grams ask for, behind those of another chunk."""
        kept = 0 if self.lm is None else self.lm.order - 1
        spoken = [i for i in ids if i not in self.silent]
        return (*said, *spoken)[-kept:] if kept else ()

    def _read(self, stream: Stream, fired: _Fired, frames: int) -> tuple[list[Token], Stream]:
        """Tokens that fire in a piece of so many frames, and where the stream stands then."""
        stream, count = stream._replace(model=fired.state), fired.tokens
        spans, stream = self._spans(stream, fired.sums, count, frames)
        said = list(zip(fired.ids[:count], spans, fired.confidences[:count], strict=True))
        spoken = [(i, span, c) for i, span, c in said if i not in self.silent]
        ids = [i for i, _, _ in spoken]
        texts = self.release.tokenizer.ids_to_tokens(ids)
        tokens = [Token(text, *span, c) for text, (_, span, c) in zip(texts, spoken, strict=True)]
        said_now = self._last_said(stream.said, ids)
        return tokens, stream._replace(text=stream.text.add(texts), said=said_now)

    def _spans(
        self, stream: Stream, sums: list[float], count: int, new: int
    ) -> tuple[list[tuple[int, int]], Stream]:
        """(start, end) in ms of the tokens of a chunk whose running sums of weights these are."""
        first = stream.frames - self.engine.pad  # frame of row 0, which is sums[1]
        frame_ms = 1000 * self.frame_samples / self.release.frontend.fs
        limit = 1000 * stream.heard // self.release.frontend.fs
        begun, said, spans = stream.begun, stream.said_ms, []
        for number in range(count + 1):
            place = bisect_left(sums, number + BEGIN)
            begun = begun if place == 0 else first + place - 1
            if number == count:
                break
            fires = first + bisect_left(sums, number + 1.0 - 1e-6)
            start = min(max(said, round(begun * frame_ms)), limit)
            said = min(max(start, round(fires * frame_ms)), limit)
            spans.append((start, said))
        return spans, stream._replace(frames=stream.frames + new, begun=begun, said_ms=said)


def read_samples(samples: Any, rate: int) -> Any:
    """Samples (N,) of anything that may be fed: floats in [-1, 1), or integers of their full range;
    bytes, of 16-bit little-endian samples, stay what they are (see `Pieces`).
    """
    return samples if isinstance(samples, BYTES) else read_audio(samples, fs=rate, target_fs=rate)


class Streamer:
    """One stream that is fed step by step.

    feed -> the new tokens; `text` -> all so far; `flush` ends the stream, and the next block begins
    another. `state` may be taken, stored and put back, also into another streamer of the same
    model.
    """

    def __init__(self, recognizer: StreamingRecognizer) -> None:
        self.recognizer = recognizer
        self.state = recognizer.open()
        self.ended = False

    @property
    def text(self) -> str:
        """The text so far; after `flush`, that of the whole stream."""
        return self.state.text.text

    def feed(self, samples: Any) -> list[Token]:
        """The tokens of more samples of the model's rate, in a form that `read_samples` takes."""
        if self.ended:
            self.reset()
        piece = read_samples(samples, self.recognizer.release.frontend.fs)
        with staying_refused(self):
            tokens, self.state = self.recognizer.feed(self.state, piece)
        return tokens

    def flush(self) -> list[Token]:
        """The last tokens; what is fed next belongs to a new stream."""
        self.ended = True
        tokens, self.state = self.recognizer.feed(self.state, b"", final=True)
        return tokens

    def reset(self) -> None:
        """Forget the stream."""
        self.state, self.ended = self.recognizer.open(), False
