"""A directory of graphs with all that funasr-onnx and sherpa-onnx want beside them."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml

from paraformer import __version__
from paraformer.data.audio.read import read_audio
from paraformer.data.features.cmvn import Cmvn, write_cmvn
from paraformer.data.text.tokenizer import SentencepieceTokenizer, write_token_list
from paraformer.documents import flat_names
from paraformer.errors import ConfigError
from paraformer.export.calibration import Calibration, Hear, calibrate
from paraformer.export.graphs import Graph, gives_times, graphs_of
from paraformer.export.onnx_file import (
    OPSET,
    WHAT,
    products,
    round_to_half,
    store_half,
    store_int8,
    write_graph,
)
from paraformer.export.peers import FUNASR, PEERS, SHERPA, Heard
from paraformer.export.proof import Passed, prove
from paraformer.extras import load_extra
from paraformer.files import check_folder, together
from paraformer.hub.directories import BUNDLED
from paraformer.models.graphs import FORMAT, REPORT
from paraformer.models.kinds import (
    PUNCTUATION,
    RECOGNISER,
    SPEAKER,
    VAD,
    Kind,
    Release,
    hears_streams,
    kind_of,
)
from paraformer.models.release import (
    LISTING,
    NAMES,
    TOKEN_LISTS,
    load_release,
    portable,
    read_config,
    read_yaml,
)
from paraformer.models.side_files import carry_over

log = logging.getLogger(__name__)

BOTH = "both"
LAYOUTS = (BOTH, *PEERS)
DTYPES = ("fp32", "fp16", "int8")
TOKEN_JSON, TOKEN_TXT = TOKEN_LISTS
CMVN, CONFIG = "am.mvn", "config.yaml"
GRAPH_NAMES = tuple(
    f"{g}{d}" for g in ("model", "decoder", "model_eb") for d in ("", "_quant", ".int8")
)
WRITTEN = ("init_param", "config", "frontend_conf.cmvn_file")
STALE = (*(f"{name}.onnx" for name in GRAPH_NAMES), TOKEN_JSON, TOKEN_TXT, CMVN)
CLIP = BUNDLED / "paraformer-zh-mini" / "example" / "asr_example.wav"
TEXT = "今天下雨所以我们没有出门在家里看了一天的书明天你有空吗我想请你吃饭"
MEGABYTE = 1_000_000
NOT_RUN = "not run: give peers=PYTHON, one that has it"
# What sherpa-onnx makes of audio, whatever the model was trained on.
SHERPA_FEATURES = {"window": "hamming", "n_mels": 80, "frame_length": 25, "frame_shift": 10}
# A runtime by its name, the folder of graphs -> what it heard; nothing of one that is not here.
TryPeer = Callable[[str, Path], list[Heard]]
FRONTEND_KEYS = ("fs", "window", "n_mels", "frame_length", "frame_shift", "lfr_m", "lfr_n")


@dataclass(frozen=True)
class Written:
    """A graph on disk."""

    file: str
    size: int  # bytes
    trials: list[Passed]


@dataclass(frozen=True)
class Export:
    """A directory that has been written, and what its graphs were proved to do."""

    directory: Path
    report: dict[str, Any]
    graphs: list[Written]
    calibration: Calibration | None
    peers: dict[str, list[Heard]]  # by the names of those that the files are for

    def table(self) -> list[str]:
        """Lines to show: each graph, its trials, and the largest difference from torch; and what
        the runtimes heard.
        """
        lines = [f"{'graph':<18}{'MB':>7}  {'trial':<12}{'shape':<16}{'ids changed':<13}difference"]
        for graph in self.graphs:
            head = f"{graph.file:<18}{graph.size / MEGABYTE:>7.1f}  "
            for trial in graph.trials:
                shape = "x".join(map(str, trial.shape))
                gaps = " ".join(f"{name} {gap:.1e}" for name, gap in trial.differences.items())
                ids = f"{trial.changed} of {trial.total}"
                lines.append(f"{head}{trial.name:<12}{shape:<16}{ids:<13}{gaps}")
                head = " " * 27
        if self.calibration is not None:
            lines.append(self.calibration.line())
        for name, heard in self.peers.items():
            lines += [each.line() for each in heard] or [f"{name:<18}{NOT_RUN}"]
        return lines


def export_model(
    source: Path,
    out: Path,
    layout: str = BOTH,
    dtype: str = "fp32",
    streaming: bool | None = None,
    hear: Hear | None = None,
    try_peer: TryPeer | None = None,
) -> Export:
    """Write the graphs of a released directory into `out`, whole and proved, or nothing at all.

    streaming: those that hear chunks; None: of a model that was made for streams. hear: of int8,
    the texts of recordings by the model of a directory, which choose the layers that stay in full.
    try_peer: runs what is written before it stands in its place, and may refuse it.
    """
    for name, value, known in (("layout", layout, LAYOUTS), ("dtype", dtype, DTYPES)):
        if value not in known:
            raise ConfigError(f"{name}={value}: not known; {', '.join(known)}")
    versions = {name: load_extra(name, WHAT).__version__ for name in ("onnx", "onnxruntime")}
    versions |= {"paraformer": __version__, "torch": str(torch.__version__)}
    if out.resolve() == source.resolve():
        raise ConfigError(f"{out}: is the model itself; give another folder for its graphs")
    config = read_config(source, {})
    kind = _exported_kind(config, source)
    release = load_release(config, source, kind, graphs=False)
    names = _runtimes(release, kind, layout, source)
    streaming = hears_streams(config) if streaming is None else streaming
    if streaming and not (kind is RECOGNISER and release.model.streams):
        raise ConfigError(f"{source}: does not stream; leave streaming out")
    if dtype == "fp16":
        round_to_half(release.model)
    new = not out.exists()
    try:
        with together(check_folder(out), (LISTING, CONFIG, REPORT), STALE) as draft:
            carry_over(source, draft, out)
            job = _Job(release, kind, layout, dtype, streaming)
            written, found = _write_all(draft, job, source, hear)
            heard = {name: try_peer(name, draft) for name in names} if try_peer else {}
            report = {
                "format": FORMAT,
                "model": str(config["model"]),
                "layout": layout,
                "dtype": dtype,
                "opset": OPSET,
                "times": kind is RECOGNISER and not streaming and gives_times(release),
                "made_with": versions,
                "graphs": [
                    {"file": w.file, "bytes": w.size, "trials": [t.as_json() for t in w.trials]}
                    for w in written
                ],
                **({} if found is None else {"calibration": found.as_json()}),
                "peers": {name: [h.as_json() for h in heard[name]] for name in heard},
            }
            _put(draft / REPORT, json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    except BaseException:
        if new:
            with suppress(OSError):  # somebody put a file there
                out.rmdir()
        raise
    return Export(out, report, written, found, heard)


@dataclass(frozen=True)
class _Job:
    release: Release[Any]
    kind: Kind[Any]
    layout: str
    dtype: str
    streaming: bool


def _write_all(
    draft: Path, job: _Job, source: Path, hear: Hear | None
) -> tuple[list[Written], Calibration | None]:
    """Write the graphs and what lies beside them; see `export_model`."""
    release, kind, layout = job.release, job.kind, job.layout
    hotwords = _hears_hotwords(release, kind, layout, job.streaming)
    graphs = graphs_of(release, kind, _clip(release), TEXT, job.streaming, hotwords)
    files = [(draft / _name_of(graph, layout, job.dtype), graph) for graph in graphs]
    for path, graph in files:
        write_graph(path, graph)
    _write_beside(draft, release, kind, layout, files[0][0].name)
    if job.streaming:
        _name_stream(draft / CONFIG)
    if job.dtype == "int8" and not any(products(path) for path, _ in files):
        log.warning("%s: dtype=int8 rounds nothing of such a model; it stays in fp32", source)
    found = calibrate(files, hear(source), partial(hear, draft)) if hear is not None else None
    return [_store(*each, job.dtype, found is not None) for each in files], found


def _hears_hotwords(release: Release[Any], kind: Kind[Any], layout: str, streaming: bool) -> bool:
    """Whether graphs hear hotwords: funasr-onnx alone gives them such."""
    alone = kind is RECOGNISER and layout == FUNASR and not streaming
    return alone and bool(release.model.hears_hotwords)


def _exported_kind(config: Mapping[str, Any], source: Path) -> Kind[Any]:
    kind = kind_of(config)
    if kind in (RECOGNISER, VAD, PUNCTUATION, SPEAKER):
        assert kind is not None
        return kind
    title = f"model {config['model']}" if kind is None else kind.title
    raise ConfigError(
        f"{source}: {title}: has no graph in this version; "
        "recognisers, VADs, punctuation and speaker models have"
    )


def _runtimes(release: Release[Any], kind: Kind[Any], layout: str, source: Path) -> list[str]:
    """The names of those that can run what a layout has; a wish for sherpa-onnx that it would end
    its process on, or hear wrongly, is refused.
    """
    names = [FUNASR] if layout != SHERPA and kind is not SPEAKER else []
    if layout == FUNASR:
        return names
    reason = _why_not_sherpa(release, kind)
    if not reason:
        return [*names, SHERPA]
    if layout == SHERPA or kind is RECOGNISER:
        raise ConfigError(f"{source}: not for sherpa-onnx: {reason}; take layout={FUNASR}")
    return names


def _why_not_sherpa(release: Release[Any], kind: Kind[Any]) -> str:
    """Why sherpa-onnx runs no such model, or nothing."""
    if kind is VAD:
        return "it runs no FSMN-VAD"
    if kind is SPEAKER:
        mels = release.frontend.n_mels
        return f"it hears 80 mel bands, not {mels}" if mels != 80 else ""
    if kind is PUNCTUATION:
        divided = any("|" in token for token in release.tokenizer.tokens)
        return "a token holds |, which divides its tokens" if divided else ""
    front = release.frontend
    found = {key: getattr(front, key) for key in SHERPA_FEATURES}
    spaced = [token for token in release.tokenizer.tokens if token.split() != [token]]
    if found != SHERPA_FEATURES:
        return f"it hears {SHERPA_FEATURES} alone, not {found}"
    if isinstance(release.tokenizer, SentencepieceTokenizer):
        return "it writes pieces of words apart"
    if "</s>" not in release.tokenizer.tokens or spaced:
        return f"its tokens.txt needs </s> and no blanks ({spaced[:3]})"
    return ""


def _clip(release: Release[Any]) -> torch.Tensor:
    """Samples (N,) of the bundled clip at the rate of the model."""
    fs = getattr(release.frontend, "fs", 16000)
    return read_audio(CLIP, target_fs=fs)


def _name_of(graph: Graph, layout: str, dtype: str) -> str:
    quantised = f".{dtype}" if layout == SHERPA else "_quant"
    return f"{graph.file}{quantised if dtype == 'int8' else ''}.onnx"


def _store(path: Path, graph: Graph, dtype: str, is_rounded: bool) -> Written:
    """Store a graph that has been written in the numbers that are asked for, and prove it."""
    if dtype == "fp16":
        store_half(path)
    elif dtype == "int8" and not is_rounded:
        store_int8(path)
    trials = prove(path, graph, exact=dtype != "int8")
    return Written(path.name, path.stat().st_size, trials)


def _write_beside(
    draft: Path, release: Release[Any], kind: Kind[Any], layout: str, main: str
) -> None:
    """Tokens, CMVN and configuration, as each runtime wants them."""
    tokens = release.tokenizer.tokens if "tokenizer" in kind.parts else []
    if tokens and layout != FUNASR and kind is RECOGNISER:
        lines = (f"{token} {place}\n" for place, token in enumerate(tokens))
        _put(draft / TOKEN_TXT, "".join(lines))
    if layout == SHERPA:
        return
    metas: dict[str, Any] = {"init_param": main, "config": CONFIG}
    config = portable(release.config, kind)
    if tokens:
        write_token_list(draft / TOKEN_JSON, tokens)
        metas["tokenizer_conf"] = {"token_list": TOKEN_JSON}
    if "frontend" in kind.parts:
        front = release.frontend
        width = front.output_size
        if kind is not SPEAKER:
            write_cmvn(draft / CMVN, front.cmvn or Cmvn(torch.zeros(width), torch.ones(width)))
            metas["frontend_conf"] = {"cmvn_file": CMVN}
        # Left out, dither would be 1; named, cmvn_file would be one argument too many.
        config["frontend_conf"] = {key: getattr(front, key) for key in FRONTEND_KEYS}
        config["frontend_conf"]["dither"] = 0.0
    if kind is RECOGNISER:
        named = {"threshold": 1.0, "tail_threshold": release.model.predictor.tail_threshold}
        config["predictor_conf"] = {**named, **(config.get("predictor_conf") or {})}
    _copy_named(draft, release.config, metas)
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    _put(draft / CONFIG, text)
    listing = {
        "framework": "onnx",
        "task": kind.task,
        "model": {"type": "funasr"},
        "pipeline": {"type": "funasr-pipeline"},
        "file_path_metas": metas,
    }
    _put(draft / LISTING, json.dumps(listing, indent=1) + "\n")


def _copy_named(draft: Path, config: Mapping[str, Any], metas: dict[str, Any]) -> None:
    """Copy the files that a configuration names, but for those that are written anew: words of
    jieba, pieces of words, n-grams.
    """
    for key, name in flat_names(NAMES).items():
        group, _, leaf = key.rpartition(".")
        place = (config.get(group) or {} if group else config).get(leaf)
        if place and key not in WRITTEN:
            shutil.copyfile(place, draft / name)
            (metas.setdefault(group, {}) if group else metas)[leaf] = name


def _name_stream(path: Path) -> None:
    """A configuration beside the graphs of streams is that of a model that hears streams."""
    if path.is_file():
        config = read_yaml(path) | {"model": "ParaformerStreaming", "predictor": "CifPredictorV2"}
        _put(path, yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def _put(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")
