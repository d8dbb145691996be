"""Shows a file with another beginning, or made of pieces of one, without a copy of it."""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterable
from typing import BinaryIO, NamedTuple, Union

# A piece: bytes that are not in the file, or where in the file it begins and its length.
Piece = bytes | memoryview | tuple[int, int]
File = Union[BinaryIO, "Window"]
SEARCHED = 1 << 16


class _Placed(NamedTuple):
    """A piece, and the first place behind it."""

    piece: Piece
    end: int


class Window(io.RawIOBase):
    """`head`, and after it `size` bytes of `file` from `start` on; places outside are its ends.

    `total` is its length in bytes, `stored` what of it takes room in a file: not silence.

    >>> Window(b"ab", io.BytesIO(b"0123456"), 3, 2).read()
    b'ab34'
    """

    def __init__(self, head: bytes, file: File, start: int, size: int) -> None:
        self._lay(file, (head, (start, size)))

    @classmethod
    def of(cls, file: File, pieces: Iterable[Piece]) -> Window:
        """Pieces one behind another.

        >>> Window.of(io.BytesIO(b"0123456"), [b"a", (5, 2), (0, 1)]).read()
        b'a560'
        """
        window = cls(b"", file, 0, 0)
        window._lay(file, pieces)
        return window

    def _lay(self, file: File, pieces: Iterable[Piece]) -> None:
        self._file, self._place = file, 0
        self._pieces: list[_Placed] = []
        self.total = self.stored = 0
        for piece in pieces:
            size = piece[1] if isinstance(piece, tuple) else len(piece)
            if size > 0:
                self.total += size
                self.stored += 0 if isinstance(piece, memoryview) else size
                self._pieces.append(_Placed(piece, self.total))
        self._ends = [placed.end for placed in self._pieces]

    def readable(self) -> bool:
        """Yes: its bytes can be read."""
        return True

    def seekable(self) -> bool:
        """Yes: any place of it can be gone to."""
        return True

    def tell(self) -> int:
        """The place of the byte that is read next."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; one outside, as a damaged header may name it, is no error."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self.total}[whence]
        self._place = min(max(0, origin + offset), self.total)
        return self._place

    def read(self, size: int = -1, /) -> bytes:
        """Read so many bytes, fewer only at the end; without a size all that follow."""
        return super().read(size) or b""

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override]
        """Fill `buffer` as far as there are bytes; returns their number."""
        view = memoryview(buffer).cast("B")
        view = view[: self.total - self._place]
        done = 0
        while done < len(view):
            part = self._part(len(view) - done)
            if not part:
                break
            view[done : done + len(part)] = part
            done += len(part)
            self._place += len(part)
        return done

    def _part(self, most: int) -> bytes | memoryview:
        """The next bytes, of one piece."""
        piece, end = self._pieces[bisect_right(self._ends, self._place)]
        left = end - self._place
        if not isinstance(piece, tuple):
            first = len(piece) - left
            return piece[first : first + most]
        start, size = piece
        self._file.seek(start + size - left)
        return self._file.read(min(most, left))


def places_of(file: File, magic: bytes) -> list[int]:
    """All places at which some bytes stand in a file.

    >>> places_of(io.BytesIO(b"ab-ab-a"), b"ab")
    [0, 3]
    """
    found: list[int] = []
    place, kept = file.seek(0), b""
    while block := file.read(SEARCHED):
        text, start = kept + block, place - len(kept)
        at = text.find(magic)
        while at >= 0:
            found.append(start + at)
            at = text.find(magic, at + 1)
        kept = text[max(0, len(text) - len(magic) + 1) :]
        place += len(block)
    return found
