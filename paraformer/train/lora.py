"""Low-rank adapters (LoRA, arXiv 2106.09685): W + alpha / rank * B A, of which only A and B learn.

B begins at zero, so that the model begins as it was. Adapters exist in training alone: the weights
that a run leaves have them added.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from paraformer.errors import ConfigError
from paraformer.limits import check_fields, limited

ATTENTION = ("linear_q_k_v", "linear_q", "linear_k", "linear_v", "linear_k_v", "linear_out")
_ADDED = ".parametrizations."  # torch's name for what is computed of a weight


@dataclass(frozen=True)
class Lora:
    """The linear layers that get adapters, and the size of these."""

    rank: int = limited(0, 0)  # 0: none, all parameters learn
    alpha: float = limited(16.0, 0, above=True)
    layers: tuple[str, ...] = ()  # the last part of their names; none: those of attention
    beside: tuple[str, ...] = ()  # parts that learn as a whole, such as decoder.output_layer

    def __post_init__(self) -> None:
        check_fields(self, "lora")
        for name in ("layers", "beside"):
            if isinstance(getattr(self, name), str):
                raise ConfigError(f"lora.{name}={getattr(self, name)}: give a list, [a, b]")


class Adapter(nn.Module):
    """A term that is added to a weight (O, I): alpha / rank times B (O, R) A (R, I)."""

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.scale = alpha / rank
        self.A = nn.Parameter(torch.randn(rank, columns) * columns**-0.5)
        self.B = nn.Parameter(torch.zeros(rows, rank))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with what was learnt."""
        return weight + self.scale * (self.B @ self.A)


def add_adapters(
    model: nn.Module, lora: Lora, frozen: Sequence[str] = (), learning: Sequence[str] = ()
) -> list[str]:
    """Give the linear layers adapters, and freeze everything but these and `beside`.

    frozen: parts that get none; learning: parameters that go on learning, as those of new tokens.
    Returns the names of the layers that have an adapter.
    """
    check_parts(model, lora.beside, "lora.beside")
    wanted, chosen = set(lora.layers or ATTENTION), list[str]()
    for name, module in model.named_modules():
        adapts = isinstance(module, nn.Linear) and name.rpartition(".")[2] in wanted
        if adapts and not any(is_part(f"{name}.weight", p) for p in (*frozen, *lora.beside)):
            chosen.append(name)
    found = {name.rpartition(".")[2] for name in chosen}
    if not chosen or (lora.layers and wanted - found):
        lost = ", ".join(sorted(wanted - found))
        raise ConfigError(f"lora.layers: no linear layer that may learn is called {lost}")
    for name, parameter in model.named_parameters():
        if not any(is_part(name, part) for part in (*lora.beside, *learning)):
            parameter.requires_grad_(False)
    for name in chosen:
        linear = cast(nn.Linear, model.get_submodule(name))
        adapter = Adapter(linear.weight, lora.rank, lora.alpha)
        parametrize.register_parametrization(linear, "weight", adapter)
    return chosen


def merged_state(model: nn.Module) -> dict[str, Tensor]:
    """The state dict under the names of the model alone, what was added to its weights in them."""
    merged: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        module, added, rest = name.partition(_ADDED)
        part, _, which = rest.partition(".")
        if not added:
            merged[name] = value
        elif which == "original":
            whole = cast(Tensor, getattr(model.get_submodule(module), part))
            merged[f"{module}.{part}"] = whole.detach()
    return merged


def is_part(name: str, prefix: str) -> bool:
    """Whether a dotted name is that of a part or of something in it."""
    return name == prefix or name.startswith(f"{prefix}.")


def check_parts(model: nn.Module, parts: Sequence[str], key: str) -> None:
    """Refuse a part that no parameter belongs to."""
    names = [name for name, _ in model.named_parameters()]
    for part in parts:
        if not any(is_part(name, part) for name in names):
            raise ConfigError(f"{key}: no parameter's name begins with '{part}'")


def count_learning(model: nn.Module) -> tuple[int, int]:
    """The number of parameters that learn, and of all; adapters are among both."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, learns in sizes if learns), sum(size for size, _ in sizes)
