"""Speakers beside recognition: voices are heard in the segments of the VAD, and told in results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice, pairwise
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from torch import Tensor

from paraformer.backends.face import Likeness
from paraformer.data.corpus.rttm import NamedTurn
from paraformer.decode.clustering import Bounds, by_first, centres, cluster, number_confidence
from paraformer.decode.endpoint import Span
from paraformer.decode.longform import CutSegment, Segmenter
from paraformer.decode.turns import Turn, sentence_speaker, turns, windows, word_speakers
from paraformer.decode.voices import Known, Voice, Voices, window_rows
from paraformer.errors import ConfigError
from paraformer.options import CallOptions
from paraformer.output.result import Fields, Result, sentence_info

BY_MARKS, BY_SEGMENTS, BY_CHANNEL = "punc_segment", "vad_segment", "channel"
# Values of `spk_mode`; the reference's `default` is the first.
MODES = {name: name for name in (BY_MARKS, BY_SEGMENTS, BY_CHANNEL)} | {"default": BY_MARKS}


class ListeningSegmenter(Segmenter):
    """A segmenter that hears the voices of its segments."""

    def __init__(self, segmenter: Segmenter, voices: Voices) -> None:
        super().__init__(segmenter.vad, segmenter.cutting)
        self.voices = voices
        if voices.rate != self.rate:
            raise ConfigError(
                f"spk_model: works at {voices.rate} Hz, vad_model at {self.rate} Hz; take two of "
                "one rate"
            )

    def segments(
        self, blocks: Iterable[Tensor], known: Sequence[Span] | None = None
    ) -> Iterator[CutSegment]:
        """See `Segmenter`."""
        for segment in super().segments(blocks, known):
            found = list(windows(segment.start_ms / 1000, segment.wave, self.rate))
            embedded = self.voices.embed([window.wave for window in found])
            pairs = zip(found, embedded, strict=True)
            voices = (Voice(window.start, window.end, embedding) for window, embedding in pairs)
            yield segment._replace(voices=tuple(voices))


def bounds_of(call: CallOptions, likeness: Likeness | None = None) -> Bounds:
    """How many speakers the call says there are, and from when on a model takes two for one."""
    if call.min_spk_num > call.max_spk_num:
        raise ConfigError(
            f"min_spk_num={call.min_spk_num}: is above max_spk_num={call.max_spk_num}; give less"
        )
    merge = (likeness or Likeness()).merge_thr
    return Bounds(call.preset_spk_num, call.min_spk_num, call.max_spk_num, merge)


class Speakers(NamedTuple):
    """Who speaks when in a recording; names: of those that are known, with how alike they are."""

    turns: list[Turn]
    names: Mapping[int, tuple[str, float | None]] = MappingProxyType({})
    centres: np.ndarray | None = None  # (speakers, E), where voices were heard
    number_confidence: float | None = None  # 0 to 1, where the number was found

    def who(self, speaker: int, scored: bool = False) -> Fields:
        """The fields that say who a speaker is; scored: also how sure his name is."""
        found: Fields = {"spk": speaker}
        name, score = self.names.get(speaker, (None, None))
        if name is not None:
            found["speaker"] = name
        if scored and score is not None:
            found["spk_score"] = round(score, 4)
        return found

    def tell(self, result: Result, call: CallOptions) -> None:
        """Put what is known of a recording's speakers, but for their turns, into its result."""
        result.spk_num_confidence = self.number_confidence
        if call.return_spk_center and self.centres is not None:
            result.spk_embedding_center = self.centres.tolist()

    def told_turns(self) -> list[Fields]:
        """The turns as a result tells them, in ms."""
        spans = [(round(1000 * turn.start), round(1000 * turn.end)) for turn in self.turns]
        return [
            {"start": start, "end": end, **self.who(turn.speaker, scored=True)}
            for (start, end), turn in zip(spans, self.turns, strict=True)
        ]


def heard_speakers(
    heard: Sequence[Voice], call: CallOptions, voices: Voices, known: Known | None = None
) -> Speakers:
    """The speakers that what was heard, in the order of time, is of; those that are known have
    names.
    """
    rows, bounds = window_rows(heard), bounds_of(call, voices.likeness)
    if not len(rows):
        return Speakers([], centres=rows)
    labels, names = cluster(rows, bounds), dict[int, tuple[str, float | None]]()
    confidence = number_confidence(rows, bounds, labels)
    if known is not None:
        merging = call.preset_spk_num is None
        threshold = voices.threshold(call.spk_threshold)
        labels, names = named(rows, labels, known, threshold, merging)
    spans = [(voice.start, voice.end) for voice in heard]
    return Speakers(turns(spans, labels.tolist()), names, centres(rows, labels), confidence)


def named(
    rows: np.ndarray, labels: np.ndarray, known: Known, threshold: float, merging: bool
) -> tuple[np.ndarray, dict[int, tuple[str, float | None]]]:
    """Labels (N,) of embeddings (N, E), and the names of those whose centres are as like a known
    voice as the threshold; merging: those of one name are one speaker, else it is the likest one's.
    """
    middles = centres(rows, labels)
    found = [(*known.nearest(middle), label) for label, middle in enumerate(middles)]
    owners: dict[str, tuple[int, float]] = {}
    for name, score, label in sorted(found, key=lambda row: -row[1]):
        if score < threshold:
            break
        if name not in owners:
            owners[name] = label, score
        elif merging:
            labels = np.where(labels == label, owners[name][0], labels)
    places = {int(old): int(new) for old, new in zip(labels, by_first(labels), strict=True)}
    names = {places[label]: (name, score) for name, (label, score) in owners.items()}
    return by_first(labels), dict(names)


def given_speakers(found: Sequence[NamedTurn]) -> Speakers:
    """The speakers of turns that somebody else has found, numbered as they begin to speak."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(t.speaker for t in found))}
    spoken = [Turn(turn.start, turn.end, numbers[turn.speaker]) for turn in found]
    return Speakers(spoken, {number: (name, None) for name, number in numbers.items()})


def channel_speaker(result: Result) -> Speakers:
    """The one speaker of a channel of a recording, who speaks in its segments, else where there are
    words; `recording` says which, and its channels' results are those of one.
    """
    channel = int(result.channel or 0)
    whole: Fields = {"start": 0, "end": 1000 * (result.audio_seconds or 0.0), "text": result.text}
    spans = result.segments or result.words or [whole]
    turns = [Turn(x["start"] / 1000, x["end"] / 1000, channel) for x in spans if x["text"]]
    if result.recording is None:
        result.recording, result.start = result.key.removesuffix(f"_ch{channel}"), 0
    return Speakers(turns)


def tell_speakers(
    result: Result, found: Speakers, call: CallOptions, mode: str, marked: bool
) -> None:
    """Put speakers into the sentences and words of a result. A sentence of words ends where the
    speaker changes; one without words is the speaker's who leads by the reference's rule.

    mode: where sentences end; marked: the result has marks.
    """
    result.turns = found.told_turns()
    found.tell(result, call)
    by_marks = marked and mode != BY_SEGMENTS
    times = [(word["start"], word["end"]) for word in result.words or ()]
    speakers = word_speakers(times, found.turns)
    changes = {n for n, pair in enumerate(pairwise(speakers), 1) if pair[0] != pair[1]}
    told = sentence_info(result, by_marks, call.en_post_proc, call.return_raw_text, changes)
    spoken = iter(speakers)
    for sentence in told:
        if by_marks and times:
            speaker, *_ = islice(spoken, len(sentence["timestamp"]))
        else:
            speaker = sentence_speaker(sentence["start"], sentence["end"], found.turns)
        sentence |= found.who(speaker, scored=True)
    result.sentence_info = told
    if result.words is not None:
        pairs = zip(result.words, speakers, strict=True)
        result.words = [{**word, **found.who(speaker)} for word, speaker in pairs]
