"""`AutoModel`: from any input to result dicts, one for each input, in its order."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from paraformer import options as opts
from paraformer.data.inputs import Cache, Item, list_items
from paraformer.decode.recognize import Batching, Outcome, Reading, Recognizer, Search
from paraformer.errors import ConfigError, ParaformerError
from paraformer.formats import ResultFolder, check_folder
from paraformer.hub import find_model
from paraformer.models.checkpoint import (
    Config,
    load_release,
    merge,
    override_keys,
    read_config,
)

log = logging.getLogger(__name__)

Result = dict[str, Any]


class AutoModel:
    """A model by name or directory, ready to recognise.

    Keywords are those of `options.BuildOptions`, of `options.CallOptions` (the defaults of each
    call) and the keys of the model's config.yaml, nested ones as dicts; others are refused.
    """

    def __init__(self, model: str | Path = opts.DEFAULT_MODEL, **keywords: Any) -> None:
        opts.refuse_not_built(keywords)
        passive = (*opts.NOT_BUILT, *opts.WITHOUT_EFFECT)
        given = {key: value for key, value in keywords.items() if key not in passive}
        build = opts.BuildOptions(**_take(given, opts.BuildOptions))
        self.defaults = _take(given, opts.CallOptions)
        _set_log_level(build)
        if build.ncpu is not None:
            if int(build.ncpu) < 1:
                raise ConfigError(f"ncpu={build.ncpu}: give 1 or more")
            torch.set_num_threads(int(build.ncpu))
        self.directory = find_model(model, build.hub)
        weights = {"init_param": build.init_param} if build.init_param else {}
        config = read_config(self.directory, weights)
        check_overrides(config, given)
        if self.defaults.get("output_dir"):
            check_folder(self.defaults["output_dir"])  # before the model is loaded
        # Fresh weights are drawn before they are replaced: the caller's random numbers stay.
        with torch.random.fork_rng(devices=[]):
            release = load_release(merge(config, given), self.directory)
        device = choose_device(build.device)
        self.recognizer = Recognizer(release, device, _precision(build, device))

    @property
    def model_path(self) -> str:
        """The directory that the model was loaded from."""
        return str(self.directory)

    def generate(self, input: Any, **keywords: Any) -> list[Result]:  # noqa: A002
        """One result for each input, in its order: `key`, `text`, `confidence`, `audio_seconds`,
        `tokens` and `token_confidence`; with nbest above 1 also `nbest`, the readings.

        input: file, URL, wav.scp or other list, folder, bytes, array (with `fs`), or a list of
        these. What cannot be recognised has an empty text and `error`, and a warning in the log.
        """
        return list(self.stream(input, **keywords))

    def stream(self, input: Any, **keywords: Any) -> Iterator[Result]:  # noqa: A002
        """The same results one after another; some minutes of audio are held at a time."""
        call = self._call_options(keywords)
        search = Search(**{f.name: getattr(call, f.name) for f in fields(Search)})
        batching = Batching(call.batch_size, call.batch_size_s)
        items = list_items(input, call.key, call.segments)
        folder = ResultFolder(call.output_dir, call.nbest) if call.output_dir else None
        return self._results(items, call, search, batching, folder)

    def _call_options(self, keywords: Mapping[str, Any]) -> opts.CallOptions:
        opts.refuse_not_built(keywords)
        passive = (*opts.NOT_BUILT, *opts.WITHOUT_EFFECT, *opts.names(opts.BuildOptions))
        given = {key: value for key, value in keywords.items() if key not in passive}
        known = opts.names(opts.CallOptions)
        for key in given:
            if key not in known:
                raise opts.unknown_key(key, known, "generate")
        call = opts.CallOptions(**{**self.defaults, **given})
        if call.data_type != "sound":
            raise ConfigError(f"data_type={call.data_type}: not in this version; use sound")
        return call

    def _results(
        self,
        items: list[Item],
        call: opts.CallOptions,
        search: Search,
        batching: Batching,
        folder: ResultFolder | None,
    ) -> Iterator[Result]:
        frontend = self.recognizer.release.frontend
        seconds: list[float] = []

        def features() -> Iterator[Tensor | ParaformerError]:
            cache = Cache()
            for item in items:
                try:
                    wave = item.read(call.fs, frontend.fs, cache)
                except ParaformerError as error:
                    seconds.append(0.0)
                    yield error
                    continue
                seconds.append(len(wave) / frontend.fs)
                yield frontend(wave)

        hidden = True if call.disable_pbar or len(items) < 2 else None
        outcomes = self.recognizer.stream(features(), search, batching)
        bar = tqdm(outcomes, total=len(items), unit="utt", disable=hidden, leave=False)
        with closing(folder) if folder else nullcontext():
            for place, outcome in enumerate(bar):
                result = _result(items[place].key, outcome, seconds[place], search.nbest)
                if folder:
                    folder.add(items[place].key, _readings(outcome), result.get("error", ""))
                yield result


def _result(key: str, outcome: Outcome, seconds: float, nbest: int) -> Result:
    if isinstance(outcome, ParaformerError):
        log.error("'%s': %s", key, str(outcome).replace("\n", " "))
        reading = Reading([], [], "", "", 0.0, [])
        return {"key": key, **_fields(reading), "audio_seconds": seconds, "error": str(outcome)}
    result = {"key": key, **_fields(outcome.best), "audio_seconds": round(seconds, 3)}
    if nbest > 1:
        result["nbest"] = [{**_fields(r), "score": round(r.score, 4)} for r in outcome.nbest]
    return result


def _fields(reading: Reading) -> Result:
    return {
        "text": reading.text,
        "confidence": round(reading.confidence, 4),
        "tokens": reading.tokens,
        "token_confidence": [round(c, 4) for c in reading.confidences],
    }


def _readings(outcome: Outcome) -> list[tuple[str, list[str]]]:
    if isinstance(outcome, ParaformerError):
        return []
    return [(reading.tight, reading.tokens) for reading in outcome.nbest]


def _take(given: dict[str, Any], kind: type) -> dict[str, Any]:
    """Move the options of a kind out of `given`."""
    return {name: given.pop(name) for name in opts.names(kind) if name in given}


def _set_log_level(build: opts.BuildOptions) -> None:
    level = str(build.log_level).upper() or ("ERROR" if build.disable_log else "")
    if not level:
        return
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ConfigError(f"log_level={build.log_level}: use DEBUG, INFO, WARNING or ERROR")
    logging.getLogger("paraformer").setLevel(level)


def choose_device(name: str) -> torch.device:
    """The device of that name; where it is missing the CPU, and the log says so."""
    name = str(name).lower()
    there = torch.cuda.is_available()
    if name == "auto":
        return torch.device("cuda" if there else "cpu")
    try:
        device = torch.device(f"cuda:{name}" if name.isdigit() else name)
    except RuntimeError:
        raise ConfigError(f"device={name}: not known; use auto, cpu, cuda or cuda:0") from None
    if device.type == "cuda" and there and (device.index or 0) < torch.cuda.device_count():
        return device
    if device.type != "cpu":
        log.warning("device %s is not usable here; the CPU is used", name)
    return torch.device("cpu")


def _precision(build: opts.BuildOptions, device: torch.device) -> torch.dtype | None:
    if build.bf16:
        return torch.bfloat16
    if build.fp16 and device.type == "cpu":
        log.warning("fp16 is not for the CPU; float32 is used")
    return torch.float16 if build.fp16 and device.type != "cpu" else None


def check_overrides(config: Config, given: Mapping[str, Any]) -> None:
    """Refuse a keyword that is neither in the configuration nor known to its part."""
    known = flatten(override_keys(config))
    for key in flatten(given):
        if key not in known:
            names = (*opts.names(opts.BuildOptions, opts.CallOptions), *known)
            raise opts.unknown_key(key, names, "AutoModel")


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
