"""Mean and variance normalisation: statistics, and the `am.mvn` text that a release carries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from paraformer.data.corpus.tables import write_text
from paraformer.errors import DataError

# Columns that vary less than this are constant: they are centred, but not blown up.
CONSTANT_BELOW = 1e-5

_VECTOR = r"<{}>\s+(\d+)\s+(\d+)\s*\n\s*<LearnRateCoef>\s+\S+\s+\[([^\]]*)\]"


class Cmvn(NamedTuple):
    """Normalises as `(x + shift) * scale`: shift (D,) = -mean, scale (D,) = 1 / deviation."""

    shift: Tensor
    scale: Tensor

    def apply(self, x: Tensor) -> Tensor:
        """Normalise x (T, D); where the file has more columns than x, its first D are used."""
        width = x.shape[-1]
        if width > len(self.shift):
            raise DataError(
                f"CMVN: {len(self.shift)} columns for features of {width}; "
                "take the am.mvn that belongs to this n_mels and lfr_m"
            )
        shift = self.shift[:width].to(x)
        return (x + shift).mul_(self.scale[:width].to(x))

    def of_one(self, width: int, count: int) -> Cmvn | None:
        """The CMVN of one of `count` stacked frames of `width` columns, if it is the same for each.

        >>> Cmvn(torch.tensor([-1.0, -2.0, -1.0, -2.0]), torch.ones(4)).of_one(2, 2).shift
        tensor([-1., -2.])
        """
        parts = [vector[: width * count] for vector in self]
        if any(len(part) < width * count for part in parts):
            return None
        frames = [part.view(count, width) for part in parts]
        same = all(bool((part == part[0]).all()) for part in frames)
        return Cmvn(*(part[0] for part in frames)) if same else None


def read_cmvn(path: str | Path) -> Cmvn:
    """Read an `am.mvn`: the vectors `<AddShift>` and `<Rescale>` of a Kaldi nnet in text form."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot read the CMVN file ({error}); make it again with compute_cmvn"
        ) from error
    shift, scale = (_vector(text, name, path) for name in ("AddShift", "Rescale"))
    if len(shift) != len(scale):
        raise DataError(
            f"{path}: {len(shift)} shifts but {len(scale)} scales; make it again with compute_cmvn"
        )
    return Cmvn(shift, scale)


def _vector(text: str, name: str, path: str | Path) -> Tensor:
    found = re.search(_VECTOR.format(name), text)
    if found is None:
        raise DataError(
            f"{path}: no `<{name}>` with a `<LearnRateCoef> 0 [ ... ]` line; is this an am.mvn?"
        )
    try:
        values = torch.tensor([float(v) for v in found[3].split()], dtype=torch.float64)
    except ValueError as error:
        raise DataError(f"{path}: <{name}>: {error}; make it again with compute_cmvn") from error
    if len(values) != int(found[1]) or not bool(torch.isfinite(values).all()):
        raise DataError(
            f"{path}: <{name}> announces {found[1]} finite numbers, {len(values)} are there; "
            "make it again with compute_cmvn"
        )
    return values.float()


def write_cmvn(path: str | Path, cmvn: Cmvn) -> None:
    """Write an `am.mvn` that this program and the reference read, whole or not at all."""
    width = len(cmvn.shift)
    shift, scale = (" ".join(f"{v:.9g}" for v in part.tolist()) for part in cmvn)
    lines = [
        "<Nnet>",
        f"<Splice> {width} {width}",
        "[ 0 ]",
        f"<AddShift> {width} {width}",
        f"<LearnRateCoef> 0 [ {shift} ]",
        f"<Rescale> {width} {width}",
        f"<LearnRateCoef> 0 [ {scale} ]",
        "</Nnet>",
    ]
    write_text(path, "\n".join(lines) + "\n")


class CmvnStatistics:
    """Running sums in double precision; those of parts of a corpus are joined with `merge`."""

    def __init__(self) -> None:
        self.frames = 0
        self.sums = torch.zeros(0, dtype=torch.float64)
        self.squares = torch.zeros(0, dtype=torch.float64)

    def add(self, x: Tensor) -> None:
        """Count the frames of one utterance, x (T, D)."""
        x = x.double()
        self._accumulate(len(x), x.sum(0), x.square().sum(0))

    def merge(self, other: CmvnStatistics) -> None:
        """Add what another part of the corpus has counted."""
        if other.frames:
            self._accumulate(other.frames, other.sums, other.squares)

    def _accumulate(self, frames: int, sums: Tensor, squares: Tensor) -> None:
        if len(self.sums) and len(self.sums) != len(sums):
            raise DataError(
                f"CMVN: features of {len(sums)} columns after {len(self.sums)}; "
                "all utterances need the same n_mels"
            )
        self.frames += frames
        self.sums = self.sums + sums if len(self.sums) else sums
        self.squares = self.squares + squares if len(self.squares) else squares

    def result(self) -> Cmvn:
        """shift = -mean, scale = 1 / standard deviation, or 1 where a column is constant."""
        if self.frames == 0:
            raise DataError("CMVN: no frames were counted; check the feats list")
        mean = self.sums / self.frames
        deviation = (self.squares / self.frames - mean.square()).clamp(min=0).sqrt()
        scale = torch.where(deviation < CONSTANT_BELOW, 1.0, 1.0 / deviation)
        return Cmvn((-mean).float(), scale.float())
