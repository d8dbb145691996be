"""The module `funasr`, as far as the cards of the released models and modelscope use it."""

from __future__ import annotations

import re
import sys
from types import ModuleType

from paraformer import AutoModel

__all__ = ["AutoModel", "__version__"]
__version__ = "1.4.16"  # of the FunASR whose calls these are
__path__: list[str] = []  # it has modules below it: those that are made here


def rich_transcription_postprocess(text: str) -> str:
    """The text without SenseVoice's tags, which no Paraformer writes.

    >>> rich_transcription_postprocess("<|zh|><|NEUTRAL|><|Speech|><|woitn|>今天")
    '今天'
    """
    return re.sub(r"<\|[^|]*\|>", "", text).strip()


def _module(name: str, **content: object) -> ModuleType:
    """The module `funasr.NAME`, which holds this, ready to be imported."""
    made = sys.modules[f"funasr.{name}"] = ModuleType(f"funasr.{name}")
    vars(made).update(content)
    return made


auto = _module("auto", auto_model=_module("auto.auto_model", AutoModel=AutoModel), __path__=[])
utils = _module(
    "utils",
    postprocess_utils=_module(
        "utils.postprocess_utils", rich_transcription_postprocess=rich_transcription_postprocess
    ),
    __path__=[],
)
