"""Arrays and tensors of any number type and orientation become float samples."""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
from torch import Tensor

from paraformer.errors import AudioError

log = logging.getLogger(__name__)

# Both dimensions above this: a feature matrix rather than channels.
MOST_CHANNELS = 16
# No sample in [-1, 1) comes near: such floats are integers that were not divided.
LOUDEST_FLOAT = 256.0
# Above this nothing is a sample of whatever scale, and the energy of a frame may be no float32.
MOST = 1e10
_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


def from_array(array: np.ndarray | Tensor, name: str = "array") -> Tensor:
    """(N,), (C, N) or (N, C) of any number type -> (N,), or (C, N) of several channels, float32.

    Integers are divided by their type's range. int64 is what numbers become that nobody meant as
    64-bit samples, so its range is the smallest of 16, 32 and 64 bits that holds all values.
    Floats that need no change are not copied.
    """
    if isinstance(array, Tensor) and array.dtype in _UNSIGNED:
        array = array.cpu().numpy()
    wave = array.detach() if isinstance(array, Tensor) else _to_tensor(array, name)
    if wave.dtype == torch.bool or wave.is_complex():
        raise AudioError(f"{name}: {wave.dtype} is no audio; give floats or integers")
    if not wave.is_floating_point():
        _warn_of_narrow(wave, name)
        wave = _scale_integers(wave)
    elif loudest(wave) > LOUDEST_FLOAT:
        log.warning("%s: floats far outside of [-1, 1); divide 16-bit samples by 32768", name)
    return _channels_first(wave.float(), name)


def from_bytes(content: bytes, name: str) -> Tensor:
    """16-bit little-endian samples -> (N,) float32; a last sample that is cut off is left out.

    >>> from_bytes(b"\\0\\x40", "x")
    tensor([0.5000])
    """
    if len(content) % 2:
        log.warning("%s: no even number for 16-bit samples; the last byte is left out", name)
    return from_array(np.frombuffer(content[: len(content) // 2 * 2], dtype="<i2"), name)


def loudest(wave: Tensor) -> float:
    """The largest magnitude of the samples, in one pass and without a copy; NaN if one is NaN."""
    if not wave.numel():
        return 0.0
    low, high = wave.aminmax()
    return float(torch.maximum(-low, high))


def check_sound(wave: Tensor, name: str, rate: int, begin: float = 0.0) -> None:
    """Refuse samples (N,) that are NaN or infinite, or larger than any sound.

    begin: where they lie in their recording, in seconds; `name` is whose they are.
    """
    if wave.dim() != 1 or not wave.is_floating_point():
        raise AudioError(f"{name}: {tuple(wave.shape)} {wave.dtype}; give floats (samples,)")
    most = loudest(wave)
    if most <= MOST:
        return
    bad, what = ~(wave.abs() <= MOST), f"above {MOST:g}, which no sound is"
    if not math.isfinite(most):
        bad, what = ~torch.isfinite(wave), "NaN or infinite"
    first = begin + int(bad.int().argmax()) / rate
    raise AudioError(
        f"{name}: {int(bad.sum())} of {len(wave)} samples are {what}, first at {first:.2f} s; "
        "mend or leave out this audio"
    )


def _to_tensor(array: np.ndarray, name: str) -> Tensor:
    if array.dtype.isnative and array.flags.writeable and min(array.strides, default=0) >= 0:
        native = array
    else:
        native = array.astype(array.dtype.newbyteorder("="), copy=True)
    if native.dtype in (np.uint16, np.uint32, np.uint64):
        size = native.dtype.itemsize
        native = (native ^ native.dtype.type(1 << 8 * size - 1)).view(f"i{size}")
    elif native.dtype == np.longdouble:
        native = native.astype(np.float64)
    try:
        return torch.from_numpy(native)
    except TypeError as error:
        raise AudioError(f"{name}: {array.dtype} is no audio; give floats or integers") from error


def _warn_of_narrow(wave: Tensor, name: str) -> None:
    """Warn of 16-bit samples in 32-bit integers; samples of 24 bits are multiples of 256."""
    if wave.dtype != torch.int32 or not wave.numel():
        return
    low, high = map(int, wave.aminmax())
    if high - low < 1 << 16 and bool((wave & 0xFF).any()):
        log.warning(
            "%s: 32-bit integers that differ by less than 16 bits are nearly silent; "
            "give 16-bit samples as int16",
            name,
        )


def _scale_integers(wave: Tensor) -> Tensor:
    if wave.dtype == torch.uint8:
        return (wave.float() - 128) / 128
    bits = torch.iinfo(wave.dtype).bits
    if bits == 64 and wave.numel():
        low, high = int(wave.min()), int(wave.max())
        bits = next(b for b in (16, 32, 64) if -(1 << b - 1) <= low and high < 1 << b - 1)
    return wave.float() / 2.0 ** (bits - 1)


def _channels_first(wave: Tensor, name: str) -> Tensor:
    """Put the channels first: they are the shorter one of two dimensions."""
    while wave.dim() > 2 and 1 in wave.shape:
        wave = wave.squeeze(wave.shape.index(1))
    if wave.dim() == 2 and (1 in wave.shape or not wave.numel()):
        wave = wave.flatten()
    if wave.dim() == 1:
        return wave
    if wave.dim() != 2 or wave.shape[0] == wave.shape[1] or min(wave.shape) > MOST_CHANNELS:
        raise AudioError(
            f"{name}: shape {tuple(wave.shape)} does not tell which dimension is time; "
            "give (samples,) or (channels, samples)"
        )
    return wave if wave.shape[0] < wave.shape[1] else wave.T
