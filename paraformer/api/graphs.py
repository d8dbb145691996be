"""Export of a model by its name: what `funasr export` and `bin/export_onnx.py` do."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, NamedTuple

from paraformer.api.auto import AutoModel
from paraformer.data.corpus.tables import write_text
from paraformer.errors import ConfigError
from paraformer.export.directory import Export, export_model
from paraformer.hub.directories import find_model
from paraformer.models.graphs import REPORT
from paraformer.models.kinds import RECOGNISER, VAD, kind_of
from paraformer.models.release import read_config
from paraformer.options import ExportOptions
from paraformer.output.result import Fields

# Fields of results by which a recogniser, and a VAD, are compared.
COMPARED = ("text", "value")
SHOWN = 5  # recordings that a line names


class _Heard(NamedTuple):
    results: list[Fields]
    seconds: float  # of work


def write_graphs(options: ExportOptions) -> list[str]:
    """Write the graphs of a model, whole and proved, or nothing at all; returns lines to show."""
    if not options.model or not options.out:
        raise ConfigError("export: give model and out, a folder of its own")
    where = options.hub, options.model_revision
    source = find_model(options.model, *where, offline=options.offline)
    listed = _list_of(source, Path(options.check)) if options.check else None
    out = Path(options.out).expanduser()
    export = export_model(source, out, options.layout, options.dtype, options.streaming)
    if listed is None:
        return export.table()
    return [*export.table(), *_checked(source, export, listed)]


def _list_of(source: Path, data: Path) -> Path:
    """The list that a check is to hear; refused before the export where there is none, or nothing
    that could be compared.
    """
    if kind_of(read_config(source, {})) not in (RECOGNISER, VAD):
        raise ConfigError("check: compares recognisers and VADs; leave it out for this model")
    listed = data / "wav.scp" if data.is_dir() else data
    if not listed.is_file():
        raise ConfigError(f"check={data}: no such list; give a data directory with wav.scp")
    return listed


def _checked(source: Path, export: Export, listed: Path) -> list[str]:
    """Hear a list by the network and by its graphs, and note in export.json whose results changed
    and how long both took; returns lines that say so.
    """
    chunks: dict[str, Any] = {}
    if (export.directory / "decoder.onnx").is_file():
        chunks = {"chunk_size": [0, 10, 5]}
        chunks |= dict.fromkeys(("encoder_chunk_look_back", "decoder_chunk_look_back"), 0)
    ours, theirs = (_hear(folder, listed, chunks) for folder in (source, export.directory))
    changed = [
        str(one["key"])
        for one, other in zip(ours.results, theirs.results, strict=True)
        if any(one.get(name) != other.get(name) for name in COMPARED)
    ]
    took = [round(each.seconds, 2) for each in (ours, theirs)]
    told: dict[str, Any] = {"list": str(listed), "recordings": len(ours.results)}
    told |= {"changed": changed, "seconds_torch": took[0], "seconds_onnx": took[1]}
    path = export.directory / REPORT
    write_text(path, json.dumps({**export.report, "check": told}, indent=1, ensure_ascii=False))
    names = ", ".join(changed[:SHOWN]) + (" ..." if len(changed) > SHOWN else "")
    return [
        f"{listed}: {len(changed)} of {len(ours.results)} results changed"
        + (f" ({names})" if changed else ""),
        f"took: {took[0]} s by torch, {took[1]} s by onnx",
    ]


def _hear(folder: Path, listed: Path, chunks: dict[str, Any]) -> _Heard:
    model = AutoModel(str(folder), device="cpu", disable_pbar=True)
    begun = time.perf_counter()
    results = model.generate(str(listed), **chunks)
    return _Heard(results, time.perf_counter() - begun)
