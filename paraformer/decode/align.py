"""Forced alignment: recordings and their texts become the times of each word.

The text stays as its user wrote it. A word is what stands between blanks in scripts that have them,
else a character; marks and tags such as `<noise>` are not spoken, and what the model has no token
for, `<unk>` too, keeps its place.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from unicodedata import category

import torch
from torch import Tensor

from paraformer.backends.engines import alignment_engine
from paraformer.backends.face import AlignerRelease, Timeline
from paraformer.data.corpus.texts import read_texts
from paraformer.data.inputs.names import names_file
from paraformer.data.inputs.sources import Cache, Item
from paraformer.data.text.tokenizer import CharTokenizer, SentencepieceTokenizer
from paraformer.data.text.words import TAG, breakable
from paraformer.decode.longform import Cutting
from paraformer.decode.pool import Batching, Done, Job, compute_in_batches
from paraformer.decode.recognize import feats_job, sound_job
from paraformer.decode.timestamps import (
    SILENCE,
    Clock,
    Span,
    Times,
    milliseconds,
)
from paraformer.decode.token_ends import ends_of
from paraformer.errors import AudioError, DataError, ParaformerError

log = logging.getLogger(__name__)

Tokenizer = CharTokenizer | SentencepieceTokenizer
UNKNOWN = "<unk>"  # token of a word that the tokenizer makes nothing of: the model only counts it
_APOSTROPHES = "'’"
_PARTS = re.compile(rf"{TAG.pattern}|(?:(?!{TAG.pattern})\S)+")
_UNKNOWN_WORDS = frozenset(("<unk>", "<oov>", "<unknown>"))  # in any case


class Unit(NamedTuple):
    """A word of a text, text[start:end], and the tokens that it is for the model."""

    text: str
    tokens: list[str]
    start: int
    end: int


class Spoken(NamedTuple):
    """Features (T, D), and the words that are spoken in them."""

    feats: Tensor
    units: list[Unit]


class Alignment(NamedTuple):
    """Words of a text as they stand in it, and when they were spoken."""

    words: list[str]
    timestamps: Times  # [start, end] of each word in ms
    spans: list[Span]  # words, and the silences between them, in seconds
    token_spans: list[Span]  # the same of tokens
    places: list[tuple[int, int]]  # words[i] is text[start:end]

    @property
    def text(self) -> str:
        """The words, with a blank between any two."""
        return " ".join(self.words)


NOTHING = Alignment([], [], [], [], [])
# A pair that failed keeps its place, as the error that says why.
Outcome = Alignment | ParaformerError
Payload = TypeVar("Payload")


class ForcedAligner:
    """A loaded aligner on a device. What a pair gives does not depend on what stands beside it."""

    def __init__(
        self,
        release: AlignerRelease,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        """dtype: a half precision for the encoder (by autocast), None: float32."""
        self.engine = alignment_engine(release, device, dtype)
        self.device, self.frame_seconds = self.engine.device, self.engine.frame_seconds
        self.frontend, self.tokenizer = release.frontend, release.tokenizer
        self._ends = ends_of(release.config, release.frontend)

    def align(
        self,
        waves: Iterable[Tensor],
        texts: Iterable[str],
        batching: Batching | None = None,
    ) -> list[Outcome]:
        """One outcome for each wave (N,), of the sampling rate of the model, and its text."""
        pairs = zip(waves, texts, strict=True)
        jobs = (self.job(sound_job(None, wave, self.frontend), text) for wave, text in pairs)
        return [done.outcome for done in self.stream(jobs, batching)]

    def stream(
        self,
        jobs: Iterable[Job[Payload, Spoken] | Done[Payload, Outcome]],
        batching: Batching | None = None,
    ) -> Iterator[Done[Payload, Outcome]]:
        """Outcomes of the jobs that `job` makes, in order; what is done keeps its place.

        Some minutes of audio are held at a time, however many pairs there are.
        """
        batching = batching or Batching()
        return compute_in_batches(
            jobs,
            self._align_batch,
            batching.max_utterances,
            max(1, int(batching.max_seconds / self.frame_seconds)),
        )

    def job(
        self, heard: Job[Payload, Tensor] | Done[Payload, Any], text: str
    ) -> Job[Payload, Spoken] | Done[Payload, Outcome]:
        """Features (T, D) and their text, to be aligned; done if there is nothing to align, or if
        the text cannot have been spoken in them.
        """
        if isinstance(heard, Done):
            return heard
        units = split_units(text, self.tokenizer)
        count, seconds = sum(len(unit.tokens) for unit in units), heard.frames * self.frame_seconds
        if count > heard.frames * self.engine.steps:
            told = f"{count} tokens in {seconds:.2f} s; is it the text of this recording?"
            silent = AudioError(f"{count} tokens in no audio; give the recording of this text")
            wrong = DataError(f"{told} give its own") if heard.frames else silent
            return Done(heard.payload, wrong)
        if not units:
            return Done(heard.payload, NOTHING)
        return Job(heard.payload, Spoken(heard.content, units), heard.frames)

    def clock(self, timeline: Timeline, feats: Sequence[Tensor]) -> Clock:
        """Token times of a batch, whose network inputs (T, D) these are."""
        return Clock(timeline, self.frame_seconds, self._ends(feats) if self._ends else None)

    @torch.inference_mode()
    def _align_batch(self, batch: Sequence[Spoken]) -> list[Outcome]:
        tokens = [[token for unit in units for token in unit.tokens] for _, units in batch]
        texts = zip(batch, tokens, strict=True)
        found: list[Outcome] = []
        for timed in self.engine.align([x for x, _ in batch], [len(row) for row in tokens]):
            clock = self.clock(timed.timeline, timed.feats)
            for row, error in enumerate(timed.errors):
                (_, units), spoken = next(texts)
                found.append(error or _gather(units, clock.spans(row, spoken)))
        return found


class Read(NamedTuple):
    """A recording that was read, and how long it is."""

    item: Item
    seconds: float = 0.0


def read_spoken(
    items: Iterable[Item], aligner: ForcedAligner, fs: int | None
) -> Iterator[Job[Read, Spoken] | Done[Read, Outcome]]:
    """Jobs of the aligner for items with texts; an item that cannot be read becomes its error, and
    where the text is an error, the audio is not read.
    """
    cache, unsaid, rate = Cache(), True, aligner.frontend.fs
    for item in items:
        try:
            if isinstance(item.text, ParaformerError):
                raise item.text
            wave = item.read(fs, rate, cache)
        except ParaformerError as error:
            yield Done(Read(item), error)
            continue
        read = Read(item, len(wave) / rate)
        if unsaid and read.seconds > Cutting.max_whole_s:
            unsaid = False
            log.warning(
                "'%s': has %.0f s and is aligned as a whole: time and memory grow with the square "
                "of that; give shorter recordings with their texts",
                item.key,
                read.seconds,
            )
        yield aligner.job(feats_job(read, aligner.frontend(wave)), item.text)


def _gather(units: Sequence[Unit], token_spans: list[Span]) -> Alignment:
    """Spans of tokens -> those of the words they belong to; a silence inside a word is part of
    it.
    """
    owners = iter([number for number, unit in enumerate(units) for _ in unit.tokens])
    spans: list[Span] = []
    word = -1
    for span in token_spans:
        if span.text == SILENCE:
            spans.append(span)
            continue
        owner = next(owners)
        if owner == word:
            while spans[-1].text == SILENCE:
                spans.pop()
            spans[-1] = spans[-1]._replace(end=span.end)
        else:
            spans.append(Span(units[owner].text, span.start, span.end))
        word = owner
    words = [unit.text for unit in units]
    places = [(unit.start, unit.end) for unit in units]
    return Alignment(words, milliseconds(spans), spans, token_spans, places)


def split_units(text: str, tokenizer: Tokenizer) -> list[Unit]:
    """The words of a text with their tokens, in order.

    >>> tokens = ["我", "he@@", "llo", "<unk>"]
    >>> tokenizer = CharTokenizer(tokens, {"我": ["我"], "hello": tokens[1:3]})
    >>> [(unit.text, len(unit.tokens)) for unit in split_units("我, HELLO!汪", tokenizer)]
    [('我', 1), ('HELLO', 2), ('汪', 1)]
    """
    units: list[Unit] = []
    for match in _PARTS.finditer(text):
        chunk, start = match[0], match.start()
        if TAG.fullmatch(chunk):
            if chunk.lower() in _UNKNOWN_WORDS:
                units.append(Unit(chunk, [UNKNOWN], start, match.end()))
        elif _listed(chunk, tokenizer):
            units += _shared_out(chunk, start, tokenizer.tokenize(chunk))
        else:
            for run, place in _runs(chunk):
                pieces = [piece for piece in tokenizer.tokenize(run) if piece != "▁"]
                units += _shared_out(run, start + place, pieces)
    return units


def _listed(chunk: str, tokenizer: Tokenizer) -> bool:
    """Whether the model knows what stands between two blanks as a whole."""
    return isinstance(tokenizer, CharTokenizer) and chunk.lower() in (tokenizer.seg_dict or ())


def _runs(chunk: str) -> Iterator[tuple[str, int]]:
    """Words of scripts with blanks, and all other characters that are spoken; and their places."""
    kinds = [_kind(chunk, place) for place in range(len(chunk))]
    place = 0
    for kind, group in groupby(kinds):
        size = len(list(group))
        run = chunk[place : place + size]
        if kind == "letter":
            yield run, place
        elif kind == "sign":
            yield from ((char, place + i) for i, char in enumerate(run))
        place += size


def _kind(chunk: str, place: int) -> str:
    """`letter` of a word of several, `sign` that is a word by itself, or `mark`: not spoken."""
    char = chunk[place]
    inside = chunk[place - 1 : place].isalpha() and chunk[place + 1 : place + 2].isalpha()
    if char in _APOSTROPHES and inside:
        return "letter"
    if category(char)[0] in "PZC":
        return "mark"
    return "sign" if char.isdigit() or breakable(f"a{char}", 1) else "letter"


def _shared_out(run: str, start: int, pieces: Sequence[str]) -> Iterator[Unit]:
    """A run as one word, or a listed run in another script as one word each of its characters."""
    whole = "".join(piece.replace("@@", "") for piece in pieces)
    one = any("@@" in piece for piece in pieces) or not breakable(f"a{run}", 1)
    if one or len(whole) != len(run) or len(pieces) != len(run):
        yield Unit(run, list(pieces) or [UNKNOWN], start, start + len(run))
        return
    for place, (char, piece) in enumerate(zip(run, pieces, strict=True), start):
        yield Unit(char, [piece], place, place + 1)


def pair_texts(source: object, keys: Sequence[str]) -> list[str | DataError]:
    """The text of each recording: a string or a file for one, a file or a list for several.

    A file (see `names_file`) is a table `id text` or plain (see `read_texts`). Where no id of it is
    one of `keys`, its texts go to them in their order.
    """
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes, Mapping)):
        texts = list(source)
        for text in texts:
            if not isinstance(text, str):
                raise DataError(f"text: {text!r} in the list is none; give texts, or one file")
        return _in_order(texts, keys, "text")
    if not isinstance(source, (str, Path)):
        raise DataError(f"text: {type(source).__name__} is none; give a string, a list or a file")
    if isinstance(source, str) and not names_file(source):
        return _in_order([source], keys, "text")
    table = read_texts(source, keys).table
    if not table.keys() & set(keys):
        return _in_order(list(table.values()), keys, str(source))
    return [
        table[key] if key in table else DataError(f"{source}: no text of '{key}'; add it")
        for key in keys
    ]


def _in_order(texts: Sequence[str], keys: Sequence[str], where: str) -> list[str | DataError]:
    if len(texts) != len(keys):
        raise DataError(
            f"{where}: {len(texts)} texts for {len(keys)} recordings; give one for each"
        )
    return list(texts)
