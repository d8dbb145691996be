"""The parallel decoder of SAN-M: feed-forward, memory over tokens, attention to the encoder."""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from paraformer.nn.attention import attend
from paraformer.nn.chunks import ChunkRule
from paraformer.nn.layers import Dropout, NormedFeedForward, ScoreLayer, layer_norm, run_layers
from paraformer.nn.mask import key_mask, length_mask
from paraformer.nn.sanm import Growing, MemoryBlock, Store


class CrossAttention(nn.Module):
    """Multi-head attention from tokens to encoder frames, keys and values from one projection."""

    def __init__(self, heads: int, width: int, dropout_rate: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout_rate = dropout_rate
        self.linear_q = nn.Linear(width, width)
        self.linear_k_v = nn.Linear(width, 2 * width)
        self.linear_out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """x (B, U, D), memory (B, T, D), keys (B, 1, 1, T) -> (B, U, D)."""
        k, v = self.linear_k_v(memory).chunk(2, dim=-1)
        dropout = self.dropout_rate if self.training else 0.0
        return self.linear_out(attend(self.linear_q(x), k, v, keys, self.heads, dropout))

    def forward_chunk(
        self, x: Tensor, memory: Tensor, keys: Tensor | None, past: Growing[Store]
    ) -> Tensor:
        """As `SanmAttention.forward_chunk`: tokens (B, U, D) see the stored and the new frames."""
        kv = self.linear_k_v(memory)
        k, v = torch.cat((past(kv).rows.to(kv.dtype), kv), dim=1).chunk(2, dim=-1)
        return self.linear_out(attend(self.linear_q(x), k, v, keys, self.heads, 0.0))


class SanmDecoderLayer(nn.Module):
    """Feed-forward, memory block, attention to the encoder: those of the three that the layer
    has.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        dropout_rate: float,
        memory: MemoryBlock | None = None,
        attention: CrossAttention | None = None,
    ) -> None:
        super().__init__()
        self.feed_forward = NormedFeedForward(width, hidden, dropout_rate)
        self.norm1 = layer_norm(width)
        if memory is not None:
            self.self_attn = nn.ModuleDict({"fsmn_block": memory})
            self.norm2 = layer_norm(width)
        if attention is not None:
            self.src_attn = attention
            self.norm3 = layer_norm(width)
        self.has_memory, self.has_attention = memory is not None, attention is not None
        self.dropout = Dropout(dropout_rate)

    def forward(self, x: Tensor, frames: Tensor, memory: Tensor, keys: Tensor) -> Tensor:
        """x (B, U, D), frames (B, U, 1), encoder output (B, T, D), keys (B, 1, 1, T) -> (B, U,
        D).
        """
        if not self.has_memory:
            return self.feed_forward(self.norm1(x))  # the closing layer has no residual
        x = self.remember(x, frames)
        if self.has_attention:
            x = x + self.dropout(self.src_attn(self.norm3(x), memory, keys))
        return x

    def remember(self, x: Tensor, frames: Tensor) -> Tensor:
        """The layer up to its attention: x (B, U, D), frames (B, U, 1) -> (B, U, D)."""
        y = self.norm2(self.feed_forward(self.norm1(x)))
        return x + self.dropout(self.memory_block()(y, frames))

    def forward_chunk(
        self,
        x: Tensor,
        memory: Tensor,
        keys: Tensor | None,
        past: Growing[Tensor],
        store: Growing[Store],
    ) -> Tensor:
        """Tokens (B, U, D) behind past memory inputs (B, K - 1, D) and stored keys and values, both
        of which grow -> (B, U, D).
        """
        y = self.norm2(self.feed_forward(self.norm1(x)))
        x = x + self.memory_block().forward_chunk(y, past(y))
        attention = cast(CrossAttention, self.src_attn)
        return x + attention.forward_chunk(self.norm3(x), memory, keys, store)

    def memory_block(self) -> MemoryBlock:
        """The memory block of a layer that has one."""
        return cast(MemoryBlock, cast(nn.ModuleDict, self.self_attn)["fsmn_block"])


class DecoderState(NamedTuple):
    """The part of a stream's past that the decoder still needs, one entry a layer."""

    pasts: tuple[Tensor, ...]  # (B, K - 1, D): last inputs of the memory block
    stores: tuple[Store, ...]


class SanmDecoder(nn.Module):
    """Parallel decoder over acoustic embeddings (released `ParaformerSANMDecoder`)."""

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        att_layer_num: int = 6,
        dropout_rate: float = 0.1,
        self_attention_dropout_rate: float = 0.0,
        src_attention_dropout_rate: float = 0.0,
        kernel_size: int = 21,
        sanm_shift: int = 0,
    ) -> None:
        super().__init__()
        width = encoder_output_size
        self.embed = nn.Sequential(nn.Embedding(vocab_size, width))

        def layer(shift: int, attends: bool) -> SanmDecoderLayer:
            memory = MemoryBlock(width, kernel_size, shift)
            attention = CrossAttention(attention_heads, width, src_attention_dropout_rate)
            return SanmDecoderLayer(
                width, linear_units, dropout_rate, memory, attention if attends else None
            )

        self.decoders = nn.ModuleList(layer(sanm_shift, True) for _ in range(att_layer_num))
        if num_blocks > att_layer_num:
            rest = num_blocks - att_layer_num
            self.decoders2 = nn.ModuleList(layer(0, False) for _ in range(rest))
        self.decoders3 = nn.ModuleList([SanmDecoderLayer(width, linear_units, dropout_rate)])
        self.after_norm = layer_norm(width)
        self.output_layer = ScoreLayer(width, vocab_size)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Token ids (B, U) -> (B, U, D), for the sampler."""
        return self.embed(ids)

    @property
    def looks_back_alone(self) -> bool:
        """Whether tokens can be decoded without those behind them, as a stream needs."""
        ahead = [layer.memory_block().pad[1] for layer in self._attending()]
        return not hasattr(self, "decoders2") and max(ahead, default=0) == 0

    def _attending(self) -> list[SanmDecoderLayer]:
        return [cast(SanmDecoderLayer, layer) for layer in self.decoders]

    def initial_state(self, batch: int = 1) -> DecoderState:
        """The state of streams that have not begun."""
        weight = self.after_norm.weight
        past = weight.new_zeros(batch, self._attending()[0].memory_block().pad[0], len(weight))
        store = Store(
            weight.new_zeros(batch, 0, 2 * len(weight)),
            torch.zeros(batch, dtype=torch.int64, device=weight.device),
        )
        layers = len(self.decoders)
        return DecoderState((past,) * layers, (store,) * layers)

    def forward_chunk(
        self,
        embeds: Tensor,
        counts: Tensor,
        memory: Tensor,
        memory_lengths: Tensor,
        state: DecoderState,
        rule: ChunkRule,
        lead: Tensor | None = None,
    ) -> tuple[Tensor, DecoderState]:
        """Tokens (B, U, D), counts (B,) of them true, and the rows of the chunk (B, C, D), of
        which memory_lengths (B,) are true -> logits (B, U, V), next state. lead: see `Growing`; the
        state is of the others.

        The state of a stream without tokens stays as it was.
        """
        x, active = embeds, counts > 0
        size = state.pasts[0].size(1)
        newest = counts[:, None] + torch.arange(size, device=x.device)  # (B, K - 1)

        def remembered(past: Tensor, new: Tensor, rows: Any) -> Tensor:
            inputs = torch.cat((past, new), dim=1)
            return inputs.gather(1, newest[rows, :, None].expand(-1, -1, inputs.size(2)))

        def pushed(store: Store, kv: Tensor, rows: Any) -> Store:
            return store.push(kv, rule.memory_back, active[rows])

        real = length_mask(memory_lengths, memory.size(1))
        outline = Growing(state.stores[0].outline(), lead, pushed)(memory[..., :0])
        keys = outline.keys(real | ~real.any(1, keepdim=True))
        pasts, stores = [], []
        for layer, past, store in zip(self._attending(), state.pasts, state.stores, strict=True):
            inputs, seen = Growing(past, lead, remembered), Growing(store, lead, pushed)
            x = layer.forward_chunk(x, memory, keys, inputs, seen)
            pasts.append(inputs.after)
            stores.append(seen.after)
        for closing in self.decoders3:
            x = closing(x, *[x] * 3)  # feed-forward alone
        logits = self.output_layer(self.after_norm(x))
        return logits, DecoderState(tuple(pasts), tuple(stores))

    def hidden(
        self,
        embeds: Tensor,
        token_lengths: Tensor,
        memory: Tensor,
        memory_lengths: Tensor,
        keys: Tensor | None = None,
    ) -> Tensor:
        """The last hidden states (B, U, D), which the output layer sees."""
        frames = length_mask(token_lengths, embeds.size(1))[..., None].to(embeds.dtype)
        if keys is None:
            keys = key_mask(memory_lengths, memory.size(1))
        layers = (*self.decoders, *self.without_attention())
        return self.after_norm(run_layers(layers, embeds, frames, memory, keys)[0])

    def without_attention(self) -> tuple[nn.Module, ...]:
        """The layers behind those that attend to the encoder."""
        return (*getattr(self, "decoders2", ()), *self.decoders3)

    def forward(
        self,
        embeds: Tensor,
        token_lengths: Tensor,
        memory: Tensor,
        memory_lengths: Tensor,
        keys: Tensor | None = None,
        **beside: Any,
    ) -> Tensor:
        """Embeddings (B, U, D), encoder output (B, T, D) -> logits (B, U, V).

        keys (B, 1, U, T) bool: which frames each token sees, where it is not all of them. beside:
        what else `hidden` takes.
        """
        heard = (embeds, token_lengths, memory, memory_lengths, keys)
        return self.output_layer(self.hidden(*heard, **beside))
