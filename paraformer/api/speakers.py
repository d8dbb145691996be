"""Speaker models as a task of `AutoModel`: recordings become embeddings of whoever speaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

from paraformer.api.tasks import Task, progress
from paraformer.data.inputs.audio_items import Cache
from paraformer.data.inputs.sources import Item
from paraformer.decode.voices import Voices
from paraformer.errors import ConfigError, ParaformerError
from paraformer.options import CallOptions
from paraformer.output.result import Result, embedding_result
from paraformer.output.tables import TEXT, Layout


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
        cache = Cache()
        for item in progress(items, total, call):
            try:
                wave = item.read(call.fs, self.voices.rate, cache)
            except ParaformerError as error:
                yield self.silence(call, cut).failed(item, error)
                continue
            (found,) = self.voices.embed([wave])
            seconds = len(wave) / self.voices.rate
            if isinstance(found, ParaformerError):
                yield self.silence(call, cut).failed(item, found, seconds)
            else:
                yield embedding_result(item, found, seconds)

    def streams(self, cut: bool) -> bool:
        """See `Task`."""
        return False

    def feed(self, source: Any, call: CallOptions) -> NoReturn:
        """See `Task`."""
        raise ConfigError("cache: a speaker model hears recordings as a whole; leave it out")
