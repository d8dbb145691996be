"""`import paraformer.as_funasr` makes `from funasr import AutoModel` give the one of this package,
in the place of FunASR's own where that is installed too.

`python -m paraformer.as_funasr card.py ...` runs a program so, and what it starts; without one it
prints the folder that the environment variable PYTHONPATH has to name for the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent

_there = sys.modules.get("funasr")
_file = getattr(_there, "__file__", None)
if _there is not None and (_file is None or Path(_file).resolve().parent != FOLDER):
    raise ImportError(f"funasr: another one is in use ({_file}); import paraformer.as_funasr first")
sys.path.insert(0, str(FOLDER))
