"""ONNX graphs in the place of a network: those of a directory of our export, of funasr-onnx or of
sherpa-onnx, what they must take and give, and a configuration where metadata is all that there is.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paraformer.documents import parse_json
from paraformer.errors import CheckpointError
from paraformer.models.onnx_header import FLOAT, INT32, INT64, Header, Port, read_header

log = logging.getLogger(__name__)

SUFFIX = ".onnx"
# What runtimes call a graph in full and in 8 bits.
MAIN, VARIANTS = ("model", "encoder"), ("", "_quant", ".int8", ".fp16")
# Beside it: of streams, and of models that hear hotwords.
DECODER, EMBEDDER = "decoder", "model_eb"
# Of our own exports, and the file that says which one a directory is of.
REPORT, FORMAT = "export.json", 3
WHOLE_NUMBERS = (INT32, INT64)
N_MELS = 80
FEATURES = {"window": "hamming", "n_mels": N_MELS, "frame_length": 25, "frame_shift": 10}


@dataclass(frozen=True)
class Graphs:
    """The graphs of a model, told by their heads."""

    main: Header  # of streams the encoder
    decoder: Header | None = None
    embedder: Header | None = None

    @property
    def path(self) -> Path:
        """The file of the main one."""
        return self.main.path

    @property
    def quantised(self) -> bool:
        """Whether it rounds what it hears to 8 bits, by one scale for a whole batch."""
        return any(name.startswith("DynamicQuantize") for name in self.main.operators)


def is_graph(path: object) -> bool:
    """Whether a file of weights is a graph, by its name."""
    return str(path).endswith(SUFFIX)


def find_graph(directory: Path) -> Path | None:
    """The graph of a directory, in full if there are several: of a known name, or the only one."""
    for variant in VARIANTS:
        for name in MAIN:
            if (path := directory / f"{name}{variant}{SUFFIX}").is_file():
                return path
    found = list(directory.glob(f"*{SUFFIX}"))
    return found[0] if len(found) == 1 else None


def open_graphs(path: Path) -> Graphs:
    """A graph with those that lie beside it, in the same numbers if there are such."""
    stem = path.name.removesuffix(SUFFIX)
    own = next((v for v in VARIANTS[::-1] if stem in {f"{name}{v}" for name in MAIN}), "")
    beside = []
    for name in (DECODER, EMBEDDER):
        files = (path.with_name(f"{name}{v}{SUFFIX}") for v in dict.fromkeys((own, *VARIANTS)))
        file = next((file for file in files if file.is_file()), None)
        beside.append(None if file is None else read_header(file))
    return Graphs(read_header(path), *beside)


def class_of(graphs: Graphs) -> str:
    """`model` of the config.yaml that such graphs would have."""
    inputs, outputs = len(graphs.main.inputs), len(graphs.main.outputs)
    if inputs and graphs.main.inputs[0].element in WHOLE_NUMBERS:
        return "CTTransformerStreaming" if inputs == 4 else "CTTransformer"
    if inputs == 1:
        return "CAMPPlus"
    if graphs.decoder is not None:
        return "ParaformerStreaming"
    if inputs == outputs and inputs > 2:
        return "FsmnVADStreaming"
    if graphs.embedder is not None:
        return "SeacoParaformer"
    return "BiCifParaformer" if outputs == 4 else "Paraformer"


def config_of(graphs: Graphs) -> dict[str, Any]:
    """The configuration of graphs that have none beside them, by what sherpa-onnx reads: metadata,
    which has to be there, and features that are always the same.
    """
    main, name = graphs.main, class_of(graphs)
    if name == "CAMPPlus":
        front = {"fs": int(*main.numbers("sample_rate", 1))}
        return {"model": name, "frontend": "WavFrontend", "frontend_conf": front}
    if name.startswith("CTTransformer"):
        unknown, tokens = main.value("unk_symbol"), main.value("tokens").split("|")
        return {
            "model": name,
            "model_conf": {"punc_list": main.value("punctuations").split("|")},
            "tokenizer": "CharTokenizer",
            "tokenizer_conf": {"token_list": tokens, "unk_symbol": unknown},
        }
    if name == "FsmnVADStreaming":
        raise CheckpointError(
            f"{main.path.parent}/config.yaml: no such file; a VAD's graph has one"
        )
    lfr = {
        "lfr_m": int(*main.numbers("lfr_window_size", 1)),
        "lfr_n": int(*main.numbers("lfr_window_shift", 1)),
    }
    for key in ("neg_mean", "inv_stddev"):
        main.numbers(key, N_MELS * lfr["lfr_m"])
    return {
        **(_stream_conf(main) if graphs.decoder is not None else {}),
        "model": name,
        "predictor": "CifPredictorV3" if name == "BiCifParaformer" else "CifPredictorV2",
        "frontend": "WavFrontend",
        "frontend_conf": {"fs": 16000, **FEATURES, **lfr},
        "tokenizer": "CharTokenizer",
    }


def _stream_conf(encoder: Header) -> dict[str, Any]:
    width, blocks, kernel = (
        int(*encoder.numbers(key, 1))
        for key in ("encoder_output_size", "decoder_num_blocks", "decoder_kernel_size")
    )
    # sherpa-onnx knows no tail; our own graphs say theirs.
    tail = float(encoder.metadata.get("tail_threshold", 0.0))
    return {
        "encoder_conf": {"output_size": width},
        "decoder_conf": {"num_blocks": blocks, "kernel_size": kernel},
        "predictor_conf": {"tail_threshold": tail},
    }


def warn_of_old_export(directory: Path) -> None:
    """Say of a directory that an older version has exported that it is one."""
    path = directory / REPORT
    with suppress(OSError, ValueError, AttributeError):
        report = parse_json(path.read_text(encoding="utf-8"))
        if report.get("format", 1) < FORMAT:
            made = (report.get("made_with") or {}).get("paraformer", "an older version")
            log.warning("%s: exported by %s in an older format; export it again", directory, made)


def check_graphs(graphs: Graphs, task: str, tokens: int, width: int) -> None:
    """Refuse graphs that do not take and give what those of such a model do; task: of its kind,
    tokens: of its list, width: of its features.
    """
    main, decoder = graphs.main, graphs.decoder
    logits, caches = main.outputs[:1], len(main.inputs) - 1
    if task == "voice-activity-detection":
        _check(main, ("f3" + " f4" * caches,), ("f3" + " f4" * caches,))
        logits = ()
    elif task == "punctuation":
        _check(main, ("i2 i1", "i2 i1 f4 f4"), ("f3",))
        logits, width, tokens = (), 0, 0
    elif task == "speaker-verification":
        _check(main, ("f3",), ("f2",))
        logits = ()
    elif decoder is not None:
        _check(main, ("f3 i1",), ("f3 i1 f2",))
        more = " f3" * (len(decoder.inputs) - 4)
        _check(decoder, (f"f3 i1 f3 i1{more}",), (f"f3 i2{more}",))
        logits = decoder.outputs[:1]
    else:
        hotwords = graphs.embedder is not None
        _check(main, ("f3 i1 f3",) if hotwords else ("f3 i1",), ("f3 i1", "f3 i1 f2 f2"))
    if graphs.embedder is not None:
        _check(graphs.embedder, ("i2", "i2 i1"), ("f3",))
    _check_size(main, main.inputs[:1], width, "features of its config")
    _check_size(decoder or main, logits, tokens, "tokens of its list")


def _check(header: Header, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    for title, ports, plans in (
        ("in", header.inputs, inputs),
        ("out", header.outputs, outputs),
    ):
        if not any(_fits(ports, plan.split()) for plan in plans):
            told = "; ".join(map(str, ports)) or "none"
            wanted = " or ".join(f"({plan})" for plan in plans)
            raise CheckpointError(
                f"{header.path}: its {title}puts are {told}, where {wanted} are wanted (f, i: "
                "real, whole numbers of so many dimensions); export it again"
            )


def _fits(ports: Sequence[Port], plan: Sequence[str]) -> bool:
    if len(ports) != len(plan):
        return False
    for port, wanted in zip(ports, plan, strict=True):
        kind, rank = wanted[0], wanted[1]
        if (port.element not in WHOLE_NUMBERS) if kind == "i" else (port.element != FLOAT):
            return False
        if port.shape is not None and len(port.shape) != int(rank):
            return False
    return True


def _check_size(header: Header, ports: Sequence[Port], size: int, what: str) -> None:
    for port in ports:
        told = port.shape[-1] if port.shape else None
        if told and size and told != size:
            raise CheckpointError(
                f"{header.path}: {port.name} has {told} columns, not the {size} {what}; are its "
                "files those of one model?"
            )
