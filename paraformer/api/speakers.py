"""Speaker models as tasks of `AutoModel`: recordings become embeddings of whoever speaks or,
beside a VAD, turns of speakers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from paraformer.api.diarization import ListeningSegmenter
from paraformer.api.enrolment import Enrolment
from paraformer.api.tasks import Task, adjusted, blocks_of, progress
from paraformer.api.tellers import Teller
from paraformer.backends.devices import place
from paraformer.data.inputs.audio_items import Cache
from paraformer.data.inputs.sources import Item
from paraformer.decode.longform import Counted, Cutting, Segmenter
from paraformer.decode.vad import VoiceActivity
from paraformer.decode.voices import Voices
from paraformer.errors import ConfigError, ParaformerError
from paraformer.hub.directories import find_model
from paraformer.models.kinds import SPEAKER
from paraformer.models.release import load_speakers, load_vad, weights_for
from paraformer.options import BuildOptions, CallOptions
from paraformer.output.result import Result, embedding_result, turns_result
from paraformer.output.tables import LINES, TEXT, Layout, check_format

# So many recordings, or so many seconds, are embedded together.
TOGETHER, TOGETHER_SECONDS = 16, 60
# What can be written of turns without words.
TURN_FORMATS = (*LINES, "rttm", "textgrid")


class SpeakerTask(Task):
    """The embedding of each recording."""

    def __init__(self, voices: Voices) -> None:
        self.voices, self.device, self.release = voices, voices.device, voices.release

    def layout(self, call: CallOptions, cut: bool) -> Layout:
        """See `Task`."""
        return TEXT

    def silence(self, call: CallOptions, cut: bool) -> Result:
        """See `Task`."""
        return Result()

    def results(
        self, items: Iterator[Item], total: int, call: CallOptions, cut: bool
    ) -> Iterator[Result]:
        """See `Task`."""
        for group in self._groups(progress(items, total, call), call):
            embedded = iter(self.voices.embed([w for _, w in group if isinstance(w, Tensor)]))
            for item, wave in group:
                if not isinstance(wave, Tensor):
                    yield self.silence(call, cut).failed(item, wave)
                    continue
                found, seconds = next(embedded), len(wave) / self.voices.rate
                if isinstance(found, ParaformerError):
                    yield self.silence(call, cut).failed(item, found, seconds)
                else:
                    yield embedding_result(item, found, seconds)

    def _groups(
        self, items: Iterable[Item], call: CallOptions
    ) -> Iterator[list[tuple[Item, Tensor | ParaformerError]]]:
        """Recordings that are embedded together, each with its samples (N,) or why it has none."""
        cache, rate = Cache(), self.voices.rate
        group, samples = list[tuple[Item, Tensor | ParaformerError]](), 0
        for item in items:
            wave: Tensor | ParaformerError
            try:
                wave = item.read(call.fs, rate, cache)
                samples += len(wave)
            except ParaformerError as error:
                wave = error
            group.append((item, wave))
            if len(group) == TOGETHER or samples >= TOGETHER_SECONDS * rate:
                yield group
                group, samples = [], 0
        if group:
            yield group

    def streams(self, cut: bool) -> bool:
        """See `Task`."""
        return False

    def feed(self, source: Any, call: CallOptions) -> NoReturn:
        """See `Task`."""
        raise ConfigError("cache: a speaker model hears recordings as a whole; leave it out")


class DiarizationTask(SpeakerTask):
    """Who speaks when, in the segments that a VAD finds."""

    def __init__(self, voices: Voices, vad: VoiceActivity) -> None:
        super().__init__(voices)
        self.vad, self.enrolment = vad, Enrolment(voices, vad)

    def layout(self, call: CallOptions, cut: bool) -> Layout:
        """See `Task`."""
        check_format(call.output_format, TURN_FORMATS)
        return TEXT

    def silence(self, call: CallOptions, cut: bool) -> Result:
        """See `Task`."""
        return Result(turns=[], audio_seconds=0.0)

    def results(
        self, items: Iterator[Item], total: int, call: CallOptions, cut: bool
    ) -> Iterator[Result]:
        """See `Task`."""
        teller = Teller(call, total, self.voices, self.enrolment, has_vad=True)
        rate = self.voices.rate
        segmenter = Segmenter(adjusted(self.vad, call), Cutting(call.max_segment_s))
        listening = ListeningSegmenter(segmenter, self.voices)
        for item in progress(items, total, call):
            audio = Counted(blocks_of(item, call.fs, rate, None))
            try:
                segments = listening.segments(audio, teller.spans(item))
                found = teller.speakers([v for segment in segments for v in segment.voices])
            except ParaformerError as error:
                yield self.silence(call, cut).failed(item, error, audio.samples / rate)
                continue
            result = turns_result(item, found.told_turns(), audio.samples / rate)
            found.tell(result, call)
            yield result


def speaker_task(directory: Path, given: Mapping[str, Any], build: BuildOptions) -> Task:
    """The task of a speaker model, beside a VAD or alone."""
    device, dtype = place(build.device, build.dtype, SPEAKER)
    voices = Voices(load_speakers(directory, dict(given)), device, dtype)
    if not build.vad_model:
        return SpeakerTask(voices)
    vad = find_model(build.vad_model, build.hub, build.vad_model_revision, offline=True)
    weights = weights_for(vad, build.backend, required=False)
    return DiarizationTask(voices, VoiceActivity(load_vad(vad, {**weights, **build.vad_kwargs})))
