"""Optimiser and learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from paraformer.errors import ConfigError
from paraformer.limits import check_fields, limited


@dataclass(frozen=True)
class Optim:
    """AdamW and its schedule.

    schedule: `warmuplr` rises to lr at warmup_steps and falls with the inverse square root
    (released configs); `cosine` rises likewise and falls to final_share * lr at total_steps.
    """

    lr: float = limited(5e-4, 0, above=True)
    betas: tuple[float, float] = limited((0.9, 0.98), 0, 1, below=True)
    weight_decay: float = limited(0.01, 0)
    schedule: str = "warmuplr"
    warmup_steps: int = limited(30000, 0)
    total_steps: int = limited(0, 0)
    final_share: float = limited(0.01, 0, 1)

    def __post_init__(self) -> None:
        check_fields(self, "optim")
        if self.schedule not in ("warmuplr", "cosine"):
            raise ConfigError(f"optim.schedule={self.schedule}: not known; warmuplr or cosine")
        if self.schedule == "cosine" and self.total_steps <= self.warmup_steps:
            raise ConfigError(
                f"optim.total_steps={self.total_steps}: cosine ends there; "
                f"give more than warmup_steps={self.warmup_steps}"
            )

    def optimizer(
        self, model: nn.Module, faster: Mapping[str, float] | None = None
    ) -> torch.optim.AdamW:
        """Weight decay reaches matrices and filters alone, not biases, norms and embeddings.

        faster: parameters without weight decay, and the factors of their learning rates, which
        stand in their groups as `factor`.
        """
        decayed: list[nn.Parameter] = []
        plain: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad or name in (faster or {}):
                continue
            matrix = parameter.ndim > 1 and "embed" not in name
            (decayed if matrix else plain).append(parameter)
        groups = [
            {"params": decayed, "weight_decay": self.weight_decay},
            {"params": plain, "weight_decay": 0.0},
        ]
        for factor in sorted(set((faster or {}).values())):
            names = [name for name, value in (faster or {}).items() if value == factor]
            own = [model.get_parameter(name) for name in names]
            groups.append({"params": own, "weight_decay": 0.0, "factor": factor})
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, fused=True)

    def rate(self, step: int) -> float:
        """Learning rate of optimiser step 1, 2, ...

        >>> [Optim(lr=1.0, warmup_steps=4).rate(s) for s in (1, 4, 16)]
        [0.25, 1.0, 0.5]
        """
        if step <= self.warmup_steps:
            return self.lr * step / self.warmup_steps
        if self.schedule == "warmuplr":
            return self.lr * math.sqrt(max(1, self.warmup_steps) / step)
        done = (step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
        wave = 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        return self.lr * (self.final_share + (1.0 - self.final_share) * wave)
