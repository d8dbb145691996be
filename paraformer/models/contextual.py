"""ContextualParaformer (CLAS, arXiv 1808.02480): the last layer of the decoder attends to hotwords
beside the recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paraformer.errors import ConfigError
from paraformer.models.paraformer import Paraformer
from paraformer.nn.bias import NOTHING, Bias, HotwordMemory, attend_to_list, embed_words
from paraformer.nn.layers import PointwiseConv, layer_norm, run_layers
from paraformer.nn.mask import key_mask, length_mask
from paraformer.nn.sanm_decoder import CrossAttention, SanmDecoder, SanmDecoderLayer


class BiasAttention(nn.Module):
    """Attention from tokens to hotwords, under its released names."""

    def __init__(self, heads: int, width: int, dropout_rate: float) -> None:
        super().__init__()
        self.norm3 = layer_norm(width)
        self.src_attn = CrossAttention(heads, width, dropout_rate)

    def forward(self, x: Tensor, projected: Tensor) -> Tensor:
        """Tokens (B, U, D), keys and values of the list (N, 2 * D) -> (B, U, D)."""
        return attend_to_list(self.src_attn, self.norm3(x), projected)


class ContextualDecoder(SanmDecoder):
    """A `SanmDecoder` whose last layer with attention also hears hotwords (released
    `ContextualParaformerDecoder`).
    """

    def __init__(self, vocab_size: int, encoder_output_size: int, **layers: Any) -> None:
        """layers: what a `SanmDecoder` takes."""
        super().__init__(vocab_size, encoder_output_size, **layers)
        if not len(self.decoders):
            raise ConfigError(
                "config.yaml: decoder_conf.att_layer_num=0: hotwords are heard by the last layer "
                "with attention; give 1 or more"
            )
        self.last_decoder = cast(SanmDecoderLayer, self.decoders.pop(-1))
        own, width = self.last_decoder.src_attn, encoder_output_size
        self.bias_decoder = BiasAttention(own.heads, width, own.dropout_rate)
        self.bias_output = PointwiseConv(2 * width, width, bias=False)

    @property
    def looks_back_alone(self) -> bool:
        """Never: a stream knows no hotwords."""
        return False

    def hidden(
        self,
        embeds: Tensor,
        token_lengths: Tensor,
        memory: Tensor,
        memory_lengths: Tensor,
        keys: Tensor | None = None,
        projected: Tensor | None = None,
        scale: float = 1.0,
    ) -> Tensor:
        """As that of `SanmDecoder`, with keys and values of the hotwords (N, 2 * D), which have to
        be there; scale: how much what is heard of them counts.
        """
        if projected is None:
            raise ConfigError("ContextualParaformer: decodes with a list of hotwords; give one")
        frames = length_mask(token_lengths, embeds.size(1))[..., None].to(embeds.dtype)
        if keys is None:
            keys = key_mask(memory_lengths, memory.size(1))
        x, _ = run_layers(self.decoders, embeds, frames, memory, keys)
        layer = self.last_decoder
        x = layer.remember(x, frames)
        heard = layer.src_attn(layer.norm3(x), memory, keys)
        both = torch.cat((heard, scale * self.bias_decoder(x, projected)), dim=-1)
        x = x + layer.dropout(self.bias_output(both))
        return self.after_norm(run_layers(self.without_attention(), x, frames, memory, keys)[0])


class ContextualParaformer(Paraformer):
    """A Paraformer with a `ContextualDecoder` and the encoder of its hotwords."""

    decoder: ContextualDecoder

    def __init__(self, *, inner_dim: int = 256, **paraformer: Any) -> None:
        """paraformer: what a `Paraformer` takes."""
        super().__init__(**paraformer)
        self.bias_encoder = nn.LSTM(inner_dim, inner_dim, batch_first=True)
        self.bias_embed = nn.Embedding(self.decoder.output_layer.out_features, inner_dim)

    @property
    def hotword_parts(self) -> tuple[str, ...]:
        """See `Paraformer`."""
        return ("bias_encoder", "bias_embed", "decoder.bias_decoder", "decoder.bias_output")

    def embed_hotwords(self, words: Sequence[Sequence[int]]) -> Tensor:
        """Token ids of N words -> (N, inner_dim)."""
        return embed_words(self.bias_embed, self.bias_encoder, words)

    def remember(self, words: Sequence[Sequence[int]]) -> HotwordMemory:
        """See `Paraformer`."""
        return self.recall(self.embed_hotwords([*words, [NOTHING]]))

    def recall(self, embeds: Tensor) -> HotwordMemory:
        """See `Paraformer`."""
        return HotwordMemory(embeds, (self.decoder.bias_decoder.src_attn.linear_k_v(embeds),))

    def spell(self, ids: Tensor) -> Tensor:
        """See `Paraformer`."""
        out: Tensor = self.bias_encoder(self.bias_embed(ids))[0]
        return out

    def bias_options(self, bias: Bias) -> dict[str, Any]:
        """See `Paraformer`."""
        return {"hotwords": bias.hotwords, "clas_scale": bias.clas_scale}

    def taught_beside(self, words: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        """See `Paraformer`: keys and values of the list."""
        (projected,) = self.remember(words).projected
        return {"projected": projected}

    def decode(
        self,
        embeds: Tensor,
        token_lengths: Tensor,
        memory: Tensor,
        memory_lengths: Tensor,
        hotwords: HotwordMemory | None = None,
        clas_scale: float = 1.0,
    ) -> Tensor:
        """Acoustic embeddings (B, U, D) -> log-probabilities (B, U, V).

        Without hotwords the list holds the entry for none. clas_scale: how much hotwords count.
        """
        (projected,) = (hotwords or self.remember([])).projected
        heard = {"projected": projected, "scale": clas_scale}
        logits = self.decoder(embeds, token_lengths, memory, memory_lengths, **heard)
        return F.log_softmax(logits.float(), dim=-1)
