"""Forced alignment as a task of `AutoModel`: recordings and their texts become times of words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from paraformer.data.inputs.audio_items import at_hand
from paraformer.data.inputs.sources import Inputs, Item
from paraformer.decode.align import Alignment, ForcedAligner, Outcome, pair_texts, read_pairs
from paraformer.decode.recognize import Batching
from paraformer.decode.timestamps import cut_sentences, one_line
from paraformer.errors import ConfigError, DataError, ParaformerError
from paraformer.options import CallOptions, data_types
from paraformer.output.result import WRITTEN, Result, alignment_result, head
from paraformer.output.resume import Made
from paraformer.output.sink import Output, Results, Tables
from paraformer.output.tables import check_format

# Tables in output_dir/tp_res, the reference's.
TABLES = Tables(("timestamp_list", "timestamp_str"), place="tp_res")
Text = str | DataError


class AlignTask:
    """Words of known texts with their times; the input is a pair, recordings and texts."""

    def __init__(self, aligner: ForcedAligner) -> None:
        self.aligner, self.device = aligner, aligner.device

    def stream(
        self, source: Any, call: CallOptions, cut: bool, made: Made | None = None
    ) -> Results:
        """See `Task`; (wav, text) or (wav.scp, text.txt), see `pair_texts`."""
        check_format(call.output_format)
        sounds, given = _pair(source, call)
        inputs = Inputs(sounds, call.key, call.segments, call.channel)
        items = list(inputs)
        texts = pair_texts(given, [item.key for item in items])
        output = Output(call, len(items), TABLES, inputs.origins, made)
        pairs = zip(items, texts, strict=True)
        pending = output.pending((pair[0].key, at_hand(pair)) for pair in pairs)
        return output.stream(self._aligned(list(pending), call))

    def _aligned(self, pairs: Sequence[tuple[Item, Text]], call: CallOptions) -> Iterator[Result]:
        seconds: list[float] = []
        batching = Batching(call.batch_size, call.batch_size_s)
        outcomes = self.aligner.stream(
            read_pairs(pairs, self.aligner.frontend, call.fs, seconds), batching
        )
        hidden = True if call.disable_pbar or len(pairs) < 2 else None
        bar = tqdm(outcomes, total=len(pairs), unit="utt", disable=hidden, leave=False)
        for place, ((item, text), outcome) in enumerate(zip(pairs, bar, strict=True)):
            found = _result(outcome, text, seconds[place], call.sentence_timestamp)
            yield {**head(item), **found}

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


def _result(outcome: Outcome, text: Text, seconds: float, sentences: bool) -> Result:
    if isinstance(outcome, ParaformerError):
        nothing = alignment_result(Alignment([], [], [], [], []), "", seconds)
        return {**nothing, "error": str(outcome)}
    result = alignment_result(outcome, str(text), seconds)
    if sentences and isinstance(text, str):
        cut = cut_sentences(text, outcome.words, outcome.timestamps, places=outcome.places)
        result["sentence_info"] = [sentence._asdict() for sentence in cut]
    result[WRITTEN] = [(str(outcome.timestamps), [one_line(outcome.token_spans)])]
    return result
