"""Forced alignment as a task of `AutoModel`: recordings and their texts become times of words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from paraformer.api.tasks import Task, progress
from paraformer.data.inputs.sources import Inputs, Item, ListedItems
from paraformer.decode.align import ForcedAligner, pair_texts, read_spoken
from paraformer.decode.pool import Batching
from paraformer.decode.timestamps import cut_sentences
from paraformer.errors import ConfigError, ParaformerError
from paraformer.options import CallOptions, data_types
from paraformer.output.result import Result, alignment_result
from paraformer.output.tables import ALIGNED, Layout


class AlignTask(Task):
    """Words of known texts with their times; the input is a pair, recordings and texts, such as
    (wav, text) or (wav.scp, text.txt), see `pair_texts`.
    """

    def __init__(self, aligner: ForcedAligner) -> None:
        self.aligner, self.device = aligner, aligner.device
        self.release = aligner.engine.release

    def inputs(self, source: Any, call: CallOptions) -> ListedItems:
        """See `Task`."""
        sounds, given = _pair(source, call)
        inputs = Inputs(sounds, call.key, call.segments, call.channel)
        items = list(inputs)
        texts = pair_texts(given, [item.key for item in items])
        pairs = zip(items, texts, strict=True)
        return ListedItems((replace(item, text=text) for item, text in pairs), inputs.origins)

    def layout(self, call: CallOptions, cut: bool) -> Layout:
        """See `Task`."""
        return ALIGNED

    def silence(self, call: CallOptions, cut: bool) -> Result:
        """See `Task`."""
        return Result(text="", script="", timestamp=[], words=[], audio_seconds=0.0)

    def results(
        self, items: Iterator[Item], total: int, call: CallOptions, cut: bool
    ) -> Iterator[Result]:
        """See `Task`."""
        batching = Batching(call.batch_size, call.batch_size_s)
        found = self.aligner.stream(read_spoken(items, self.aligner, call.fs), batching)
        for done in progress(found, total, call):
            (item, seconds), outcome = done.payload, done.outcome
            if isinstance(outcome, ParaformerError):
                yield self.silence(call, cut).failed(item, outcome, seconds)
                continue
            result = alignment_result(item, outcome, seconds)
            if call.sentence_timestamp:
                sentences = cut_sentences(
                    str(item.text), outcome.words, outcome.timestamps, places=outcome.places
                )
                result.sentence_info = [sentence._asdict() for sentence in sentences]
            yield result

    def feed(self, source: Any, call: CallOptions) -> Result:
        """See `Task`."""
        raise ConfigError("cache: an aligner needs the whole recording; leave it out")


def _pair(source: Any, call: CallOptions) -> tuple[Any, Any]:
    """Recordings and texts of an input, in the order that `data_type` says."""
    if not isinstance(source, (tuple, list)) or len(source) != 2:
        raise ConfigError(
            "input: an aligner takes two, recordings and texts, such as (a.wav, text.txt) with "
            "data_type=(sound, text)"
        )
    first, second = source
    return (second, first) if data_types(call.data_type) == ["text", "sound"] else (first, second)
