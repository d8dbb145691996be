"""CT-Transformer (arXiv 2003.01309): the mark behind each word, for whole text and in real time."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from paraformer.nn.mask import key_mask, length_mask
from paraformer.nn.sanm import SanmEncoder


class CausalSanmEncoder(SanmEncoder):
    """All blocks but the last see no later word (released `SANMVadEncoder`).

    Its memory blocks should look back alone too: sanm_shift = (kernel_size - 1) / 2.
    """

    def forward_decided(self, x: Tensor, lengths: Tensor, decided: Tensor) -> Tensor:
        """Embeddings (B, U, input_size) -> (B, U, output_size).

        decided (B,): that many words open the row that an earlier call has seen. In the last block
        all of them but the last one see no word behind them; 0, or all words: no limit.
        """
        place = torch.arange(x.size(1), device=lengths.device)
        limit = decided.view(-1, 1, 1, 1)
        return self.forward_seen(
            x, lengths, (place[:, None] >= limit - 1) | (place[None, :] < limit)
        )

    def forward_seen(self, x: Tensor, lengths: Tensor, seen: Tensor) -> Tensor:
        """The same; seen (B, 1, U, U) bool says which words each word sees in the last block."""
        size = x.size(1)
        frames = length_mask(lengths, size)[..., None].to(x.dtype)
        keys = key_mask(lengths, size)
        place = torch.arange(size, device=lengths.device)
        past = keys & (place[None, :] <= place[:, None])
        *early, last = (*self.encoders0, *self.encoders)
        x = self._position(x)
        for layer in early:
            x = layer(x, frames, past)
        return self.after_norm(last(x, frames, keys & seen))


class CtTransformer(nn.Module):
    """Embedding, SAN-M blocks and one linear layer over the marks."""

    def __init__(self, vocab_size: int, embed_width: int, encoder: SanmEncoder, marks: int) -> None:
        super().__init__()
        # Unit variance behind the encoder's factor of sqrt(width); drawn once, since released
        # vocabularies are large.
        place = torch.get_default_device()
        self.embed = nn.utils.skip_init(nn.Embedding, vocab_size, embed_width, device=place)
        nn.init.normal_(self.embed.weight, std=embed_width**-0.5)
        self.encoder = encoder
        self.decoder = nn.Linear(encoder.output_size, marks)

    def forward(self, ids: Tensor, lengths: Tensor, decided: Tensor | None = None) -> Tensor:
        """Word ids (B, U), lengths (B,) -> logits (B, U, marks).

        decided (B,), none by default: for the real-time form, see `CausalSanmEncoder`.
        """
        x = self.embed(ids)
        if isinstance(self.encoder, CausalSanmEncoder):
            decided = torch.zeros_like(lengths) if decided is None else decided
            return self.decoder(self.encoder.forward_decided(x, lengths, decided))
        return self.decoder(self.encoder(x, lengths)[0])

    def forward_seen(self, ids: Tensor, lengths: Tensor, seen: Tensor) -> Tensor:
        """The real-time form, told which words its last block sees: `CausalSanmEncoder`."""
        encoder = cast(CausalSanmEncoder, self.encoder)
        return self.decoder(encoder.forward_seen(self.embed(ids), lengths, seen))
