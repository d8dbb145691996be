"""Makes an id for a recording that has none: the name of its file, with as many of its folders as
tell it from the others.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import NamedTuple

from paraformer.data.corpus.tables import readable

URL = re.compile(r"(?:https?|s3|gs)://", re.IGNORECASE)
_DRIVE = re.compile(r"[A-Za-z]:\\|\\\\")


class _Place(NamedTuple):
    """A path taken apart."""

    folders: tuple[str, ...]
    stem: str
    name: str  # with its extension


def key_of(path: str) -> str:
    """File name without extension; of a URL without its query. Never empty.

    >>> key_of("a/b.c.wav"), key_of("https://x.org/d/e.mp3?y=1"), key_of(r"C:\\\\a\\\\f.wav")
    ('b.c', 'e', 'f')
    """
    name = path.rpartition("/")[2]
    if os.name == "nt" or name in ("", ".", "..") or ":" in path or path.startswith("\\"):
        return _take_apart(path).stem
    end = name.rfind(".")
    return readable(name[:end] if 0 < end < len(name) - 1 else name)


def distinct_keys(paths: Sequence[str], taken: Iterable[str] = ()) -> list[str]:
    """A key for each path, none twice and none that is `taken`, in the order of the paths.

    One name in several folders gets the fewest of its folders that tell them apart, in one folder
    its extension; the same path once more, or what is still taken, gets a number.

    >>> distinct_keys(["a/x.wav", "b/x.wav", "z/y.wav", "z/c/y.wav", "v.wav", "v.mp3", "v.mp3"])
    ['a_x', 'b_x', 'y', 'c_y', 'v.wav', 'v.mp3', 'v.mp3_2']
    """
    stems = [key_of(path) for path in paths]
    often, used = Counter(stems), Counter(taken)
    if len(often) == len(stems) and used.keys().isdisjoint(often):
        return stems
    # Only what has its name in common with another is taken apart: there may be millions.
    groups: dict[str, dict[_Place, None]] = defaultdict(dict)
    places = [
        _take_apart(path) if often[stem] > 1 else None
        for path, stem in zip(paths, stems, strict=True)
    ]
    for known in filter(None, places):
        groups[known.stem][known] = None
    names = {place: name for group in groups.values() for place, name in _tell_apart([*group])}
    keys = []
    numbers: Counter[str] = Counter()  # the last one of each name
    for place, stem in zip(places, stems, strict=True):
        name = names[place] if place else stem
        key = name
        while used[key]:
            numbers[name] += 1
            key = f"{name}_{numbers[name] + 1}"
        used[key] += 1
        keys.append(key)
    return keys


def _tell_apart(group: Sequence[_Place]) -> Iterable[tuple[_Place, str]]:
    """The names of different places of one stem; folders that all of them share tell nothing."""
    shared = len(os.path.commonprefix([place.folders for place in group]))
    folders = {place: place.folders[shared:] for place in group}
    alike = Counter(folders.values())
    waiting, depth = list(group), 0
    while waiting:
        homes: dict[tuple[str, ...], set[tuple[str, ...]]] = defaultdict(set)
        for path in alike:
            homes[_last(path, depth)].add(path)
        unclear = []
        for place in waiting:
            end = _last(folders[place], depth)
            if len(homes[end]) > 1:
                unclear.append(place)
            else:
                last = place.stem if alike[folders[place]] == 1 else place.name
                yield place, "_".join((*end, last))
        waiting, depth = unclear, depth + 1


def _last(folders: tuple[str, ...], count: int) -> tuple[str, ...]:
    return folders[max(0, len(folders) - count) :]


def _take_apart(path: str) -> _Place:
    text = URL.sub("", re.split(r"[?#]", path)[0]) if URL.match(path) else path
    if _DRIVE.match(text):
        text = text.replace("\\", "/")
    if ".." in PurePath(text).parts:
        text = os.path.abspath(text)
    pure = PurePath(readable(text))
    folders = tuple(part for part in pure.parent.parts if part != pure.anchor)
    # The root and the current folder have no name.
    return _Place(folders, pure.stem or "_", pure.name or "_")
