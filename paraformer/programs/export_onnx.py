"""Write a model as ONNX graphs for funasr-onnx, sherpa-onnx and `backend=onnx`, with all files that
they want.

Each graph is run by onnxruntime beside torch on a real recording and on other shapes before
anything is written, and by funasr-onnx and sherpa-onnx where they are at hand; differences and
sizes are printed, and stand in export.json.
"""

from __future__ import annotations

from omegaconf import DictConfig

from paraformer.api.graphs import write_graphs
from paraformer.options import ExportOptions
from paraformer.programs.hydra_main import plain, run


def export_onnx(config: DictConfig) -> int:
    """Write `config.out`."""
    print("\n".join(write_graphs(ExportOptions(**plain(config)))))
    return 0


def main() -> int:
    """`bin/export_onnx.py`."""
    return run("export_onnx", export_onnx)
