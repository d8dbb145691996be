"""Paraformer (arXiv 2206.08317): encoder, CIF predictor, glancing sampler, parallel decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.errors import ConfigError
from paraformer.nn.bias import Bias, HotwordMemory
from paraformer.nn.chunks import ChunkPlan, ChunkRule, streaming_rule
from paraformer.nn.cif import CifChunk, CifOutput, CifPredictor, CifState, fire_to
from paraformer.nn.cif_v3 import CifPredictorV3, Timeline
from paraformer.nn.conformer import ConformerEncoder
from paraformer.nn.layers import ScoreLayer
from paraformer.nn.mask import length_mask, zero_padding
from paraformer.nn.sanm import EncoderState, SanmEncoder, Store, picked
from paraformer.nn.sanm_decoder import DecoderState, SanmDecoder
from paraformer.nn.transformer import SanDecoder, TransformerEncoder

Encoder = SanmEncoder | ConformerEncoder | TransformerEncoder
Decoder = SanmDecoder | SanDecoder


class CtcHead(nn.Module):
    """Linear output over the encoder for CTC."""

    def __init__(self, width: int, vocab_size: int) -> None:
        super().__init__()
        self.ctc_lo = ScoreLayer(width, vocab_size)

    def forward(self, memory: Tensor) -> Tensor:
        """(B, T, D) -> log-probabilities (B, T, V)."""
        return F.log_softmax(self.ctc_lo(memory).float(), dim=-1)


class Teaching(NamedTuple):
    """Outputs of a forward pass with known text, as the losses need them."""

    logits: Tensor  # (B, U, V) of the last decoder pass
    first_guess: Tensor  # (B, U) argmax of the first pass, the measure of accuracy
    targets: Tensor  # (B, U) with the end symbol if the model predicts it, ignore_id past the end
    target_lengths: Tensor  # (B,)
    predicted: CifOutput


class StreamState(NamedTuple):
    """The memory of a batch of streams."""

    encoder: EncoderState
    cif: CifState
    decoder: DecoderState


def join_states(states: Sequence[Any]) -> Any:
    """States of streams, or parts of them, as one batch."""
    first = states[0]
    if len(states) == 1:
        return first
    if isinstance(first, Store):
        return Store.join(states)
    if isinstance(first, Tensor):
        return torch.cat(list(states))
    parts = [join_states(part) for part in zip(*states, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def picked_states(state: Any, rows: Tensor) -> Any:
    """The states of some streams of a batch, by their numbers (B',), or a part of them."""
    if isinstance(state, (Store, Tensor)):
        return picked(state, rows)
    parts = [picked_states(part, rows) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def split_states(state: Any, batch: int) -> list[Any]:
    """The state of each of `batch` streams, or a part of it."""
    if batch == 1:
        return [state]
    if isinstance(state, Store):
        return state.split()
    if isinstance(state, Tensor):
        return list(state.split(1))
    parts = zip(*(split_states(part, batch) for part in state), strict=True)
    kind = type(state) if hasattr(state, "_fields") else None
    return [kind(*part) if kind else tuple(part) for part in parts]


class Paraformer(nn.Module):
    """Non-autoregressive recogniser; `encoder`, `predictor`, `decoder` may be any of `nn/`.

    The attribute names are those of released checkpoints. Training options mirror `model_conf` of
    a released config.yaml and are read by `train/losses.py`.
    """

    # Whether posteriors of a second decoder, which listens for hotwords, take the place of its own.
    listens_twice = False

    def __init__(
        self,
        encoder: Encoder,
        predictor: CifPredictor,
        decoder: Decoder,
        ctc: CtcHead | None = None,
        *,
        predictor_bias: int = 0,
        sampling_ratio: float = 0.2,
        share_embedding: bool = False,
        blank_id: int = 0,
        eos: int = 2,
        ignore_id: int = -1,
    ) -> None:
        super().__init__()
        self.encoder, self.predictor, self.decoder = encoder, predictor, decoder
        if ctc is not None:
            self.ctc = ctc
        self.predictor_bias, self.sampling_ratio = predictor_bias, sampling_ratio
        self.share_embedding = share_embedding
        self.blank_id, self.eos, self.ignore_id = blank_id, eos, ignore_id

    @property
    def ctc_head(self) -> CtcHead | None:
        """The CTC head, None where the model has none."""
        return getattr(self, "ctc", None)

    @property
    def times_tokens(self) -> bool:
        """Whether it says by itself when each token was spoken."""
        return False

    @property
    def hotword_parts(self) -> tuple[str, ...]:
        """The parts that hear hotwords, by their names."""
        return ()

    @property
    def second_head(self) -> CifPredictorV3 | None:
        """The predictor where it has a second head, which times tokens."""
        return self.predictor if isinstance(self.predictor, CifPredictorV3) else None

    def timeline(self, memory: Tensor, memory_lengths: Tensor, counts: Tensor) -> Timeline:
        """Encoder output (B, T, D) and how many tokens fired (B,), the end symbol among them ->
        where they did.
        """
        head = self.second_head
        if head is None:
            raise ConfigError("this model has no times: its predictor is not CifPredictorV3")
        return head.timeline(memory, memory_lengths, counts)

    @property
    def hears_hotwords(self) -> bool:
        """Whether a decoder of it attends to hotwords."""
        return bool(self.hotword_parts)

    def remember(self, words: Sequence[Sequence[int]]) -> HotwordMemory:
        """Token ids of hotwords, none of them empty -> the list that `decode` takes; the entry for
        no hotword is added.
        """
        raise ConfigError("this model hears no hotwords by itself; take one that learnt it")

    def recall(self, embeds: Tensor) -> HotwordMemory:
        """Embeddings of hotwords (N, H), the last one that of none -> the list of them."""
        raise ConfigError("this model hears no hotwords by itself; take one that learnt it")

    def spell(self, ids: Tensor) -> Tensor:
        """Token ids of hotwords (N, U) -> (N, U, H), what each would be if it ended there."""
        raise ConfigError("this model hears no hotwords by itself; take one that learnt it")

    def bias_options(self, bias: Bias) -> dict[str, Any]:
        """The keywords that `decode` takes of it."""
        return {}

    def taught_beside(self, words: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """Arguments of `teach` beside the text, made of token ids of hotwords."""
        return {}

    def encode(self, feats: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (B, T, D) -> encoder output (B, T', D'), 0 past its lengths, and those lengths
        (B,).
        """
        memory, memory_lengths = self.encoder(feats, lengths)
        return zero_padding(memory, memory_lengths), memory_lengths

    def encode_in_chunks(
        self, feats: Tensor, lengths: Tensor, plan: ChunkPlan, taps: Sequence[int] = ()
    ) -> tuple[Tensor, list[Tensor]]:
        """Features (B, T, D) -> the rows of all chunks (B, N, D'), and the layers of `taps`."""
        if not isinstance(self.encoder, SanmEncoder) or not isinstance(self.decoder, SanmDecoder):
            raise ConfigError(
                "chunks need encoder SANMEncoder and decoder ParaformerSANMDecoder; "
                "train this model without them"
            )
        return self.encoder.forward_in_chunks(feats, lengths, plan, taps)

    @property
    def streams(self) -> bool:
        """Whether the model can decode a stream: SAN-M, and a decoder that looks back alone."""
        sanm = isinstance(self.encoder, SanmEncoder) and isinstance(self.decoder, SanmDecoder)
        return sanm and cast(SanmDecoder, self.decoder).looks_back_alone

    def _streaming_parts(self) -> tuple[SanmEncoder, SanmDecoder]:
        if not self.streams:
            raise ConfigError(
                "this model does not stream: its decoder needs the tokens ahead; "
                "take a streaming one, such as paraformer-zh-streaming"
            )
        return cast(SanmEncoder, self.encoder), cast(SanmDecoder, self.decoder)

    def initial_state(self, rule: ChunkRule, batch: int = 1) -> StreamState:
        """The state of streams that have not begun."""
        encoder, decoder = self._streaming_parts()
        return StreamState(
            encoder.initial_state(rule, batch),
            self.predictor.initial_state(batch),
            decoder.initial_state(batch),
        )

    def forward_chunk(
        self,
        feats: Tensor,
        counts: Tensor,
        final: Tensor,
        state: StreamState,
        rule: ChunkRule,
        lead: Tensor | None = None,
    ) -> tuple[Tensor, CifChunk, StreamState]:
        """New frames (B, n, D) of streams, counts (B,) of them true, final (B,) where one ends.
        The last rows may be the chunks behind those of other rows, of whole chunks: `lead` (B',)
        says of which, and the state is that of the others.

        Returns log-probabilities (B, U, V), the tokens fired, and the next state of all rows.
        """
        encoder, decoder = self._streaming_parts()
        memory, lengths, heard = encoder.forward_chunk(feats, counts, state.encoder, rule, lead)
        fired, cif = self._fire(memory, lengths, final, state.cif, rule, lead)
        said = state.decoder
        if fired.embeds.size(1) == 0:
            logits = memory.new_zeros(len(memory), 0, decoder.output_layer.out_features)
            if lead is not None:
                said = join_states([said, picked_states(said, lead)])
        else:
            logits, said = decoder.forward_chunk(
                fired.embeds, fired.counts, memory, lengths, said, rule, lead
            )
        return F.log_softmax(logits.float(), dim=-1), fired, StreamState(heard, cif, said)

    def _fire(
        self,
        memory: Tensor,
        lengths: Tensor,
        final: Tensor,
        state: CifState,
        rule: ChunkRule,
        lead: Tensor | None,
    ) -> tuple[CifChunk, CifState]:
        """See `CifPredictor.forward_chunk`: rows, then those behind them."""
        if lead is None:
            return self.predictor.forward_chunk(memory, lengths, final, state, rule)
        size = len(memory) - len(lead)
        first, state = self.predictor.forward_chunk(
            memory[:size], lengths[:size], final[:size], state, rule
        )
        second, after = self.predictor.forward_chunk(
            memory[size:], lengths[size:], final[size:], picked_states(state, lead), rule
        )
        size = max(first.embeds.size(1), second.embeds.size(1))
        padded = (F.pad(x.embeds, (0, 0, 0, size - x.embeds.size(1))) for x in (first, second))
        counts, sums = (torch.cat(pair) for pair in zip(first[1:], second[1:], strict=True))
        fired = CifChunk(torch.cat(list(padded)), counts, sums)
        return fired, join_states([state, after])

    def hear_chunk(self, rows: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of a chunk (B, C, D) that see nothing else, with their position codes -> encoder
        output (B, C, D'), and weights (B, C) of which none has been cut.
        """
        memory = self._streaming_parts()[0].forward_coded(rows, lengths)
        return memory, self.predictor.weights(memory, lengths)

    def say_chunk(
        self,
        memory: Tensor,
        lengths: Tensor,
        embeds: Tensor,
        counts: Tensor,
        pasts: tuple[Tensor, ...],
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Tokens (B, U, D) that fired in such a chunk, behind the last inputs of each memory block
        (B, K - 1, D) -> logits (B, U, V), the next such inputs.
        """
        decoder, alone = self._streaming_parts()[1], streaming_rule((0, memory.size(1), 0), 0, 0)
        state = decoder.initial_state(len(embeds))._replace(pasts=pasts)
        logits, state = decoder.forward_chunk(embeds, counts, memory, lengths, state, alone)
        return logits, state.pasts

    def predict(self, memory: Tensor, memory_lengths: Tensor) -> CifOutput:
        """Encoder output -> acoustic embeddings, as many as the predictor hears tokens."""
        return self.predictor(memory, memory_lengths)

    def decode(
        self, embeds: Tensor, token_lengths: Tensor, memory: Tensor, memory_lengths: Tensor
    ) -> Tensor:
        """Acoustic embeddings (B, U, D) -> log-probabilities (B, U, V)."""
        logits = self.decoder(embeds, token_lengths, memory, memory_lengths)
        return F.log_softmax(logits.float(), dim=-1)

    def targets(self, text: Tensor, text_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Token ids (B, U) padded by ignore_id -> the same with the end symbol if the model
        predicts it.
        """
        if self.predictor_bias != 1:
            return text, text_lengths
        text = F.pad(text, (0, 1), value=self.ignore_id)
        return text.scatter(1, text_lengths[:, None], self.eos), text_lengths + 1

    def teach(
        self,
        memory: Tensor,
        memory_lengths: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        plan: ChunkPlan | None = None,
        beside: Mapping[str, Tensor] | None = None,
    ) -> Teaching:
        """Decode with the true number of tokens and, by the sampler, some of the true tokens
        shown. With a plan, `memory` is the rows of its chunks. beside: what else the decoder takes.
        """
        targets, lengths = self.targets(text, text_lengths)
        size = targets.size(1)
        if plan is None:
            predicted = self.predictor.forward_to(memory, memory_lengths, lengths, size)
            seen = dict(beside or {})
        else:
            alphas = self.predictor.weights_in_chunks(memory, plan)
            predicted = fire_to(alphas, memory, lengths, size)
            seen = {**(beside or {}), "keys": plan.token_keys(predicted.sums, lengths, size)}

        def decode(embeds: Tensor) -> Tensor:
            logits: Tensor = self.decoder(embeds, lengths, memory, memory_lengths, **seen)
            return logits

        embeds, guess = predicted.embeds, None
        if self.sampling_ratio > 0.0:
            with torch.no_grad():
                guess = decode(embeds).argmax(-1)
            embeds = self.sample(predicted, guess, targets)
        logits = decode(embeds)
        if guess is None:
            guess = logits.detach().argmax(-1)
        return Teaching(logits, guess, targets, lengths, predicted)

    def sample(self, predicted: CifOutput, guess: Tensor, targets: Tensor) -> Tensor:
        """Replace acoustic embeddings by those of true tokens, the more the worse the first guess
        (B, U) was.

        The number is trunc(ratio * wrong tokens), the places are drawn among all tokens (as the
        reference; the paper rounds up). Returns the mixed embeddings (B, U, D).
        """
        lengths = predicted.token_lengths
        wrong = ((guess != targets) & length_mask(lengths, targets.size(1))).sum(1)
        counts = (wrong.float() * self.sampling_ratio).long()
        shown = torch.zeros_like(targets, dtype=torch.bool)
        for row, (count, length) in enumerate(zip(counts.tolist(), lengths.tolist(), strict=True)):
            if count > 0:
                shown[row, torch.randperm(length)[:count].to(shown.device)] = True
        known = self.embed_tokens(targets.clamp(min=0)).to(predicted.embeds.dtype)
        mixed = torch.where(shown[..., None], known, predicted.embeds)
        return zero_padding(mixed, lengths)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, U) -> the embeddings (B, U, D) that the sampler shows."""
        if self.share_embedding:
            return F.embedding(ids, self.decoder.output_layer.weight)
        return self.decoder.embed_tokens(ids)
