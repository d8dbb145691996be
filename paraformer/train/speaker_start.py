"""The weights that the training of a speaker model begins with: layers that let voices through, and
a last one that tells the speakers of some crops apart.

Behind fifty layers of random weights hardly anything of a voice is left, and a short training goes
nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from paraformer.models.campplus import PLAN, CamPlusPlus
from paraformer.train.speakers import VoiceBatch

RIDGE = 0.3  # of the variances within speakers, added to them
MIXING = 0.02  # deviation of the other weights of a transit
SETTLING = 8  # batches that the statistics of all BatchNorms are those of


def open_transits(model: CamPlusPlus) -> None:
    """Let each transit pass its first channels on, which are those of the layers before its block
    and of the first ones in it.
    """
    for number in range(1, len(PLAN) + 1):
        weight = model.xvector.get_parameter(f"transit{number}.linear.weight")
        with torch.no_grad():
            weight.normal_(std=MIXING)
            weight[:, : len(weight), 0] += torch.eye(len(weight))


def discriminants(x: Tensor, speakers: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rows x (N, D) of speakers (N,) -> `size` directions or fewer (E, D) along which speakers
    differ most, the clearest first, and the mean of the speakers' means (D,). The variance along
    each is 1, that between and that within speakers together.
    """
    x = x.double()
    count = int(speakers.max()) + 1
    number = torch.bincount(speakers, minlength=count).double()
    means = torch.zeros(count, x.size(1), dtype=x.dtype).index_add_(0, speakers, x)
    known = number > 0
    means = means[known] / number[known, None]
    places = (known.cumsum(0) - 1)[speakers]
    centre = means.mean(0)
    inner, outer = x - means[places], means - centre
    within, between = inner.T @ inner / len(x), outer.T @ outer / len(means)
    within += torch.diag(RIDGE * within.diagonal() + 1e-6)
    lower = torch.linalg.cholesky(within)
    half = torch.linalg.solve_triangular(lower, between, upper=False)
    whitened = torch.linalg.solve_triangular(lower, half.T, upper=False)
    values, vectors = torch.linalg.eigh(whitened)
    found = torch.linalg.solve_triangular(lower.T, vectors.flip(1)[:, :size], upper=True)
    spread = (1 + values.flip(0)[:size].clamp(min=0)).sqrt()
    return (found / spread).T.float(), centre.float()


@torch.no_grad()
def begin(model: CamPlusPlus, batches: Iterable[VoiceBatch]) -> None:
    """Set the weights of a new model by some batches."""
    open_transits(model)
    source = iter(batches)
    settle(model, list(islice(source, SETTLING)))
    model.eval()
    trunk = nn.Sequential(model.head, *list(model.xvector.children())[:-1])
    pooled, speakers = [], []
    for batch in source:
        pooled.append(trunk(batch.feats.transpose(1, 2)))
        speakers.append(batch.speakers)
    if not pooled:
        return
    found, centre = discriminants(torch.cat(pooled), torch.cat(speakers), model.embedding_size)
    norm = model.xvector.get_submodule("dense.nonlinear.batchnorm")
    weight = model.xvector.get_parameter("dense.linear.weight")
    weight[: len(found)] = found[..., None]
    norm.get_buffer("running_mean")[: len(found)] = found @ centre
    norm.get_buffer("running_var")[: len(found)] = 1.0


def settle(model: nn.Module, batches: Iterable[VoiceBatch]) -> None:
    """Give all BatchNorms the mean of the statistics of some batches."""
    norms = [each for each in model.modules() if isinstance(each, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain mean
    for batch in batches:
        model(batch.feats)
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
