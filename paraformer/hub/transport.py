"""Files over HTTP: lists of them, and downloads that go on where they were cut.

Nothing is tried twice but a connection that was cut while it brought something: who waits for a
server that fails waits for nothing.
"""

from __future__ import annotations

import http.client
import re
import shutil
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from paraformer.documents import parse_json
from paraformer.errors import DownloadError
from paraformer.hub.repository import RemoteFile, Repository

# Of each address that a name stands for.
TIMEOUT_SECONDS = 10.0
MOST_LIST_BYTES = 16 << 20
# Connections that may break in the middle of one file.
CUTS = 5
_BLOCK = 1 << 18
CUT = "the connection broke"


class CutError(Exception):
    """A connection that ended before the file did."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows to where a file lies, but tells no other server who asks, and leaves no HTTPS."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if after.scheme not in ("http", "https") or (before.scheme, after.scheme) == (
            "https",
            "http",
        ):
            raise urllib.error.URLError(
                f"redirect to {after.scheme}://{after.netloc} is not followed"
            )
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request is not None and before[:2] != after[:2]:
            for name in ("Authorization", "Cookie"):
                request.remove_header(name)
        return request


class Client(NamedTuple):
    """Asks one hub for one model."""

    repository: Repository
    opener: urllib.request.OpenerDirector

    @classmethod
    def of(cls, repository: Repository) -> Client:
        """With the proxies of the environment."""
        return cls(repository, urllib.request.build_opener(_Redirects))

    def listing(self, url: str) -> Any:
        """The JSON at an address."""
        content = bytearray()
        with self._open(url) as answer:
            try:
                for block in self._blocks(answer, url):
                    content += block
                    if len(content) > MOST_LIST_BYTES:
                        break
            except CutError:
                raise self._broken(CUT, url) from None
        try:
            return parse_json(bytes(content))
        except ValueError:
            raise DownloadError(
                f"{url}: what came is no list of files ({len(content)} bytes); "
                "is it the hub's address?"
            ) from None

    def fetch(
        self, file: RemoteFile, url: str, target: Path, part: Path, advance: Callable[[int], object]
    ) -> None:
        """Write a file once all of it is there and fits; what was fetched before is in `part`.

        advance is told the bytes that were added, or dropped.
        """
        part.parent.mkdir(parents=True, exist_ok=True)
        if file.checksum is None:  # nothing says that an earlier part is of this very file
            part.unlink(missing_ok=True)
        advance(size_of(part))
        self._fetch_all(file, url, part, advance)
        if not _fits(file, part):
            advance(-size_of(part))
            part.unlink(missing_ok=True)
            raise DownloadError(
                f"{url}: does not fit the size or checksum that {self.repository.hub.title} "
                "states; it is thrown away: try again, or another hub"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)

    def _fetch_all(
        self, file: RemoteFile, url: str, part: Path, advance: Callable[[int], object]
    ) -> None:
        for cuts_left in reversed(range(CUTS + 1)):
            before = size_of(part)
            if before and before == file.size:
                return
            try:
                self._append(file, url, part, advance)
                return
            except CutError:
                if not cuts_left or size_of(part) <= before:
                    raise self._broken(f"{CUT} after {size_of(part)} bytes", url) from None

    def _append(
        self, file: RemoteFile, url: str, part: Path, advance: Callable[[int], object]
    ) -> None:
        """Go on with a file, or start it where the server does not send the rest alone."""
        have = size_of(part)
        with self._open(url, have) as answer:
            goes_on = answer.status == 206 and _start(answer) == have
            advance(0 if goes_on else -have)
            with part.open("ab" if goes_on else "wb") as out:
                missing = None if file.size is None else file.size - out.tell()
                for block in self._blocks(answer, url, missing):
                    out.write(block)
                    advance(len(block))

    def _open(self, url: str, start: int = 0) -> Any:
        headers = {"User-Agent": "paraformer-toolkit", "Accept-Encoding": "identity"}
        headers |= self.repository.hub.secrets()
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            request = urllib.request.Request(url, headers=headers)
            return self.opener.open(request, timeout=TIMEOUT_SECONDS)
        except urllib.error.HTTPError as error:
            error.close()
            if start and error.code == 416:  # nothing is left of it: it has become another file
                return self._open(url)
            raise DownloadError(_refused(self.repository, error.code, url)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken(error, url) from None

    def _blocks(self, answer: Any, url: str, missing: int | None = None) -> Iterator[bytes]:
        """The blocks that come, up to one byte more than is missing."""
        came = 0
        while missing is None or came <= missing:
            most = _BLOCK if missing is None else min(_BLOCK, missing - came + 1)
            block = self._read(answer, url, most)
            if not block:
                stated = answer.headers.get("Content-Length") or ""
                if came < (int(stated) if stated.isdigit() else missing or 0):
                    raise CutError
                return
            came += len(block)
            yield block

    def _read(self, answer: Any, url: str, most: int) -> bytes:
        try:
            return answer.read(most)
        except (http.client.IncompleteRead, ConnectionError, ssl.SSLEOFError) as error:
            raise CutError from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise self._broken(error, url) from None

    def _broken(self, error: Exception | str, url: str) -> DownloadError:
        """The one line for a connection that does not work."""
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, TimeoutError):
            text = f"no answer in {TIMEOUT_SECONDS:.0f} s"
        elif isinstance(reason, socket.gaierror):
            text = "its address is not found"
        else:
            text = " ".join(str(reason).split()) or type(reason).__name__
        return DownloadError(
            f"{url}: {text}; check the connection to {self.repository.hub.title}, or fetch the "
            "model elsewhere and give its directory"
        )


def _start(answer: Any) -> int | None:
    """The byte at which a part of a file begins: `Content-Range: bytes 5-9/10`."""
    found = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
    return int(found[1]) if found else None


def size_of(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    return path.stat().st_size if path.is_file() else 0


def _fits(file: RemoteFile, path: Path) -> bool:
    if not path.is_file() or (file.size is not None and file.size != size_of(path)):
        return False
    return file.checksum is None or file.checksum.fits(path)


def check_space(folder: Path, needed: int) -> None:
    """Refuse to begin what cannot be finished."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DownloadError(
            f"{folder}: {needed / 1e6:.0f} MB are to be fetched, and {free / 1e6:.0f} MB are free"
        )


def _refused(repository: Repository, code: int, url: str) -> str:
    hub, model = repository.hub, repository.model
    if code in (401, 403):
        remedy = f"there is no such model, or only for those with a {hub.token_variable}; "
        remedy += "nor is it a directory here"
    elif code == 404:
        revision = repository.revision or hub.default_revision
        remedy = f"there is no such model, or no revision '{revision}' of it; "
        remedy += "nor is it a directory here"
    elif code == 429:
        remedy = "it was asked too often; wait a while"
    else:
        remedy = "try again later, or another hub"
    return f"model '{model}': {hub.title} answers HTTP {code}: {remedy} ({url})"
