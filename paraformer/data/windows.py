"""A file with another beginning, without a copy of it."""

from __future__ import annotations

import io
from typing import BinaryIO


class Window(io.RawIOBase):
    """`head`, and after it `size` bytes of `file` from `start` on; places outside are its ends.

    >>> Window(b"ab", io.BytesIO(b"0123456"), 3, 2).read()
    b'ab34'
    """

    def __init__(self, head: bytes, file: BinaryIO, start: int, size: int) -> None:
        self._head, self._file, self._start = head, file, start
        self.total = len(head) + size
        self._place = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; one outside, as a damaged header may name it, is no error."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.total}[whence]
        self._place = min(max(0, origin + offset), self.total)
        return self._place

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill `buffer` as far as there are bytes; how many."""
        view = memoryview(buffer).cast("B")
        view = view[: self.total - self._place]
        done = 0
        if self._place < len(self._head):
            part = self._head[self._place : self._place + len(view)]
            view[: len(part)] = part
            done = len(part)
        if done < len(view):
            self._file.seek(self._start + self._place + done - len(self._head))
            rest = self._file.read(len(view) - done)
            view[done : done + len(rest)] = rest
            done += len(rest)
        self._place += done
        return done
