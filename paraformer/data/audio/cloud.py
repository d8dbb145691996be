"""Gets what lies at an address: of the web, or an object of a cloud, `s3://bucket/name` or
`gs://bucket/name`, by fsspec, whose settings and the cloud's own give credentials.
"""

from __future__ import annotations

import io
import os
import posixpath
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from paraformer.data.audio import web
from paraformer.errors import AudioError, ParaformerError
from paraformer.extras import load_extra

OBJECT = re.compile(r"(s3|gs)://", re.IGNORECASE)
# The package by which fsspec gets what an address of this kind means.
CLIENTS = {"s3": "s3fs", "gs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
PART_BYTES = 1 << 22  # what is held of a file that is read in parts
LONGEST_REASON = 300


def download(url: str) -> bytes:
    """All bytes that lie at an address."""
    if not OBJECT.match(url):
        content = io.BytesIO()
        web.save(url, content)
        return content.getvalue()
    with _faults_of(url):
        return bytes(_files(url).cat_file(url))


def save(url: str, path: Path) -> None:
    """Write what lies at an address into a file, of which no more than a part is held."""
    if OBJECT.match(url):
        with _faults_of(url):
            _files(url).get_file(url, str(path))
        return
    with path.open("wb") as file:
        web.save(url, file)


class Copy:
    """A file that lies at an address, copied into one that is gone with this object."""

    def __init__(self, url: str, end: str) -> None:
        """end: that of its name here."""
        folder = tempfile.mkdtemp(prefix="paraformer-")
        weakref.finalize(self, _remove, folder, os.getpid())
        self.url, self.path = url, Path(folder, f"copy{end}")
        save(url, self.path)

    def beside(self, name: str) -> str:
        """The address of a file whose path counts from the folder in which this one lies."""
        scheme, host, path, *_ = urlsplit(self.url)
        if OBJECT.match(self.url):
            path = self.url.split("/", 3)[3]
        else:
            name = quote(name)
        place = posixpath.normpath(posixpath.join(posixpath.dirname(path.lstrip("/")), name))
        return f"{scheme}://{host}/{place}"


def _remove(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # a forked process has the object too, and may end first
        shutil.rmtree(folder, ignore_errors=True)


class Parts:
    """A file at an address that is read in parts where it lies, onwards for the most part."""

    def __init__(self, url: str) -> None:
        self.url = url
        with _faults_of(url):
            self._file = _files(url).open(
                url, mode="rb", block_size=PART_BYTES, cache_type="readahead"
            )
        self.tell, self.close = self._file.tell, self._file.close

    def seek(self, place: int, whence: int = 0) -> int:
        """Go on at another place."""
        with _faults_of(self.url):
            return int(self._file.seek(place, whence))

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        with _faults_of(self.url):
            return bytes(self._file.read(size))


def matches(pattern: str) -> list[str]:
    """The objects that a pattern such as `s3://bucket/clips-*.tar` names; else the address."""
    if not OBJECT.match(pattern) or "*" not in pattern:
        return [pattern]
    with _faults_of(pattern):
        found = _files(pattern).glob(pattern)
    scheme = pattern.partition("://")[0]
    return [f"{scheme}://{name}" for name in sorted(found)]


def _files(url: str) -> Any:
    """The file system of an address."""
    scheme = urlsplit(url).scheme.lower()
    fsspec = load_extra("fsspec", url)
    load_extra(CLIENTS[scheme], url)
    return fsspec.filesystem(scheme)


@contextmanager
def _faults_of(url: str) -> Iterator[None]:
    """Turn what a client or a server says into one line."""
    try:
        yield
    except ParaformerError:
        raise
    except FileNotFoundError as error:
        raise AudioError(f"{url}: there is no such object; check the address") from error
    except Exception as error:  # each client has kinds of its own
        reason = " ".join(str(error).split())[:LONGEST_REASON] or type(error).__name__
        remedy = "check the address, and the credentials of this machine"
        raise AudioError(f"{url}: {reason}; {remedy}") from error
