"""The kinds of model that a released directory may hold, told apart by `model` of its config.yaml:
a row says how such a model is built, which parts it has, and where it is to be given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import nn

from paraformer.data.features.frontend import Frontend
from paraformer.data.text.tokenizer import CharTokenizer, SentencepieceTokenizer
from paraformer.errors import ConfigError
from paraformer.limits import Limits, check
from paraformer.models.aligner import Aligner
from paraformer.models.builders import (
    BUILDERS,
    Config,
    build_aligner,
    build_campplus,
    build_ct_transformer,
    build_fsmn_vad,
    build_recogniser,
    marks_of,
    vad_options,
)
from paraformer.models.campplus import CamPlusPlus, Likeness
from paraformer.models.ct_transformer import CtTransformer
from paraformer.models.fsmn_vad import FsmnVad, VadOptions
from paraformer.models.paraformer import Paraformer

ModelT = TypeVar("ModelT", bound=nn.Module, covariant=True)
Tokenizer = CharTokenizer | SentencepieceTokenizer


@dataclass(frozen=True)
class Release(Generic[ModelT]):
    """A model with all that is needed to use it, and the configuration that made it.

    A VAD has no tokenizer and a punctuation model no front end: see `Kind.parts`.
    """

    model: ModelT
    frontend: Frontend
    tokenizer: Tokenizer
    config: Config
    directory: Path | None = None


class VadRelease(Release[FsmnVad]):
    """A voice activity detector, and how its segments are made."""

    @cached_property
    def options(self) -> VadOptions:
        """`model_conf` of its config.yaml."""
        return vad_options(self.config)


class PunctuationRelease(Release[CtTransformer]):
    """A punctuation model, and the marks that its outputs stand for."""

    @property
    def marks(self) -> list[str]:
        """The released punc_list, in which <unk> and _ are no marks."""
        return marks_of(self.config)[0]

    @property
    def sentence_end(self) -> int:
        """The number of the mark that closes a sentence that nothing else closes."""
        return marks_of(self.config)[1]

    @property
    def jieba_dict(self) -> Path | None:
        """The dictionary of a model whose words are jieba's."""
        path = self.config.get("jieba_usr_dict")
        return Path(path) if path else None


AlignerRelease = Release[Aligner]
SpeakerRelease = Release[CamPlusPlus]
MadeT = TypeVar("MadeT", bound=Release[Any], covariant=True)


@dataclass(frozen=True, eq=False)
class Kind(Generic[MadeT]):
    """Models that do the same work."""

    title: str
    example: str
    place: str  # the remedy where one was given in the place of another kind
    models: tuple[str, ...]  # `model` of their config.yaml
    release: type[MadeT]
    # config, number of tokens, width of the features -> a model with fresh weights
    build: Callable[[Config, int, int], nn.Module] | None = None
    task: str = ""  # of their configuration.json
    parts: tuple[str, ...] = ("frontend", "tokenizer")
    # Values of the front end that no configuration of theirs names.
    frontend: Mapping[str, Any] = field(default_factory=dict)


RECOGNISER: Kind[Release[Paraformer]] = Kind(
    "a recogniser",
    "paraformer-zh",
    "give it as model, or to bin/decode.py",
    tuple(BUILDERS),
    Release,
    build_recogniser,
    "auto-speech-recognition",
)
VAD: Kind[VadRelease] = Kind(
    "a VAD",
    "fsmn-vad",
    "give it as vad_model, or to bin/segment.py",
    ("FsmnVADStreaming",),
    VadRelease,
    build_fsmn_vad,
    "voice-activity-detection",
    ("frontend",),
)
PUNCTUATION: Kind[PunctuationRelease] = Kind(
    "a punctuation model",
    "ct-punc",
    "give it as punc_model, or to bin/punctuate.py",
    ("CTTransformer", "CTTransformerStreaming"),
    PunctuationRelease,
    build_ct_transformer,
    "punctuation",
    ("tokenizer",),
)
ALIGNER: Kind[AlignerRelease] = Kind(
    "a forced aligner",
    "fa-zh",
    "give it as model alone, with a sound and its text, or to bin/align.py",
    ("MonotonicAligner",),
    Release,
    build_aligner,
    "speech-timestamp",
)
SPEAKER: Kind[SpeakerRelease] = Kind(
    "a speaker model",
    "cam++",
    "give it as spk_model, or as model alone",
    ("CAMPPlus",),
    Release,
    build_campplus,
    "speaker-verification",
    ("frontend",),
    {"window": "povey", "upscale_samples": False},
)
KINDS: tuple[Kind[Any], ...] = (RECOGNISER, VAD, PUNCTUATION, ALIGNER, SPEAKER)


def kind_of(config: Mapping[str, Any]) -> Kind[Any] | None:
    """The kind of model that a configuration describes; None for one that is not known.

    >>> kind_of({"model": "CTTransformer"}).title, kind_of({"model": "Other"})
    ('a punctuation model', None)
    """
    return next((kind for kind in KINDS if config["model"] in kind.models), None)


def likeness_of(config: Mapping[str, Any]) -> Likeness:
    """The cosines that a speaker model's configuration names, else those of the released one."""
    own = Likeness()
    found = Likeness(
        config.get("spk_threshold", own.spk_threshold),
        (config.get("cb_kwargs") or {}).get("merge_thr", own.merge_thr),
    )
    for name, value in found._asdict().items():
        check(f"config.yaml: {name}", value, Limits(-1, 1))
    return found


def times_tokens(config: Mapping[str, Any]) -> bool:
    """Whether a recogniser says by itself when each token was spoken."""
    timed = config["model"] in ("BiCifParaformer", "SeacoParaformer")
    return timed and config.get("predictor") == "CifPredictorV3"


def hears_streams(config: Mapping[str, Any]) -> bool:
    """Whether a recogniser hears recordings as streams where nothing else is asked for."""
    return bool(config["model"] == "ParaformerStreaming")


def marks_streams(config: Mapping[str, Any]) -> bool:
    """Whether a punctuation model takes a text in pieces."""
    return bool(config["model"] == "CTTransformerStreaming")


def refuse_other(config: Mapping[str, Any], *wanted: Kind[Any], where: object = None) -> None:
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
