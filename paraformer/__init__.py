"""Paraformer speech recognition: `AutoModel` answers, `funasr` is its command."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from paraformer.backends import forks as forks
from paraformer.backends.waiting import sleep_while_waiting

if TYPE_CHECKING:
    from paraformer.api.auto import AutoModel as AutoModel
    from paraformer.api.live import LivePipeline as LivePipeline
    from paraformer.api.live import LiveSession as LiveSession
    from paraformer.decode.streaming import Streamer as Streamer

sleep_while_waiting()
__version__ = "0.1.0"
__all__ = ["AutoModel", "LivePipeline", "LiveSession", "Streamer", "__version__"]
_PLACES = {
    "AutoModel": "paraformer.api.auto",
    "LivePipeline": "paraformer.api.live",
    "LiveSession": "paraformer.api.live",
    "Streamer": "paraformer.decode.streaming",
}


def __getattr__(name: str) -> Any:
    """Import torch only when a model is wanted: the small tools start in milliseconds."""
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module 'paraformer' has no attribute '{name}'")


def __dir__() -> list[str]:
    """The names that a notebook completes."""
    return sorted({*__all__, *globals()})
