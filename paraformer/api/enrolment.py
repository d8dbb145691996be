"""Voices that are known by name: enrolled from clips, kept in a file, read for a call."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paraformer.api.diarization import ListeningSegmenter
from paraformer.data.inputs.blocks import read_blocks
from paraformer.data.inputs.sources import Inputs, Item
from paraformer.decode.longform import Segmenter
from paraformer.decode.vad import VoiceActivity
from paraformer.decode.voices import Known, Voices, window_rows
from paraformer.documents import parse_json
from paraformer.errors import DataError, ParaformerError
from paraformer.output.resume import row_id


class Clip(NamedTuple):
    """A recording in which one person alone speaks, and the embedding (E,) of his voice."""

    name: str
    path: str
    embedding: np.ndarray


class Enrolment:
    """Reads known voices; those read last stay in mind, as long as their files do not change."""

    def __init__(self, voices: Voices, vad: VoiceActivity | None) -> None:
        """vad: finds the speech in clips; None: a file of embeddings alone can be read."""
        self.voices, self.vad = voices, vad
        self._stamp: Any = None
        self._known: Known | None = None

    def known(self, source: str) -> Known | None:
        """The voices of a folder of named clips, or of a file of bin/enroll.py; None of ""."""
        if not source:
            return None
        stamp = (source, *(path.stat().st_mtime_ns for path in files_of(source)))
        if stamp != self._stamp:
            self._known = self._read(Path(source))
            self._stamp = stamp
        return self._known

    def _read(self, source: Path) -> Known:
        if source.is_file():
            return read_voices(source, self.voices.engine.width)
        if not source.is_dir():
            raise DataError(f"speakers={source}: no such folder or file; give one of named clips")
        return known_of(list(self.clips(source)))

    def clips(self, folder: Path) -> Iterator[Clip]:
        """Each clip of a folder with its embedding. Clips are named by their folder in it, else by
        their file; of a data directory by utt2spk.
        """
        if self.vad is None:
            raise DataError(f"speakers={folder}: clips are heard by vad_model; give it, or a file")
        listening = ListeningSegmenter(Segmenter(self.vad), self.voices)
        inputs = Inputs(str(folder))
        for item in inputs:
            name = _name_of(item, folder, inputs.origins.speaker(row_id(item.key)))
            yield Clip(name, str(item.source), self._heard(item, name, listening))

    def _heard(self, item: Item, name: str, listening: ListeningSegmenter) -> np.ndarray:
        """The mean of the voice in the windows of a clip."""
        where = f"speakers: '{name}': {item.source}"
        try:
            segments = listening.segments(read_blocks(item, self.voices.rate))
            rows = window_rows([voice for segment in segments for voice in segment.voices])
        except ParaformerError as error:
            raise DataError(f"{where}: {error}") from error
        if not len(rows):
            raise DataError(f"{where}: nobody speaks in it; give a clip of this voice")
        found: np.ndarray = rows.mean(0)
        return found


def files_of(source: str) -> list[Path]:
    """The files that known voices are read from, in order."""
    if not os.path.isdir(source):
        return [Path(source)] if os.path.isfile(source) else []
    return sorted(path for path in Path(source).rglob("*") if path.is_file())


def known_of(clips: Sequence[Clip]) -> Known:
    """The mean voice of each name, each clip counting as much as another."""
    if not clips:
        raise DataError("speakers: no clip in the folder; name each after who speaks in it")
    rows: dict[str, list[np.ndarray]] = {}
    for clip in clips:
        rows.setdefault(clip.name, []).append(clip.embedding / np.linalg.norm(clip.embedding))
    return Known(tuple(rows), np.stack([np.mean(own, axis=0) for own in rows.values()]))


def read_voices(path: Path, width: int) -> Known:
    """Known voices of a file `{name: [numbers]}`, which FunASR's speaker_db.json is too; width: how
    many numbers an embedding of the model has.
    """
    try:
        told = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(told, Mapping) or not told:
            raise ValueError("no names in it")
        rows = [np.asarray(row, np.float32) for row in told.values()]
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"speakers={path}: no file of bin/enroll.py ({error}); give one, or a folder of clips"
        ) from error
    for name, row in zip(told, rows, strict=True):
        if row.shape != (width,):
            raise DataError(
                f"speakers={path}: '{name}' has {row.size} numbers and spk_model's voices have "
                f"{width}; enrol with this model"
            )
        if not np.isfinite(row).all() or not row.any():
            raise DataError(f"speakers={path}: '{name}' is no voice: not finite, or all zero")
    return Known(tuple(map(str, told)), np.stack(rows))


def format_voices(known: Known) -> str:
    """The content of such a file."""
    rows = zip(known.names, known.centres.tolist(), strict=True)
    told = {name: [float(f"{x:.6g}") for x in row] for name, row in rows}
    return json.dumps(told, ensure_ascii=False) + "\n"


def _name_of(item: Item, folder: Path, speaker: str) -> str:
    if speaker:
        return speaker
    try:
        parts = Path(str(item.source)).relative_to(folder).parts
    except ValueError:
        return str(item.key)
    return parts[0] if len(parts) > 1 else Path(parts[0]).stem
