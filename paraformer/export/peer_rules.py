"""Torch by the rules of a runtime, where these are not ours: chunks of streams as funasr-onnx and
sherpa-onnx cut them, and the features of sherpa-onnx's speaker models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from paraformer.export.graphs import StreamDecoder, StreamEncoder
from paraformer.export.peer_job import BLOCK_MS
from paraformer.export.peers import FUNASR, SHERPA
from paraformer.extras import load_torchaudio
from paraformer.models.paraformer import Paraformer
from paraformer.models.release import Release
from paraformer.nn.chunks import streaming_rule
from paraformer.nn.position import sinusoid

# Rows of a chunk: heard again, new, and ahead of those in sherpa-onnx; as many as before in
# funasr-onnx.
BEFORE, NEW, AHEAD = 5, 10, 3


class Chunk(NamedTuple):
    """Rows (C, F) that a runtime gives the encoder, which of them count, and a weight behind."""

    rows: Tensor
    kept: slice
    tail: float = 0.0


class Rule(NamedTuple):
    """How a runtime hears a stream of samples (N,)."""

    chunks: Callable[[Release[Paraformer], Tensor], Iterator[Chunk]]
    left_out: frozenset[int]  # ids that are no text


def stream_text(release: Release[Paraformer], wave: Tensor, rule: Rule) -> str:
    """The text of samples (N,) by a rule of `RULES`, without blanks and the marks of pieces."""
    size = release.frontend.fs * BLOCK_MS // 1000
    wave = F.pad(wave, (0, 2 * size - len(wave) % size))
    ids = _hear(release.model, rule.chunks(release, wave))
    said = (release.tokenizer.tokens[place] for place in ids if place not in rule.left_out)
    return "".join(said).replace("@@", "")


def _coded(release: Release[Paraformer], rows: Tensor, first: int) -> Tensor:
    """Rows (C, F) of a stream from the first one on, as graphs of streams want them."""
    return rows * release.model.encoder.output_size**0.5 + sinusoid(1 + first, *rows.shape)


def _chunks_of_sherpa(release: Release[Paraformer], wave: Tensor) -> Iterator[Chunk]:
    """Rows begin with the first frame, a chunk wants a frame more than it has, and what the end
    leaves over is not heard.
    """
    front = release.frontend
    frames, past = front.fbank(wave), torch.zeros(BEFORE + AHEAD, front.output_size)
    step, size = NEW * front.lfr_n, (NEW - 1) * front.lfr_n + front.lfr_m
    for first in range(0, len(frames) - size, step):
        rows = frames[first : first + size].unfold(0, front.lfr_m, front.lfr_n)
        rows = rows.transpose(1, 2).flatten(1)
        rows = rows if front.cmvn is None else (rows + front.cmvn.shift) * front.cmvn.scale
        heard = torch.cat((past, _coded(release, rows, first // front.lfr_n)))
        past = heard[-len(past) :]
        yield Chunk(heard, slice(BEFORE, -AHEAD))


def _chunks_of_funasr(release: Release[Paraformer], wave: Tensor) -> Iterator[Chunk]:
    """Five rows ahead; before the last of them it hears the same rows once more, where our streams
    and FunASR's hear those that came before.
    """
    rows, kept = release.frontend(wave), slice(BEFORE, BEFORE + NEW)
    rows = _coded(release, rows, 0)
    tail, past = release.model.predictor.tail_threshold, torch.zeros(2 * BEFORE, rows.size(1))
    last = (len(rows) - 1) // NEW * NEW
    for first in range(0, last, NEW):
        heard = torch.cat((past, rows[first : first + NEW]))
        past = heard[-len(past) :]
        yield Chunk(heard, kept)
    rest = rows[last:]
    heard = torch.cat((past, rest))
    if len(rest) <= BEFORE:
        yield Chunk(heard, kept, tail)
        return
    nothing = torch.zeros(2 * BEFORE + NEW - len(heard), rows.size(1))
    yield Chunk(torch.cat((heard, nothing)), kept)
    yield Chunk(torch.cat((heard[-BEFORE:], rest[BEFORE - len(rest) :])), kept, tail)


RULES = {
    FUNASR: Rule(_chunks_of_funasr, frozenset({0, 2})),
    SHERPA: Rule(_chunks_of_sherpa, frozenset({0})),
}


@torch.inference_mode()
def _hear(model: Paraformer, chunks: Iterable[Chunk]) -> list[int]:
    """The tokens of a stream, by the modules that become its graphs."""
    encoder, decoder = StreamEncoder(model), StreamDecoder(model)
    width, caches = model.encoder.output_size, _fresh(model)
    weight, hidden, ids = 0.0, torch.zeros(width), list[int]()
    for chunk in chunks:
        enc, lengths, alphas = encoder(chunk.rows[None], torch.tensor([len(chunk.rows)]))
        kept = torch.zeros_like(alphas)
        kept[:, chunk.kept] = alphas[:, chunk.kept]
        fired = []
        rows = [*zip(kept[0].tolist(), enc[0], strict=True), (chunk.tail, torch.zeros(width))]
        for alpha, row in rows:
            if weight + alpha < 1.0:
                weight, hidden = weight + alpha, hidden + alpha * row
            else:
                fired.append(hidden + (1.0 - weight) * row)
                weight += alpha - 1.0
                hidden = weight * row
        if fired:
            told = torch.tensor([len(fired)])
            _, best, *caches = decoder(enc, lengths, torch.stack(fired)[None], told, *caches)
            ids += best[0].tolist()
    return ids


def _fresh(model: Paraformer) -> list[Tensor]:
    """The caches (1, D, K - 1) of a decoder that has said nothing."""
    pasts = model.initial_state(streaming_rule((0, BEFORE + NEW, 0), 0, 0)).decoder.pasts
    return [torch.zeros_like(past).transpose(1, 2) for past in pasts]


def voice_features(wave: Tensor, rate: int) -> Tensor:
    """Features (T, 80) of samples (N,) as sherpa-onnx hears voices: bands to 400 Hz below half the
    rate, and frames that reach over both ends.
    """
    torchaudio = load_torchaudio("peers: for a speaker model")
    given = {"num_mel_bins": 80, "window_type": "povey", "high_freq": -400, "snip_edges": False}
    feats: Tensor = torchaudio.compliance.kaldi.fbank(wave[None], sample_frequency=rate, **given)
    return feats - feats.mean(0)
