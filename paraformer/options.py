"""What can be asked of `AutoModel`, of one call of `generate`, and of the `funasr` command.

Without torch, so that `funasr --help` is there at once. The defaults also say of which type a value
of the command line is.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any

from paraformer.errors import ConfigError
from paraformer.limits import Limits

DEFAULT_MODEL = "paraformer-zh-mini"
# Keywords of the reference whose work is not in this version.
NOT_BUILT = (
    "spk_model",
    "spk_kwargs",
    "spk_model_revision",
    "spk_mode",
    "hotword",
    "hotwords",
    "lm_file",
    "lm_weight",
    "sentence_timestamp",
    "pred_timestamp",
    "output_timestamp",
    "en_post_proc",
    "timestamps",
    "spk",
    "subtitle_segment_mode",
)
# Keywords of the reference that change nothing here: this program asks no server and draws nothing.
WITHOUT_EFFECT = (
    "disable_update",
    "trust_remote_code",
    "remote_code",
    "seed",
    "model_revision",
    "vad_model_revision",
    "punc_model_revision",
    "batch_size_threshold_s",
    "language",
)


THREADS = Limits(1, 1024, whole=True)  # far more than that ends the process
SHARE = Limits(0, 1)
_COUNT = Limits(1, whole=True)


def _option(default: Any, text: str, limits: Limits | None = None) -> Any:
    bounds = {} if limits is None else {"limits": limits}
    return field(default=default, metadata={"help": text, **bounds})


@dataclass(frozen=True)
class BuildOptions:
    """Keywords of `AutoModel`; those of `CallOptions` may be given there too, for every call."""

    hub: str = _option("ms", "ms or hf: whose short names are meant")
    device: str = _option("auto", "auto, cpu, cuda or cuda:N; the CPU where there is no such GPU")
    ncpu: int | None = _option(
        None, "number of CPU threads; torch's own choice if not given", THREADS
    )
    fp16: bool = _option(False, "compute in 16-bit floats, on a GPU only")
    bf16: bool = _option(False, "compute in bfloat16")
    vad_model: str = _option("", "model that finds speech in long recordings, such as fsmn-vad")
    vad_kwargs: dict[str, Any] = field(
        default_factory=dict,
        metadata={"help": "its options: vad_kwargs.max_end_silence_time=800"},
    )
    punc_model: str = _option("", "model that puts marks into the text, such as ct-punc")
    punc_kwargs: dict[str, Any] = field(default_factory=dict, metadata={"help": "its options"})
    second_pass: str = _option("", "streams: model that writes the final text of each segment")
    init_param: str = _option("", "another file of weights than the model directory's")
    disable_log: bool = _option(False, "no messages but errors")
    log_level: str = _option("", "DEBUG, INFO, WARNING or ERROR")


@dataclass(frozen=True)
class CallOptions:
    """Keywords of `AutoModel.generate`; they hold for that call only."""

    key: Any = _option("", "id of the result; in Python also a list of ids")
    fs: int | None = _option(
        None, "sampling rate of arrays and raw bytes (16000)", Limits(1, 1_000_000, whole=True)
    )
    segments: str = _option("", "Kaldi segments file of a list (default: beside wav.scp)")
    data_type: str = _option("sound", "only sound in this version")
    batch_size: int = _option(64, "most utterances in a batch", _COUNT)
    batch_size_s: float = _option(
        60.0, "most seconds of audio in a batch, padding counted", Limits(0, above=True)
    )
    nbest: int = _option(1, "how many different readings are wanted", _COUNT)
    decoding_ctc_weight: float = _option(0.0, "above 0: beam search with a CTC head's help", SHARE)
    beam_size: int = _option(2, "hypotheses of the beam search", _COUNT)
    penalty: float = _option(0.0, "beam search: bonus for each token", Limits())
    maxlenratio: float = _option(0.0, "beam search: most tokens by frames, or by -number", Limits())
    minlenratio: float = _option(0.0, "beam search: fewest tokens by frames", Limits(0))
    merge_vad: bool = _option(False, "join neighbouring segments of the VAD")
    merge_length_s: float = _option(15.0, "merge_vad: up to so many seconds", Limits(0, above=True))
    max_segment_s: float = _option(60.0, "cut longer segments where they are quietest", Limits(1))
    max_single_segment_time: int | None = _option(
        None, "VAD: longest segment in ms (60000)", Limits(10, whole=True)
    )
    max_end_silence_time: int | None = _option(
        None, "VAD: silence in ms that ends a segment (800)", Limits(0, whole=True)
    )
    speech_noise_thres: float | None = _option(
        None, "VAD: how much likelier speech must be than noise (0.6)", Limits(-1, 1)
    )
    return_raw_text: bool = _option(False, "punc_model: also raw_text, without marks")
    chunk_size: list[int] = field(
        default_factory=lambda: [0, 10, 5],
        metadata={"help": "streams: 60 ms frames computed again, new, looked ahead; a VAD: ms"},
    )
    encoder_chunk_look_back: int = _option(
        4, "streams: chunks that the encoder sees, -1 for all", Limits(-1, whole=True)
    )
    decoder_chunk_look_back: int = _option(
        1, "streams: chunks that the decoder sees", Limits(-1, whole=True)
    )
    cache: Any = _option(None, "Python: a dict that keeps the stream between calls, empty at first")
    is_final: bool = _option(False, "with cache: this piece ends the stream")
    output_dir: str = _option("", "folder for 1best_recog/{text,token} and failed, line by line")
    disable_pbar: bool = _option(False, "no progress bar")


@dataclass(frozen=True)
class CommandOptions:
    """Keys of the `funasr` command besides those of `AutoModel` and `generate`."""

    model: str = _option(DEFAULT_MODEL, "name of a bundled model, or a model directory")
    input: str = _option("", "audio file, URL, wav.scp, list, folder, or - for stdin")
    output_format: str = _option("text", "text (lines `key text`) or json (one object a line)")
    min_success: float = _option(0.95, "exit code 1 if a smaller share is recognised", SHARE)
    strict: bool = _option(False, "stop at the first utterance that fails")
    verbose: bool = _option(False, "say the number of utterances, seconds and real-time factor")


def names(*kinds: type) -> list[str]:
    """The keys that these options have."""
    return [f.name for kind in kinds for f in fields(kind)]


def all_fields(*kinds: type) -> dict[str, Field[Any]]:
    """Key to field, with its default and its help."""
    return {f.name: f for kind in kinds for f in fields(kind)}


def default_of(option: Field[Any]) -> Any:
    """Its default value."""
    return option.default_factory() if callable(option.default_factory) else option.default


def refuse_not_built(given: Mapping[str, object]) -> None:
    """Nothing of the reference's is silently left out: what is not built here is an error."""
    for name in NOT_BUILT:
        if given.get(name):
            raise ConfigError(f"{name}: not built yet in this version; leave it out")


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was most likely meant; a full name is tried, then its last part."""
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    if close:
        return close[0]
    by_leaf = {n.rsplit(".", 1)[-1]: n for n in reversed(choices)}
    leaf = difflib.get_close_matches(name.rsplit(".", 1)[-1], list(by_leaf), n=1, cutoff=0.75)
    return by_leaf[leaf[0]] if leaf else None


def unknown_key(key: str, known: Iterable[str], where: str) -> ConfigError:
    """The error for a key that no parameter has, with the one that was most likely meant."""
    guess = nearest(key, known)
    remedy = f"did you mean '{guess}'?" if guess else f"`{where} --help` lists the known keys"
    return ConfigError(f"{where}: unknown key '{key}'; {remedy}")
