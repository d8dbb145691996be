"""Write a model as ONNX graphs, for funasr-onnx, sherpa-onnx, and `backend=onnx` here.

  funasr export +model=paraformer-zh-mini +out=exp/onnx
  funasr export +model=paraformer-zh-mini +out=exp/int8 +dtype=int8
  funasr export +model=exp/x/final +out=exp/onnx +check=data/test
  funasr exp/onnx/example/asr_example.wav +model=exp/onnx

What `bin/export_onnx.py` does, by the same options. onnxruntime has run each graph beside torch
before anything is written, and so have funasr-onnx and sherpa-onnx where they are at hand;
differences and sizes are printed, and stand in export.json.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

from paraformer import options as opts
from paraformer.cli.arguments import typed
from paraformer.cli.command_line import Arguments, help_line

KEYS = opts.all_fields(opts.ExportOptions)


def main(arguments: Arguments) -> int:
    """Write the graphs, and print what was proved of them; returns the exit code."""
    given: dict[str, Any] = {}
    for key, value in arguments.values.items():
        if key not in KEYS:
            raise opts.unknown_key(key, KEYS, "export", "funasr export")
        given[key] = typed(value, opts.default_of(KEYS[key]), key)
    options = opts.ExportOptions(**given)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s: %(message)s", stream=sys.stderr)
    from paraformer.api.graphs import write_graphs

    print("\n".join(write_graphs(options)))
    return 0


def help_text() -> str:
    """The text of `funasr export --help`."""
    return "\n".join([(__doc__ or "").strip(), "", *map(help_line, KEYS.values())])
