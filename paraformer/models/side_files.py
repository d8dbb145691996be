"""The files of a released directory beside its model go along when another is made of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from paraformer.documents import flat_names
from paraformer.models.release import LISTING, NAMES, TOKEN_LISTS, read_listing

WEIGHT_SUFFIXES = (".pt", ".pb", ".bin", ".onnx", ".torchscript", ".safetensors")


def carry_over(start: Path, draft: Path, out: Path) -> list[str]:
    """Copy what `save_directory` leaves out of a released directory: its card, licence, examples.

    draft: where `out` is written; files that this has already stay as they are. Returns the names
    of those that were copied.
    """
    metas = read_listing(start / LISTING) if (start / LISTING).is_file() else {}
    named = (*flat_names(NAMES).values(), *flat_names(metas).values())
    written = {*named, LISTING, *TOKEN_LISTS}
    copied = []
    for path in sorted([*start.glob("*"), *start.glob("example/*")]):
        name = path.relative_to(start).as_posix()
        spare = name in written or name.startswith(".") or path.suffix in WEIGHT_SUFFIXES
        if path.is_file() and not spare and not (out / name).exists():
            (draft / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, draft / name)
            copied.append(name)
    return copied
