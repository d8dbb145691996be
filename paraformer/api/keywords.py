"""Checks of the keywords of `AutoModel` against the models that they are given for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraformer import options as opts
from paraformer.api.diarization import BY_CHANNEL, MODES
from paraformer.backends.devices import check_backend
from paraformer.errors import ConfigError
from paraformer.models.graphs import is_graph
from paraformer.models.release import Config, override_keys, read_config, weights_for


def check_speakers(build: opts.BuildOptions) -> None:
    """Refuse a speaker model without segments to hear, and a mode that there is not."""
    if build.spk_model and not build.vad_model:
        raise ConfigError("spk_model: hears the segments of a VAD; give vad_model=fsmn-vad too")
    if build.spk_model and build.spk_mode == BY_CHANNEL:
        raise ConfigError("spk_mode=channel: each channel is a speaker; leave out spk_model")
    if build.spk_mode and build.spk_mode not in MODES:
        raise ConfigError(f"spk_mode={build.spk_mode}: not known; use {', '.join(MODES)}")


def chosen_weights(directory: Path, build: opts.BuildOptions) -> dict[str, Any]:
    """`init_param` of a model, where the directory's own are not what its options ask for."""
    check_backend(build.backend)
    if not build.init_param:
        return weights_for(directory, build.backend)
    if build.backend and is_graph(build.init_param) != (build.backend == "onnx"):
        raise ConfigError(
            f"backend={build.backend}: does not compute init_param={build.init_param}; leave it out"
        )
    return {"init_param": build.init_param}


def check_own(part: str, given: Mapping[str, Any], directory: Path | None) -> None:
    """Refuse `vad_kwargs` or `punc_kwargs` that the model does not take, or that have no model."""
    if not given:
        return
    if directory is None:
        raise ConfigError(f"{part}_kwargs: options of {part}_model; give it too, or leave them out")
    check_overrides(read_config(directory, {}), given, f"{part}_kwargs")


def check_overrides(config: Config, given: Mapping[str, Any], where: str = "AutoModel") -> None:
    """Refuse a keyword that is neither in the configuration nor known to its part."""
    known = flatten(override_keys(config))
    for key in flatten(given):
        if key not in known:
            options = opts.names(opts.BuildOptions, opts.CallOptions)
            names = (*(options if where == "AutoModel" else ()), *known)
            raise opts.unknown_key(key, names, where, "funasr")


def flatten(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`.

    >>> flatten({"a": {"b": 1}, "c": 2})
    {'a.b': 1, 'c': 2}
    """
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
