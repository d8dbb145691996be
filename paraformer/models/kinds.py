"""What a released directory is for, by `model` of its config.yaml, and where it is to be given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from paraformer.errors import ConfigError
from paraformer.models.builders import BUILDERS


class Kind(NamedTuple):
    """Models that do the same work."""

    title: str
    example: str
    place: str  # what to do with one that was given where another kind belongs
    models: tuple[str, ...]  # `model` of their config.yaml


RECOGNISER = Kind(
    "a recogniser", "paraformer-zh", "give it as model, or to bin/decode.py", tuple(BUILDERS)
)
VAD = Kind("a VAD", "fsmn-vad", "give it as vad_model, or to bin/segment.py", ("FsmnVADStreaming",))
PUNCTUATION = Kind(
    "a punctuation model",
    "ct-punc",
    "give it as punc_model, or to bin/punctuate.py",
    ("CTTransformer", "CTTransformerStreaming"),
)
ALIGNER = Kind(
    "a forced aligner",
    "fa-zh",
    "give it as model alone, with a sound and its text, or to bin/align.py",
    ("MonotonicAligner",),
)
SPEAKER = Kind(
    "a speaker model",
    "cam++",
    "speakers are not built yet in this version, so leave it out",
    ("CAMPPlus", "ERes2NetV2"),
)
KINDS = (RECOGNISER, VAD, PUNCTUATION, ALIGNER, SPEAKER)


def kind_of(config: Mapping[str, Any]) -> Kind | None:
    """The kind of model that a configuration describes; None for one that is not known.

    >>> kind_of({"model": "CTTransformer"}).title, kind_of({"model": "Other"})
    ('a punctuation model', None)
    """
    return next((kind for kind in KINDS if config["model"] in kind.models), None)


def times_tokens(config: Mapping[str, Any]) -> bool:
    """Whether a recogniser says by itself when each token was spoken."""
    timed = config["model"] in ("BiCifParaformer", "SeacoParaformer")
    return timed and config.get("predictor") == "CifPredictorV3"


def hears_streams(config: Mapping[str, Any]) -> bool:
    """Whether a recogniser hears recordings as streams where nothing else is asked for."""
    return bool(config["model"] == "ParaformerStreaming")


def refuse_other(config: Mapping[str, Any], *wanted: Kind, where: object = None) -> None:
    """Refuse a configuration that is of none of the wanted kinds; where: what it belongs to."""
    kind, name, where = kind_of(config), config["model"], where or "config.yaml"
    if kind in wanted:
        return
    if kind is None:
        known = ", ".join(model for each in wanted for model in each.models)
        raise ConfigError(f"{where}: model {name} is not known; known: {known}")
    first = wanted[0]
    raise ConfigError(
        f"{where}: is {kind.title} ({name}), not {first.title} such as {first.example}; "
        f"{kind.place}"
    )
