"""Reads from the tables beside a list who speaks its utterances, and the name and channel under
which NIST's tools know a recording.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path

from paraformer.data.corpus.checks import wrong_value
from paraformer.data.corpus.tables import fields, read_table
from paraformer.errors import DataError

log = logging.getLogger(__name__)

SPEAKERS, FILES = "utt2spk", "reco2file_and_channel"


class Origins:
    """The `utt2spk` and `reco2file_and_channel` of some folders, read when they are wanted; none of
    them need be there. segmented: utterances are stretches of recordings.
    """

    def __init__(self, folders: Iterable[str | Path] = (), segmented: bool = False) -> None:
        self.folders = list(dict.fromkeys(map(Path, folders)))
        self.segmented = segmented
        self._lost: set[str] = set()

    def _read(self, name: str) -> dict[str, str]:
        table: dict[str, str] = {}
        for path in (folder / name for folder in self.folders):
            for key, value in (read_table(path) if path.is_file() else {}).items():
                wrong = wrong_value(name, value)
                if wrong:
                    raise DataError(f"{path}: '{key}': {wrong}; correct it")
                table.setdefault(key, value)
        return table

    @cached_property
    def _speakers(self) -> dict[str, str]:
        return self._read(SPEAKERS)

    @cached_property
    def files(self) -> dict[str, tuple[str, str]]:
        """Recording to file and channel; empty where no table tells."""
        return {key: tuple(fields(value)) for key, value in self._read(FILES).items()}  # type: ignore[misc]

    def speaker(self, utterance: str) -> str:
        """The speaker of an utterance, "" where no table tells."""
        return self._speakers.get(utterance, "")

    def file_and_channel(self, recording: str, channel: int | None = None) -> tuple[str, str]:
        """The name and channel of a recording in ctm and stm, by the table or else its own name and
        1; channel: which of its channels, from 0.

        >>> Origins().file_and_channel("call"), Origins().file_and_channel("call", 1)
        (('call', '1'), ('call', '2'))
        """
        if recording not in self.files and self.files and recording not in self._lost:
            self._lost.add(recording)
            log.warning("%s lacks recording '%s', which keeps its name", FILES, recording)
        file, first = self.files.get(recording, (recording, "1"))
        return file, _further(first, channel or 0)


def _further(channel: str, by: int) -> str:
    """The channel that comes so many behind another, 1 or A.

    >>> _further("1", 1), _further("A", 1), _further("left", 0)
    ('2', 'B', 'left')
    """
    if by and channel.isascii() and channel.isdigit():
        return str(int(channel) + by)
    return chr(ord(channel) + by) if by and len(channel) == 1 else channel
