"""Reads what stands at `file.ark:offset` in Kaldi archives: numbers, and nothing that could run."""

from __future__ import annotations

import io
import os
from contextlib import closing

import kaldiio
import numpy as np

from paraformer.errors import DataError

# kaldiio's mark of an entry that Python's pickle wrote: reading it runs what it says.
_PICKLE = b"PKL"


def load_archive(place: str) -> np.ndarray | tuple[int, np.ndarray]:
    """The matrix or vector at `file.ark:offset[first:last]`, of audio (rate, samples); or what a
    command `... |` of the user's own list writes.

    OSError or ValueError, with a reason of one line, where there is none, or a pickle. Readers of
    damaged entries raise whatever they meet, some of them a plain `Exception`; it is a ValueError.
    """
    try:
        with closing(_Archives()) as archives:
            content = kaldiio.load_mat(place, fd_dict=archives)
    except OSError:
        raise
    except Exception as error:
        raise ValueError(" ".join(str(error).split()) or "damaged archive") from error
    found: np.ndarray | tuple[int, np.ndarray] = content
    return found


class StoredFbank(str):
    """A place where the log-mel features of an utterance lie, as a line of `feats.scp` has it."""

    def read(self, n_mels: int) -> np.ndarray:
        """The features (T, n_mels) in float32; a `DataError` says why there are none."""
        try:
            fbank = np.array(load_archive(self), dtype=np.float32)
        except (OSError, ValueError) as error:
            reason = f"no features there ({error}); make feats.scp again"
            raise DataError(f"{self}: {reason}") from error
        if fbank.ndim != 2 or fbank.shape[1] != n_mels:
            raise DataError(f"{self}: {fbank.shape}, not (frames, {n_mels}); make it again")
        if not np.isfinite(fbank).all():
            raise DataError(f"{self}: features hold NaN or infinity; make feats.scp again")
        return fbank


class _Archives(dict[str, "_Archive"]):
    """The files that kaldiio asks for by their names, opened by us."""

    def __contains__(self, name: object) -> bool:
        return True

    def __missing__(self, name: str) -> _Archive:
        self[name] = _Archive(io.FileIO(name))
        return self[name]

    def close(self) -> None:
        for archive in self.values():
            archive.close()


class _Archive(io.BufferedReader):
    """A file of which nothing is asked that it does not hold, whatever a header claims."""

    def read(self, size: int | None = -1) -> bytes:
        left = os.fstat(self.fileno()).st_size - self.tell()
        content = super().read(left if size is None or not 0 <= size <= left else size)
        if content.startswith(_PICKLE) and size == len(b"AUDIO"):  # an entry is asked for its kind
            raise ValueError("a pickle, which could run code, is not read")
        return content
