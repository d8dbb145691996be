"""The options of `AutoModel`, of one call of `generate`, and of the `funasr` command.

Without torch, so that `funasr --help` is there at once. The defaults also say of which type a value
of the command line is.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import cache
from typing import Any

from paraformer.errors import ConfigError
from paraformer.limits import (
    MOST_READINGS,
    MOST_SECONDS,
    MOST_WEIGHT,
    RATE,
    Limits,
    check_fields,
    check_switch,
)
from paraformer.shard import Shard, place_of, read_shard

log = logging.getLogger(__name__)

DEFAULT_MODEL = "paraformer-zh-mini"
# Keywords of the reference whose work is not in this version.
NOT_BUILT = (
    "spk",
    "subtitle_segment_mode",
)
# Keywords of the reference that change nothing here: this program asks no server and draws nothing.
# There, batch_size_threshold_s ends a batch at a long segment, for the memory's sake; here no batch
# is longer than batch_size_s with its padding, but for a single segment, so there is none to end.
WITHOUT_EFFECT = (
    "disable_update",
    "trust_remote_code",
    "remote_code",
    "seed",
    "batch_size_threshold_s",
    "device_map",  # which modelscope's pipeline passes on
    "language",
)
# Languages that ask for nothing.
ANY_LANGUAGE = (None, "", "auto")

# Options of a model that the reference takes in each call too, where they change no result.
LOGGING = ("disable_log", "log_level")
# Options whose values are paths, or may be.
FILES = (
    "input",
    "hotword",
    "segments",
    "lm_file",
    "init_param",
    "certfile",
    "keyfile",
    "rttm",
    "speakers",
)
FOLDERS = ("model", "vad_model", "punc_model", "spk_model", "second_pass", "output_dir")
# Options that change nothing in a folder of results, or whose work is seen in the list of inputs.
WITHOUT_RESULT = (
    *("hub", "model_revision", "vad_model_revision", "punc_model_revision", "offline"),
    "spk_model_revision",
    *("device", "ncpu", "num_threads", "batch_size", "batch_size_s", "batch_frames", "streams"),
    *("nj", "cluster", "name", "audacity"),  # of make_fbank and segment, written in the end
    *("key", "segments", "data_type", "cache", "is_final", "data", "text", "out", "min_success"),
    *("resume", "disable_log", "log_level", "disable_pbar"),
    *("return_raw_text", "sentence_timestamp", "en_post_proc"),
)
# Other names of options, all of them of the reference.
ALIASES = {
    "hotwords": "hotword",
    "output_timestamp": "pred_timestamp",
    "timestamps": "pred_timestamp",
    "model_hub": "hub",
    "use_itn": "itn",
}
# Values of `dtype`; two are also switches of their own: bf16=True is dtype="bf16".
NUMBER_FORMATS = ("fp32", "bf16", "fp16", "int8")
AUTO = "auto"  # the quickest of which the error was measured
FORMAT_SWITCHES = NUMBER_FORMATS[1:3]
BACKENDS = ("", "torch", "onnx")
# Options of which several may be given, in any form.
_SEVERAL = ("hotword", "key", "chunk_size", "data_type")
THREADS = Limits(1, 1024, whole=True)  # far more than that ends the process
SHARE = Limits(0, 1)
_COUNT = Limits(1, 1_000_000, whole=True)
_READINGS = Limits(1, MOST_READINGS, whole=True)
_BONUS = Limits(-MOST_WEIGHT, MOST_WEIGHT)
_WEIGHT = Limits(0, MOST_WEIGHT)
_SECONDS = Limits(0, MOST_SECONDS, above=True)
_LOOK_BACK = Limits(-1, 1_000_000, whole=True)


def _option(default: Any, text: str, limits: Limits | None = None) -> Any:
    bounds = {} if limits is None else {"limits": limits}
    return field(default=default, metadata={"help": text, **bounds})


class _Checked:
    """Options of which none is out of its limits, or a `ConfigError` says which."""

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class BuildOptions(_Checked):
    """Keywords of `AutoModel`; those of `CallOptions` may be given there too, for every call."""

    hub: str = _option("ms", "ms (ModelScope) or hf (Hugging Face): whose models are meant")
    model_revision: str = _option(
        "", "its branch, tag or commit at the hub (what is here, else the newest)"
    )
    offline: bool = _option(False, "fetch no model: what is on this machine, or an error")
    device: str = _option("auto", "auto, cpu, cuda or cuda:N; the CPU where there is no such GPU")
    ncpu: int | None = _option(
        None, "number of CPU threads; torch's own choice if not given", THREADS
    )
    dtype: str = _option(
        "fp32",
        "number format: fp32, bf16, on a GPU fp16 (bf16=true, fp16=true), int8 (products of a "
        "recogniser on a CPU), or auto, of a recogniser bf16 where the processor multiplies it, "
        "else fp32",
    )
    backend: str = _option("", "onnx: by graphs of a directory; torch: by its network")
    vad_model: str = _option("", "model that finds speech in long recordings, such as fsmn-vad")
    vad_kwargs: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "its options: vad_kwargs.max_end_silence_time=800"},
    )
    vad_model_revision: str = _option("", "its branch, tag or commit at the hub")
    punc_model: str = _option("", "model that puts marks into the text, such as ct-punc")
    punc_kwargs: dict[str, Any] = field(default_factory=dict, metadata={"help": "its options"})
    punc_model_revision: str = _option("", "its branch, tag or commit at the hub")
    spk_model: str = _option("", "beside vad_model: model that tells who speaks, such as cam++")
    spk_kwargs: dict[str, Any] = field(default_factory=dict, metadata={"help": "its options"})
    spk_model_revision: str = _option("", "its branch, tag or commit at the hub")
    spk_mode: str = _option(
        "punc_segment",
        "sentences of speakers: punc_segment, at marks; vad_segment, of the VAD; channel: with "
        "channel=split each channel is a speaker, and files are of whole recordings",
    )
    second_pass: str = _option("", "streams: model that writes the final text of each segment")
    init_param: str = _option("", "another file of weights than the model directory's")
    disable_log: bool = _option(False, "no messages but errors")
    log_level: str = _option("", "DEBUG, INFO, WARNING or ERROR")


@dataclass(frozen=True)
class CallOptions(_Checked):
    """Keywords of `AutoModel.generate`; they hold for that call only."""

    key: Any = _option("", "id of the result; in Python also a list of ids")
    fs: int | None = _option(None, "sampling rate of arrays and raw bytes (16000)", RATE)
    channel: Any = _option(
        "mix", "of a recording with several: mix, their mean; a number from 0; split, a result each"
    )
    segments: str = _option("", "Kaldi segments file of a list (default: beside wav.scp)")
    data_type: Any = _option("sound", "sound; of an aligner [sound,text]")
    batch_size: int = _option(64, "most utterances in a batch", _COUNT)
    batch_size_s: float = _option(
        60.0, "most seconds of audio in a batch, padding counted", _SECONDS
    )
    nbest: int = _option(1, "how many different readings are wanted", _READINGS)
    decoding_ctc_weight: float = _option(0.0, "above 0: beam search with a CTC head's help", SHARE)
    beam_size: int = _option(2, "hypotheses of the beam search", _READINGS)
    penalty: float = _option(0.0, "beam search, lm_file: bonus for each token", _BONUS)
    maxlenratio: float = _option(0.0, "beam search: most tokens by frames, or by -number", _BONUS)
    minlenratio: float = _option(0.0, "beam search: fewest tokens by frames", _WEIGHT)
    lm_file: str = _option(
        "",
        "n-gram model over tokens that has a say: as make_arpa writes it; with the extra lm ARPA "
        "or kenlm's; without one that of the model, if it has one; none: no such model",
    )
    lm_weight: float | None = _option(
        None, "lm_file: weight of its log-probability (the model's own, else 0.3)", _WEIGHT
    )
    lm_nbest: int = _option(
        64,
        "lm_file in ARPA or kenlm's format: readings to choose from; a beam gives its own",
        _READINGS,
    )
    merge_vad: bool = _option(False, "join neighbouring segments of the VAD")
    merge_length_s: float = _option(15.0, "merge_vad: up to so many seconds", _SECONDS)
    max_segment_s: float = _option(60.0, "cut longer segments in pauses", Limits(1, MOST_SECONDS))
    max_whole_s: float = _option(
        720.0,
        "without vad_model: cut longer recordings in pauses, into parts of max_segment_s",
        Limits(1, MOST_SECONDS),
    )
    max_single_segment_time: int | None = _option(
        None, "VAD: longest segment in ms (60000)", Limits(10, whole=True)
    )
    max_end_silence_time: int | None = _option(
        None, "VAD: silence in ms that ends a segment (800)", Limits(0, whole=True)
    )
    speech_noise_thres: float | None = _option(
        None, "VAD: how much likelier speech must be than noise (0.6)", Limits(-1, 1)
    )
    dynamic_silence: bool = _option(
        False, "VAD: the longer somebody speaks, the shorter a silence ends the segment"
    )
    split_size: int = _option(20, "punctuation: new words in one window", _COUNT)
    return_raw_text: bool = _option(False, "punc_model: also raw_text, without marks")
    pred_timestamp: bool = _option(
        False, "times also from a model not made for them (output_timestamp, timestamps)"
    )
    sentence_timestamp: bool = _option(False, "also sentence_info: sentences with their times")
    en_post_proc: bool = _option(False, "sentence_timestamp: English marks in the sentences")
    preset_spk_num: int | None = _option(None, "spk_model: how many speakers there are", _COUNT)
    min_spk_num: int = _option(1, "spk_model: fewest speakers, where that is not known", _COUNT)
    max_spk_num: int = _option(15, "spk_model: most speakers, where that is not known", _COUNT)
    return_spk_res: bool = _option(True, "spk_model: false leaves speakers out")
    rttm: str = _option("", "RTTM of another tool: its speakers; beside spk_model its speech")
    speakers: str = _option("", "spk_model: folder of named clips, or a file of bin/enroll.py")
    spk_threshold: float | None = _option(
        None, "cosine from which two voices are one's (the model's own, else 0.31)", Limits(-1, 1)
    )
    return_spk_center: bool = _option(
        False, "spk_model: also spk_embedding_center, the mean embedding of each speaker"
    )
    itn: bool = _option(
        False,
        "numbers of several characters in digits: 二零二六年 as 2026年, in streams those of final "
        "texts; needs the extra itn",
    )
    hotword: Any = _option(
        "", "words to listen for: `a b`, a .txt file, one a line, or a URL; a list in Python"
    )
    hotword_boost: float | None = _option(
        None,
        "hotwords by posteriors: nats a token by which they may be less likely than what was heard "
        "(1; models that learnt to hear hotwords: 0)",
        _WEIGHT,
    )
    nfilter: int = _option(50, "hotwords that an utterance keeps of a longer list", _COUNT)
    seaco_weight: float = _option(1.0, "SeACo models: 0 never hears hotwords", SHARE)
    clas_scale: float = _option(1.0, "ContextualParaformer: weight of hotwords", _WEIGHT)
    chunk_size: list[int] = field(
        default_factory=lambda: [0, 10, 5],
        metadata={"help": "streams: 60 ms frames computed again, new, looked ahead; a VAD: ms"},
    )
    encoder_chunk_look_back: int = _option(
        4, "streams: chunks that the encoder sees, -1 for all", _LOOK_BACK
    )
    decoder_chunk_look_back: int = _option(1, "streams: chunks that the decoder sees", _LOOK_BACK)
    cache: Any = _option(None, "Python: a dict that keeps the stream between calls, empty at first")
    is_final: bool = _option(False, "with cache: this piece ends the stream")
    output_dir: str = _option("", "folder for 1best_recog/{text,token} and failed, line by line")
    resume: bool = _option(
        False, "go on in output_dir: what is finished there is neither done nor printed again"
    )
    shard: str = _option(
        "",
        "a part of a list, by ids: 2/8, or auto (auto/8) in a job of an array; results go into "
        "output_dir/shard.2, and `funasr merge` makes one folder of all",
    )
    output_format: str = _option(
        "text",
        "text (lines `key text`), json (an object a line); nemo, lhotse (their manifests); srt, "
        "vtt, lrc, tsv, textgrid (a file a recording, in output_dir); ctm, stm, rttm (a table)",
    )
    max_line_chars: int = _option(42, "subtitles: columns of a line, two a Chinese sign", _COUNT)
    max_line_s: float = _option(7.0, "subtitles: seconds of a line", _SECONDS)
    disable_pbar: bool = _option(False, "no progress bar")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.resume and not self.output_dir:
            raise ConfigError("resume: goes on with what is in output_dir; give output_dir too")
        read_shard(self.shard)  # refuses what is none

    @property
    def part(self) -> Shard | None:
        """The part of the list that is to be done; None for all."""
        return read_shard(self.shard)

    @property
    def folder(self) -> str:
        """Where results go; "" for no folder."""
        return place_of(self.output_dir, self.shard)


@dataclass(frozen=True)
class CommandOptions(_Checked):
    """Keys of the `funasr` command besides those of `AutoModel` and `generate`."""

    model: str = _option(DEFAULT_MODEL, "directory of a model, or its name: bundled or at the hub")
    input: str = _option("", "audio file, URL, wav.scp, list, folder, or - for stdin")
    min_success: float = _option(0.95, "exit code 1 if a smaller share is recognised", SHARE)
    strict: bool = _option(False, "stop at the first utterance that fails")
    nj: int = _option(
        1, "processes that share a list, each with a model and its share of the CPUs", THREADS
    )
    cluster: str = _option("", "ray: by nj actors of Ray, each with a GPU or ncpu CPUs (extra ray)")
    verbose: bool = _option(False, "say the number of utterances, seconds and real-time factor")


@dataclass(frozen=True)
class ProgramOptions(_Checked):
    """Keys of the programs of `bin/` that run a model over a list, besides those of `AutoModel`."""

    num_threads: int = _option(0, "CPU threads; 0: torch's own choice", THREADS._replace(low=0))
    min_success: float = _option(0.95, "exit code 1 if a smaller share is done", SHARE)
    batch_frames: int = _option(6000, "most frames of 10 ms in a batch, padding counted", _COUNT)
    streams: int = _option(1, "utterances decoded side by side", _COUNT)


@dataclass(frozen=True)
class ServeOptions(_Checked):
    """Keys of `funasr serve`, besides those of `AutoModel` and `generate`."""

    host: str = _option(
        "127.0.0.1", "address to listen at; another than this machine's own needs a token"
    )
    port: int = _option(10095, "its port; 0: a free one", Limits(0, 65535, whole=True))
    wyoming: bool = _option(False, "also Home Assistant's protocol, which knows no token")
    wyoming_port: int = _option(10300, "its port; 0: a free one", Limits(0, 65535, whole=True))
    token: str = _option("", "what clients must send as `Authorization: Bearer` (or $FUNASR_TOKEN)")
    insecure: bool = _option(False, "serve other machines without a token")
    certfile: str = _option("", "certificate of TLS, as PEM")
    keyfile: str = _option("", "its key, where the certificate's file has none")
    origins: list[str] = field(
        default_factory=list,
        metadata={
            "help": "pages that browsers may call from, beside our own: [https://x.org], [*]"
        },
    )
    names: list[str] = field(
        default_factory=list, metadata={"help": "more names that clients may give the model"}
    )
    max_sessions: int = _option(128, "connections that recognise at a time", _COUNT)
    max_queue: int = _option(64, "recordings that may wait to be decoded", _COUNT)
    max_upload_mb: int = _option(2048, "megabytes of one recording", _COUNT)
    max_seconds: float = _option(7200.0, "seconds of one recording", _SECONDS)
    max_backlog_s: float = _option(600.0, "seconds of a stream that may wait", _SECONDS)
    max_hotwords: int = _option(1000, "hotwords of one client", _COUNT)
    idle_s: float = _option(300.0, "seconds after which a silent connection is closed", _SECONDS)
    drain_s: float = _option(30.0, "SIGTERM: seconds for what is open to end", _SECONDS)


@dataclass(frozen=True)
class ExportOptions(_Checked):
    """Keys of `funasr export` and `bin/export_onnx.py`."""

    model: str = _option("", "directory of a model, or its name: bundled or at the hub")
    out: str = _option("", "a folder of its own; whole and proved, or not there")
    layout: str = _option("both", "both, funasr-onnx or sherpa-onnx: the files beside the graphs")
    streaming: bool | None = _option(None, "true: graphs of chunks (of a model made for streams)")
    dtype: str = _option("fp32", "fp32; fp16: weights stored in half; int8: products in 8 bits")
    calibrate: str = _option("", "int8: data or list; keeps layers in fp32 for 99 % of its texts")
    check: str = _option("", "data directory or list: whose texts change, speed beside torch")
    peers: str = _option("", "Pythons that have funasr-onnx, sherpa-onnx, which run it; or none")
    hub: str = _option("ms", "ms (ModelScope) or hf (Hugging Face): whose models are meant")
    model_revision: str | None = _option(None, "its branch, tag or commit at the hub")
    offline: bool = _option(False, "fetch no model")


@dataclass(frozen=True)
class ClientOptions(_Checked):
    """Keys of `funasr client`, besides those of `funasr` that it takes."""

    mode: str = _option("offline", "offline: recordings as a whole; 2pass, online: as streams")
    connections: int = _option(4, "connections side by side", THREADS)
    token: str = _option("", "what the server asks for (or $FUNASR_TOKEN)")
    certfile: str = _option("", "wss: certificate, as PEM, of a server that signs for itself")
    insecure: bool = _option(False, "wss: do not ask who the server is")
    timeout_s: float = _option(600.0, "seconds to wait for an answer", _SECONDS)


def as_option(name: str) -> Any:
    """A field of a dataclass with the default and the limits of that option of `generate`."""
    option = all_fields(CallOptions)[name]
    return field(default=option.default, metadata=option.metadata)


def names(*kinds: type) -> list[str]:
    """The keys that these options have."""
    return [f.name for kind in kinds for f in fields(kind)]


def all_fields(*kinds: type) -> dict[str, Field[Any]]:
    """Key to field, with its default and its help."""
    return {f.name: f for kind in kinds for f in fields(kind)}


def limits_of(kind: type) -> dict[str, Limits]:
    """The limits of its numbers, by key."""
    options = all_fields(kind).items()
    return {name: o.metadata["limits"] for name, o in options if "limits" in o.metadata}


def default_of(option: Field[Any]) -> Any:
    """Its default value."""
    return option.default_factory() if callable(option.default_factory) else option.default


def refuse_not_built(given: Mapping[str, object]) -> None:
    """Nothing of the reference's is silently left out: what is not built here is an error."""
    for name in NOT_BUILT:
        if given.get(name):
            raise ConfigError(f"{name}: not built yet in this version; leave it out")


def remark_language(given: Mapping[str, object]) -> None:
    """Say, once for each, that a language which somebody asks for has no effect."""
    if given.get("language") not in ANY_LANGUAGE:
        _warn_once(f"language={given['language']}: has no effect; a model hears what it has learnt")


@cache
def _warn_once(line: str) -> None:
    log.warning(line)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant; a full name is tried, then its last part."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return close[0]
    by_leaf = {n.rsplit(".", 1)[-1]: n for n in reversed(choices)}
    leaf = difflib.get_close_matches(name.rsplit(".", 1)[-1], list(by_leaf), n=1, cutoff=0.75)
    return by_leaf[leaf[0]] if leaf else None


def data_types(given: Any) -> list[str]:
    """The kinds that `data_type` names, one for each part of an input.

    >>> data_types("sound"), data_types("[sound,text]"), data_types(("sound", "text"))
    (['sound'], ['sound', 'text'], ['sound', 'text'])
    """
    if given is None:
        return ["sound"]
    parts = given.strip("[]() ").split(",") if isinstance(given, str) else given
    if not isinstance(parts, (list, tuple)):
        raise ConfigError(f"data_type={given!r}: give sound, text, or both in a list")
    return [str(part).strip(" \"'") for part in parts]


def renamed(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same keywords without the other names of options.

    >>> renamed({"hotwords": "阿里", "key": "a", "bf16": True, "fp16": False})
    {'hotword': '阿里', 'key': 'a', 'dtype': 'bf16'}
    """
    named: dict[str, Any] = {}
    for key, value in one_format(given).items():
        name = ALIASES.get(key, key)
        if name in named:
            raise ConfigError(f"{key}: is {name}, which is given too; give one of them")
        named[name] = _held(value) if name in _SEVERAL else value
    return named


def one_format(given: Mapping[str, Any]) -> dict[str, Any]:
    """The same with one `dtype` for it and its switches, which must not contradict each other.

    >>> one_format({"fp16": True, "dtype": "fp16"}), one_format({"fp16": False})
    ({'dtype': 'fp16'}, {})
    >>> one_format({"bf16": False, "dtype": "auto"})
    {'dtype': 'fp32'}
    """
    rest = {key: value for key, value in given.items() if key not in FORMAT_SWITCHES}
    switches = {name: given[name] for name in FORMAT_SWITCHES if name in given}
    for name, value in switches.items():
        check_switch(name, value)
    named = [name for name, on in switches.items() if on]
    dtype = rest.pop("dtype", None)
    if dtype is not None and dtype not in named:
        named.append(dtype)
    if switches.get("bf16") is False and named == [AUTO]:
        named = [NUMBER_FORMATS[0]]
    if len(named) > 1 or any(name in switches and not switches[name] for name in named):
        said = ", ".join(f"{key}={given[key]}" for key in ("dtype", *switches) if key in given)
        raise ConfigError(f"{said}: contradict each other; give dtype alone")
    return {**rest, "dtype": named[0]} if named else rest


def _held(value: Any) -> Any:
    """A list of a value that can be read only once, such as a generator or an open file."""
    return list(value) if isinstance(value, Iterator) else value


def unknown_key(key: str, known: Iterable[str], where: str, program: str = "") -> ConfigError:
    """The error for a key that no parameter has, with the one that was most likely meant.

    program: the one whose --help lists the keys, if `where` is none.
    """
    guess = nearest(key, known)
    listed = f"`{program or where} --help` lists the known keys"
    remedy = f"did you mean '{guess}'?" if guess else listed
    return ConfigError(f"{where}: unknown key '{key}'; {remedy}")
