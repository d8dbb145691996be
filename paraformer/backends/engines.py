"""Which engine computes a model: chosen here, by what was loaded, the device and the number format.

`device` is a device or its name, as torch has them; `dtype` a half precision, torch.int8 for the
products of a recogniser on a CPU, None for float32.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from paraformer.backends.face import (
    AlignerRelease,
    AlignmentEngine,
    Graphs,
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
from paraformer.backends.onnx_engine import (
    GraphMarks,
    GraphRecognition,
    GraphSilence,
    GraphVoices,
)
from paraformer.backends.onnx_streams import GraphPairRecognition, GraphStreams
from paraformer.backends.torch_engine import (
    TorchAlignment,
    TorchMarks,
    TorchRecognition,
    TorchSilence,
    TorchStreams,
)
from paraformer.backends.torch_voices import TorchVoices
from paraformer.errors import ConfigError
from paraformer.nn.chunks import streaming_rule

log = logging.getLogger(__name__)

Device = torch.device | str


def recognition_engine(
    release: Release, device: Device = "cpu", dtype: torch.dtype | None = None
) -> RecognitionEngine:
    """An engine that hears whole utterances."""
    if graphs := graphs_of(release.model, device, dtype):
        return (
            GraphRecognition(release) if graphs.decoder is None else GraphPairRecognition(release)
        )
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
    count chunks, -1 is all of them; those of a graph, which hears each chunk alone, are 0.
    """
    if graphs := graphs_of(release.model, device, dtype):
        if encoder_look_back or decoder_look_back:
            log.info("%s: hears each chunk alone, with look-backs of 0", graphs.path)
        return GraphStreams(release, chunk_size)
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
    if graphs_of(release.model, device):
        return GraphSilence(release, classes)
    return TorchSilence(release, classes, torch.device(device))


def mark_engine(
    release: PunctuationRelease, device: Device = "cpu", dtype: torch.dtype | None = None
) -> MarkEngine:
    """An engine that puts marks behind words."""
    if graphs_of(release.model, device, dtype):
        return GraphMarks(release)
    return TorchMarks(release, torch.device(device), dtype)


def voice_engine(
    release: SpeakerRelease, device: Device = "cpu", dtype: torch.dtype | None = None
) -> VoiceEngine:
    """An engine that tells voices apart."""
    if graphs_of(release.model, device, dtype):
        return GraphVoices(release)
    return TorchVoices(release, torch.device(device), dtype)


def graphs_of(model: object, device: Device, dtype: torch.dtype | None = None) -> Graphs | None:
    """The graphs that are a model, which compute on the CPU and in the numbers of their file."""
    if not isinstance(model, Graphs):
        return None
    if dtype is not None:
        raise ConfigError(f"{model.path}: a graph has its own number format; leave dtype out")
    if torch.device(device).type != "cpu":
        log.warning("%s: graphs compute on the CPU, not on %s", model.path, device)
    return model
