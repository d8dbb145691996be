"""Voice activity detection as a task of `AutoModel`: where in recordings and streams is speech."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from paraformer.api.tasks import Task, adjusted, blocks_of, ends, one_item, progress, sizes_of
from paraformer.data.inputs.audio_items import check_piece
from paraformer.data.inputs.sources import Item
from paraformer.decode.longform import Counted
from paraformer.decode.vad import PIECE_MS, VadState, VoiceActivity
from paraformer.errors import ConfigError, ParaformerError
from paraformer.options import CallOptions
from paraformer.output.result import Result, vad_result
from paraformer.output.tables import TEXT, Layout

MOST_PIECE_MS = 3_600_000  # an hour: a stream in longer pieces is none


class VadTask(Task):
    """Segments of speech: `value` is a list of [start, end] in ms."""

    def __init__(self, vad: VoiceActivity, device: torch.device) -> None:
        self.vad, self.device, self.release = vad, device, vad.release

    def layout(self, call: CallOptions, cut: bool) -> Layout:
        """See `Task`."""
        return TEXT

    def silence(self, call: CallOptions, cut: bool) -> Result:
        """See `Task`."""
        return Result(value=[])

    def results(
        self, items: Iterator[Item], total: int, call: CallOptions, cut: bool
    ) -> Iterator[Result]:
        """See `Task`; with chunk_size in ms the audio is heard in such pieces."""
        vad = adjusted(self.vad, call)
        piece_ms = _piece_ms(call) if cut else PIECE_MS
        for item in progress(items, total, call):
            audio = Counted(blocks_of(item, call.fs, vad.frontend.fs, None))
            try:
                spans = vad.segments(audio, piece_ms)
                yield vad_result(item, spans, audio.samples / vad.frontend.fs)
            except ParaformerError as error:
                yield self.silence(call, cut).failed(item, error)

    def feed(self, source: Any, call: CallOptions) -> Result:
        """See `Task`: [start, -1] where speech begins, [-1, end] where it ends."""
        vad, item = adjusted(self.vad, call), one_item(source, call)
        rate = vad.frontend.fs
        check_piece(item, call.fs, rate)
        state: VadState = call.cache.get("state") or vad.initial_state()
        end = ends(item, call)
        spans, state = vad.feed(item.piece(rate), state, end, _piece_ms(call))
        call.cache.clear()
        if not end:
            call.cache["state"] = state
        return Result(item.key, value=[list(span) for span in spans])


def _piece_ms(call: CallOptions) -> int:
    """`chunk_size` of a VAD: milliseconds."""
    sizes = sizes_of(call)
    if len(sizes) != 1 or not isinstance(sizes[0], int) or not 1 <= sizes[0] <= MOST_PIECE_MS:
        raise ConfigError(f"chunk_size={call.chunk_size}: a VAD takes milliseconds, such as 200")
    return sizes[0]
