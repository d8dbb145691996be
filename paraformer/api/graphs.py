"""Export of a model by its name: what `funasr export` and `bin/export_onnx.py` do."""

from __future__ import annotations

from pathlib import Path

from paraformer.errors import ConfigError
from paraformer.export.directory import Export, export_model
from paraformer.hub.directories import find_model
from paraformer.options import ExportOptions


def write_graphs(options: ExportOptions) -> Export:
    """Write the graphs of a model, whole and proved, or nothing at all."""
    if not options.model or not options.out:
        raise ConfigError("export: give model and out, a folder of its own")
    where = options.hub, options.model_revision
    source = find_model(options.model, *where, offline=options.offline)
    out = Path(options.out).expanduser()
    return export_model(source, out, options.layout, options.dtype, options.streaming)
