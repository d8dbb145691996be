"""Whether a file of weights is what was written: the checksums that it holds, and its values.

torch reads a zip without looking at its checksums, so bits that flipped on a disk or on the way
become other weights, and most of them other results without a word.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from paraformer.errors import CheckpointError
from paraformer.files import replacing
from paraformer.models.mapped import let_go

log = logging.getLogger(__name__)

REMEMBERED_BYTES = 1 << 26  # smaller files are checked in less than a tenth of a second
MOST_REMEMBERED = 256
FRESH_SECONDS = 2.0  # a file that is younger may change without a change of its time
REMEDY = "copy or fetch it again"


def damage_of(path: Path) -> str:
    """The damage of a zip by its own checksums; "" if there is none, or if the file is no zip."""
    if not is_zip(path):
        return ""  # torch before 1.6: without any checksum
    try:
        with zipfile.ZipFile(path) as archive:
            name = archive.testzip()
    except Exception as error:  # noqa: BLE001 (a damaged directory of a zip raises many kinds)
        return str(error).strip() or "its directory is damaged"
    return f"'{name}' does not fit its checksum" if name else ""


def is_zip(path: Path) -> bool:
    """Whether a file begins as a zip does."""
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def refuse_unusable(state: Mapping[str, Tensor], path: Path) -> None:
    """Refuse values that no model computes with: not finite, or not plain numbers in memory."""
    for name, value in state.items():
        kind = _odd_kind(value)
        if kind:
            raise CheckpointError(f"{path}: {name} is {kind}; save plain tensors of floats")
        if value.is_floating_point() and not _is_finite(value):
            raise CheckpointError(f"{path}: {name} holds NaN or infinity; {REMEDY}, or train again")
        let_go(value)


def _odd_kind(value: Tensor) -> str:
    kinds = {
        "a meta tensor, which has no values": value.is_meta,
        "quantised": value.is_quantized,
        f"sparse ({value.layout})": value.layout != torch.strided,
        "nested": value.is_nested,
        "complex": value.is_complex(),
        f"of {value.dtype}": value.is_floating_point() and value.itemsize < 2,
    }
    return next((kind for kind, is_so in kinds.items() if is_so), "")


def _is_finite(value: Tensor) -> bool:
    """In one pass and without a copy: the least and the largest are NaN where anything is."""
    if not value.numel():
        return True
    low, high = value.detach().aminmax()
    return bool(low.isfinite() & high.isfinite())


def content_id(paths: Iterable[Path]) -> str:
    """Twelve hexadecimal digits that differ where contents of files do, whatever these are called.

    Of a zip, such as weights, only its checksums are read.
    """
    digest = hashlib.sha256()
    for path in paths:
        digest.update(_content(path))
    return digest.hexdigest()[:12]


def _content(path: Path) -> bytes:
    with suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        # torch puts the name of the file in front of each entry.
        entries = [(i.filename.partition("/")[2], i.CRC, i.file_size) for i in archive.infolist()]
        return repr(sorted(entries)).encode()
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.digest()


class Remembered:
    """Files that were found to be in order, by size, times and inode, so that a large one is
    checked once. They stand in the user's cache; where that cannot be, nothing is remembered.
    """

    def __init__(self, path: Path) -> None:
        status = path.stat()
        times = (status.st_mtime_ns, status.st_ctime_ns)
        self._name = " ".join(map(str, (status.st_dev, status.st_ino, status.st_size, *times)))
        age = time.time() - max(status.st_mtime, status.st_ctime)
        self._worth = status.st_size >= REMEMBERED_BYTES and age > FRESH_SECONDS
        self.known = self._worth and self._name in self._names()

    def add(self) -> None:
        """The file is in order."""
        if not self._worth or self.known:
            return
        with suppress(OSError, RuntimeError), replacing(_list()) as draft:
            names = [*self._names(), self._name][-MOST_REMEMBERED:]
            draft.write_text("".join(f"{name}\n" for name in names), encoding="ascii", newline="\n")

    @staticmethod
    def _names() -> list[str]:
        try:
            return _list().read_text(encoding="ascii").splitlines()
        except (OSError, ValueError, RuntimeError):
            return []


def _list() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "paraformer-toolkit" / "weights-in-order"
