"""Records of what makes results: models by their contents, and options that change results."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from paraformer import options as opts
from paraformer.api.enrolment import files_of
from paraformer.backends.devices import computing_device, format_of
from paraformer.decode.hotwords import said_hotwords
from paraformer.models.integrity import content_id
from paraformer.models.kinds import hears_streams, kind_of
from paraformer.models.release import read_config, weights_of
from paraformer.output.resume import Made
from paraformer.shard import read_shard


def made_with(directories: Mapping[str, Path], given: Mapping[str, Any], cut: bool) -> Made:
    """Of keywords of `AutoModel` and of a call; cut: they say how a stream is cut, which makes one
    of a recording.
    """
    known = opts.all_fields(opts.BuildOptions, opts.CallOptions)
    idle = {*opts.WITHOUT_RESULT, *opts.NOT_BUILT, *opts.WITHOUT_EFFECT, *opts.FOLDERS}
    options = {
        key: value
        for key, value in given.items()
        if key not in idle and not (key in known and value == opts.default_of(known[key]))
    }
    config = read_config(directories["model"], {})
    options["dtype"] = _format(given, config)
    if options.get("output_format") == "json":  # it is printed alone
        del options["output_format"]
    if cut and not hears_streams(config):
        options["as a stream"] = True
    return _made(directories, options)


def made_by(
    directories: Mapping[str, Path], config: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Made:
    """Of the configuration of a program."""
    idle = {*opts.WITHOUT_RESULT, *opts.FOLDERS}
    options = {
        key: value
        for key, value in config.items()
        if key not in idle and value != defaults.get(key)
    }
    if "dtype" in defaults:
        options["dtype"] = _format(config, read_config(directories["model"], {}))
    return _made(directories, options)


def _format(given: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The number format that is computed in, whatever it was called; the device is asked only where
    it decides.
    """
    name = str(given.get("dtype") or "fp32")
    if name in ("fp32", "bf16"):
        return name
    return format_of(name, computing_device(str(given.get("device", "auto"))), kind_of(config))


def _made(directories: Mapping[str, Path], options: Mapping[str, Any]) -> Made:
    said = {key: CONTENTS.get(key, _itself)(value) for key, value in options.items()}
    models = {use: content_id(sorted({*_files(place)})) for use, place in directories.items()}
    places = {use: str(place) for use, place in directories.items()}
    plain = json.loads(json.dumps(said, ensure_ascii=False, default=str))
    return Made({**models, **plain}, places)


def _files(directory: Path) -> Iterator[Path]:
    """The files of a model that its results depend on."""
    yield weights_of(directory)
    yield from _named(read_config(directory, {}), directory)


def _named(part: Any, directory: Path) -> Iterator[Path]:
    """The files that a configuration names in its directory, itself included."""
    if isinstance(part, Mapping):
        for each in part.values():
            yield from _named(each, directory)
    elif isinstance(part, str) and directory in Path(part).parents and Path(part).is_file():
        yield Path(part)


def _itself(value: Any) -> Any:
    return value


def _content_of(path: Any) -> str:
    place = Path(path)
    # Whoever reads a file that is not there says so.
    return content_id([place]) if place.is_file() else str(path)


# Options whose values are files: what is in them counts, not what they are called.
CONTENTS: dict[str, Callable[[Any], str]] = {
    "hotword": said_hotwords,
    "lm_file": _content_of,
    "init_param": _content_of,
    "rttm": _content_of,
    "speakers": lambda said: content_id(files_of(str(said))),
    "shard": lambda said: str(read_shard(said) or ""),
}
