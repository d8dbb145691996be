"""The engine of speaker models by torch, on any device; in half precision by autocast."""

from __future__ import annotations

import torch
from torch import Tensor

from paraformer.backends.face import SpeakerRelease, VoiceEngine


class TorchVoices(VoiceEngine):
    """A `CamPlusPlus`."""

    def __init__(
        self, release: SpeakerRelease, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        self.device, self.dtype, self.release = device, dtype, release
        self.model = release.model.to(device).folded()
        self.width = self.model.embedding_size

    @torch.inference_mode()
    def _embed(self, feats: Tensor) -> Tensor:
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            found: Tensor = self.model(feats.to(self.device))
        return found
