"""`AutoModel`: from any input to result dicts, one for each input, in its order."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import torch

from paraformer import options as opts
from paraformer.api.alignment import AlignTask
from paraformer.api.detection import VadTask
from paraformer.api.diarization import MODES
from paraformer.api.graphs import write_graphs
from paraformer.api.keywords import (
    check_overrides,
    check_own,
    check_speakers,
    chosen_weights,
    flatten,
)
from paraformer.api.live import LiveSession
from paraformer.api.other_tasks import OTHER_TASKS
from paraformer.api.record import made_with
from paraformer.api.tasks import (
    SpeechTask,
    Task,
    Work,
    speech_layout,
    stream_items,
)
from paraformer.backends.devices import place
from paraformer.backends.forks import check_gpu, most_threads
from paraformer.data.audio.channels import MIX, check_channel
from paraformer.data.inputs.pieces import RefusedError
from paraformer.data.inputs.sources import Inputs, Item, ListedItems, is_missing
from paraformer.decode.hotwords import held_hotwords, is_given
from paraformer.decode.punctuate import Punctuator
from paraformer.decode.recognize import Recognizer
from paraformer.decode.streaming import Streamer
from paraformer.decode.vad import VoiceActivity
from paraformer.decode.voices import Voices
from paraformer.errors import CheckpointError, ConfigError, MissingFileError
from paraformer.files import check_folder
from paraformer.hub.directories import find_model, find_models
from paraformer.models.kinds import (
    ALIGNER,
    PUNCTUATION,
    RECOGNISER,
    SPEAKER,
    VAD,
    Kind,
    hears_streams,
    kind_of,
    refuse_other,
    times_tokens,
)
from paraformer.models.release import (
    Config,
    load,
    load_punctuation,
    load_release,
    load_speakers,
    load_vad,
    merge,
    read_config,
    weights_for,
)
from paraformer.output.result import Fields, Result
from paraformer.output.resume import Made
from paraformer.output.sink import Results
from paraformer.output.tables import TEXT, Layout, check_format
from paraformer.output.timed_formats import is_timed

log = logging.getLogger(__name__)

# Options that say how a stream is cut: where one is given, a stream is meant.
CUTS = {"chunk_size", "encoder_chunk_look_back", "decoder_chunk_look_back"}


def stream_pending(source: Any, model: str, settings: Mapping[str, Any]) -> Results:
    """The results of `AutoModel(model, **settings).stream(source)` with resume; the model is loaded
    only if there is something left to do.
    """
    settings = held(settings)
    layout = layout_ahead(model, settings)
    if layout is None:
        return AutoModel(model, **settings).stream(source)
    call = opts.CallOptions(**_take(dict(settings), opts.CallOptions))
    check_format(call.output_format)
    inputs = Inputs(source, call.key, call.segments, call.channel)

    def work(items: Iterator[Item], total: int) -> Iterator[Result]:
        first = next(items, None)
        if first is not None:
            results = AutoModel(model, **settings).shared_work().results
            yield from results(chain([first], items), total)

    return stream_items(inputs, call, layout, work, made_of(model, settings))


def held(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The same keywords, whose hotwords are read here, once for all that takes them afterwards."""
    return {
        key: held_hotwords(value) if key == "hotword" else value for key, value in settings.items()
    }


def made_of(model: str, settings: Mapping[str, Any]) -> Made | None:
    """The record of what `AutoModel(model, **settings)` makes results with, made without its
    weights; None where no folder of results is asked for.
    """
    if not settings.get("output_dir"):
        return None
    build = opts.BuildOptions(**_take(dict(settings), opts.BuildOptions))
    directories = find_models(_models(model, build), build.hub, offline=build.offline)
    return made_with(directories, flatten(settings), bool(CUTS & {*settings}))


def layout_ahead(model: str, settings: Mapping[str, Any]) -> Layout | None:
    """How `AutoModel(model, **settings)` writes results of recordings, told by its configuration
    without its weights; None where the model is not here, or does something else.
    """
    given = dict(settings)
    build = opts.BuildOptions(**_take(given, opts.BuildOptions))
    defaults = _take(given, opts.CallOptions)
    call = opts.CallOptions(**defaults)
    try:
        directory = find_model(model, build.hub, build.model_revision, offline=True)
        config = merge(read_config(directory, {}), given)
    except CheckpointError:
        return None
    if kind_of(config) == VAD:
        return TEXT
    if kind_of(config) != RECOGNISER:
        return None
    timed = times_tokens(config) or call.pred_timestamp or is_timed(call.output_format)
    return speech_layout(timed, _hears_streams(config, defaults))


def _hears_streams(config: Config, defaults: Mapping[str, Any]) -> bool:
    return hears_streams(config) or bool(CUTS & {*defaults})


class SharedWork(NamedTuple):
    """How results lie in `output_dir`, that of an input in which there is nothing, and the function
    that makes them.
    """

    layout: Layout
    silence: Result
    results: Work


class AutoModel:
    """A model by name or directory, ready to work: recognition, alone or with `vad_model` and
    `punc_model`; a VAD; or punctuation.

    Keywords are those of `options.BuildOptions`, of `options.CallOptions` (the defaults of each
    call) and the keys of the model's config.yaml, nested ones as dicts; others are refused.
    """

    def __init__(self, model: str | Path = opts.DEFAULT_MODEL, **keywords: Any) -> None:
        keywords = opts.renamed(keywords)
        self._made = {"model": model, **keywords}
        opts.refuse_not_built(keywords)
        passive = (*opts.NOT_BUILT, *opts.WITHOUT_EFFECT)
        given = {key: value for key, value in keywords.items() if key not in passive}
        self._build = build = opts.BuildOptions(**_take(given, opts.BuildOptions))
        self.defaults = _take(given, opts.CallOptions)
        opts.CallOptions(**self.defaults)  # refuses what is out of its limits
        check_channel(self.defaults.get("channel", MIX))
        check_speakers(build)  # before any model is fetched
        _set_log_level(build)
        opts.remark_language(keywords)
        if build.ncpu is not None:
            torch.set_num_threads(most_threads(build.ncpu))
        quiet = bool(self.defaults.get("disable_pbar"))
        self.directories = find_models(
            _models(model, build), build.hub, offline=build.offline, progress=not quiet
        )
        self.directory = self.directories["model"]
        if self.defaults.get("output_dir"):
            check_folder(self.defaults["output_dir"])  # before the model is loaded
        self.task = self._load(build, given)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or what another process gets, is loaded anew: on some systems torch cannot send
        weights that are laid out for the CPU.
        """
        return partial(AutoModel, **self._made), ()

    def _load(self, build: opts.BuildOptions, given: dict[str, Any]) -> Task:
        """The task of the model, by what its config.yaml says it is."""
        weights = chosen_weights(self.directory, build)
        config = read_config(self.directory, weights)
        _check_kinds(config, self.directories)
        check_overrides(config, given)
        for part, own in (
            ("vad", build.vad_kwargs),
            ("punc", build.punc_kwargs),
            ("spk", build.spk_kwargs),
        ):
            check_own(part, own, self.directories.get(f"{part}_model"))
        kind = kind_of(config)
        if kind in OTHER_TASKS:
            return OTHER_TASKS[kind](self.directory, {**given, **weights}, build)
        device, dtype = place(build.device, build.dtype)
        release = load_release(merge(config, given), self.directory, mapped=True)
        recognizer = Recognizer(release, device, dtype)
        vad = punctuator = None
        if build.vad_model:
            vad = VoiceActivity(load_vad(*self._beside("vad_model", build.vad_kwargs)))
        if build.punc_model:
            punctuation = load_punctuation(*self._beside("punc_model", build.punc_kwargs))
            punctuator = Punctuator(punctuation, device)
        streaming = _hears_streams(config, self.defaults)
        second = None
        if build.second_pass and not streaming:
            raise ConfigError("second_pass: goes with a streaming model, or with chunk_size")
        if build.second_pass:
            whole = load(RECOGNISER, *self._beside("second_pass", {}), mapped=True)
            second = Recognizer(whole, device, dtype)
        voices = None
        if build.spk_model:
            voices = Voices(load_speakers(*self._beside("spk_model", build.spk_kwargs)), device)
        mode = MODES[build.spk_mode or "default"]
        return SpeechTask(recognizer, streaming, vad, punctuator, second, voices, mode)

    def _beside(self, use: str, given: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
        """The directory of a model beside the first one, its weights for the backend, the rest."""
        folder = self.directories[use]
        return folder, {**weights_for(folder, self._build.backend, required=False), **given}

    @property
    def model_path(self) -> str:
        """The directory that the model was loaded from."""
        return str(self.directory)

    @property
    def model(self) -> torch.nn.Module:
        """The network as it computes: on a CPU, with packed weights, which are no parameters."""
        return self.task.release.model

    @property
    def kwargs(self) -> dict[str, Any]:
        """The configuration, whose `model` is the name of a class, with what was given beside it,
        and the parts that it made.
        """
        release = self.task.release
        made = {"frontend": release.frontend, "tokenizer": release.tokenizer}
        where = {"model_path": self.model_path, "device": str(self.task.device)}
        return {**self._made, **release.config, **made, **where}

    @property
    def streaming(self) -> bool:
        """Whether audio is heard as a stream where the call does not say otherwise."""
        return isinstance(self.task, SpeechTask) and self.task.streaming

    @property
    def recognizer(self) -> Recognizer:
        """The recogniser; a VAD and a punctuation model have none."""
        if not isinstance(self.task, SpeechTask):
            raise ConfigError(f"{self.directory}: does not recognise speech; give another model")
        return self.task.recognizer

    def generate(self, input: Any, **keywords: Any) -> list[Fields]:  # noqa: A002
        """One result for each input, in its order: `key`, `text`, `confidence`, `audio_seconds`,
        `tokens` and `token_confidence`; with nbest above 1 also `nbest`, the readings; with
        vad_model `segments` (start and end in ms, text); of a stretch that a Kaldi `segments` names
        also `recording` and `start`, where it begins there in ms, from which all times count. A VAD
        gives `value`, [start, end] in ms.

        input: file, URL, wav.scp or other list, folder, bytes, array (with `fs`), or a list of
        these; a text, list or file of texts for punctuation. What cannot be recognised has an empty
        text and `error`, and a warning in the log; a single file that is not there is an error.

        A streaming model (or any that can stream, when chunk_size is given) decodes as the words
        come, and adds `timestamp`. With `cache`, a dict that is empty at first, `input` is the next
        piece of a stream, the last one with is_final=True, and the result what this piece adds;
        with a VAD, punctuation or second pass, the segments it ended, and `partial`, what the next
        one says so far. A model that does not stream by the above takes no heed of `cache`.
        """
        results = list(self.stream(input, **keywords))
        if results and "error" in results[0] and is_missing(input):
            raise MissingFileError(results[0]["error"])
        return results

    __call__ = generate

    def export(
        self,
        *,
        type: str = "onnx",
        quantize: bool = False,
        output_dir: str = "",
        layout: str = "both",
        dtype: str = "",
        calibrate: str = "",
        check: str = "",
        peers: str = "",
    ) -> str:
        """Write ONNX graphs of the model as it was released, proved beside torch: see
        `bin/export_onnx.py`. quantize is dtype="int8"; output_dir is by default NAME-onnx here.

        Returns the folder, whose export.json says what was found; the log says it too.
        """
        if type != "onnx":
            raise ConfigError(f"export: type={type}: not known; use onnx")
        out = output_dir or f"{self.directory.name}-onnx"
        dtype = dtype or ("int8" if quantize else "fp32")
        chosen = opts.ExportOptions(
            model=str(self.directory),
            out=out,
            layout=layout,
            dtype=dtype,
            calibrate=calibrate,
            check=check,
            peers=peers,
        )
        for line in write_graphs(chosen):
            log.info("%s", line)
        return str(Path(out).expanduser())

    def stream(self, input: Any, **keywords: Any) -> Results:  # noqa: A002
        """The same results one after another; some minutes of audio are held at a time.

        With resume=True those that an earlier run has finished in output_dir are left out.
        """
        keywords = opts.renamed(keywords)  # once: what can be read only once is a list then
        call = self._call_options(keywords)
        cut, made = bool(CUTS & {*keywords, *self.defaults}), None
        if call.cache is not None:
            if not isinstance(call.cache, dict):
                raise ConfigError("cache: give a dict, empty at first, the same one for every call")
            if self.task.streams(cut):
                return Results(iter([_fed(self.task, input, call)]))
        if call.output_dir:
            given = {**self._made, **keywords}
            if "hotword" in given:
                given["hotword"] = call.hotword  # as it has been read
            made = made_with(self.directories, flatten(given), cut)
        return self.task.stream(input, call, cut, made)

    def write(
        self,
        items: ListedItems,
        layout: Layout | None = None,
        made: Made | None = None,
        work: Work | None = None,
    ) -> Results:
        """Results of items by the defaults of this model, recordings heard as a whole even by a
        streaming one; layout: of their folder, where it is not that of `generate`; made: what they
        are made with; work: makes them in another way.
        """
        call, cut = self._call_options({}), bool(CUTS & {*self.defaults})
        task = self.task.hearing_whole() if isinstance(self.task, SpeechTask) else self.task
        own = task.layout(call, cut)
        work = work or partial(task.results, call=call, cut=cut)
        layout = own if layout is None else layout._replace(joined=own.joined)
        return stream_items(items, call, layout, work, made)

    def shared_work(self, whole: bool = False) -> SharedWork:
        """The work of this model on recordings by its defaults, for processes that share a list;
        whole: also a streaming one hears them as a whole.
        """
        task = self.task
        if not isinstance(task, (SpeechTask, VadTask)):
            raise ConfigError("nj: shares recordings among processes; leave it out for this model")
        call, cut = self._call_options({}), bool(CUTS & {*self.defaults})
        if whole and isinstance(task, SpeechTask):
            task = task.hearing_whole()
        work = partial(task.results, call=call, cut=cut)
        return SharedWork(task.layout(call, cut), task.silence(call, cut), work)

    def streamer(self, **keywords: Any) -> Streamer:
        """A stream to feed step by step: chunk_size, encoder_chunk_look_back and
        decoder_chunk_look_back as in `generate`.
        """
        if not isinstance(self.task, SpeechTask):
            raise ConfigError(f"{self.directory}: does not recognise speech; give another model")
        return self.task.streamer(self._call_options(keywords))

    def live(self, **keywords: Any) -> LiveSession:
        """A stream to feed step by step that gives events, by this model with its vad_model,
        punc_model and second_pass; `LiveSession(session.pipeline)` is another one beside it.
        """
        if not isinstance(self.task, SpeechTask):
            raise ConfigError(f"{self.directory}: does not recognise speech; give another model")
        return self.task.live(self._call_options(keywords)).session()

    def _call_options(self, keywords: Mapping[str, Any]) -> opts.CallOptions:
        check_gpu(self.task.device.type)
        keywords = opts.renamed(keywords)
        opts.refuse_not_built(keywords)
        opts.remark_language(keywords)
        built = opts.names(opts.BuildOptions)
        for key in {*built} & {*keywords} - {*opts.LOGGING}:
            if keywords[key] is not None and keywords[key] != getattr(self._build, key):
                raise ConfigError(f"{key}: is chosen once, in AutoModel({key}=...); not in a call")
        passive = (*opts.NOT_BUILT, *opts.WITHOUT_EFFECT, *built)
        given = {key: value for key, value in keywords.items() if key not in passive}
        known = opts.names(opts.CallOptions)
        for key in given:
            if key not in known:
                raise opts.unknown_key(key, known, "generate", "funasr")
        call = opts.CallOptions(**{**self.defaults, **given})
        self._check_data_type(opts.data_types(call.data_type))
        if not is_given(call.hotword):
            return call
        if not isinstance(self.task, SpeechTask):
            raise ConfigError("hotword: goes with a recogniser; leave it out")
        return replace(call, hotword=held_hotwords(call.hotword))

    def _check_data_type(self, kinds: list[str]) -> None:
        pair = sorted(kinds) == ["sound", "text"]
        if isinstance(self.task, AlignTask) and (pair or kinds == ["sound"]):
            return
        if pair:
            raise ConfigError("data_type: only an aligner, such as fa-zh, takes sound and text")
        if kinds not in (["sound"], ["text"]):
            raise ConfigError(f"data_type={','.join(kinds)}: not in this version; use sound")


def _fed(task: Task, source: Any, call: opts.CallOptions) -> Result:
    """The result of the next piece of a stream; a stream that was refused stays so to its end."""
    cache = call.cache
    try:
        if "refused" in cache:
            raise RefusedError(cache["refused"])
        return task.feed(source, call)
    except RefusedError as error:
        cache.clear()
        cache.update({} if call.is_final else {"refused": str(error)})
        raise


# Which model each option takes beside a recogniser.
BESIDE = {
    "vad_model": VAD,
    "punc_model": PUNCTUATION,
    "spk_model": SPEAKER,
    "second_pass": RECOGNISER,
}


def _models(model: str | Path, build: opts.BuildOptions) -> dict[str, tuple[str | Path, str]]:
    """The models that are asked for: option to name and revision."""
    others = {
        "vad_model": (build.vad_model, build.vad_model_revision),
        "punc_model": (build.punc_model, build.punc_model_revision),
        "spk_model": (build.spk_model, build.spk_model_revision),
        "second_pass": (build.second_pass, ""),
    }
    return {"model": (model, build.model_revision), **{k: v for k, v in others.items() if v[0]}}


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


def _check_kinds(config: Config, directories: Mapping[str, Path]) -> None:
    """Refuse directories of other models than their options take, the first one's configuration
    being `config`; what works beside another one goes with a recogniser.
    """
    alone: tuple[Kind[Any], ...] = (VAD, PUNCTUATION, ALIGNER, SPEAKER)
    if len(directories) > 1:  # a speaker model tells turns in the segments of a VAD
        alone = (SPEAKER,) if {*directories} == {"model", "vad_model"} else ()
    refuse_other(config, RECOGNISER, *alone, where=f"model: {directories['model']}")
    for use, directory in directories.items():
        if use in BESIDE:
            other = read_config(directory, {})
            refuse_other(other, BESIDE[use], where=f"{use}: {directory}")
