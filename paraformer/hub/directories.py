"""Names of models become directories: a path, a model that came with the package, what lies in the
cache of a hub, and only then a download.

What is found on this machine is taken as it is: no question to a server, no newer version.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from paraformer.errors import CheckpointError, ConfigError
from paraformer.files import HALF_WRITTEN, half_written
from paraformer.hub.huggingface import HuggingFace
from paraformer.hub.modelscope import ModelScope
from paraformer.hub.repository import Hub, Repository, named_files

BUNDLED = Path(__file__).resolve().parent.parent / "bundled"
# Short name -> ids at ModelScope and Hugging Face.
RELEASED = {
    "paraformer": (
        "iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-pytorch",
        "funasr/paraformer-zh",
    ),
    "paraformer-zh": (
        "iic/speech_seaco_paraformer_large_asr_nat-zh-cn-16k-common-vocab8404-pytorch",
        "funasr/paraformer-zh",
    ),
    "paraformer-en": (
        "iic/speech_paraformer-large-vad-punc_asr_nat-en-16k-common-vocab10020",
        "funasr/paraformer-en",
    ),
    "paraformer-zh-streaming": (
        "iic/speech_paraformer-large_asr_nat-zh-cn-16k-common-vocab8404-online",
        "funasr/paraformer-zh-streaming",
    ),
    "fsmn-vad": ("iic/speech_fsmn_vad_zh-cn-16k-common-pytorch", "funasr/fsmn-vad"),
    "ct-punc": (
        "iic/punc_ct-transformer_cn-en-common-vocab471067-large",
        "funasr/ct-punc",
    ),
    "ct-punc-c": ("iic/punc_ct-transformer_zh-cn-common-vocab272727-pytorch",) * 2,
    "fa-zh": ("iic/speech_timestamp_prediction-v1-16k-offline", "funasr/fa-zh"),
    "cam++": ("iic/speech_campplus_sv_zh-cn_16k-common", "funasr/campplus"),
}
HUBS: dict[str, tuple[int, type[Hub]]] = {
    "ms": (0, ModelScope),
    "modelscope": (0, ModelScope),
    "hf": (1, HuggingFace),
    "huggingface": (1, HuggingFace),
}
# Whose models are meant even where a folder of that name lies in the working directory.
OWNERS = ("iic", "damo", "funasr")
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_REVISION = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)*")


def bundled_models() -> list[str]:
    """Names of the models that came with the package and have their weights."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/model.pt"))


def find_model(
    name: str | Path,
    hub: str = "ms",
    revision: str | None = None,
    *,
    offline: bool = False,
    progress: bool = True,
) -> Path:
    """The directory of a model: an existing path as it is, else a bundled model of that name, else
    the model of that short name or id (owner/name) at the hub, in its cache or fetched into it.

    revision is a branch, tag or commit there; a path and a bundled model have none. With offline,
    or HF_HUB_OFFLINE=1 in the environment, nothing is fetched. progress shows a bar on a terminal.
    """
    wanted = {"model": (name, revision)}
    return find_models(wanted, hub, offline=offline, progress=progress)["model"]


def find_models(
    wanted: Mapping[str, tuple[str | Path, str | None]],
    hub: str = "ms",
    *,
    offline: bool = False,
    progress: bool = True,
) -> dict[str, Path]:
    """The same for several, by what they are for: name and revision each. None is fetched before
    all names are known.
    """
    if hub not in HUBS:
        raise ConfigError(f"hub={hub}: not known; use ms (ModelScope) or hf (Hugging Face)")
    offline = offline or _is_on("HF_HUB_OFFLINE")
    found = {
        use: _locate(use, name, hub, revision, offline) for use, (name, revision) in wanted.items()
    }
    absent = [place for place in found.values() if isinstance(place, Repository)]
    if absent:
        from paraformer.hub.download import download
    return {
        use: download(place, progress) if isinstance(place, Repository) else place
        for use, place in found.items()
    }


def _locate(
    use: str, name: str | Path, hub: str, revision: str | None, offline: bool
) -> Path | Repository:
    """A directory of this machine, or what is to be fetched."""
    if not isinstance(name, (str, os.PathLike)):
        raise ConfigError(f"{use}={name!r}: give a model name or a directory")
    if not str(name).strip():
        raise ConfigError(f"{use}: is empty; give a model name or a directory")
    path = Path(name).expanduser()
    if path.is_file():
        raise CheckpointError(f"{path}: is a file; give the directory that holds it")
    if path.is_dir():
        return _with_weights(path)
    places = f"looked for {path.absolute()}"
    if str(name) == path.name:
        bundled = BUNDLED / path.name
        if bundled.is_dir():
            return _with_weights(bundled)
        places += f" and {bundled}"
    repository = _repository(use, str(name), hub, revision)
    if repository is None:
        here, released = ", ".join(bundled_models()) or "none", ", ".join(RELEASED)
        raise CheckpointError(
            f"{use} '{name}': no such directory or name ({places}); bundled models: {here}; "
            f"names of released ones: {released}"
        )
    cached = repository.cached()
    if cached is None and offline:
        raise CheckpointError(f"{use} '{name}': {_absent(str(name), repository, places)}")
    return cached or repository


def _repository(use: str, name: str, hub: str, revision: str | None) -> Repository | None:
    """The repository that a name stands for at a hub; None if there is none."""
    index, kind = HUBS[hub]
    if name not in RELEASED and not _is_id(name):
        return None
    revision = str(revision or "").strip()
    if revision and not _REVISION.fullmatch(revision):
        raise ConfigError(f"{use}_revision={revision}: give a branch, tag or commit of the hub")
    return Repository(kind(), RELEASED[name][index] if name in RELEASED else name, revision)


def _is_id(name: str) -> bool:
    """Whether owner/name of a hub is meant, and not a folder that is missing in one that is there.

    >>> [_is_id(name) for name in ("iic/x", "some.body/x-1", "x", "a/b/c", "../x", r"C:\\x")]
    [True, True, False, False, False, False]
    """
    owner = name.partition("/")[0]
    return bool(_ID.fullmatch(name)) and (owner in OWNERS or not Path(owner).is_dir())


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").upper() in ("1", "ON", "YES", "TRUE")


def _absent(name: str, repository: Repository, places: str) -> str:
    """Why there is no model without a network, where it was looked for, and what to do."""
    hub, model, revision = repository
    there = [folder for folder in hub.folders(model, revision) if folder.is_dir()]
    parts = [f"{folder} (lacks {', '.join(hub.lacks(folder))})" for folder in there]
    looked = ", ".join(parts or map(str, repository.places()))
    wanted = f"the rest of {model}" if parts else model
    remedy = f"leave out offline once to fetch {wanted}, or give its directory"
    if kept := hub.revisions(model):
        remedy = f"its revision {', '.join(kept)} is here; ask for one that is"
    for key in ("ms", "hf"):
        other = _repository("model", name, key, revision)
        if key != hub.key and other and other.cached():
            remedy = f"that of {other.hub.title} is here: hub={key}"
    return f"not on this machine ({places}, then in {looked}); offline: {remedy}"


def _with_weights(path: Path) -> Path:
    """A directory that at least has a configuration and the weights it should have, or graphs."""
    if (path / "configuration.json").is_file() or any(path.glob("*.onnx")):
        return path
    for name in ("config.yaml", named_files(path)["init_param"]):
        if not (path / name).is_file():
            if half_written(path):
                raise CheckpointError(f"{path}: {HALF_WRITTEN}")
            raise CheckpointError(
                f"{path / name}: no such file; a model directory holds config.yaml and model.pt"
            )
    return path
