"""Where a network computes, and in which number format."""

from __future__ import annotations

import logging
from typing import Any

import torch

from paraformer.backends.forks import check_gpu
from paraformer.errors import ConfigError
from paraformer.models.kinds import RECOGNISER, Kind
from paraformer.options import AUTO, BACKENDS, NUMBER_FORMATS

log = logging.getLogger(__name__)

# None: as the weights are. int8 is for products, whatever is between them is float32.
DTYPES = dict(zip(NUMBER_FORMATS, (None, torch.bfloat16, torch.float16, torch.int8), strict=True))
# Formats that are not for every model and device.
_LIMITS = {
    "fp16": "fp16 is not for the CPU",
    "int8": "int8 is for recognisers on a CPU with AVX-512 VNNI or AMX",
}


def choose_device(name: str) -> torch.device:
    """The device of that name; where it is missing the CPU, and the log says so."""
    wanted = parse_device(name)
    check_gpu(wanted.type)
    device = computing_device(name)
    if device != wanted:
        log.warning("device %s is not usable here; the CPU is used", name)
    return device


def computing_device(name: str) -> torch.device:
    """The same, which says nothing."""
    device = parse_device(name)
    return device if device.type == "cpu" or is_usable(device) else torch.device("cpu")


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


def place(
    device_name: str, dtype: str, kind: Kind[Any] | None = RECOGNISER
) -> tuple[torch.device, torch.dtype | None]:
    """The device by that name, and the type of numbers of that format for models of a kind, None
    for float32; the log says both.
    """
    device = choose_device(device_name)
    log.info("computes on %s in %s", device, format_of(dtype, device, kind))
    return device, choose_format(dtype, device, kind)


def choose_format(
    name: str, device: torch.device, kind: Kind[Any] | None = RECOGNISER
) -> torch.dtype | None:
    """The type of numbers of that format for models of a kind, None for float32; where a format is
    not for it, the log says that float32 is used.
    """
    found = format_of(name, device, kind)
    if name in _LIMITS and found != name:
        log.warning("%s; float32 is used", _LIMITS[name])
    return DTYPES[found]


def format_of(name: str, device: torch.device, kind: Kind[Any] | None = RECOGNISER) -> str:
    """The number format in which models of a kind compute where that one is asked for: one of
    `NUMBER_FORMATS`.

    auto: bf16 for a recogniser on a CPU that multiplies it, else fp32. Of other models, and on
    GPUs, it has not been measured what half precision costs.
    """
    if name == AUTO:
        able = kind == RECOGNISER and device.type == "cpu" and multiplies_bf16()
        return "bf16" if able else "fp32"
    if name not in DTYPES:
        raise ConfigError(f"dtype={name}: not known; use {', '.join((*DTYPES, AUTO))}")
    if name == "int8":
        able = kind == RECOGNISER and device.type == "cpu" and multiplies_int8()
        return "int8" if able else "fp32"
    return "fp32" if name == "fp16" and device.type == "cpu" else name


def multiplies_bf16() -> bool:
    """Whether the processor has products of bfloat16, by AVX-512 or AMX; a torch that cannot tell
    says no.
    """
    return _has("avx512_bf16", "amx_bf16")


def multiplies_int8() -> bool:
    """Whether it has exact sums of products of 8 bits, and torch gives them; in the same way."""
    return _has("avx512_vnni", "amx_int8") and hasattr(torch.ops.onednn, "qlinear_pointwise")


def _has(*names: str) -> bool:
    ask = getattr(torch.cpu, "get_capabilities", dict)
    there = torch.backends.mkldnn.is_available() and ask()
    return bool(there) and any(there.get(name) for name in names)
