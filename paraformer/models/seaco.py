"""SeACo-Paraformer (arXiv 2308.03266): a second decoder listens for hotwords, and where it hears
one its posteriors take the place of the first one's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.errors import ConfigError
from paraformer.models.bicif import BiCifParaformer
from paraformer.nn.attention import split_heads
from paraformer.nn.bias import (
    NOTHING,
    SHORTLIST,
    Bias,
    HotwordMemory,
    attend_to_list,
    embed_words,
)
from paraformer.nn.layers import ScoreLayer, run_layers
from paraformer.nn.mask import length_mask
from paraformer.nn.sanm_decoder import SanmDecoder, SanmDecoderLayer


class HotwordDecoder(SanmDecoder):
    """A `SanmDecoder` from acoustic embeddings to hidden states, whose memory is hotwords."""

    def __init__(self, encoder_output_size: int, **layers: Any) -> None:
        """layers: what a `SanmDecoder` takes."""
        super().__init__(1, encoder_output_size, **layers)
        del self.embed, self.output_layer

    def project(self, embeds: Tensor) -> tuple[Tensor, ...]:
        """Hotwords (N, D) -> keys and values (N, 2 * D) of each layer."""
        return tuple(layer.src_attn.linear_k_v(embeds) for layer in self._attending())

    def listen(self, x: Tensor, lengths: Tensor, projected: Sequence[Tensor]) -> Tensor:
        """As `hidden`, but with what `project` gave, or with rows of it for each utterance."""
        frames = length_mask(lengths, x.size(1))[..., None].to(x.dtype)
        for layer, kv in zip(self._attending(), projected, strict=True):
            x = _attend(layer, layer.remember(x, frames), kv)
        return self.after_norm(run_layers(self.without_attention(), x, frames, x, x)[0])

    def scores(self, x: Tensor, lengths: Tensor, projected: Sequence[Tensor]) -> Tensor:
        """Tokens (B, U, D) of lengths (B,) -> how much attention of the last layer each hotword
        gets, (B, N), summed over heads and tokens.
        """
        real = length_mask(lengths, x.size(1))
        return (self.attention(x, lengths, projected) * real[:, None, :, None]).sum((1, 2))

    def attention(self, x: Tensor, lengths: Tensor, projected: Sequence[Tensor]) -> Tensor:
        """Tokens (B, U, D) of lengths (B,) -> the attention of the last layer to each hotword,
        (B, H, U, N).
        """
        frames = length_mask(lengths, x.size(1))[..., None].to(x.dtype)
        *layers, last = self._attending()
        for layer, kv in zip(layers, projected[:-1], strict=True):
            x = _attend(layer, layer.remember(x, frames), kv)
        x = last.norm3(last.remember(x, frames))
        q = split_heads(last.src_attn.linear_q(x).float(), last.src_attn.heads)
        keys = projected[-1].float().chunk(2, dim=-1)[0]
        k = split_heads(keys[None], last.src_attn.heads)
        return torch.matmul(q * q.size(-1) ** -0.5, k.transpose(-1, -2)).softmax(-1)


def _attend(layer: SanmDecoderLayer, x: Tensor, projected: Tensor) -> Tensor:
    """The rest of the layer."""
    return x + layer.dropout(attend_to_list(layer.src_attn, layer.norm3(x), projected))


class SeacoParaformer(BiCifParaformer):
    """A Paraformer with a `HotwordDecoder`; timestamps where its predictor has them."""

    decoder: SanmDecoder
    listens_twice = True

    def __init__(
        self,
        *,
        seaco_decoder: HotwordDecoder,
        inner_dim: int = 256,
        bias_encoder_bid: bool = False,
        no_bias: int = 8377,
        **paraformer: Any,
    ) -> None:
        """paraformer: what a `Paraformer` takes. no_bias: the token by which the hotword decoder
        says that there is none.
        """
        super().__init__(**paraformer)
        if not isinstance(self.decoder, SanmDecoder):
            raise ConfigError("config.yaml: SeacoParaformer needs decoder ParaformerSANMDecoder")
        self.bias_encoder = nn.LSTM(
            inner_dim, inner_dim, 2, batch_first=True, bidirectional=bias_encoder_bid
        )
        if bias_encoder_bid:
            self.lstm_proj = nn.Linear(2 * inner_dim, inner_dim)
        self.seaco_decoder = seaco_decoder
        self.hotword_output_layer = ScoreLayer(inner_dim, self.decoder.output_layer.out_features)
        self.no_bias = no_bias

    @property
    def hotword_parts(self) -> tuple[str, ...]:
        """The embedding of tokens, which is the first layer of the hotwords' encoder too, and what
        serves hotwords alone.
        """
        parts = ("bias_encoder", "seaco_decoder", "hotword_output_layer", "decoder.embed")
        return (*parts, "lstm_proj") if hasattr(self, "lstm_proj") else parts

    def embed_hotwords(self, words: Sequence[Sequence[int]]) -> Tensor:
        """Token ids of N words -> (N, inner_dim)."""
        embeds = embed_words(self.decoder.embed, self.bias_encoder, words)
        return self.lstm_proj(embeds) if hasattr(self, "lstm_proj") else embeds

    def remember(self, words: Sequence[Sequence[int]]) -> HotwordMemory:
        """See `Paraformer`."""
        return self.recall(self.embed_hotwords([*words, [NOTHING]]))

    def recall(self, embeds: Tensor) -> HotwordMemory:
        """See `Paraformer`."""
        return HotwordMemory(embeds, self.seaco_decoder.project(embeds))

    def spell(self, ids: Tensor) -> Tensor:
        """See `Paraformer`."""
        if hasattr(self, "lstm_proj"):  # it begins behind the last token, wherever that is
            raise ConfigError("bias_encoder_bid: hotwords are read in both directions; no graph")
        out: Tensor = self.bias_encoder(self.decoder.embed(ids))[0]
        return out

    def bias_options(self, bias: Bias) -> dict[str, Any]:
        """See `Paraformer`."""
        weight = bias.seaco_weight
        return {"hotwords": bias.hotwords, "shortlist": bias.shortlist, "weight": weight}

    def decode(
        self,
        embeds: Tensor,
        token_lengths: Tensor,
        memory: Tensor,
        memory_lengths: Tensor,
        hotwords: HotwordMemory | None = None,
        shortlist: int = SHORTLIST,
        weight: float = 1.0,
    ) -> Tensor:
        """Acoustic embeddings (B, U, D) -> log-probabilities (B, U, V).

        shortlist: of more hotwords than so many each utterance keeps those that its tokens attend
        to most. weight: 1 takes the hotword decoder at its word, 0 never listens to it.
        """
        if hotwords is None:
            return super().decode(embeds, token_lengths, memory, memory_lengths)
        hidden = self.decoder.hidden(embeds, token_lengths, memory, memory_lengths)
        plain = F.log_softmax(self.decoder.output_layer(hidden).float(), dim=-1)
        projected: Sequence[Tensor] = hotwords.projected
        if len(hotwords.embeds) > shortlist:
            chosen = self.choose(hidden, token_lengths, hotwords, shortlist)
            projected = [kv[chosen] for kv in projected]
        biased = self.listen(embeds, hidden, token_lengths, projected)
        silent = (biased.argmax(-1, keepdim=True) == self.no_bias).to(plain.dtype)
        share = silent * weight + (1.0 - weight)
        return share * plain + (1.0 - share) * biased

    def choose(
        self, hidden: Tensor, token_lengths: Tensor, hotwords: HotwordMemory, shortlist: int
    ) -> Tensor:
        """Places (B, shortlist + 1) in the list of what each utterance keeps, best first; the last
        is the entry for no hotword.
        """
        scores = self.seaco_decoder.scores(hidden, token_lengths, hotwords.projected)
        best = scores.sort(descending=True).indices[:, :shortlist]
        last = torch.arange(scores.size(1), device=scores.device)[-1:]
        # A graph, whose list is of any length, keeps all of a short one.
        return torch.cat((best, last.expand(best.size(0), 1)), dim=1)[:, : scores.size(1)]

    def listen(
        self, embeds: Tensor, hidden: Tensor, token_lengths: Tensor, projected: Sequence[Tensor]
    ) -> Tensor:
        """Acoustic embeddings and hidden states (B, U, D) -> log-probabilities (B, U, V) of the
        hotword decoder.
        """
        both = torch.cat((embeds, hidden.to(embeds.dtype)))
        lists = [torch.cat((kv, kv)) if kv.dim() == 3 else kv for kv in projected]
        acoustic, textual = self.seaco_decoder.listen(both, token_lengths.repeat(2), lists).chunk(2)
        return F.log_softmax(self.hotword_output_layer(acoustic + textual).float(), dim=-1)
