"""Paraformer speech recognition: `AutoModel` answers, `funasr` is its command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paraformer.auto import AutoModel as AutoModel

__version__ = "0.1.0"
__all__ = ["AutoModel", "__version__"]


def __getattr__(name: str) -> Any:
    """Import torch only when a model is wanted: the small tools start in milliseconds."""
    if name == "AutoModel":
        from paraformer.auto import AutoModel

        return AutoModel
    raise AttributeError(f"module 'paraformer' has no attribute '{name}'")
