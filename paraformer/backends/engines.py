"""Which engine computes a model: chosen here, by what was loaded, the device and the number format.

`device` is a device or its name, as torch has them; `dtype` a half precision, None for float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from paraformer.backends.face import (
    AlignerRelease,
    AlignmentEngine,
    MarkEngine,
    PunctuationRelease,
    RecognitionEngine,
    Release,
    SilenceEngine,
    SpeakerRelease,
    StreamEngine,
    VadRelease,
    VoiceEngine,
)
from paraformer.backends.torch_engine import (
    TorchAlignment,
    TorchMarks,
    TorchRecognition,
    TorchSilence,
    TorchStreams,
)
from paraformer.backends.torch_voices import TorchVoices
from paraformer.nn.chunks import streaming_rule

Device = torch.device | str


def recognition_engine(
    release: Release, device: Device = "cpu", dtype: torch.dtype | None = None
) -> RecognitionEngine:
    """An engine that hears whole utterances."""
    return TorchRecognition(release, torch.device(device), dtype)


def stream_engine(
    release: Release,
    chunk_size: tuple[int, int, int],
    encoder_look_back: int,
    decoder_look_back: int,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
) -> StreamEngine:
    """An engine that hears streams, cut into frames [computed again, new, looked ahead]; look-backs
    count chunks, -1 is all of them.
    """
    rule = streaming_rule(chunk_size, encoder_look_back, decoder_look_back)
    return TorchStreams(release, rule, torch.device(device), dtype)


def alignment_engine(
    release: AlignerRelease, device: Device = "cpu", dtype: torch.dtype | None = None
) -> AlignmentEngine:
    """An engine that times known texts."""
    return TorchAlignment(release, torch.device(device), dtype)


def silence_engine(
    release: VadRelease, classes: Sequence[int], device: Device = "cpu"
) -> SilenceEngine:
    """An engine that hears silence: the sounds of these classes."""
    return TorchSilence(release, classes, torch.device(device))


def mark_engine(
    release: PunctuationRelease, device: Device = "cpu", dtype: torch.dtype | None = None
) -> MarkEngine:
    """An engine that puts marks behind words."""
    return TorchMarks(release, torch.device(device), dtype)


def voice_engine(
    release: SpeakerRelease, device: Device = "cpu", dtype: torch.dtype | None = None
) -> VoiceEngine:
    """An engine that tells voices apart."""
    return TorchVoices(release, torch.device(device), dtype)
