"""Errors by which a device says that it has no memory left."""

from __future__ import annotations

import torch

# The words of torch's allocator of the CPU, in a plain RuntimeError.
_NO_MEMORY = ("can't allocate memory", "not enough memory")


def lacks_memory(error: Exception) -> bool:
    """Whether an error says that the device has no memory for what was asked for.

    >>> lacks_memory(MemoryError()), lacks_memory(RuntimeError("sizes do not match"))
    (True, False)
    """
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in _NO_MEMORY)
