"""Engines by graphs of ONNX on the CPU: recognition, VAD, punctuation and voices.

A graph is what it was exported as: its number format, its hotword settings and whether it gives
times are fixed, and asking for others is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from paraformer.backends.face import (
    SHORTLIST,
    Asked,
    Heard,
    MarkEngine,
    PunctuationRelease,
    RecognitionEngine,
    Release,
    SilenceEngine,
    SpeakerRelease,
    Timeline,
    VadRelease,
    VoiceEngine,
)
from paraformer.backends.onnx_session import session_of
from paraformer.errors import AudioError, ConfigError
from paraformer.models.release import Graphs

BLANK, EOS, END = 0, 2, "</s>"
NOTHING = 1  # <s>, the last entry of every list: no hotword
# A graph holds the attention of all frames to all, 145 bytes a pair: 5000 frames take 3.6 GB, and
# no batch may have more pairs than these.
MOST_FRAMES = 5000


def end_symbol(release: Release) -> int:
    """The id of `</s>`."""
    (found,) = release.tokenizer.tokens_to_ids([END])
    return EOS if found == release.tokenizer.unk_id else found


class WholeGraph(RecognitionEngine):
    """A recogniser of whole utterances by graphs, whichever these are."""

    has_ctc = times_tokens = hears_hotwords = False

    def __init__(self, release: Release) -> None:
        graphs: Any = release.model
        self._graphs: Graphs = graphs
        self.release, self.device, self.dtype = release, torch.device("cpu"), None
        self.blank_id, self.eos = BLANK, end_symbol(release)
        frontend = release.frontend
        self.frame_seconds = frontend.frame_shift * frontend.lfr_n / 1000.0

    def check(self, asked: Asked) -> None:
        """See `RecognitionEngine`."""
        path, bias = self._graphs.path, asked.bias
        if asked.times and not self.times_tokens:
            raise ConfigError(f"{path}: gives no times; leave pred_timestamp and timed formats out")
        fixed = (SHORTLIST, 1.0, 1.0)
        if self.hears_hotwords and bias.hotwords is not None and bias[1:] != fixed:
            raise ConfigError(
                f"{path}: nfilter, seaco_weight and clas_scale are fixed in a graph; leave them out"
            )

    def too_long(self, feats: Tensor) -> AudioError:
        """See `Engine`."""
        return AudioError(
            f"{len(feats)} frames are more than the {MOST_FRAMES} that a graph takes at once; give "
            f"vad_model, or max_whole_s={int(MOST_FRAMES * self.frame_seconds)} to cut in pauses"
        )


class GraphRecognition(WholeGraph):
    """Whole utterances by one graph, with or without times; those that read hotwords have the graph
    that embeds these too.
    """

    def __init__(self, release: Release) -> None:
        super().__init__(release)
        self.times_tokens = len(self._graphs.main.outputs) == 4
        self.hears_hotwords = self._graphs.embedder is not None
        self._session = session_of(self._graphs.path)
        if self._graphs.embedder is not None:
            self._embedder = session_of(self._graphs.embedder.path)

    def remember(self, words: Sequence[Sequence[int]]) -> tuple[Tensor]:
        """Token ids of hotwords -> (N, D), an embedding each, the last one that of no hotword."""
        assert self._graphs.embedder is not None
        rows = [*words, [NOTHING]]
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int32)
        shape = self._graphs.embedder.inputs[0].shape
        size = max(int(lengths.max()), (shape and shape[-1]) or 0)
        if shape and shape[-1] and size > shape[-1]:
            raise ConfigError(
                f"{self._graphs.embedder.path}: takes hotwords of {shape[-1]} tokens, one has "
                f"{size}; leave it out"
            )
        ids = torch.tensor([[*row, *[0] * (size - len(row))] for row in rows])
        inputs = [ids, lengths - 1][: len(self._embedder.inputs)]
        (embeds,) = self._embedder.run(inputs)
        return (embeds[(lengths - 1).long(), torch.arange(len(rows))],)

    def _listen(self, feats: Sequence[Tensor], asked: Asked) -> Heard:
        together = 1 if self._graphs.quantised else len(feats)
        if together * max(map(len, feats)) ** 2 > MOST_FRAMES**2:
            raise MemoryError
        bias: Any = asked.bias.hotwords
        if self.hears_hotwords and bias is None:
            bias = self.remember([])
        # Its 8 bits have one scale for a whole batch: what stands beside an utterance would count.
        parts = [[one] for one in feats] if self._graphs.quantised else [feats]
        return joined([self._heard(part, bias) for part in parts])

    def _heard(self, feats: Sequence[Tensor], bias: tuple[Tensor] | None) -> Heard:
        lengths = torch.tensor([len(x) for x in feats])
        inputs = [pad_sequence(list(feats), batch_first=True), lengths]
        if bias is not None and self.hears_hotwords:
            inputs.append(bias[0].expand(len(feats), *bias[0].shape).contiguous())
        logits, counts, *fine = self._session.run(inputs)
        timeline, sound = None, torch.ones(len(feats), dtype=torch.bool)
        if fine:
            weights, peaks = fine
            rate = weights.size(1) // max(1, int(lengths.max()))
            timeline = Timeline(weights, peaks, lengths * rate, rate)
        counts = counts.long().clamp(0, logits.size(1))
        logp = F.log_softmax(logits, dim=-1)
        return Heard(feats, logp, counts, lengths, timeline, None, sound)


def joined(parts: Sequence[Heard]) -> Heard:
    """Join the parts of a batch into one."""
    if len(parts) == 1:
        return parts[0]
    lines: list[Any] = [part.timeline for part in parts if part.timeline is not None]
    timeline = None
    if lines:
        weights, peaks = (_stacked([line[place] for line in lines]) for place in (0, 1))
        timeline = Timeline(weights, peaks, torch.cat([x.lengths for x in lines]), lines[0].rate)
    return Heard(
        [feats for part in parts for feats in part.feats],
        _stacked([part.logp for part in parts]),
        torch.cat([part.counts for part in parts]),
        torch.cat([part.lengths for part in parts]),
        timeline,
        None,
        torch.cat([part.sound for part in parts]),
    )


def _stacked(rows: Sequence[Tensor]) -> Tensor:
    """Tensors (1, S, ...) of several sizes -> (B, S, ...), 0 behind."""
    return pad_sequence([row[0] for row in rows], batch_first=True)


class GraphSilence(SilenceEngine):
    """A VAD's graph, which gives posteriors of all classes."""

    def __init__(self, release: VadRelease, classes: Sequence[int]) -> None:
        """classes: the outputs that are silence."""
        graphs: Any = release.model
        header = graphs.main
        self.device, self.dtype, self.classes = torch.device("cpu"), None, list(classes)
        self._session = session_of(header.path)
        self.initial_state = tuple(
            torch.zeros([size or 1 for size in port.shape or ()]) for port in header.inputs[1:]
        )

    def _hear(self, feats: Tensor, state: Any) -> tuple[Tensor, Any]:
        if len(feats) == 0:
            return feats.new_zeros(0), state
        posteriors, *caches = self._session.run([feats[None], *state])
        return posteriors[0][:, self.classes].sum(1), tuple(caches)


class GraphMarks(MarkEngine):
    """A punctuation model's graph; that of a real-time one is told which words its last block sees.

    Both of its masks are the same: that of the other blocks is made inside.
    """

    def __init__(self, release: PunctuationRelease) -> None:
        graphs: Any = release.model
        self.device, self.dtype, self.release = torch.device("cpu"), None, release
        self._session = session_of(graphs.path)

    def _scores(self, ids: Sequence[int], seen: int) -> Tensor:
        inputs = [torch.tensor([ids]), torch.tensor([len(ids)])]
        if len(self._session.inputs) > 2:
            place = torch.arange(len(ids))
            mask = (place[:, None] >= seen - 1) | (place < seen)
            inputs += [mask.float()[None, None]] * 2
        return self._session.run(inputs)[0][0]


class GraphVoices(VoiceEngine):
    """A speaker model's graph."""

    def __init__(self, release: SpeakerRelease) -> None:
        graphs: Any = release.model
        self.device, self.dtype, self.release = torch.device("cpu"), None, release
        self._session = session_of(graphs.path)
        if graphs.quantised:
            self.most_frames = 1  # see `GraphRecognition`
        shape = graphs.main.outputs[0].shape
        told = graphs.main.metadata.get("output_dim", 0)
        self.width = int((shape and shape[-1]) or told)

    def _embed(self, feats: Tensor) -> Tensor:
        return self._session.run([feats])[0]
