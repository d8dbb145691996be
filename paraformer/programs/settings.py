"""The configuration of a training program becomes settings: checked values, and the sections that
the parts of a run are made of.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from omegaconf import DictConfig

from paraformer.backends.devices import is_usable, parse_device
from paraformer.errors import ConfigError
from paraformer.limits import Limits, check_values
from paraformer.options import THREADS, nearest
from paraformer.programs.hydra_main import plain
from paraformer.train.parallel import Ranks
from paraformer.train.snapshots import seed_everything

ONE = Ranks()  # a process by itself
LIMITS = {
    "seed": Limits(0, 2**32 - 1, whole=True),
    "num_threads": THREADS._replace(low=0),
    "warm_steps": Limits(0, whole=True),
    "max_seconds": Limits(0),
    "num": Limits(1, whole=True),
    "average": Limits(1, whole=True),
    "label_smoothing": Limits(0, 1, below=True),
    "mixes": Limits(0, 1, above=True, many=True),
    "min_count": Limits(1, whole=True),
}
PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}
Section = TypeVar("Section")


def read_settings(config: DictConfig) -> dict[str, Any]:
    """A configuration as plain values within their limits."""
    settings = plain(config)
    check_values(settings, LIMITS)
    precision = settings.get("precision")  # of the weights that are written
    if precision is not None and precision not in PRECISIONS:
        raise ConfigError(f"precision={precision}: not known; {' or '.join(PRECISIONS)}")
    return settings


def get_ready(settings: Mapping[str, Any]) -> None:
    """Seed the random generators and take as many threads as are asked for."""
    take_threads(settings)
    seed_everything(settings["seed"])


def take_threads(settings: Mapping[str, Any]) -> None:
    """Take the threads of `num_threads`; 0: as torch finds it."""
    if settings["num_threads"]:
        torch.set_num_threads(settings["num_threads"])


def part(config: dict[str, Any], name: str) -> dict[str, Any]:
    """A part of the configuration, which holds keys of its own."""
    values = config[name]
    if not isinstance(values, dict):
        raise ConfigError(f"{name}={values}: is a part with keys of its own; set one of them")
    return values


def section(kind: Callable[..., Section], name: str, values: dict[str, Any]) -> Section:
    """The settings of a part; a key that it does not have is refused."""
    known = list(inspect.signature(kind).parameters)
    for key in values:
        if key not in known:
            guess = nearest(key, known)
            remedy = f"did you mean '{name}.{guess}'?" if guess else f"known: {', '.join(known)}"
            raise ConfigError(f"train: unknown key '{name}.{key}'; {remedy}")
    return kind(**values)


def pick_device(name: str, ranks: Ranks = ONE) -> torch.device:
    """`auto` is cuda where there is one; unlike recognition, training never changes device
    unasked. Of several processes each has a GPU of its own.
    """
    device = parse_device(name)
    if device.type == "cuda" and ranks.world > 1:
        device = torch.device("cuda", ranks.local)
    if device.type == "cpu" or is_usable(device):
        return device
    raise ConfigError(f"device={name}: there is no such GPU; use device=auto or device=cpu")
