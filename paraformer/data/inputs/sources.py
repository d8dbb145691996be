"""Makes items, one a result, of all that may be given as `input`: files, lists, folders, bytes,
arrays. Audio is read only when its turn comes, and so are the lines of lists.
"""

from __future__ import annotations

import glob
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from functools import partial
from itertools import repeat
from numbers import Real
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import numpy as np
from torch import Tensor

from paraformer.data.audio import cloud
from paraformer.data.audio.channels import MIX, SPLIT, check_channel
from paraformer.data.audio.media import AUDIO
from paraformer.data.audio.read import count_channels, named_file
from paraformer.data.corpus.ids import URL, distinct_keys
from paraformer.data.corpus.origins import Origins
from paraformer.data.inputs.audio_items import (
    OVERSHOOT_SECONDS,
    Cache,
    Item,
    Segment,
    at_hand,
    cut,
    named,
    taken,
)
from paraformer.data.inputs.lists import (
    JSON,
    PACKED,
    TABLES,
    JsonFile,
    Later,
    ListFile,
    Name,
    SegmentsFile,
    TableFile,
    from_object,
)
from paraformer.data.inputs.packages import (
    CSV,
    TAR,
    CsvFile,
    RemoteTar,
    TarFile,
    is_remote_tar,
    metadata_of,
)
from paraformer.errors import ConfigError, DataError, ParaformerError
from paraformer.shard import Shard

__all__ = [
    "OVERSHOOT_SECONDS",
    "Cache",
    "Inputs",
    "Item",
    "ListedItems",
    "Segment",
    "cut",
    "is_missing",
    "list_items",
]

log = logging.getLogger(__name__)

LISTS = (*TABLES, *JSON, CSV, TAR)
NAMELESS = ("", "")
SHOWN_ENDS = 5
_HEAD = 64  # bytes by which a page is told from a list
_BYTES = (bytes, bytearray, memoryview)


def is_single(source: object) -> bool:
    """Whether an input is one recording by itself rather than a list, a folder or a pattern."""
    if isinstance(source, (str, Path)):
        return not _is_list(source) and not os.path.isdir(source) and not _matches(str(source))
    return isinstance(source, (*_BYTES, np.ndarray, Tensor, Mapping))


def is_missing(source: object) -> bool:
    """Whether an input is one recording by the name of a file that is not there."""
    if not isinstance(source, (str, Path)) or not is_single(source):
        return False
    path = named_file(str(source))
    try:
        if path is not None:
            os.stat(path)
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # no name of a file
        return False
    return False


def list_items(
    source: object, key: object = "", segments: str = "", channel: object = MIX
) -> list[Item]:
    """All items of an input; see `Inputs`."""
    return list(Inputs(source, key, segments, channel))


class Inputs(Iterable[Item]):
    """The items of an input, in order, made as they are asked for, as often as that is done.

    `key` renames them: an id, or as many ids as there are items. Else ids are those of the list; a
    file without one is known by its name (see `distinct_keys`). Names are read first, for what the
    name of one file is depends on those of all others; what is held in memory of a list is 8 bytes
    a line with an id, while it is looked through, and the keys of lines without one.

    channel: see `check_channel`; with split each channel of a recording is an item, `key_ch0` ...
    """

    def __init__(
        self, source: object, key: object = "", segments: str = "", channel: object = MIX
    ) -> None:
        self.channel = check_channel(channel)
        if segments and not os.path.isfile(segments):
            raise DataError(f"{segments}: no such file of segments; check the path")
        self._parts = list(_expand(source, segments))
        if segments and not any(isinstance(part, SegmentsFile) for part in self._parts):
            raise ConfigError("segments: cut the recordings of a list; give wav.scp or another one")
        self._count = 0
        bare: list[str] = []
        for _, path in self._names():
            self._count += 1
            if path:
                bare.append(path)
        # An id that is given goes before all that are made.
        mixed = 0 < len(bare) < self._count
        taken = (key for key, path in self._names() if not path) if mixed else ()
        self._keys = distinct_keys(bare, taken)
        self._given = given_keys(key, self._count)
        self._shard: Shard | None = None

    def _names(self) -> Iterator[Name]:
        place = 0
        for part in self._parts:
            for name in part.names():
                place += 1
                yield name if name != NAMELESS else ("", f"audio_{place}")

    @property
    def total(self) -> int:
        """The number of items, or of a shard about so many; where recordings are split, two of
        each.
        """
        shards = 1 if self._shard is None else self._shard.shards
        return -(-self._count // shards) * (2 if self.channel == SPLIT else 1)

    def of(self, shard: Shard | None) -> Inputs:
        """Those of a shard, by their ids; where recordings are split, by those of recordings."""
        part = copy(self)
        part._shard = shard
        return part

    @property
    def origins(self) -> Origins:
        """Speakers and channels, as the tables beside the lists tell them."""
        lists = [part for part in self._parts if isinstance(part, ListFile)]
        cut = [part for part in lists if isinstance(part, SegmentsFile)]
        paths = [part.path for part in (*lists, *(part.recordings for part in cut))]
        return Origins((path.parent for path in paths), bool(cut))

    def __iter__(self) -> Iterator[Item]:
        return (make() for _, make in self.keyed())

    def keyed(self) -> Iterator[tuple[str, Callable[[], Item]]]:
        """The keys of the items, and what makes each; until then no file is looked for."""
        for key, make in self._whole():
            if self.channel == SPLIT:
                for item in _split(_finished(make, key, MIX)):
                    yield item.key, at_hand(item)
            else:
                yield key, partial(_finished, make, key, self.channel)

    def _whole(self) -> Iterator[tuple[str, Callable[[], Item]]]:
        keys = iter(self._keys)
        given = repeat("") if self._given is None else iter(self._given)
        for part in self._parts:
            for (own, path), make in part.items():
                key = own if own and not path else next(keys, "")
                if not key:
                    raise DataError("input: a list has changed while it was read; begin again")
                key = next(given, "") or key
                if self._shard is None or self._shard.holds(key):
                    yield key, make


class ListedItems(list[Item]):
    """Items that are at hand, as inputs."""

    def __init__(self, items: Iterable[Item], origins: Origins | None = None) -> None:
        """origins: where they come from."""
        super().__init__(items)
        self.origins = origins or Origins()

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self)

    def of(self, shard: Shard | None) -> ListedItems:
        """Those of a shard, by their ids."""
        if shard is None:
            return self
        return ListedItems((item for item in self if shard.holds(item.key)), self.origins)

    def keyed(self) -> Iterator[tuple[str, Callable[[], Item]]]:
        """See `Inputs`."""
        return ((item.key, at_hand(item)) for item in self)


def _finished(make: Callable[[], Item], key: str, channel: str | int) -> Item:
    item = make()
    if isinstance(item.source, DataError):
        channel = MIX
    elif item.channel != MIX:  # a segment's own
        channel = item.channel
    return replace(item, key=key, channel=channel)


def _split(item: Item) -> Iterator[Item]:
    """A recording's channels; what cannot be read says so itself when its turn comes."""
    if isinstance(item.source, DataError) or item.channel != MIX:
        yield item
        return
    try:
        channels = count_channels(item.source, allow_pipe=item.from_list)
    except ParaformerError:
        yield item
        return
    for channel in range(channels):
        yield replace(item, key=f"{item.key}_ch{channel}", channel=channel)


def given_keys(key: object, count: int) -> list[str] | None:
    """The ids that a call gives to so many inputs: one, or a list of them; None if it gives none.

    >>> given_keys("a", 1), given_keys(["a", 2], 2), given_keys("", 2)
    (['a'], ['a', '2'], None)
    """
    if key is None or (isinstance(key, str) and not key):
        return None
    several = key if isinstance(key, Iterable) and not isinstance(key, (str, *_BYTES)) else [key]
    keys = [str(k) for k in several]
    if len(keys) != count:
        raise ConfigError(f"key: {len(keys)} ids for {count} inputs; give one id for each")
    return keys


class _Part(Protocol):
    """Some of the items of an input; `names` is asked for before `items`."""

    def names(self) -> Iterator[Name]:
        """Their names; `NAMELESS` for an item that has none."""

    def items(self) -> Iterator[Later]:
        """The names, each with the function that makes the item."""


class _One:
    """An item that was given by itself."""

    def __init__(self, item: Item) -> None:
        self.item = item

    def names(self) -> Iterator[Name]:
        """See `_Part`."""
        yield "" if self.item.path else self.item.key, self.item.path

    def items(self) -> Iterator[Later]:
        """See `_Part`."""
        return ((name, at_hand(self.item)) for name in self.names())


class _Folder:
    """All the audio files in and below a folder, in the order of their names; how many others there
    are is said.
    """

    def __init__(self, folder: Path) -> None:
        found, others = list[str](), Counter[str]()
        for place, _, names in os.walk(folder):
            for name in names:
                path, end = os.path.join(place, name), os.path.splitext(name)[1].lower()
                if end in AUDIO and os.path.isfile(path):
                    found.append(path)
                elif not name.startswith("."):
                    others[end or "no ending"] += 1
        kinds = ", ".join(f"{count} {end}" for end, count in others.most_common(SHOWN_ENDS))
        if not found:
            there = f"{others.total()} others: {kinds}" if others else "it is empty"
            raise DataError(
                f"{folder}: no audio file and no wav.scp in it ({there}); give another folder"
            )
        if others:
            count = others.total()
            log.info(
                "%s: passed over %d of %d files (%s)", folder, count, count + len(found), kinds
            )
        self.paths = sorted(found, key=lambda path: path.split(os.sep))

    def names(self) -> Iterator[Name]:
        """See `_Part`."""
        return (("", path) for path in self.paths)

    def items(self) -> Iterator[Later]:
        """See `_Part`."""
        return ((("", path), partial(named, path, Path(path))) for path in self.paths)


def _expand(source: object, segments: str) -> Iterator[_Part]:
    if isinstance(source, np.ndarray) and source.dtype.kind in "UO":  # of names, or of arrays
        source = source.tolist()
    if isinstance(source, (str, Path)):
        yield from _expand_path(source, segments)
    elif isinstance(source, (*_BYTES, np.ndarray, Tensor)):
        yield _One(Item("", source))
    elif hasattr(source, "read"):
        content, rate = taken(source)
        yield _One(Item("", content, fs=rate))
    elif isinstance(source, Mapping):
        yield _One(from_object(source, "input"))
    elif isinstance(source, Iterable):
        for one in source:
            if isinstance(one, (Real, np.bool_)):
                raise DataError(
                    "input: numbers in a list; give an array alone, such as numpy.array(...), and "
                    "its sampling rate as fs"
                )
            yield from _expand(one, segments)
    else:
        raise DataError(
            f"input: {type(source).__name__} holds no audio; give a path, a list, bytes or an array"
        )


def _expand_path(source: str | Path, segments: str, trusted: bool = True) -> Iterator[_Part]:
    """trusted: whether a list may hold commands, as one that was named, or is in a folder that was;
    who writes a pattern does not know which lists it finds.
    """
    path = Path(source)
    if not str(source).strip():
        raise DataError("input: is empty; give an audio file, a list or a folder")
    if isinstance(source, str) and URL.match(source) and _is_list(source):
        for url in cloud.matches(source):
            yield _open_remote(url, segments)
    elif isinstance(source, str) and (URL.match(source) or source.rstrip().endswith("|")):
        yield _One(named(source, source))
    elif os.path.isdir(path):  # False where the system refuses the name, unlike Path.is_dir
        # A data directory is its wav.scp.
        table = path / "wav.scp"
        found = table if os.path.isfile(table) else metadata_of(path)
        yield _open_list(found, segments, trusted) if found else _Folder(path)
    elif _is_list(path) and not _matches(str(source)):
        yield _open_list(path, segments, trusted)
    elif matches := _matches(str(source)):
        for name in matches:
            yield from _expand_path(name, segments, trusted=False)
    else:
        yield _One(named(str(source), source))


def _is_list(source: str | Path) -> bool:
    if isinstance(source, str) and URL.match(source):
        source = urlsplit(source).path
    return _kind(Path(source)) in LISTS


def _kind(path: Path) -> str:
    """The end of the name of a list, of JSON also where it is packed."""
    end = path.suffix.lower()
    inner = path.with_suffix("").suffix.lower() if end == PACKED else ""
    return inner if inner in JSON else end


def _matches(pattern: str) -> list[str]:
    """Files that a pattern names, where there is no file of that very name; `**` stands for any
    number of folders, and then folders are not what is meant.
    """
    if not glob.has_magic(pattern) or URL.match(pattern) or os.path.exists(pattern):
        return []
    deep = "**" in pattern
    found = glob.glob(pattern, recursive=deep)
    return sorted(name for name in found if not (deep and os.path.isdir(name)))


def _open_remote(url: str, segments: str) -> ListFile:
    """A list at an address: a tar is read there, any other from a copy."""
    if is_remote_tar(url):
        listed = RemoteTar(url)
        _refuse_empty(listed, "id file")
        return listed
    path = Path(urlsplit(url).path)
    fetched = cloud.Copy(url, _kind(path) + (PACKED if path.suffix.lower() == PACKED else ""))
    with fetched.path.open("rb") as file:
        if file.read(_HEAD).lstrip().startswith(b"<"):
            raise DataError(f"{url}: what came is a page, no list; check the address")
    return _open_list(fetched.path, segments, trusted=False, fetched=fetched)


def _open_list(
    path: Path, segments: str, trusted: bool, fetched: cloud.Copy | None = None
) -> ListFile:
    kind = _kind(path)
    others: dict[str, type[ListFile]] = {
        CSV: CsvFile,
        TAR: TarFile,
        **dict.fromkeys(JSON, JsonFile),
    }
    listed = others[kind](path) if kind in others else TableFile(path, trusted)
    if fetched is not None:
        listed.fetched, listed.shown = fetched, fetched.url
    _refuse_empty(listed, "id file")
    beside = path.with_name("segments")
    if segments or (path.name == "wav.scp" and beside.is_file()):
        stretches = SegmentsFile(Path(segments) if segments else beside, listed)
        _refuse_empty(stretches, "id recording start end")
        return stretches
    return listed


def _refuse_empty(listed: ListFile, form: str) -> None:
    if next(listed.entries(), None) is None:
        raise DataError(f"{listed.shown}: holds no lines; give `{form}` a line")
