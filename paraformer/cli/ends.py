"""The begin and the end of every command: an error that a user can mend, or that the system raises,
such as a full disk, becomes one line and an exit code; a reader who has seen enough (`... | head`)
is no fault to speak of.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from paraformer.errors import ParaformerError, writing

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
CODE = 1


class Terminated(KeyboardInterrupt):
    """SIGTERM, which stops a command as Ctrl-C does."""


def run(
    work: Callable[[], int | None],
    say: Callable[[str], None],
    *faults: type[Exception],
    remedy: str = "check the path",
) -> int:
    """Do the work of a command and return its exit code, by default 0; 1 for what a user can mend
    (`ParaformerError`, `faults`, and what the system refuses, with this remedy), said in one line;
    130 after Ctrl-C and 143 after SIGTERM.
    """
    begin()
    known: tuple[type[Exception], ...] = (ParaformerError, *faults)
    try:
        code = work() or 0
        sys.stdout.flush()
        return code
    except known as error:
        say(" ".join(str(error).split()))
    except OSError as error:
        if message := refusal(error, remedy):
            say(message)
    except KeyboardInterrupt as stop:
        say(str(stop) or "stopped")
        return 143 if isinstance(stop, Terminated) else 130
    return CODE


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM raises `Terminated`, where signals can be caught: in the main thread; also where a
    library, such as Ray, raises Ctrl-C anew in its place.
    """
    told = list[int]()

    def stop(number: int, frame: object) -> None:
        told.append(number)
        raise Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt as interrupt:
        if told and not isinstance(interrupt, Terminated):
            raise Terminated(*interrupt.args) from interrupt
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


class _Stdout(io.FileIO):
    """Bytes of stdout, of which a write that the system refuses says that it was stdout's. Where a
    text is longer than the buffers, whose size the system chooses, it is `print` that fails.
    """

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        """Write these bytes and return how many were taken; OSError names stdout."""
        with writing("stdout"):
            return super().write(data)


def begin() -> None:
    """Text of stdout and stderr is UTF-8; one that the caller has closed takes it and is silent."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, "w", encoding="utf-8", newline="\n")  # noqa: SIM115
            setattr(sys, name, nowhere)
        stream = getattr(sys, name)
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    out = sys.stdout
    if out is sys.__stdout__ and isinstance(out, io.TextIOWrapper) and not out.isatty():
        sys.stdout = _named_stdout(out)


def _named_stdout(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """The same stdout, buffered as it was, whose faults name it."""
    stream.flush()
    raw = _Stdout(stream.fileno(), "wb", closefd=False)
    unbuffered = isinstance(stream.buffer, io.RawIOBase)
    return io.TextIOWrapper(
        raw if unbuffered else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


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
        sys.stdout.flush()
    except OSError:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
