"""Entries of other toolkits' lists of recordings, as JSON has them: NeMo's manifests, lhotse's cuts
and recordings, and the metadata of a folder of Hugging Face's datasets.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import Any

from paraformer.data.audio.channels import MIX
from paraformer.data.corpus.ids import key_of
from paraformer.data.inputs.audio_items import Item, Segment, named
from paraformer.errors import DataError

Fields = Mapping[str, Any]


def is_foreign(value: object) -> bool:
    """Whether an object is an entry of one of these lists."""
    return isinstance(value, Mapping) and _form(value) is not None


def foreign_item(value: object, where: str) -> Item | None:
    """The item of such an entry, which may have any other keys; None of what is none, such as an
    entry of ours.
    """
    form = _form(value) if isinstance(value, Mapping) and "source" not in value else None
    if form is None or not isinstance(value, Mapping):
        return None
    key = value.get("id")
    try:
        return _FORMS[form][1](value)
    except DataError as error:
        fault = str(error)
    except (LookupError, TypeError, ValueError, ArithmeticError):
        fault = "its keys are not those of such an entry"
    return Item(
        str(key or where), DataError(f"{where}: {_FORMS[form][2]}: {fault}; mend this line")
    )


def _form(value: Fields) -> str | None:
    return next(
        (name for name, (kind, *_) in _FORMS.items() if isinstance(value.get(name), kind)), None
    )


def _of_nemo(value: Fields) -> Item:
    """`offset` and `duration` cut a stretch; a duration alone is only said of the file."""
    path = value["audio_filepath"]
    if value.get("offset") is None:
        return named(path, path)
    start = _seconds(value["offset"])
    end = None if value.get("duration") is None else start + _seconds(value["duration"])
    last = "end" if end is None else f"{round(100 * end):07d}"
    return _stretch(f"{key_of(path)}-{round(100 * start):07d}-{last}", path, Segment(start, end))


def _of_folder(value: Fields) -> Item:
    return named(value["file_name"], value["file_name"])


def _of_recording(value: Fields) -> Item:
    return Item(str(value["id"]), _place(value))


def _of_cut(value: Fields) -> Item:
    """A MonoCut; a MultiCut of all channels is their mean, as any other recording."""
    recording = value["recording"]
    start, seconds = _seconds(value["start"]), _seconds(value["duration"])
    source, channels = _place(recording), {*_listed(recording.get("channel_ids", [0]))}
    chosen = _listed(value.get("channel", 0))
    if len(chosen) == 1 < len(channels):
        channel: str | int = int(chosen[0])
    elif {*chosen} == channels or len(channels) == 1:
        channel = MIX
    else:
        raise DataError("is of some of several channels, for which there is no way here")
    whole = start == 0 and abs(seconds - _seconds(recording["duration"])) < 1e-3
    segment = None if whole else Segment(start, start + seconds)
    return _stretch(str(value["id"]), source, segment, channel)


def _refused(value: Fields) -> Item:
    raise DataError("has no recording of its own; give cuts of one track, or recordings")


def _place(recording: Fields) -> str:
    """The file or the address of a recording of lhotse."""
    if recording.get("transforms"):
        raise DataError("is changed as it is read (transforms); save it to a file first")
    first, *more = recording["sources"]
    if more or first["type"] not in ("file", "url"):
        raise DataError(f"its source is neither one file nor a url ({first['type']})")
    return sys.intern(first["source"])


def _stretch(key: str, source: str, segment: Segment | None, channel: str | int = MIX) -> Item:
    # One object for all stretches of a recording, by which its samples are read once.
    return Item(key, sys.intern(source), segment, channel=channel)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _seconds(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds) or seconds < 0:
        raise ValueError(value)
    return seconds


# A key that only such an entry has -> the type of its value, what makes an item, its name.
_FORMS: dict[str, tuple[type, Callable[[Fields], Item], str]] = {
    "audio_filepath": (str, _of_nemo, "manifest of NeMo"),
    "file_name": (str, _of_folder, "metadata of a folder"),
    "sources": (list, _of_recording, "recording of lhotse"),
    "recording": (Mapping, _of_cut, "cut of lhotse"),
    "tracks": (list, _refused, "mixed cut of lhotse"),
    "recording_id": (str, _refused, "supervision of lhotse"),
}
