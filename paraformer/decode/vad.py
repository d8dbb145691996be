"""Audio to segments of speech: front end, FSMN-VAD and segment machine behind one another, each
with a state that is a value.

Whole recordings and streams go the same way, in pieces, so that memory does not grow with their
length and the segments do not depend on how the audio came.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from paraformer.backends.engines import silence_engine
from paraformer.backends.face import SilenceEngine, VadOptions, VadRelease
from paraformer.data.audio.arrays import check_sound
from paraformer.data.features import streaming as streaming_frontend
from paraformer.data.features.streaming import FrontendState, frame_samples
from paraformer.data.inputs.pieces import Pieces
from paraformer.decode.endpoint import OPEN, EndpointState, Phase, Span, advance, join
from paraformer.errors import ConfigError

# Samples worked on at a time: many enough for the work between the products to weigh little.
BLOCK_SAMPLES = 960_000
# A piece of a recording; only the rule of dynamic silence sees where it ends.
PIECE_MS = 60_000
FLOOR = 1e-6
# (ms of speech up to, ms of silence that ends it): the reference's rows for any mode, and those of
# its `DynamicStreamingVAD`.
Schedule = tuple[tuple[float, int], ...]
SCHEDULE: Schedule = (
    (10_000, 2000),
    (20_000, 1000),
    (30_000, 800),
    (40_000, 600),
    (50_000, 400),
    (60_000, 200),
    (float("inf"), 100),
)
LIVE_SCHEDULE: Schedule = (
    (5000, 2000),
    (10_000, 1500),
    (15_000, 1000),
    (30_000, 800),
    (45_000, 400),
    (float("inf"), 100),
)


@dataclass(frozen=True)
class DynamicSilence:
    """The longer somebody speaks, the shorter a silence ends the segment (reference 1.4).

    Speech counts in pieces since the last report, or with `from_start` by the open segment's age.
    """

    schedule: Schedule = SCHEDULE
    speech_noise_thres: float = 0.5
    from_start: bool = False

    @classmethod
    def of(cls, rows: Sequence[Sequence[float | None]]) -> DynamicSilence:
        """From rows of a call or a configuration file, in which a limit of None is none."""
        try:
            schedule = tuple(
                (float("inf") if limit is None else float(limit), int(silence or 0))
                for limit, silence in rows
            )
        except (TypeError, ValueError):
            schedule = ()
        if not schedule:
            raise ConfigError(
                "silence_schedule: give rows of two numbers, ms of speech up to, ms of silence "
                "that ends it: [[10000, 2000], [null, 800]]"
            )
        return cls(schedule)

    def apply(self, options: VadOptions, spoken_ms: float) -> VadOptions:
        """The options for the next piece."""
        rows = [ms for limit, ms in self.schedule if spoken_ms <= limit]
        silence = rows[0] if rows else self.schedule[-1][1]
        return replace(
            options, max_end_silence_time=silence, speech_noise_thres=self.speech_noise_thres
        )


class VadState(NamedTuple):
    """Where a stream stands: a value that can be kept, copied, pickled and fed again."""

    waiting: Tensor  # samples (N,) that are no whole piece yet
    frontend: FrontendState
    network: Any  # of the engine
    decibels: np.ndarray  # levels of frames whose features wait for those behind them
    endpoint: EndpointState
    fed: int = 0  # samples
    spoken_ms: int = 0  # of dynamic silence
    pieces: Pieces = Pieces()  # bytes that wait


class VoiceActivity:
    """Finds speech with a released VAD; holds no state, so that any number of streams may share it.

    `options` are the release's own unless given; `dynamic` turns the dynamic silence on; `engine`
    is that of another one, for the same classes.
    """

    def __init__(
        self,
        release: VadRelease,
        options: VadOptions | None = None,
        dynamic: DynamicSilence | None = None,
        engine: SilenceEngine | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.release = release
        self.options = options or release.options
        self.dynamic = dynamic
        self.engine = engine or silence_engine(release, self.options.sil_pdf_ids, device)
        self.frontend = release.frontend
        self.length, self.shift = frame_samples(release.frontend)
        rate, known = self.frontend.fs / self.shift, 1000 / self.options.frame_in_ms
        if self.frontend.lfr_n != 1 or rate != known:
            raise ConfigError(
                f"VAD: {rate / self.frontend.lfr_n:g} features a second, but frame_in_ms "
                f"{self.options.frame_in_ms}; mend lfr_n (1), frame_shift or frame_in_ms"
            )

    def adjusted(
        self,
        *,
        max_end_silence_time: int | None = None,
        max_single_segment_time: int | None = None,
        speech_noise_thres: float | None = None,
        dynamic_silence: bool | None = None,
        silence_schedule: Sequence[Sequence[float | None]] | None = None,
    ) -> VoiceActivity:
        """The same detector with other settings, for one call or one stream.

        A schedule turns dynamic silence on; while it is on, it decides instead of the first two.
        """
        named = {
            "max_end_silence_time": max_end_silence_time,
            "max_single_segment_time": max_single_segment_time,
            "speech_noise_thres": speech_noise_thres,
        }
        given: dict[str, Any] = {k: value for k, value in named.items() if value is not None}
        options = replace(self.options, **given)
        dynamic = self.dynamic
        if dynamic_silence or (dynamic_silence is None and silence_schedule):
            rows = silence_schedule or (dynamic.schedule if dynamic else SCHEDULE)
            dynamic = DynamicSilence.of(rows)
        elif dynamic_silence is not None:
            dynamic = None
        return VoiceActivity(self.release, options, dynamic, self.engine)

    def initial_state(self) -> VadState:
        """The state of a stream that has not begun."""
        return VadState(
            waiting=torch.zeros(0),
            frontend=streaming_frontend.initial_state(self.frontend),
            network=self.engine.initial_state,
            decibels=np.zeros(0, np.float32),
            endpoint=EndpointState(),
        )

    def segments(self, audio: Tensor | Iterable[Tensor], piece_ms: int = PIECE_MS) -> list[Span]:
        """Segments of a recording: its samples (N,) in [-1, 1), whole or in blocks of any size."""
        return list(self.stream([audio] if isinstance(audio, Tensor) else audio, piece_ms))

    def stream(self, blocks: Iterable[Tensor], piece_ms: int = PIECE_MS) -> Iterator[Span]:
        """Segments of a recording in blocks of samples, each as soon as its end is known."""
        state = self.initial_state()
        spans: list[Span] = []
        for block in blocks:
            found, state = self.feed(block, state, piece_ms=piece_ms)
            spans = join([*spans, *found])
            begun = [span for span in spans if span.end_ms == OPEN]
            yield from spans[: len(spans) - len(begun)]
            spans = begun
        found, _ = self.feed(torch.zeros(0), state, True, piece_ms)
        yield from join([*spans, *found])

    def feed(
        self, samples: Any, state: VadState, final: bool = False, piece_ms: int | None = None
    ) -> tuple[list[Span], VadState]:
        """The next samples (N,) of a stream, or bytes of it (see `Pieces.take`): spans that begin,
        end or do both in them.

        With `piece_ms` the stream is cut into pieces of that length; what is no whole piece waits
        for the next call, and spans are reported by pieces. `final` ends the stream; the state is
        then a fresh one.
        """
        if piece_ms is not None and piece_ms < 1:
            raise ConfigError(f"chunk_size={piece_ms}: give milliseconds above 0")
        samples, waits = state.pieces.take(samples, self.frontend.fs, final)
        state, samples = state._replace(pieces=waits), samples.float().cpu()
        check_sound(samples, "stream", self.frontend.fs, state.fed / self.frontend.fs)
        if len(state.waiting):
            samples = torch.cat([state.waiting, samples])
        size = len(samples) if piece_ms is None else self.frontend.fs * piece_ms // 1000
        pieces = list(samples.split(max(1, size)))
        rest = samples.new_zeros(0)
        if not final and pieces and len(pieces[-1]) < size:
            rest = pieces.pop()
        spans: list[Span] = []
        for place, piece in enumerate(pieces, 1):
            found, state = self._piece(piece, state, final and place == len(pieces), piece_ms)
            spans += found
        return spans, state._replace(waiting=rest.clone())

    def _piece(
        self, samples: Tensor, state: VadState, final: bool, piece_ms: int | None
    ) -> tuple[list[Span], VadState]:
        """A piece, in which the options do not change."""
        duration = piece_ms or 1000 * len(samples) // self.frontend.fs
        options, state = self._options(state, duration, len(samples))
        spans: list[Span] = []
        blocks = samples.split(BLOCK_SAMPLES) or (samples,)
        for place, block in enumerate(blocks, 1):
            found, state = self._block(options, block, state, final and place == len(blocks))
            spans = join([*spans, *found])
        if spans:
            state = state._replace(spoken_ms=0)
        return spans, state

    def _options(self, state: VadState, piece_ms: int, samples: int) -> tuple[VadOptions, VadState]:
        """The options for the next piece, and the state with the piece counted."""
        state = state._replace(fed=state.fed + samples)
        if self.dynamic is None:
            return self.options, state
        speaking = state.endpoint.phase is Phase.SPEAKING
        if self.dynamic.from_start:
            begun = state.endpoint.first * self.options.frame_in_ms
            spoken = 1000 * state.fed / self.frontend.fs - begun if speaking else 0
            return self.dynamic.apply(self.options, spoken), state
        if speaking or state.spoken_ms:
            state = state._replace(spoken_ms=state.spoken_ms + piece_ms)
        return self.dynamic.apply(self.options, state.spoken_ms), state

    def _block(
        self, options: VadOptions, samples: Tensor, state: VadState, final: bool
    ) -> tuple[list[Span], VadState]:
        heard = torch.cat([state.frontend.samples, samples])
        levels = np.concatenate([state.decibels, decibels(heard, self.length, self.shift)])
        feats, frontend = streaming_frontend.forward_chunk(
            self.frontend, samples, state.frontend, final
        )
        found, network = self.engine.hear(feats, state.network)
        silence = found.numpy()
        count = len(silence)
        # Less than a frame in all: a feature without a level, which is silence.
        of_frames = np.append(levels, [-np.inf] * (count - len(levels)))[:count]
        spans, endpoint = advance(options, silence, of_frames, state.endpoint, final)
        if final:
            return spans, self.initial_state()
        return spans, state._replace(
            frontend=frontend, network=network, decibels=levels[count:], endpoint=endpoint
        )


def decibels(samples: Tensor, length: int, shift: int) -> np.ndarray:
    """Level of each frame of `length` samples (N,), one every `shift`: (T,) float32.

    10 log10(sum of squares + 1e-6), -60 for silence.
    """
    count = (len(samples) - length) // shift + 1
    if count < 1:
        return np.zeros(0, np.float32)
    # Frames overlap: they are made of parts, whose energies are summed once.
    part = math.gcd(length, shift)
    parts = samples.numpy()[: len(samples) // part * part].reshape(-1, part)
    energies = np.einsum("ij,ij->i", parts, parts)
    step, reach = shift // part, (count - 1) * (shift // part) + 1
    sums = sum(energies[first : first + reach : step] for first in range(length // part))
    levels: np.ndarray = 10 * np.log10(sums + np.float32(FLOOR))
    return levels
