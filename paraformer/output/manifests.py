"""Results as lines of other toolkits' manifests: NeMo's, and lhotse's cuts with supervisions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraformer.data.corpus.ids import key_of
from paraformer.errors import ConfigError

NEMO, LHOTSE = "nemo", "lhotse"
MANIFESTS = (NEMO, LHOTSE)
# Key of a result's dict that only these formats see: where its audio is, and where in that.
ORIGIN = "origin"
_RATE = 16000  # of lengths where the file does not tell


def manifest_line(result: Mapping[str, Any], output_format: str) -> str:
    """One line. The name of what is in no file is the id."""
    if "text" not in result or "audio_seconds" not in result:
        raise ConfigError(
            f"output_format={output_format}: is of recognised speech; use text or json"
        )
    source, start = result.get(ORIGIN, ("", None))
    text = " ".join(str(result.get("text", "")).split())
    told = {**result, "text": text, "path": source or str(result["key"])}
    entry = _nemo(told, start) if output_format == NEMO else _cut(told, start)
    return json.dumps(entry, ensure_ascii=False)


def _nemo(result: Mapping[str, Any], start: float | None) -> dict[str, Any]:
    offset = {} if start is None else {"offset": start}
    found = {"audio_filepath": result["path"], "duration": result["audio_seconds"], **offset}
    return {**found, "text": result["text"], "key": result["key"]}


def _cut(result: Mapping[str, Any], start: float | None) -> dict[str, Any]:
    """A cut of one supervision, which has the words' times if they are known."""
    from paraformer.data.audio.soundfiles import header  # it needs torch, and the formats do not

    key, path, seconds = result["key"], result["path"], result["audio_seconds"]
    known = header(Path(path)) if Path(path).is_file() else None
    rate = known.samplerate if known else _RATE
    frames = known.frames if known else round(((start or 0) + seconds) * rate)
    channels = [*range(known.channels if known else 1)]
    own = result.get("channel")  # a number, where channels are recognised by themselves
    channel: Any = own if isinstance(own, int) else channels if len(channels) > 1 else 0
    name = key if start is None else key_of(path)
    recording = {
        "id": name,
        "sources": [{"type": "file", "channels": channels, "source": path}],
        "sampling_rate": rate,
        "num_samples": frames,
        "duration": frames / rate,
        "channel_ids": channels,
    }
    seconds = recording["duration"] if start is None else seconds
    said = {"id": key, "recording_id": name, "start": 0, "duration": seconds, "channel": channel}
    said["text"] = result["text"]
    if words := [_aligned(word) for word in result.get("words") or () if "start" in word]:
        said["alignment"] = {"word": words}
    cut = {"id": key, "start": start or 0, "duration": seconds, "channel": channel}
    kind = "MultiCut" if isinstance(channel, list) else "MonoCut"
    return {**cut, "supervisions": [said], "recording": recording, "type": kind}


def _aligned(word: Mapping[str, Any]) -> list[Any]:
    start, end = word["start"] / 1000, word["end"] / 1000
    return [word["text"], start, round(end - start, 3), word.get("confidence")]
