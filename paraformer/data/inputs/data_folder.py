"""The utterances of a Kaldi data directory, in the order of their ids."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from paraformer.data.audio.channels import MIX
from paraformer.data.corpus.archives import StoredFbank
from paraformer.data.corpus.origins import Origins
from paraformer.data.corpus.segments import Place, read_places
from paraformer.data.corpus.tables import read_table
from paraformer.data.inputs.sources import Item, ListedItems, Segment, list_items
from paraformer.errors import DataError


def data_items(data: Path, channel: object = MIX) -> ListedItems:
    """Those of wav.scp and segments."""
    _must_be_folder(data)
    for name in ("wav.scp", "segments"):
        if name == "wav.scp" or (data / name).is_file():
            read_table(data / name)  # refuses what is missing or stands twice
    return in_folder(data, list_items(data, channel=channel))


def stored_items(data: Path) -> ListedItems:
    """Those of feats.scp, which are not read anew from their audio."""
    _must_be_folder(data)
    table = read_table(data / "feats.scp")
    places = read_places(data / "segments") if (data / "segments").is_file() else {}
    return in_folder(data, (_stored(key, table[key], places.get(key)) for key in table))


def in_folder(folder: Path, items: Iterable[Item]) -> ListedItems:
    """Items with their speakers and channels, as the tables of their folder tell them."""
    ordered = sorted(items, key=lambda item: item.key)
    return ListedItems(ordered, Origins([folder], any(item.recording for item in ordered)))


def _stored(key: str, archive: str, place: Place | None) -> Item:
    source = StoredFbank(archive)
    if place is None:
        return Item(key, source)
    channel = MIX if place.channel is None else place.channel
    segment = Segment(place.start, place.end)
    return Item(key, source, segment, recording=place.recording, channel=channel)


def _must_be_folder(data: Path) -> None:
    if data.is_file():
        raise DataError(f"{data}: is a file; give the data directory that holds wav.scp")
    if not data.is_dir():
        raise DataError(f"{data}: no such directory; give a data directory with wav.scp")
