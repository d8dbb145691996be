"""The name `funasr` for programs written for FunASR; it comes from paraformer.as_funasr."""

import sys
from importlib import import_module

del sys.modules[__name__]  # or it is taken for FunASR's own
sys.modules[__name__] = import_module("paraformer.as_funasr.funasr")
