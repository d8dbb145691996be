"""Files of SafeTensors: weights by name, without code that they could run. Unlike files of torch
they hold no checksums.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from paraformer.extras import load_extra
from paraformer.files import replacing

SUFFIX = ".safetensors"


def is_safetensors(path: Path) -> bool:
    """Whether a file of weights is one of SafeTensors, by its name."""
    return path.suffix == SUFFIX


def read_safetensors(path: Path) -> tuple[dict[str, Tensor] | None, str]:
    """The tensors of a file by name, on the CPU; or None, and why it cannot be read."""
    package = load_extra("safetensors", str(path))
    try:
        with package.safe_open(str(path), "pt") as file:
            # Copies: what the package gives may lie in the file, which others may write.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, ""  # noqa: SIM118
    except (package.SafetensorError, OSError) as error:
        return None, str(error).split("\n")[0]


def write_safetensors(state: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors that have memory of their own each; there is the old file or the new one.
    OSError where it cannot be written.
    """
    package = load_extra("safetensors", str(path))
    save_file = load_extra("safetensors.torch", str(path)).save_file
    with replacing(path) as draft:
        draft.touch()
        mode = draft.stat().st_mode
        try:
            save_file({name: value.contiguous() for name, value in state.items()}, str(draft))
        except package.SafetensorError as error:  # of a full disk too
            raise OSError(errno.EIO, str(error), str(path)) from error
        draft.chmod(mode)  # the package leaves it to the owner alone
