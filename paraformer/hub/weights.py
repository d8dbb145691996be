"""Whether a file of weights ends where its own headers say: a copy or download that was cut does
not.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

from paraformer.documents import parse_json

_ZIP = b"PK\x03\x04"  # torch.save since torch 1.6
_LENGTH = 8  # bytes of a safetensors header's length


def is_cut(path: Path) -> bool:
    """Whether a file is empty, or shorter than the directory of its zip archive or the header of
    its safetensors says. Other formats do not tell.
    """
    if not path.stat().st_size:
        return True
    if path.suffix == ".safetensors":
        return path.stat().st_size < _safetensors_size(path)
    try:
        with path.open("rb") as file:
            if file.read(len(_ZIP)) != _ZIP:
                return False
    except PermissionError:  # who loads it says so
        return False
    try:
        with zipfile.ZipFile(path):  # reads the directory at its end alone
            return False
    except (zipfile.BadZipFile, OSError, ValueError):
        return True


def _safetensors_size(path: Path) -> float:
    """Bytes that the header speaks of; infinite if it is no whole header."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > path.stat().st_size:
            return float("inf")
        header = file.read(length)
    try:
        entries = [value for key, value in parse_json(header).items() if key != "__metadata__"]
        return _LENGTH + length + max((entry["data_offsets"][1] for entry in entries), default=0)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError):
        return float("inf")
