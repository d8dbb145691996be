"""Streams by two graphs of ONNX: an encoder that hears each chunk alone, and a decoder of the
tokens that fire in it. Position codes and integrate-and-fire stand between them, here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from paraformer.backends.face import (
    BEHIND,
    Asked,
    Fired,
    Heard,
    Release,
    StreamEngine,
    integrate,
    sinusoid_at,
)
from paraformer.backends.onnx_engine import BLANK, MOST_FRAMES, WholeGraph, end_symbol
from paraformer.backends.onnx_session import session_of
from paraformer.errors import ConfigError
from paraformer.models.release import Graphs

KERNEL = 11  # of a decoder's memory, where no configuration says another


class Standing(NamedTuple):
    """Where a stream stands."""

    rows: Tensor  # (pad, F): the last frames, with their position codes
    seen: int  # frames so far
    weight: Tensor  # (1,): what is left of no token yet
    hidden: Tensor  # (1, D): the mean of the frames that it is the weight of
    caches: tuple[Tensor, ...]  # of the decoder


class Cut(NamedTuple):
    """Frames of a chunk that are heard again, that are new, and that are looked ahead to."""

    before: int
    stride: int
    ahead: int

    @property
    def pad(self) -> int:
        """Rows in front of the first new frame."""
        return self.before + self.ahead


class Pair:
    """The two graphs of a stream."""

    def __init__(self, release: Release) -> None:
        graphs: Any = release.model
        self._read(release, graphs)

    def _read(self, release: Release, graphs: Graphs) -> None:
        if graphs.decoder is None:
            raise ConfigError(
                f"{graphs.path}: hears whole recordings; export with streaming=true for streams"
            )
        self.encoder, self.decoder = session_of(graphs.path), session_of(graphs.decoder.path)
        config = release.config
        self.width = int((config.get("encoder_conf") or {}).get("output_size", 256))
        self.tail = float((config.get("predictor_conf") or {}).get("tail_threshold", 0.0))
        kernel = int((config.get("decoder_conf") or {}).get("kernel_size", KERNEL))
        caches = len(graphs.decoder.inputs) - 4
        self.fresh = (torch.zeros(1, self.width, kernel - 1),) * caches
        self.features = release.frontend.output_size
        self.tokens = len(release.tokenizer.tokens)

    def begin(self, cut: Cut) -> Standing:
        """A stream that has not begun."""
        nothing = torch.zeros(cut.pad, self.features)
        return Standing(nothing, 0, torch.zeros(1), torch.zeros(1, self.width), self.fresh)

    def step(
        self, feats: Tensor, final: bool, at: Standing, cut: Cut
    ) -> tuple[Tensor, Tensor, Standing]:
        """New frames (n, F) of a stream -> log-probabilities (U, V) of what fires, running sums
        (1 + C + 1,) of weights, and where it stands then.
        """
        places = torch.arange(at.seen + 1, at.seen + 1 + len(feats))
        coded = feats * self.width**0.5 + sinusoid_at(places, self.features)
        rows = torch.cat((at.rows, coded))
        heard, weights = torch.zeros(0, self.width), torch.zeros(0)
        if len(rows):
            heard, _, weights = self.encoder.run([rows[None], torch.tensor([len(rows)])])
            heard, weights = heard[0], weights[0]
        place = torch.arange(len(rows))
        end = len(rows) if final else min(len(rows), cut.before + cut.stride)
        weights = weights * ((place >= cut.before) & (place < end))
        tail = torch.tensor([self.tail * final])
        sums = torch.cat((at.weight, weights, tail)).double().cumsum(0)
        sound = bool(sums.isfinite().all())
        count = int(sums[-1].float().floor()) if sound else 0
        frames = torch.cat((at.hidden, heard, torch.zeros(1, self.width)))[None]
        fired = integrate(sums.nan_to_num()[None], frames, count + 1)[0]
        rest = (sums[-1:] - count).clamp(min=0.0).float()
        held = fired[count:] / rest if float(rest) > 0.0 else fired[count:]
        logp, caches = self._say(heard, fired[:count], at.caches)
        kept = rows[len(rows) - cut.pad :]
        return logp, sums, Standing(kept, at.seen + len(feats), rest, held, caches)

    def _say(
        self, heard: Tensor, tokens: Tensor, caches: tuple[Tensor, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        if len(tokens) == 0:
            return torch.zeros(0, self.tokens), caches
        frames, count = torch.tensor([len(heard)]), torch.tensor([len(tokens)])
        logits, _, *caches_then = self.decoder.run(
            [heard[None], frames, tokens[None], count, *caches]
        )
        return F.log_softmax(logits[0], dim=-1), tuple(caches_then)


class GraphStreams(StreamEngine):
    """Streams, one after another."""

    def __init__(self, release: Release, chunk_size: tuple[int, int, int]) -> None:
        self.release, self.device, self.dtype = release, torch.device("cpu"), None
        self.blank_id, self.eos = BLANK, end_symbol(release)
        self._pair, self._cut = Pair(release), Cut(*chunk_size)
        self.stride, self.pad = self._cut.stride, self._cut.pad

    def initial_state(self) -> Standing:
        """See `StreamEngine`."""
        return self._pair.begin(self._cut)

    def _step(
        self, feats: Sequence[Tensor], final: Sequence[bool], states: Sequence[Standing]
    ) -> Fired:
        found: list[tuple[Tensor, Tensor, Standing]] = []
        for row, ends, state in zip(feats, final, states, strict=True):
            at = found[-1][-1] if state is BEHIND else state
            found.append(self._pair.step(row, ends, at, self._cut))
        logp, sums, after = zip(*found, strict=True)
        counts = torch.tensor([len(row) for row in logp])
        size = max(map(len, sums))
        held = [F.pad(row, (0, size - len(row)), value=float(row[-1])) for row in sums]
        return Fired(pad_sequence(list(logp), batch_first=True), counts, torch.stack(held), after)


class GraphPairRecognition(WholeGraph):
    """Whole utterances by the graphs of streams: each is a stream of one chunk."""

    def __init__(self, release: Release) -> None:
        super().__init__(release)
        self._pair = Pair(release)

    def remember(self, words: Sequence[Sequence[int]]) -> Any:
        """See `RecognitionEngine`."""
        raise ConfigError(f"{self._graphs.path}: streams hear no hotwords by themselves")

    def _listen(self, feats: Sequence[Tensor], asked: Asked) -> Heard:
        if max(map(len, feats)) > MOST_FRAMES:
            raise MemoryError
        logp = []
        for row in feats:
            cut = Cut(0, len(row), 0)
            logp.append(self._pair.step(row, True, self._pair.begin(cut), cut)[0])
        counts = torch.tensor([len(row) for row in logp])
        lengths, sound = torch.tensor([len(row) for row in feats]), counts >= 0
        return Heard(
            feats, pad_sequence(logp, batch_first=True), counts, lengths, None, None, sound
        )
