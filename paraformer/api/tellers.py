"""Tells who speaks in the recordings of a call: by the voices that a speaker model hears, or by the
turns that another tool has found.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

from paraformer.api.diarization import (
    BY_CHANNEL,
    BY_MARKS,
    ListeningSegmenter,
    Speakers,
    bounds_of,
    channel_speaker,
    given_speakers,
    heard_speakers,
    tell_speakers,
)
from paraformer.api.enrolment import Enrolment
from paraformer.data.audio.channels import SPLIT
from paraformer.data.corpus.rttm import NamedTurn, read_rttm, speech
from paraformer.data.inputs.sources import Item
from paraformer.decode.endpoint import Span
from paraformer.decode.longform import PauseSegmenter, Segmenter, Spanned
from paraformer.decode.voices import Voice, Voices
from paraformer.errors import ConfigError, DataError
from paraformer.options import CallOptions
from paraformer.output.result import Result
from paraformer.output.resume import row_id

log = logging.getLogger(__name__)

GAP_SECONDS = 0.5  # given turns that are no further apart are heard at once


class GivenTurns:
    """The turns of an RTTM by recording."""

    def __init__(self, path: str, alone: bool) -> None:
        """alone: one recording is heard, so the turns of a single file are its, whatever that is
        called.
        """
        self.path, self._table = path, read_rttm(path)
        self._said: set[str] = set()
        self._only = next(iter(self._table)) if alone and len(self._table) == 1 else None

    def of(self, key: str, recording: str | None, start_seconds: float) -> list[NamedTurn]:
        """Those of a recording, or of a stretch of one that begins at that time."""
        name = row_id(recording or key)
        if name not in self._table and self._only is None and name not in self._said:
            self._said.add(name)
            log.warning("rttm=%s: has no turns of '%s'", self.path, name)
        found = self._table.get(name, self._table.get(self._only or "", []))
        return [
            NamedTurn(max(0.0, turn.start - start_seconds), turn.end - start_seconds, turn.speaker)
            for turn in found
            if turn.end > start_seconds
        ]


class Teller:
    """Of one call. With a speaker model, given turns say where somebody speaks, in the place of the
    VAD's segments, and the model who; without one they say both, and are what is heard where there
    is no VAD.
    """

    def __init__(
        self,
        call: CallOptions,
        total: int,
        voices: Voices | None,
        enrolment: Enrolment | None,
        has_vad: bool,
        mode: str = BY_MARKS,
    ) -> None:
        bounds_of(call)
        self.call, self.mode = call, mode
        self.voices = voices if call.return_spk_res else None
        if call.speakers and voices is None:
            raise ConfigError("speakers: names of voices that spk_model hears; give it too")
        if mode == BY_CHANNEL and (call.channel != SPLIT or call.rttm):
            raise ConfigError("spk_mode=channel: goes with channel=split, and without rttm")
        self.given = GivenTurns(call.rttm, total == 1) if call.rttm else None
        self.known = enrolment.known(call.speakers) if enrolment is not None else None
        self._cuts = self.voices is not None or not has_vad
        self._gap = 0.0 if self.voices is not None else GAP_SECONDS

    @property
    def tells(self) -> bool:
        """Whether results have speakers."""
        given = self.given is not None or self.mode == BY_CHANNEL
        return self.voices is not None or (given and self.call.return_spk_res)

    def segmenter(self, own: Segmenter | PauseSegmenter) -> Segmenter | PauseSegmenter:
        """One that hears voices too, if they are asked for."""
        if self.voices is None or isinstance(own, PauseSegmenter):
            return own
        return ListeningSegmenter(own, self.voices)

    def source(
        self, item: Item, blocks: Callable[[], Iterator[Tensor]]
    ) -> Callable[[], Iterator[Tensor]] | Spanned:
        """The audio of an item, with its segments where these are given."""
        spans = self.spans(item)
        return blocks if spans is None else Spanned(blocks, spans)

    def spans(self, item: Item) -> list[Span] | None:
        """Where somebody speaks in an item, if that is given."""
        if self.given is None or not self._cuts:
            return None
        start = 0.0 if item.segment is None else item.segment.start
        turns = self.given.of(item.key, item.recording if item.segment else None, start)
        return [Span(round(1000 * a), round(1000 * b)) for a, b in speech(turns, self._gap)]

    def speakers(self, voices: Sequence[Voice]) -> Speakers:
        """Those of voices that were heard."""
        assert self.voices is not None  # who hears none has turns that are given
        return heard_speakers(voices, self.call, self.voices, self.known)

    def tell(self, result: Result, marked: bool) -> None:
        """Put speakers into a result that is no error, or why there are none; marked: it has
        marks.
        """
        voices, result.voices = result.voices, ()
        if self.mode == BY_CHANNEL:
            found = channel_speaker(result)
        elif self.voices is None:
            assert self.given is not None
            start = (result.start or 0) / 1000
            found = given_speakers(self.given.of(result.key, result.recording, start))
        else:
            try:
                found = self.speakers(voices)
            except DataError as error:
                result.error = str(error)
                return
        tell_speakers(result, found, self.call, self.mode, marked)
