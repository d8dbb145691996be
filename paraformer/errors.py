"""Errors that a user can cause and mend: each is one line, `where: what; remedy`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ParaformerError(Exception):
    """Base of all errors that a user can cause and mend; the commands print it and exit with 1."""


class ConfigError(ParaformerError):
    """An option or a configuration file is wrong."""


class DataError(ParaformerError):
    """A list, a data directory or a text is wrong."""


class AudioError(ParaformerError):
    """An audio input cannot be read or holds no usable samples."""


class MissingFileError(AudioError, FileNotFoundError):
    """The one recording that a call names is not there."""


class CheckpointError(ParaformerError):
    """A model directory is incomplete or does not fit its configuration."""


class DownloadError(CheckpointError):
    """A model cannot be fetched from its hub."""


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Name this file in an OSError that is raised inside and names none, as one of a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
