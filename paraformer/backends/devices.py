"""Where a network computes, and in which number format."""

from __future__ import annotations

import logging

import torch

from paraformer.backends.forks import check_gpu
from paraformer.errors import ConfigError
from paraformer.options import BACKENDS, NUMBER_FORMATS

log = logging.getLogger(__name__)

# None: as the weights are.
DTYPES = dict(zip(NUMBER_FORMATS, (None, torch.bfloat16, torch.float16), strict=True))


def choose_device(name: str) -> torch.device:
    """The device of that name; where it is missing the CPU, and the log says so."""
    device = parse_device(name)
    check_gpu(device.type)
    if device.type == "cpu" or is_usable(device):
        return device
    log.warning("device %s is not usable here; the CPU is used", name)
    return torch.device("cpu")


def parse_device(name: str) -> torch.device:
    """auto, cpu, cuda, cuda:N or N; auto is cuda where there is one."""
    name = str(name).lower()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(f"cuda:{name}" if name.isdigit() else name)
    except RuntimeError:
        raise ConfigError(f"device={name}: not known; use auto, cpu, cuda or cuda:0") from None


def is_usable(device: torch.device) -> bool:
    """Whether there is such a GPU."""
    there = device.type == "cuda" and torch.cuda.is_available()
    return there and (device.index or 0) < torch.cuda.device_count()


def check_backend(name: str) -> None:
    """Refuse the name of a backend that there is not."""
    if name not in BACKENDS:
        raise ConfigError(f"backend={name}: not known; use {' or '.join(BACKENDS[1:])}")


def choose_format(name: str, device: torch.device) -> torch.dtype | None:
    """The half precision of that number format, None for float32; fp16 is for GPUs, elsewhere the
    log says that float32 is used.
    """
    if name not in DTYPES:
        raise ConfigError(f"dtype={name}: not known; use {', '.join(DTYPES)}")
    if name == "fp16" and device.type == "cpu":
        log.warning("fp16 is not for the CPU; float32 is used")
        return None
    return DTYPES[name]
