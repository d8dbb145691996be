"""The graphs of each kind of model: inputs and outputs as funasr-onnx and sherpa-onnx want them,
around the modules that recognise here.

Both runtimes feed and read by position; the names are those of released graphs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from paraformer.models.fsmn_vad import FsmnState, FsmnVad
from paraformer.models.kinds import PUNCTUATION, SPEAKER, VAD, Kind, Release, marks_streams
from paraformer.models.paraformer import Paraformer
from paraformer.nn.bias import SHORTLIST, Bias
from paraformer.nn.chunks import streaming_rule
from paraformer.nn.cif_v3 import FIRE
from paraformer.nn.mask import length_mask
from paraformer.nn.position import sinusoid

START = 1  # of released token lists; blank and end are the model's
# The log-probability of whatever a spare row does not say; finite, since runtimes may add it up.
NEVER = -1e4
# A step that fires holds more, and one that does not fires in no rounding of either runtime.
FIRES, HOLDS = 1.0, 0.9998
STEP_MS = 20  # of us_cif_peak: both runtimes count in it, whatever a configuration says
CHUNK = 20  # rows of a chunk of funasr-onnx: 5 back, 10 new, 5 ahead
# Hotwords of each trial: what is traced has a shortlist, which then holds for any number.
LISTS, WORD_SIZE, UNKNOWN = (SHORTLIST + 3, 4, 1, SHORTLIST + 1, 70), 10, 8403
LONG, SEED = 4, 19  # the long trial is so many times the clip; where its noise begins

Axes = Mapping[str, Mapping[int, str]]


class Trial(NamedTuple):
    """Inputs on which a graph has to give what torch gives."""

    name: str
    inputs: tuple[Tensor, ...]


@dataclass(frozen=True)
class Graph:
    """A module to export, with what its file says and the trials that it has to pass.

    `module` gives its outputs in their order; `axes`: those that vary, by input or output.
    """

    file: str  # without its suffix
    module: nn.Module
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    axes: Axes
    trials: Sequence[Trial]  # the first one, real input, is also what is traced
    metadata: dict[str, str] = field(default_factory=dict)


class Recognition(nn.Module):
    """Features to tidy rows of posteriors, from which both runtimes read the same text and times.

    Rows whose best id is blank, start or end, and those behind the count, stand behind the others
    and say `</s>`, those that do so by themselves first; there is one at least. So sherpa-onnx,
    which reads to the first `</s>`, and funasr-onnx, which counts, agree.
    """

    def __init__(self, model: Paraformer, timed: bool) -> None:
        """timed: give fine weights and fires as well."""
        super().__init__()
        self.model, self.timed = model, timed
        self.special = sorted({model.blank_id, START, model.eos})

    def forward(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, ...]:
        """speech (B, T, F), speech_lengths (B,) int32 -> logits (B, U, V), token_num (B,) int32,
        and of a model with times us_alphas and us_cif_peak (B, R * T).
        """
        return self._hear(speech, speech_lengths, {})

    def _hear(self, speech: Tensor, speech_lengths: Tensor, beside: Any) -> tuple[Tensor, ...]:
        """beside: keywords of the decoder."""
        model = self.model
        memory, lengths = model.encode(speech, speech_lengths.long())
        heard = model.predict(memory, lengths)
        counts = heard.token_lengths
        embeds = F.pad(heard.embeds, (0, 0, 0, 1))
        logp = model.decode(embeds, counts, memory, lengths, **beside)
        kept = length_mask(counts, logp.size(1))
        best = logp.argmax(-1)
        ends = kept & (best == model.eos)
        for token in self.special:
            kept = kept & (best != token)
        rows, said = self._tidy(logp, kept, ends), kept.sum(1)
        token_num = (said + model.predictor_bias).int()
        if not self.timed:
            return rows, token_num
        timeline = model.timeline(memory, lengths, said + 1)
        there = length_mask(timeline.lengths, timeline.peaks.size(1))
        held = timeline.peaks.clamp(max=HOLDS)
        fired = timeline.peaks.clamp(min=FIRES)
        peaks = torch.where(timeline.peaks >= FIRE, fired, held) * there
        return rows, token_num, timeline.weights.float(), peaks.float()

    def _tidy(self, logp: Tensor, kept: Tensor, ends: Tensor) -> Tensor:
        """Rows (B, U, V) in their order, behind those that are kept (B, U) the ends (B, U), and all
        others as ends.
        """
        batch, size, width = logp.shape
        place = torch.arange(size, device=logp.device)
        order = torch.argsort(place + size * (2 - 2 * kept.long() - ends.long()), dim=1)
        first = torch.arange(batch, device=logp.device)[:, None] * size
        rows = logp.flatten(0, 1).index_select(0, (order + first).flatten()).view(logp.shape)
        end = torch.full((width,), NEVER, device=logp.device)
        end[self.model.eos] = 0.0
        return torch.where(length_mask((kept | ends).sum(1), size)[..., None], rows, end)


class HotwordRecognition(Recognition):
    """The same that also hears hotwords."""

    def forward(  # type: ignore[override]
        self, speech: Tensor, speech_lengths: Tensor, bias_embed: Tensor
    ) -> tuple[Tensor, ...]:
        """As `Recognition`; bias_embed (B, N, D): one list, the same in every row.

        A list of no hotword alone, which funasr-onnx never gives, is not listened to.
        """
        words: Any = torch.arange(bias_embed.size(1))[-1].clamp(max=1).float()
        bias = Bias(self.model.recall(bias_embed[0]), seaco_weight=words)
        return self._hear(speech, speech_lengths, self.model.bias_options(bias))


class HotwordEmbedder(nn.Module):
    """The list of hotwords that `HotwordRecognition` hears."""

    def __init__(self, model: Paraformer) -> None:
        super().__init__()
        self.model = model
        self.last = model.decoder.output_layer.out_features - 1

    def forward(self, hotword: Tensor) -> tuple[Tensor, ...]:
        """hotword (N, 10) int32, 0 behind -> (10, N, D): each read so far.

        funasr-onnx calls what it does not know 8403, whatever there is.
        """
        return (self.model.spell(hotword.long().clamp(max=self.last)).transpose(0, 1),)


class StreamEncoder(nn.Module):
    """A chunk of a stream, whose rows a runtime has given their position codes, alone."""

    def __init__(self, model: Paraformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, ...]:
        """speech (1, C, F), speech_lengths (1,) int32 -> enc (1, C, D), enc_len, alphas (1, C)."""
        memory, alphas = self.model.hear_chunk(speech, speech_lengths.long())
        return memory, speech_lengths + 0, alphas


class StreamDecoder(nn.Module):
    """The tokens that a runtime found in a chunk, by the weights of `StreamEncoder`."""

    def __init__(self, model: Paraformer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        enc: Tensor,
        enc_len: Tensor,
        acoustic_embeds: Tensor,
        acoustic_embeds_len: Tensor,
        *caches: Tensor,
    ) -> tuple[Tensor, ...]:
        """enc (1, C, D), acoustic_embeds (1, U, D), lengths (1,) int32, caches (1, D, K - 1) ->
        logits (1, U, V), sample_ids (1, U) int64, the next caches.
        """
        pasts = tuple(cache.transpose(1, 2) for cache in caches)
        lengths, counts = enc_len.long(), acoustic_embeds_len.long()
        logits, pasts = self.model.say_chunk(enc, lengths, acoustic_embeds, counts, pasts)
        return (logits, logits.argmax(-1), *(past.transpose(1, 2) for past in pasts))


class Silence(nn.Module):
    """A VAD over the frames that follow those that its caches stand for."""

    def __init__(self, model: FsmnVad) -> None:
        super().__init__()
        self.model = model

    def forward(self, speech: Tensor, *caches: Tensor) -> tuple[Tensor, ...]:
        """speech (1, T, F), caches (1, P, order - 1, 1) -> posteriors (1, T, classes), the next
        caches.
        """
        state = FsmnState(torch.stack(caches, dim=1).squeeze(-1))
        posteriors, state = self.model.forward_chunk(speech, state)
        return (posteriors, *state.memory[..., None].unbind(1))


class Voice(nn.Module):
    """A speaker model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, feats: Tensor) -> tuple[Tensor, ...]:
        """feats (B, T, F) -> embedding (B, E)."""
        return (self.model(feats),)


class Marks(nn.Module):
    """A punctuation model that sees the whole text."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Tensor, text_lengths: Tensor) -> tuple[Tensor, ...]:
        """inputs (B, U) and text_lengths (B,), int32 -> logits (B, U, marks)."""
        return (self.model(inputs.long(), text_lengths.long()),)


class RealtimeMarks(Marks):
    """A punctuation model whose last block alone sees words ahead.

    funasr-onnx gives one mask twice, that of the last block: the others make theirs themselves.
    """

    def forward(  # type: ignore[override]
        self, inputs: Tensor, text_lengths: Tensor, vad_masks: Tensor, sub_masks: Tensor
    ) -> tuple[Tensor, ...]:
        """As `Marks`; vad_masks and sub_masks (1, 1, U, U), 1 where a word is seen."""
        seen = vad_masks + 0.0 * sub_masks > 0.5  # an input that nobody reads would go
        return (self.model.forward_seen(inputs.long(), text_lengths.long(), seen),)


def graphs_of(
    release: Release[Any],
    kind: Kind[Any],
    clip: Tensor,
    text: str,
    streaming: bool = False,
    hotwords: bool = False,
) -> list[Graph]:
    """The graphs of a model of that kind; clip: samples (N,) of speech at its rate, text: words,
    for the trials; streaming: those of a recogniser that hears chunks; hotwords: of one that hears
    these.
    """
    if kind is VAD:
        return [_silence(release, clip)]
    if kind is PUNCTUATION:
        return [_marks(release, text)]
    if kind is SPEAKER:
        return [_voice(release, clip)]
    if streaming:
        return _streams(release, clip)
    graph = _recognition(release, clip)
    return _hearing_hotwords(release.model, graph) if hotwords else [graph]


def gives_times(release: Release[Any]) -> bool:
    """Whether both runtimes can read the times of a recogniser: they count in steps of 20 ms."""
    head, frontend = release.model.second_head, release.frontend
    if head is None or not release.model.times_tokens:
        return False
    return bool(frontend.frame_shift * frontend.lfr_n == STEP_MS * head.upsample_times)


def _recognition(release: Release[Any], clip: Tensor) -> Graph:
    timed = gives_times(release)
    names = ("logits", "token_num", "us_alphas", "us_cif_peak")[: 4 if timed else 2]
    axes = {
        "speech": {0: "batch", 1: "frames"},
        "speech_lengths": {0: "batch"},
        "logits": {0: "batch", 1: "rows"},
        "token_num": {0: "batch"},
        "us_alphas": {0: "batch", 1: "steps"},
        "us_cif_peak": {0: "batch", 1: "steps"},
    }
    inputs = ("speech", "speech_lengths")
    return Graph(
        "model",
        Recognition(release.model, timed),
        inputs,
        names,
        {name: axes[name] for name in (*inputs, *names)},
        [Trial(name, _batch(feats)) for name, feats in spoken_trials(release.frontend(clip))],
        _speech_metadata(release),
    )


def _hearing_hotwords(model: Paraformer, graph: Graph) -> list[Graph]:
    """The graph with a list of hotwords as an input, and the one that makes these."""
    generator = torch.Generator().manual_seed(SEED)
    most = model.decoder.output_layer.out_features
    words = torch.randint(3, most, (max(LISTS), WORD_SIZE), generator=generator)
    with torch.no_grad():
        embeds = model.spell(words)[:, 2]
    trials, lists = [], []
    for trial, size in zip(graph.trials, LISTS, strict=True):
        speech, lengths = trial.inputs
        bias = embeds[:size].expand(len(speech), -1, -1).contiguous()
        trials.append(trial._replace(inputs=(speech, lengths, bias)))
        lists.append(trial._replace(inputs=(words[:size].int(),)))
    lists[1].inputs[0][:, 3:] = UNKNOWN
    heard = replace(
        graph,
        module=HotwordRecognition(model, len(graph.outputs) > 2),
        inputs=(*graph.inputs, "bias_embed"),
        axes={**graph.axes, "bias_embed": {0: "batch", 1: "hotwords"}},
        trials=trials,
    )
    axes = {"hotword": {0: "hotwords"}, "hw_embed": {1: "hotwords"}}
    made = Graph("model_eb", HotwordEmbedder(model), ("hotword",), ("hw_embed",), axes, lists)
    return [heard, made]


def _streams(release: Release[Any], clip: Tensor) -> list[Graph]:
    model: Paraformer = release.model
    state = model.initial_state(streaming_rule((0, CHUNK, 0), 0, 0))
    feats = release.frontend(clip).repeat(LONG, 1)
    width = model.encoder.output_size
    rows = feats * width**0.5 + sinusoid(1, len(feats), feats.size(1))
    chunks = {"traced": (CHUNK, 15), "chunk": (CHUNK, CHUNK), "one row": (1, 1), "long": (95, 95)}
    heard, said, tokens = [], [], 2
    size, before = state.decoder.pasts[0].size(2), state.decoder.pasts[0].size(1)
    generator = torch.Generator().manual_seed(SEED)
    caches = [torch.zeros(1, size, before) for _ in state.decoder.pasts]
    for name, (count, true) in chunks.items():
        length = torch.tensor([true], dtype=torch.int32)
        heard.append(Trial(name, (rows[None, :count], length)))
        with torch.inference_mode():
            memory = model.hear_chunk(rows[None, :count], length)[0]
        tokens = 1 + count // 5
        embeds, real = memory[:, :tokens], torch.tensor([tokens], dtype=torch.int32)
        said.append(Trial(name, (memory, length, embeds, real, *caches)))
        caches = [torch.randn(1, size, before, generator=generator) for _ in caches]
    into = tuple(f"in_cache_{number}" for number in range(len(caches)))
    out = tuple(f"out_cache_{number}" for number in range(len(caches)))
    metadata = _speech_metadata(release) | {
        "encoder_output_size": str(width),
        "decoder_num_blocks": str(len(caches)),
        "decoder_kernel_size": str(before + 1),
        "tail_threshold": str(model.predictor.tail_threshold),
    }
    frames, words = {1: "frames"}, {1: "tokens"}
    return [
        Graph(
            "model",
            StreamEncoder(model),
            ("speech", "speech_lengths"),
            ("enc", "enc_len", "alphas"),
            {"speech": frames, "enc": frames, "alphas": frames},
            heard,
            metadata,
        ),
        Graph(
            "decoder",
            StreamDecoder(model),
            ("enc", "enc_len", "acoustic_embeds", "acoustic_embeds_len", *into),
            ("logits", "sample_ids", *out),
            {"enc": frames, "acoustic_embeds": words, "logits": words, "sample_ids": words},
            said,
        ),
    ]


def spoken_trials(feats: Tensor) -> list[tuple[str, list[Tensor]]]:
    """Features (T, F) of a clip -> batches: the clip twice, of two lengths; the clip; one frame; a
    row longer than any before; three rows with lengths apart.
    """
    generator = torch.Generator().manual_seed(SEED)
    long = feats.repeat(LONG, 1)
    long = long + 0.1 * torch.randn(long.shape, generator=generator)
    size = len(feats)
    return [
        ("traced", [feats, feats[: size * 2 // 3]]),
        ("clip", [feats]),
        ("one frame", [feats[:1]]),
        ("long", [long]),
        ("three rows", [feats[: size // 2], long[: size * 2], long[size : size + 3]]),
    ]


def _batch(feats: list[Tensor]) -> tuple[Tensor, ...]:
    lengths = torch.tensor([len(row) for row in feats], dtype=torch.int32)
    return pad_sequence(feats, batch_first=True), lengths


def _speech_metadata(release: Release[Any]) -> dict[str, str]:
    """The metadata by which sherpa-onnx runs a recogniser."""
    frontend = release.frontend
    width, cmvn = frontend.output_size, frontend.cmvn
    shift = torch.zeros(width) if cmvn is None else cmvn.shift[:width]
    scale = torch.ones(width) if cmvn is None else cmvn.scale[:width]
    return {
        "model_type": "paraformer",
        "vocab_size": str(len(release.tokenizer.tokens)),
        "lfr_window_size": str(frontend.lfr_m),
        "lfr_window_shift": str(frontend.lfr_n),
        "neg_mean": ",".join(f"{value:.9g}" for value in shift.tolist()),
        "inv_stddev": ",".join(f"{value:.9g}" for value in scale.tolist()),
    }


def _silence(release: Release[Any], clip: Tensor) -> Graph:
    layers, width, before = release.model.encoder.past_shape
    caches = [f"cache{number}" for number in range(layers)]
    inputs = ("speech", *(f"in_{name}" for name in caches))
    outputs = ("logits", *(f"out_{name}" for name in caches))
    fresh = tuple(torch.zeros(1, width, before, 1) for _ in caches)
    generator = torch.Generator().manual_seed(SEED)
    full = tuple(torch.randn(1, width, before, 1, generator=generator) for _ in caches)
    feats = release.frontend(clip)
    long = feats.repeat(LONG, 1)
    trials = [
        Trial("clip", (feats[None], *fresh)),
        Trial("one frame", (feats[None, :1], *full)),
        Trial("long", (long[None], *full)),
        Trial("half", (feats[None, : len(feats) // 2], *full)),
    ]
    axes = {"speech": {1: "frames"}, "logits": {1: "frames"}}
    return Graph("model", Silence(release.model), inputs, outputs, axes, trials)


def _voice(release: Release[Any], clip: Tensor) -> Graph:
    feats = release.frontend(clip)
    feats = feats - feats.mean(0)
    three = feats[:150].view(3, 50, -1)
    rows = {"clip": feats, "three frames": feats[:3], "long": feats.repeat(LONG, 1)}
    trials = [Trial(name, (each[None],)) for name, each in rows.items()]
    trials.append(Trial("three rows", (three - three.mean(1, keepdim=True),)))
    metadata = {
        "framework": "3d-speaker",
        "language": "Chinese",
        "output_dim": str(release.model.embedding_size),
        "sample_rate": str(release.frontend.fs),
        "normalize_samples": "1",
        "feature_normalize_type": "global-mean",
    }
    axes = {"feats": {0: "batch", 1: "frames"}, "embedding": {0: "batch"}}
    ports = ("feats",), ("embedding",)
    return Graph("model", Voice(release.model), *ports, axes, trials, metadata)


def _marks(release: Release[Any], text: str) -> Graph:
    tokenizer, realtime = release.tokenizer, marks_streams(release.config)
    known = {token: place for place, token in enumerate(tokenizer.tokens)}
    ids = torch.tensor([known.get(word, tokenizer.unk_id) for word in text if word.strip()])
    rows = {"text": [ids], "one word": [ids[:1]], "long": [ids.repeat(LONG)]}
    if not realtime:
        rows["three rows"] = [ids[:7], ids, ids[3:5]]
    else:
        rows["half"] = [ids[: len(ids) // 2]]
    trials = [
        Trial(name, _words(each) + (_seen(each[0]) if realtime else ()))
        for name, each in rows.items()
    ]
    inputs: tuple[str, ...] = ("inputs", "text_lengths")
    axes = {name: {0: "batch", 1: "words"} for name in ("inputs", "logits")}
    axes["text_lengths"] = {0: "batch"}
    if not realtime:
        module = Marks(release.model)
    else:
        inputs += ("vad_masks", "sub_masks")
        axes |= {name: {2: "words", 3: "words"} for name in inputs[2:]}
        module = RealtimeMarks(release.model)
    return Graph("model", module, inputs, ("logits",), axes, trials, _mark_metadata(release))


def _words(rows: list[Tensor]) -> tuple[Tensor, ...]:
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int32)
    return pad_sequence(rows, batch_first=True).int(), lengths


def _seen(ids: Tensor) -> tuple[Tensor, Tensor]:
    """A mask of the last block in which half of the words have been decided, twice."""
    place, limit = torch.arange(len(ids)), len(ids) // 2
    seen = (place[:, None] >= limit - 1) | (place[None, :] < limit)
    mask = seen.float()[None, None]
    return mask, mask


def _mark_metadata(release: Release[Any]) -> dict[str, str]:
    """The metadata by which sherpa-onnx runs a punctuation model."""
    tokens = release.tokenizer.tokens
    return {
        "model_type": "ct_transformer",
        "tokens": "|".join(tokens),
        "vocab_size": str(len(tokens)),
        "punctuations": "|".join(release.config["model_conf"]["punc_list"]),
        "unk_symbol": str(release.tokenizer.unk_symbol),
    }
