"""How every command begins and ends: what the system refuses, such as more bytes on a full disk, is
one line and an exit code, and a reader who has seen enough (`... | head`) is no fault to speak of.
"""

from __future__ import annotations

import errno
import os
import sys

from paraformer.errors import writing

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
CODE = 1


def begin() -> None:
    """Text of stdout and stderr is UTF-8; one that the caller has closed takes it and is silent."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, "w", encoding="utf-8", newline="\n")  # noqa: SIM115
            setattr(sys, name, nowhere)
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def flush() -> None:
    """Write what waits for stdout, so that it fails here and not behind the end."""
    with writing("stdout"):
        sys.stdout.flush()


def refusal(error: OSError, remedy: str = "check the path") -> str:
    """The line for what the system refused, `where: what; remedy`, empty for a pipe that nobody
    reads any more. Nothing is left in stdout at which the end of the process would fail.
    """
    _drop_stdout()
    if isinstance(error, BrokenPipeError):
        return ""
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in _FULL:
        remedy = "make room, or write elsewhere"
    return f"{where}{error.strerror or error}; {remedy}"


def _drop_stdout() -> None:
    try:
        flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
