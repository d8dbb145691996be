"""Downloads what an address of the web holds, within limits of time and size."""

from __future__ import annotations

import http.client
import string
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import IO

from paraformer.errors import AudioError

# Seconds without a byte, and the bytes a second below which waiting is given up after that time.
TIMEOUT_SECONDS = 30
SLOWEST = 1000
MOST_BYTES = 1 << 31
_PIECE = 1 << 16


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Follows an address to another one of the web, not to files or other services."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The request that follows, or an error."""
        if not newurl.lower().startswith(("http://", "https://")):
            raise urllib.error.URLError(f"it refers to {newurl}, which is not of the web")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def save(url: str, file: IO[bytes]) -> None:
    """Write all bytes of an answer into a file; an `AudioError` if they do not come, not all, or
    are too many.
    """
    opener = urllib.request.build_opener(_OnlyWeb)
    try:
        with opener.open(_written(url), timeout=TIMEOUT_SECONDS) as answer:
            _copy(answer, file)
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise AudioError(f"{url}: {_reason(error)}; check the address or give a file") from error


def _written(url: str) -> str:
    """An address as it is sent: what its path and query may not hold is written as `%..`.

    >>> _written("http://x.org:8/录 音/%20.wav?a=1")
    'http://x.org:8/%E5%BD%95%20%E9%9F%B3/%20.wav?a=1'
    """
    parts = urllib.parse.urlsplit(url)
    path, query = (urllib.parse.quote(part, string.punctuation) for part in parts[2:4])
    return urllib.parse.urlunsplit((*parts[:2], path, query, ""))


def _copy(answer: http.client.HTTPResponse, file: IO[bytes]) -> None:
    announced = answer.length
    if announced is not None and announced > MOST_BYTES:
        raise ValueError(f"{announced} bytes are more than the {MOST_BYTES} that are allowed")
    size, begun = 0, time.monotonic()
    while piece := answer.read1(_PIECE):
        file.write(piece)
        size += len(piece)
        seconds = time.monotonic() - begun
        if size > MOST_BYTES:
            raise ValueError(f"more than the {MOST_BYTES} bytes that are allowed")
        if seconds > TIMEOUT_SECONDS and size < SLOWEST * seconds:
            raise ValueError(f"too slow, {size} bytes in {seconds:.0f} s")
    if announced is not None and size < announced:
        raise ValueError(f"the connection ended after {size} of {announced} bytes")


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.IncompleteRead):
        return f"the connection ended after {len(error.partial)} bytes"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return " ".join(str(reason if not isinstance(error, urllib.error.HTTPError) else error).split())
