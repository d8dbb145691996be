"""A process may fork after a model was at work in it, as multiprocessing.Pool on Linux and
`gunicorn --preload` do; the models work on in the child.

GNU OpenMP, by which torch shares a product among threads, keeps them for the next one. A fork takes
along the record of them, but not the threads, and the child would wait for them for ever. So they
end before a fork, and either process starts new ones when it needs them. A GPU is not to be had in
the child of a process that uses it.
"""

from __future__ import annotations

import os
import sys

from paraformer.errors import ConfigError

HARD = 2  # omp_pause_hard of OpenMP 5.0: keep nothing


class _Process:
    """The limits of this process; a child has them by what its parent did."""

    single = False  # compute with one thread alone
    without_gpu = False

    def __init__(self) -> None:
        self._ended, self._used_gpu = True, False

    def before_fork(self) -> None:
        """End the threads of the one that forks; no other one goes on in the child."""
        torch = sys.modules.get("torch")
        if torch is not None:
            self._ended, self._used_gpu = _pause(), torch.cuda.is_initialized()

    def in_child(self) -> None:
        """Where threads did not end, do with one, which waits for no others."""
        self.without_gpu |= self._used_gpu
        if not self._ended:
            self.single = True
            sys.modules["torch"].set_num_threads(1)


def _pause() -> bool:
    """Let OpenMP end its threads; False where it is older than GCC 9, or another one."""
    import ctypes

    pause = getattr(ctypes.CDLL(None), "omp_pause_resource_all", None)
    return pause is not None and pause(HARD) == 0


def most_threads(wanted: int) -> int:
    """The threads that this process may compute with, of so many that are wanted."""
    return 1 if _PROCESS.single else wanted


def check_gpu(kind: str) -> None:
    """Refuse a device of this kind, cuda or another, if it is the parent's alone."""
    if kind == "cuda" and _PROCESS.without_gpu:
        raise ConfigError(
            "device=cuda: the parent of this process uses the GPU, and a fork cannot; start "
            'processes by spawn: multiprocessing.get_context("spawn")'
        )


_PROCESS = _Process()
if sys.platform == "linux":  # elsewhere there is no fork, or an OpenMP that minds it by itself
    os.register_at_fork(before=_PROCESS.before_fork, after_in_child=_PROCESS.in_child)
