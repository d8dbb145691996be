"""Engines by torch, on any device: on a CPU with packed layers, in half precision by autocast."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from paraformer.backends.face import (
    BEHIND,
    AlignmentEngine,
    Asked,
    Engine,
    Fired,
    Heard,
    MarkEngine,
    RecognitionEngine,
    SilenceEngine,
    StreamEngine,
    Timed,
)
from paraformer.backends.packed import for_inference
from paraformer.models.fsmn_vad import FsmnState, SilenceNetwork
from paraformer.models.paraformer import StreamState, join_states, split_states
from paraformer.models.release import AlignerRelease, PunctuationRelease, Release, VadRelease
from paraformer.nn.bias import HotwordMemory
from paraformer.nn.chunks import ChunkRule
from paraformer.nn.cif_v3 import plain_timeline


def frame_seconds(release: Release | AlignerRelease) -> float:
    """Seconds between two frames of an encoder: 0.06 in released models."""
    frontend = release.frontend
    shift = frontend.frame_shift * frontend.lfr_n / 1000.0
    layers = getattr(getattr(release.model.encoder, "embed", None), "shapes", ())  # subsampling
    return shift * math.prod(stride for _, stride in layers)


def _autocast(engine: Engine) -> torch.autocast:
    half = engine.dtype if engine.dtype is not torch.int8 else None  # that is for products alone
    return torch.autocast(engine.device.type, half, enabled=half is not None)


def _padded(feats: Sequence[Tensor], device: torch.device) -> tuple[Tensor, Tensor]:
    """Features (T, D) of a batch -> (B, T, D) and their lengths (B,) on a device."""
    lengths = torch.tensor([len(x) for x in feats], device=device)
    return pad_sequence(list(feats), batch_first=True).to(device), lengths


def _hushed(memory: Tensor) -> tuple[Tensor, Tensor]:
    """Encoder output (B, T, D) with zeros in the rows that are not finite, which would have no
    number of tokens, and (B,) whether a row was finite.
    """
    sound = memory.isfinite().flatten(1).all(1)
    return memory.masked_fill(~sound[:, None, None], 0.0), sound


class TorchRecognition(RecognitionEngine):
    """A `Paraformer` of any kind."""

    def __init__(self, release: Release, device: torch.device, dtype: torch.dtype | None) -> None:
        self.device, self.dtype = device, dtype
        self.model = model = for_inference(release.model, device, dtype)
        self.release = replace(release, model=model)
        self.blank_id, self.eos = model.blank_id, model.eos
        self.frame_seconds = frame_seconds(release)
        self.times_tokens, self.hears_hotwords = model.times_tokens, model.hears_hotwords
        self.has_ctc = model.ctc_head is not None

    @torch.inference_mode()
    def remember(self, words: Sequence[Sequence[int]]) -> HotwordMemory:
        """See `RecognitionEngine`."""
        return self.model.remember(words)

    @torch.inference_mode()
    def _listen(self, feats: Sequence[Tensor], asked: Asked) -> Heard:
        model = self.model
        with _autocast(self):
            memory, lengths = model.encode(*_padded(feats, self.device))
            memory, sound = _hushed(memory)
            heard = model.predict(memory, lengths)
            counts, timeline, ctc = heard.token_lengths, None, None
            sound &= heard.alphas.isfinite().all(1)
            if heard.embeds.size(1):
                beside = model.bias_options(asked.bias)
                logp = model.decode(heard.embeds, counts, memory, lengths, **beside)
            else:
                logp = memory.new_zeros(len(memory), 0, 1)
            if self.times_tokens:
                timeline = model.timeline(memory, lengths, counts)
            elif asked.times:
                timeline = plain_timeline(heard, lengths)
            if asked.ctc and model.ctc_head is not None:
                ctc = model.ctc_head(memory)
        return Heard(feats, logp, counts, lengths, timeline, ctc, sound)


class TorchStreams(StreamEngine):
    """A `Paraformer` that streams."""

    def __init__(
        self, release: Release, rule: ChunkRule, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        self.device, self.dtype = device, dtype
        self.model = model = for_inference(release.model, device, dtype)
        self.release = replace(release, model=model)
        self.blank_id, self.eos = model.blank_id, model.eos
        self.rule, self.stride, self.pad = rule, rule.stride, rule.pad
        self._fresh = model.initial_state(rule)
        # What the last step was split into, and the whole: streams that stay together are not
        # joined anew each time.
        self._last: tuple[list[StreamState], StreamState | None] = ([], None)

    def initial_state(self) -> StreamState:
        """See `StreamEngine`."""
        return self._fresh

    @torch.inference_mode()
    def _step(
        self, feats: Sequence[Tensor], final: Sequence[bool], states: Sequence[StreamState]
    ) -> Fired:
        places = [place for place, state in enumerate(states) if state is BEHIND]
        if places:
            return self._chained(feats, final, states, places)
        return self._passed(feats, final, self._join(list(states)))

    def _chained(
        self,
        feats: Sequence[Tensor],
        final: Sequence[bool],
        states: Sequence[StreamState],
        places: Sequence[int],
    ) -> Fired:
        """A step where the rows at `places` go on behind the ones before them: these stand last."""
        first = [place for place, state in enumerate(states) if state is not BEHIND]
        order = [*first, *places]
        numbers = {place: number for number, place in enumerate(order)}
        lead = torch.tensor([numbers[place - 1] for place in places], device=self.device)
        state = self._join([states[place] for place in first])
        rows = [feats[place] for place in order], [final[place] for place in order]
        fired = self._passed(*rows, state, lead)
        back = torch.tensor([numbers[place] for place in range(len(order))], device=self.device)
        after = [fired.states[numbers[place]] for place in range(len(order))]
        return Fired(fired.logp[back], fired.counts[back], fired.sums[back], after)

    def _passed(
        self,
        feats: Sequence[Tensor],
        final: Sequence[bool],
        state: StreamState,
        lead: Tensor | None = None,
    ) -> Fired:
        padded, counts = _padded(feats, self.device)
        if padded.size(1) == 0:  # only what the state holds
            padded = padded.new_zeros(len(feats), 1, self.release.frontend.output_size)
        ends = torch.tensor(final, device=self.device)
        with _autocast(self):
            logp, fired, state = self.model.forward_chunk(
                padded, counts, ends, state, self.rule, lead
            )
        return Fired(logp, fired.counts, fired.sums, self._split(state, len(feats)))

    def _join(self, states: list[StreamState]) -> StreamState:
        """The states as one batch: that of the last step, where it was split into these."""
        parts, joined = self._last
        same = len(parts) == len(states) and all(map(operator.is_, parts, states))
        return joined if same and joined is not None else join_states(states)

    def _split(self, state: StreamState, batch: int) -> list[StreamState]:
        parts: list[StreamState] = split_states(state, batch)
        self._last = (parts, state) if batch > 1 else ([], None)
        return parts


class TorchAlignment(AlignmentEngine):
    """An `Aligner`; half precision is that of its encoder."""

    def __init__(
        self, release: AlignerRelease, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        self.device, self.dtype = device, dtype
        self.model = for_inference(release.model, device, dtype)
        self.release = replace(release, model=self.model)
        self.frame_seconds = frame_seconds(release)
        self.steps = self.model.predictor.upsample_times

    @torch.inference_mode()
    def _align(self, feats: Sequence[Tensor], counts: Sequence[int]) -> Timed:
        with _autocast(self):
            memory, frames = self.model.encode(*_padded(feats, self.device))
        memory, sound = _hushed(memory)
        spoken = torch.tensor(counts, device=self.device)
        return Timed(feats, self.model.timeline(memory, frames, spoken), sound)


class TorchSilence(SilenceEngine):
    """A `FsmnVad`, in float32: it is small, and its thresholds are fine."""

    def __init__(self, release: VadRelease, classes: Sequence[int], device: torch.device) -> None:
        """classes: the outputs that are silence."""
        self.device, self.dtype = device, None
        self.network = SilenceNetwork(release.model.to(device), classes)
        self.initial_state = self.network.initial_state

    def _hear(self, feats: Tensor, state: FsmnState) -> tuple[Tensor, FsmnState]:
        return self.network(feats.to(state.memory), state)


class TorchMarks(MarkEngine):
    """A `CtTransformer`. Its windows are too short for packed layers to gain much in float32; in
    half precision they take 0.5 (width 512) to 0.8 (256) of the time.
    """

    def __init__(
        self, release: PunctuationRelease, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        self.device, self.dtype, self.release = device, dtype, release
        self.model = release.model.to(device).eval()
        if dtype is not None:
            self.model = for_inference(self.model, device, dtype)

    @torch.inference_mode()
    def _scores(self, ids: Sequence[int], seen: int) -> Tensor:
        row = torch.tensor([ids], device=self.device)
        lengths = torch.tensor([len(ids)], device=self.device)
        decided = torch.tensor([seen], device=self.device)
        with _autocast(self):
            scores: Tensor = self.model(row, lengths, decided)[0]
        return scores
