"""Speakers beside recognition: voices are heard in the segments of the VAD, and told in results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from torch import Tensor

from paraformer.decode.clustering import Bounds, centres, cluster
from paraformer.decode.longform import CutSegment, Segmenter
from paraformer.decode.turns import Turn, sentence_speaker, turns, windows, word_speakers
from paraformer.decode.voices import Voice, Voices
from paraformer.errors import ConfigError, DataError, ParaformerError
from paraformer.options import CallOptions
from paraformer.output.result import Fields, Result, sentence_info

BY_MARKS, BY_SEGMENTS = "punc_segment", "vad_segment"
# Values of `spk_mode`; the reference's `default` is the first.
MODES = {BY_MARKS: BY_MARKS, BY_SEGMENTS: BY_SEGMENTS, "default": BY_MARKS}


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

    def segments(self, blocks: Iterable[Tensor]) -> Iterator[CutSegment]:
        """See `Segmenter`."""
        for segment in super().segments(blocks):
            found = list(windows(segment.start_ms / 1000, segment.wave, self.rate))
            embedded = self.voices.embed([window.wave for window in found])
            pairs = zip(found, embedded, strict=True)
            voices = (Voice(window.start, window.end, embedding) for window, embedding in pairs)
            yield segment._replace(voices=tuple(voices))


def bounds_of(call: CallOptions) -> Bounds:
    """How many speakers the call says there are."""
    if call.min_spk_num > call.max_spk_num:
        raise ConfigError(
            f"min_spk_num={call.min_spk_num}: is above max_spk_num={call.max_spk_num}; give less"
        )
    return Bounds(call.preset_spk_num, call.min_spk_num, call.max_spk_num)


def speakers_of(voices: Sequence[Voice], call: CallOptions) -> tuple[list[Turn], np.ndarray]:
    """The voices of a recording, in the order of time -> who speaks when, and the centre (E,) of
    each speaker.
    """
    rows = list[np.ndarray]()
    for voice in voices:
        if isinstance(voice.embedding, ParaformerError):
            raise DataError(f"spk_model: {voice.embedding}")
        rows.append(voice.embedding.numpy())
    if not rows:
        return [], np.zeros((0, 0), np.float32)
    labels = cluster(np.stack(rows), bounds_of(call))
    spans = [(voice.start, voice.end) for voice in voices]
    return turns(spans, labels.tolist()), centres(np.stack(rows), labels)


def told_turns(found: Sequence[Turn]) -> list[Fields]:
    """Turns as a result tells them, in ms."""
    return [
        {"start": round(1000 * turn.start), "end": round(1000 * turn.end), "spk": turn.speaker}
        for turn in found
    ]


def tell_speakers(result: Result, call: CallOptions, mode: str, marked: bool) -> None:
    """Put speakers into the sentences and words of a result, by the voices that it has, or why
    there are none.

    mode: where sentences end; marked: the result has marks.
    """
    voices, result.voices = result.voices, ()
    try:
        found, middles = speakers_of(voices, call)
    except DataError as error:
        result.error = str(error)
        return
    result.turns = told_turns(found)
    if call.return_spk_center:
        result.spk_embedding_center = middles.tolist()
    by_marks = marked and mode == BY_MARKS
    told = sentence_info(result, by_marks, call.en_post_proc, call.return_raw_text)
    for sentence in told:
        sentence["spk"] = sentence_speaker(sentence["start"], sentence["end"], found)
    result.sentence_info = told
    if result.words is not None:
        times = [(word["start"], word["end"]) for word in result.words]
        speakers = word_speakers(times, found)
        pairs = zip(result.words, speakers, strict=True)
        result.words = [{**word, "spk": speaker} for word, speaker in pairs]
