"""Files that are whole or not there: written beside their places, which they take at once.

Standard library only: the programs in `utils/` start with it.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from paraformer.errors import DataError, writing

_DRAFT = re.compile(r"\.(?:.+\.)?(?P<host>[^.]+)\.(?P<pid>\d+)\.tmp")
_SET = "new"  # what drafts of several files are called
# Said of a folder that has no index and is `half_written`.
HALF_WRITTEN = "is half written: its writer is at work, or was stopped; then write it again"
# A process of another machine cannot be asked; a draft that it has not touched for so long is none.
DEAD_SECONDS = 86_400


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A draft to write; it takes the place of `path` if nothing goes wrong, else it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _tidy(os.path.abspath(path.parent))
    draft = _draft(path.parent, path.name)
    try:
        with writing(path):
            yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def together(folder: str | Path, index: Sequence[str], stale: Sequence[str] = ()) -> Iterator[Path]:
    """A folder for files that belong together; they move into `folder` if nothing goes wrong.

    index: names of those that readers open first, in their order. Older ones of them go before
    anything else moves, and the new ones come last, the first of them at the very end: so there is
    the whole old set, or the whole new one, or no index. stale: names that go if they are not among
    the new files.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    remove_drafts(folder, _SET)
    draft = _draft(folder, _SET)
    shutil.rmtree(draft, ignore_errors=True)  # of a dead process that had our number
    draft.mkdir()
    try:
        yield draft
        _swap(draft, folder, index, stale)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _swap(draft: Path, folder: Path, index: Sequence[str], stale: Sequence[str]) -> None:
    new = [p.relative_to(draft).as_posix() for p in sorted(draft.rglob("*")) if p.is_file()]
    for name in index:
        (folder / name).unlink(missing_ok=True)
    for name in stale:
        if name not in new:
            (folder / name).unlink(missing_ok=True)
    last = [name for name in reversed(index) if name in new]
    for name in [*(name for name in new if name not in index), *last]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(draft / name, folder / name)


def half_written(folder: Path) -> bool:
    """Tell whether a process writes a set of files here, or did when it was killed."""
    return any(folder.glob(f".{_SET}.*.tmp"))


def remove_drafts(folder: Path, name: str = "*") -> None:
    """Remove drafts, of that name or all, that processes left behind when they were killed."""
    for path in folder.glob(f".{name}.*tmp"):
        _remove_if_dead(path)


@lru_cache(maxsize=1024)
def _tidy(folder: str) -> None:
    """Remove drafts of single files that dead processes left in a folder. They are looked for once:
    to list a folder for each file that is written there would take the square of their number.
    """
    for path in Path(folder).glob(".*.tmp"):
        if not path.name.startswith(f".{_SET}."):  # by it others know that a set is half written
            _remove_if_dead(path)


def _remove_if_dead(path: Path) -> None:
    with suppress(OSError):
        if _is_dead(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _draft(folder: Path, name: str) -> Path:
    return folder / f".{name}.{_host()}.{os.getpid()}.tmp"


def _host() -> str:
    return re.sub(r"[^\w-]", "-", socket.gethostname())


def _is_dead(path: Path) -> bool:
    """Tell whether the process that a draft is named after has ended."""
    found = _DRAFT.fullmatch(path.name)
    if found is None:
        return False
    if found["host"] != _host():
        touched = max(each.stat().st_mtime for each in (path, *path.rglob("*")))
        return time.time() - touched > DEAD_SECONDS
    return not _runs(int(found["pid"]))


def _runs(pid: int) -> bool:
    if os.name == "nt":  # there a signal of 0 would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True


def check_folder(folder: str | Path) -> Path:
    """A folder for results, made if it is not there; refused where nothing can be written."""
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            return path
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> DataError:
    """The error of a place for results in which nothing can be written."""
    reason = "is a file" if isinstance(error, FileExistsError) else error.strerror or error
    return DataError(f"{path}: {reason}; give another folder for the results")
