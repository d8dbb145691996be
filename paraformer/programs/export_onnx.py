"""Write a model as ONNX graphs for funasr-onnx and sherpa-onnx, with all files that they want.

Each graph is run by onnxruntime beside torch on a real recording and on other shapes before
anything is written; differences and sizes are printed, and stand in export.json.
"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from paraformer.export.directory import export_model
from paraformer.hub.directories import find_model
from paraformer.programs.hydra_main import run


def export_onnx(config: DictConfig) -> int:
    """Write `config.out`."""
    source = find_model(
        str(config.model), config.hub, config.model_revision, offline=config.offline
    )
    export = export_model(source, Path(config.out), config.layout, config.dtype, config.streaming)
    print("\n".join(export.table()))
    return 0


def main() -> int:
    """`bin/export_onnx.py`."""
    return run("export_onnx", export_onnx)
