"""Tells strings that name files from words, for arguments that may be either."""

from __future__ import annotations

import os
import re
from pathlib import Path

from paraformer.data.audio.media import AUDIO
from paraformer.data.inputs.lists import JSON, TABLES

ENDINGS = frozenset((*TABLES, *JSON, *AUDIO, ".csv", ".tsv", ".list", ".lst", ".srt", ".vtt"))
_ROOTED = re.compile(r"(~|\.{1,2})?[/\\]\w|[A-Za-z]:[\\/]")
_LONGEST = 4096  # characters of a path


def names_file(given: object) -> bool:
    """Whether an argument is to be read as a file, which may not be there, rather than as words.

    A `Path` is a file, and so is a string that is the name of one, or, if it has no blanks, ends as
    one (`x.txt`), begins at a folder that is there (`data/x`) or as a path does (`./x`). The words
    `and/or` are none. Entries of lists are never asked about: they are words, whoever wrote them.
    """
    if isinstance(given, Path):
        return True
    if not isinstance(given, str) or len(given) > _LONGEST or "\n" in given:
        return False
    if os.path.isfile(os.path.expanduser(given)):
        return True
    if len(given.split()) != 1 or given != given.strip():
        return False
    top = re.split(r"[/\\]", given)[0]
    return (
        Path(given).suffix.lower() in ENDINGS
        or _ROOTED.match(given) is not None
        or (top != given and os.path.isdir(top))
    )
