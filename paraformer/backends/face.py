"""The face that every engine has: decoding gives plain features to it and gets plain tensors, and
asks it what its model can do.

An engine computes one model on one device in one number format. It takes a batch in parts where the
device has no memory for the whole, and says of each row whether it can be trusted.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paraformer.backends.halves import in_halves
from paraformer.errors import AudioError, CheckpointError, ParaformerError
from paraformer.models.campplus import LEAST_FRAMES as LEAST_FRAMES
from paraformer.models.campplus import Likeness as Likeness
from paraformer.models.fsmn_vad import VadOptions as VadOptions
from paraformer.models.kinds import likeness_of as likeness_of
from paraformer.models.release import NO_MARK as NO_MARK
from paraformer.models.release import AlignerRelease as AlignerRelease
from paraformer.models.release import Graphs as Graphs
from paraformer.models.release import PunctuationRelease as PunctuationRelease
from paraformer.models.release import Release as Release
from paraformer.models.release import SpeakerRelease as SpeakerRelease
from paraformer.models.release import VadRelease as VadRelease
from paraformer.nn.bias import SHORTLIST as SHORTLIST
from paraformer.nn.bias import Bias as Bias
from paraformer.nn.cif import integrate as integrate
from paraformer.nn.cif_v3 import Timeline as Timeline
from paraformer.nn.mask import length_mask as length_mask
from paraformer.nn.position import sinusoid_at as sinusoid_at

NOT_FINITE = (
    "the model's output is not finite; its weights are damaged, or compute in float32 (dtype=fp32)"
)
VAD_NOT_FINITE = "the VAD's output is not finite; its weights are damaged, fetch or copy them again"
VOICE_NOT_FINITE = "the speaker model's output is not finite; its weights are damaged"
MARKS_NOT_FINITE = "the output of the punctuation model is not finite; its weights are damaged"

# In the place of a state: that of the row before, behind its chunk.
BEHIND = None
Row = tuple[Tensor, bool, Any]  # of a batch of streams: new frames, whether it ends, its state

# Of each row of a batch, why what stands there cannot be trusted.
Errors = Sequence[ParaformerError | None]


class Asked(NamedTuple):
    """Outputs asked of a recogniser beside the posteriors of its decoder."""

    ctc: bool = False
    times: bool = False  # also of a model that was not made for them
    bias: Bias = Bias()


class Heard(NamedTuple):
    """The output of a recogniser for B utterances."""

    feats: Sequence[Tensor]  # (T, D) of each, its input
    logp: Tensor  # (B, U, V): log-probabilities of the decoder
    counts: Tensor  # (B,) int64: tokens of each
    lengths: Tensor  # (B,) int64: frames of the encoder
    timeline: Timeline | None  # where tokens fire, None where no times are wanted
    ctc: Tensor | None  # (B, T', V): log-probabilities of the CTC head, where they are asked for
    sound: Tensor  # (B,) bool: whether all that was computed on the way was finite
    errors: Errors = ()


class Fired(NamedTuple):
    """The tokens that fire in the next chunks of B streams, and where these stand then."""

    logp: Tensor  # (B, U, V): log-probabilities
    counts: Tensor  # (B,) int64: tokens
    sums: Tensor  # (B, 1 + C + 1) float64: running sum of weights: before, each row, the tail
    states: Sequence[Any]
    errors: Errors = ()


class Timed(NamedTuple):
    """When the tokens of B known texts were spoken."""

    feats: Sequence[Tensor]  # (T, D) of each
    timeline: Timeline
    sound: Tensor  # (B,) bool
    errors: Errors = ()


class Engine(ABC):
    """A model at work on a device."""

    device: torch.device
    dtype: torch.dtype | None  # a half precision, or int8 for products; None: float32

    def too_long(self, feats: Tensor) -> AudioError:
        """The error of features (T, D) for which the device has no memory, even alone."""
        return AudioError(
            f"{len(feats)} frames do not fit into {self.device}'s memory; cut it into pieces"
        )


class RecognitionEngine(Engine):
    """A recogniser of whole utterances."""

    release: Release
    blank_id: int
    eos: int
    frame_seconds: float  # between two frames of the encoder
    times_tokens: bool  # whether it gives a timeline unasked
    has_ctc: bool
    hears_hotwords: bool  # whether it learnt to

    def check(self, asked: Asked) -> None:  # noqa: B027 (most can do all)
        """Refuse, before anything is heard, what it cannot give beside the decoder's posteriors."""

    def listen(self, feats: Sequence[Tensor], asked: Asked) -> list[Heard]:
        """Features (T, D) of utterances -> what is heard in them, in order, in one part or more."""
        return in_halves(feats, lambda part: [self._checked(part, asked)], self._unheard)

    @abstractmethod
    def remember(self, words: Sequence[Sequence[int]]) -> Any:
        """Token ids of hotwords -> `Bias.hotwords`, made once for many batches."""

    @abstractmethod
    def _listen(self, feats: Sequence[Tensor], asked: Asked) -> Heard:
        """One pass of the model."""

    def _checked(self, feats: Sequence[Tensor], asked: Asked) -> Heard:
        heard = self._listen(feats, asked)
        sound = heard.sound & finite_rows(heard.logp, heard.counts)
        if heard.timeline is not None:
            sound &= heard.timeline.weights.isfinite().all(1)
        return heard._replace(errors=_errors(sound))

    def _unheard(self, feats: Tensor) -> Heard:
        none, nothing = torch.zeros(1, dtype=torch.long), torch.zeros(1, 0, 1)
        sound, error = torch.ones(1, dtype=torch.bool), self.too_long(feats)
        return Heard([feats], nothing, none, none, None, None, sound, [error])


class StreamEngine(Engine):
    """A recogniser of streams, which come in chunks of `stride` frames."""

    release: Release
    blank_id: int
    eos: int
    stride: int  # frames that a chunk brings
    pad: int  # rows of a chunk before the first of its own

    @abstractmethod
    def initial_state(self) -> Any:
        """The state of a stream that has not begun: a value."""

    def forward_chunk(
        self, feats: Sequence[Tensor], final: Sequence[bool], states: Sequence[Any]
    ) -> list[Fired]:
        """New frames (n, D) of streams that stand at `states`, or end -> what fires in them, in
        order, in one part or more. `BEHIND`: the chunk goes on where the one before it ends, which
        is a whole one and none such itself.
        """
        chains: list[list[Row]] = []
        for row in zip(feats, final, states, strict=True):
            if row[2] is BEHIND:
                chains[-1].append(row)
            else:
                chains.append([row])
        return in_halves(chains, lambda part: [self._checked(part)], self._unheard)

    @abstractmethod
    def _step(self, feats: Sequence[Tensor], final: Sequence[bool], states: Sequence[Any]) -> Fired:
        """One pass of the model."""

    def _checked(self, chains: Sequence[Sequence[Row]]) -> Fired:
        feats, final, states = zip(*(row for chain in chains for row in chain), strict=True)
        fired = self._step(feats, final, states)
        sound = fired.sums.isfinite().all(1) & finite_rows(fired.logp, fired.counts)
        return fired._replace(errors=_errors(sound))

    def _unheard(self, chain: Sequence[Row]) -> Fired:
        rows, (feats, _, state) = len(chain), chain[0]
        none, nothing = torch.zeros(rows, dtype=torch.long), torch.zeros(rows, 0, 1)
        errors = [self.too_long(feats)] * rows
        return Fired(nothing, none, torch.zeros(rows, 1), [state] * rows, errors)


class AlignmentEngine(Engine):
    """A forced aligner."""

    release: AlignerRelease
    frame_seconds: float
    steps: int  # of a timeline in a frame, so most tokens of one

    def align(self, feats: Sequence[Tensor], counts: Sequence[int]) -> list[Timed]:
        """Features (T, D) of utterances, in which so many tokens were spoken -> when, in order, in
        one part or more.
        """
        rows = list(zip(feats, counts, strict=True))
        return in_halves(rows, lambda part: [self._checked(part)], self._untimed)

    @abstractmethod
    def _align(self, feats: Sequence[Tensor], counts: Sequence[int]) -> Timed:
        """One pass of the model."""

    def _checked(self, rows: Sequence[tuple[Tensor, int]]) -> Timed:
        feats, counts = zip(*rows, strict=True)
        timed = self._align(feats, counts)
        sound = timed.sound & timed.timeline.weights.isfinite().all(1)
        return timed._replace(errors=_errors(sound))

    def _untimed(self, row: tuple[Tensor, int]) -> Timed:
        nothing, none = torch.zeros(1, 0), torch.zeros(1, dtype=torch.long)
        timeline, error = Timeline(nothing, nothing, none, 1), self.too_long(row[0])
        return Timed([row[0]], timeline, torch.ones(1, dtype=torch.bool), [error])


class SilenceEngine(Engine):
    """A voice activity detector's network, which hears one stream at a time."""

    initial_state: Any  # of a stream that has not begun: a value

    def hear(self, feats: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Features (T, D) of the frames that follow those that led to `state` -> probability of
        silence (T,) in double precision, and the next state.
        """
        found, state = self._hear(feats, state)
        if not found.isfinite().all():
            raise CheckpointError(VAD_NOT_FINITE)
        return found.double().cpu(), state

    @abstractmethod
    def _hear(self, feats: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The same, as the model gives it."""


class VoiceEngine(Engine):
    """A speaker model."""

    release: SpeakerRelease
    width: int  # of an embedding
    most_frames: int = 1200  # of one pass, unless a single utterance has more

    def embed(self, feats: Sequence[Tensor]) -> list[Tensor | ParaformerError]:
        """Features (T, D), without their means, of utterances -> the embedding (width,) of each
        voice in float32, or why there is none.

        The model hears padding, so only utterances of one length are computed together.
        """
        found: list[Tensor | ParaformerError] = [self.too_long(x) for x in feats]
        places = sorted(range(len(feats)), key=lambda place: len(feats[place]))
        while places:
            size = len(feats[places[0]])
            most = max(1, self.most_frames // max(1, size))
            batch = [place for place in places[:most] if len(feats[place]) == size]
            outcomes = in_halves([feats[place] for place in batch], self._sound, self.too_long)
            for place, outcome in zip(batch, outcomes, strict=True):
                found[place] = outcome
            places = places[len(batch) :]
        return found

    def _sound(self, feats: Sequence[Tensor]) -> list[Tensor | ParaformerError]:
        rows = self._embed(torch.stack(list(feats))).float().cpu()
        return [row if row.isfinite().all() else CheckpointError(VOICE_NOT_FINITE) for row in rows]

    @abstractmethod
    def _embed(self, feats: Tensor) -> Tensor:
        """(B, T, D) -> (B, width)."""


class MarkEngine(Engine):
    """A punctuation model."""

    release: PunctuationRelease

    def marks(self, ids: Sequence[int], seen: int) -> list[int]:
        """Ids of words, of which so many first ones were seen in an earlier call -> the best mark
        behind each.
        """
        scores = self._scores(ids, seen)
        if not scores.isfinite().all():
            raise CheckpointError(MARKS_NOT_FINITE)
        best: list[int] = scores.argmax(-1).tolist()
        return best

    @abstractmethod
    def _scores(self, ids: Sequence[int], seen: int) -> Tensor:
        """(U, marks), the more the likelier."""


def finite_rows(logp: Tensor, counts: Tensor) -> Tensor:
    """logp (B, U, V) -> (B,), whether all of an utterance's best posteriors are numbers."""
    if logp.size(1) == 0:
        return torch.ones_like(counts, dtype=torch.bool)
    return (logp.amax(-1).isfinite() | ~length_mask(counts, logp.size(1))).all(1)


def _errors(sound: Tensor) -> Errors:
    return [None if good else CheckpointError(NOT_FINITE) for good in sound.tolist()]
