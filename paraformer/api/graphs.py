"""Export of a model by its name: what `funasr export` and `bin/export_onnx.py` do."""

from __future__ import annotations

import json
import logging
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from paraformer.api.peers import PeerTrials
from paraformer.data.corpus.tables import write_text
from paraformer.errors import ConfigError
from paraformer.export.directory import Export, export_model
from paraformer.export.peers import SHERPA, Peer, find_peers
from paraformer.extras import load_torchaudio
from paraformer.hub.directories import find_model
from paraformer.models.graphs import REPORT
from paraformer.models.kinds import PUNCTUATION, RECOGNISER, SPEAKER, VAD, hears_streams, kind_of
from paraformer.models.release import Config, read_config
from paraformer.options import ExportOptions
from paraformer.output.result import Fields

log = logging.getLogger(__name__)

# Fields of results by which recognisers and punctuation models, and VADs, are compared.
COMPARED = ("text", "value")
# Models whose results an option compares.
HEARD = {
    "check": ("recognisers, VADs and punctuation models", (RECOGNISER, VAD, PUNCTUATION)),
    "calibrate": ("texts of recognisers", (RECOGNISER,)),
}
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
    if options.calibrate and options.dtype != "int8":
        raise ConfigError("calibrate: chooses what dtype=int8 rounds; give this too")
    config = read_config(source, {})
    known, chosen = (
        _list_of(config, name, getattr(options, name)) for name in ("check", "calibrate")
    )
    streaming = hears_streams(config) if options.streaming is None else options.streaming
    out = Path(options.out).expanduser()
    settings = options.layout, options.dtype, streaming
    manner: dict[str, Any] = {}
    if streaming:
        manner = {"chunk_size": [0, 10, 5]}
        manner |= dict.fromkeys(("encoder_chunk_look_back", "decoder_chunk_look_back"), 0)
    if options.layout == SHERPA and kind_of(config) is RECOGNISER:
        manner["lm_file"] = "none"  # which does not go along
    hear = None if chosen is None else partial(_texts, chosen, manner)
    peers = _peers_of(config, options.peers)
    with TemporaryDirectory() as folder:
        trials = PeerTrials(source, streaming, options.dtype, known, peers, Path(folder))
        export = export_model(source, out, *settings, hear, trials)
    if known is None:
        return export.table()
    return [*export.table(), *_checked(source, export, known, manner)]


def _peers_of(config: Config, said: str) -> dict[str, Peer]:
    """The runtimes that there are to try an export; sherpa-onnx hears voices by features that
    torchaudio makes.
    """
    peers = find_peers(said)
    if peers and kind_of(config) is SPEAKER:
        try:
            load_torchaudio("peers: for a speaker model")
        except ConfigError as error:
            if said:
                raise
            log.warning("%s", error)
            return {}
    return peers


def _list_of(config: Config, name: str, said: str) -> Path | None:
    """The list that an option names, of texts for a punctuation model; refused before the export
    where there is none, or nothing that could be compared.
    """
    if not said:
        return None
    title, kinds = HEARD[name]
    if kind_of(config) not in kinds:
        raise ConfigError(f"{name}: compares {title}; leave it out for this model")
    data, table = Path(said), "text" if kind_of(config) is PUNCTUATION else "wav.scp"
    listed = data / table if data.is_dir() else data
    if not listed.is_file():
        raise ConfigError(f"{name}={said}: no such list; give a data directory with {table}")
    return listed


def _checked(source: Path, export: Export, listed: Path, manner: dict[str, Any]) -> list[str]:
    """Hear a list by the network and by its graphs, and note in export.json whose results changed
    and how long both took; returns lines that say so.
    """
    ours, theirs = (_hear(folder, listed, manner) for folder in (source, export.directory))
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


def _texts(listed: Path, manner: dict[str, Any], folder: Path) -> list[Any]:
    return [result.get("text") for result in _hear(folder, listed, manner).results]


def _hear(folder: Path, listed: Path, manner: dict[str, Any]) -> _Heard:
    """The results of a list by the model of a directory; manner: keywords of `generate`."""
    from paraformer.api.auto import AutoModel

    model = AutoModel(str(folder), device="cpu", disable_pbar=True)
    begun = time.perf_counter()
    results = model.generate(str(listed), **manner)
    return _Heard(results, time.perf_counter() - begun)
