"""A list of hotwords as decoders attend to it: one row a hotword, one list for a whole batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from paraformer.nn.attention import attend
from paraformer.nn.sanm_decoder import CrossAttention

NOTHING = 1  # <s>, the last entry of every list: no hotword
SHORTLIST = 50  # hotwords that an utterance keeps of a longer list: the reference's


class HotwordMemory(NamedTuple):
    """A list of hotwords as a model keeps it: made once, used for every batch."""

    embeds: Tensor  # (N, H); the last row stands for no hotword
    projected: tuple[Tensor, ...]  # (N, 2 * D) keys and values, one an attention layer


class Bias(NamedTuple):
    """Which hotwords a decoder hears, and how; each model reads what it knows of it."""

    hotwords: HotwordMemory | None = None
    shortlist: int = SHORTLIST  # of a `SeacoParaformer`, as the next
    seaco_weight: float = 1.0  # 0: hotwords are never heard
    clas_scale: float = 1.0  # of a `ContextualParaformer`: how much hotwords count


def embed_words(embedding: nn.Module, lstm: nn.LSTM, words: Sequence[Sequence[int]]) -> Tensor:
    """Token ids of N words, none of them empty -> the LSTM's output at the end of each, (N, H) or
    (N, 2 * H) of both directions.
    """
    device = next(lstm.parameters()).device
    lengths = torch.tensor([len(word) for word in words])
    rows = [torch.tensor(word) for word in words]
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device)
    with torch.autocast(device.type, enabled=False):
        packed = nn.utils.rnn.pack_padded_sequence(
            embedding(ids), lengths, batch_first=True, enforce_sorted=False
        )
        out = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]
    return out[torch.arange(len(out), device=device), (lengths - 1).to(device)]


def attend_to_list(attention: CrossAttention, x: Tensor, projected: Tensor) -> Tensor:
    """Tokens (B, U, D) to keys and values of a list (N, 2 * D), the same for all, or of one list an
    utterance (B, N, 2 * D) -> (B, U, D).
    """
    q = attention.linear_q(x)
    k, v = projected.to(q.dtype).chunk(2, dim=-1)
    dropout = attention.dropout_rate if attention.training else 0.0
    if projected.dim() == 3:
        attended = attend(q, k, v, None, attention.heads, dropout)
    else:  # the queries of a batch are those of one long utterance
        joined = q.flatten(0, 1)[None]
        attended = attend(joined, k[None], v[None], None, attention.heads, dropout).view_as(q)
    return attention.linear_out(attended)
