"""What a released directory holds beside the model: it goes along when another is made of it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraformer.models.checkpoint import NAMES, read_listing

LISTING = "configuration.json"
WEIGHT_SUFFIXES = (".pt", ".pb", ".bin", ".onnx", ".torchscript", ".safetensors")


def carry_over(start: Path, draft: Path, out: Path) -> list[str]:
    """Copy what `save_directory` leaves out of a released directory: its card, licence, examples.

    draft: where `out` is written; files that this has already stay as they are. Returns the names
    of those that were copied.
    """
    metas = read_listing(start / LISTING) if (start / LISTING).is_file() else {}
    written = {*_names(NAMES), *_names(metas), LISTING, "tokens.json", "tokens.txt"}
    copied = []
    for path in sorted([*start.glob("*"), *start.glob("example/*")]):
        name = path.relative_to(start).as_posix()
        spare = name in written or name.startswith(".") or path.suffix in WEIGHT_SUFFIXES
        if path.is_file() and not spare and not (out / name).exists():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, draft / name)
            copied.append(name)
    return copied


def _names(metas: Mapping[str, Any]) -> set[str]:
    """The names of files in the metas of a configuration.json."""
    found = set()
    for value in metas.values():
        found |= _names(value) if isinstance(value, Mapping) else {str(value)}
    return found
