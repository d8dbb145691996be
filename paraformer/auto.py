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
from paraformer.decode.streaming import Chunking, Streamer
from paraformer.errors import ConfigError, ParaformerError
from paraformer.formats import ResultFolder, check_folder
from paraformer.hub import find_model
from paraformer.limits import check_fields
from paraformer.models.checkpoint import (
    Config,
    load_release,
    merge,
    override_keys,
    read_config,
)
from paraformer.online import OnlineModel

log = logging.getLogger(__name__)

# Options that say how a stream is cut: where one is given, a stream is meant.
CUTS = {"chunk_size", "encoder_chunk_look_back", "decoder_chunk_look_back"}

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
        check_fields(build)
        check_fields(opts.CallOptions(**self.defaults))
        _set_log_level(build)
        if build.ncpu is not None:
            torch.set_num_threads(build.ncpu)
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
        dtype = _precision(build, device)
        self.recognizer = Recognizer(release, device, dtype)
        self.online = OnlineModel(self.recognizer.release, device, dtype)
        self.streaming = config["model"] == "ParaformerStreaming" or bool(CUTS & {*self.defaults})

    @property
    def model_path(self) -> str:
        """The directory that the model was loaded from."""
        return str(self.directory)

    def generate(self, input: Any, **keywords: Any) -> list[Result]:  # noqa: A002
        """One result for each input, in its order: `key`, `text`, `confidence`, `audio_seconds`,
        `tokens` and `token_confidence`; with nbest above 1 also `nbest`, the readings.

        input: file, URL, wav.scp or other list, folder, bytes, array (with `fs`), or a list of
        these. What cannot be recognised has an empty text and `error`, and a warning in the log.

        A streaming model (or any that can stream, when chunk_size is given) decodes as the words
        come, and adds `timestamp`. With `cache`, a dict that is empty at first, `input` is the next
        piece of a stream, the last one with is_final=True, and `text` what this piece adds.
        """
        return list(self.stream(input, **keywords))

    def stream(self, input: Any, **keywords: Any) -> Iterator[Result]:  # noqa: A002
        """The same results one after another; some minutes of audio are held at a time."""
        call = self._call_options(keywords)
        items = list_items(input, call.key, call.segments)
        if call.cache is not None:
            return iter([self._feed(items, call)])
        search = Search(**{f.name: getattr(call, f.name) for f in fields(Search)})
        batching = Batching(call.batch_size, call.batch_size_s)
        folder = ResultFolder(call.output_dir, call.nbest) if call.output_dir else None
        if self.streaming or CUTS & {*keywords}:
            return self._streamed(items, call, folder)
        return self._results(items, call, search, batching, folder)

    def streamer(self, **keywords: Any) -> Streamer:
        """A stream to feed step by step: chunk_size, encoder_chunk_look_back and
        decoder_chunk_look_back as in `generate`.
        """
        return Streamer(self.online.recognizer(_chunking(self._call_options(keywords))))

    def _feed(self, items: list[Item], call: opts.CallOptions) -> Result:
        if len(items) != 1 or call.output_dir:
            raise ConfigError("cache: give one piece of one stream a call, and no output_dir")
        end = call.is_final or isinstance(items[0].source, (str, Path))  # a file is a whole stream
        return self.online.feed(items[0], call.fs, _chunking(call), call.cache, end)

    def _streamed(
        self, items: list[Item], call: opts.CallOptions, folder: ResultFolder | None
    ) -> Iterator[Result]:
        outcomes = self.online.transcribe(items, call.fs, _chunking(call))
        with closing(folder) if folder else nullcontext():
            for item, outcome in zip(items, _bar(outcomes, len(items), call), strict=True):
                if isinstance(outcome, ParaformerError):
                    result = _result(item.key, outcome, 0.0, 1)
                else:
                    result = {**outcome[0], "audio_seconds": round(outcome[1], 3)}
                if folder:
                    error = result.get("error", "")
                    readings = [] if error else [(result["text"], result["tokens"])]
                    folder.add(item.key, readings, error)
                yield result

    def _call_options(self, keywords: Mapping[str, Any]) -> opts.CallOptions:
        opts.refuse_not_built(keywords)
        passive = (*opts.NOT_BUILT, *opts.WITHOUT_EFFECT, *opts.names(opts.BuildOptions))
        given = {key: value for key, value in keywords.items() if key not in passive}
        known = opts.names(opts.CallOptions)
        for key in given:
            if key not in known:
                raise opts.unknown_key(key, known, "generate")
        call = opts.CallOptions(**{**self.defaults, **given})
        check_fields(call)
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

        outcomes = self.recognizer.stream(features(), search, batching)
        bar = _bar(outcomes, len(items), call)
        with closing(folder) if folder else nullcontext():
            for place, outcome in enumerate(bar):
                result = _result(items[place].key, outcome, seconds[place], search.nbest)
                if folder:
                    folder.add(items[place].key, _readings(outcome), result.get("error", ""))
                yield result


def _chunking(call: opts.CallOptions) -> Chunking:
    """How a stream is cut."""
    return Chunking(
        tuple(call.chunk_size),  # type: ignore[arg-type]  # its length is checked there
        call.encoder_chunk_look_back,
        call.decoder_chunk_look_back,
    )


def _bar(outcomes: Iterator[Any], total: int, call: opts.CallOptions) -> Iterator[Any]:
    hidden = True if call.disable_pbar or total < 2 else None
    return iter(tqdm(outcomes, total=total, unit="utt", disable=hidden, leave=False))


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
    device = parse_device(name)
    if device.type == "cpu" or is_usable(device):
        return device
    log.warning("device %s is not usable here; the CPU is used", name)
    return torch.device("cpu")


def parse_device(name: str) -> torch.device:
    """auto, cpu, cuda, cuda:N or N; auto is cuda where there is one."""
    name = str(name).lower()
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(f"cuda:{name}" if name.isdigit() else name)
    except RuntimeError:
        raise ConfigError(f"device={name}: not known; use auto, cpu, cuda or cuda:0") from None


def is_usable(device: torch.device) -> bool:
    """Whether there is such a GPU."""
    there = device.type == "cuda" and torch.cuda.is_available()
    return there and (device.index or 0) < torch.cuda.device_count()


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
