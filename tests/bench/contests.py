"""What is held against what: the rows of the table."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from paraformer.data.corpus.tables import read_table
from tests.bench.measure import GRAPHS, OURS
from tests.bench.report import Contest

# What a run of cif.py calls the peer's functions -> the engines here.
CIF_RIVALS = {"cif": "funasr, loop", "cif_v1": "funasr, vectorised"}
DEFAULT = "offline,stream,streams,vad,speakers,cif,graphs"
# What is trained -> the options of train.py.
CONF = Path(__file__).resolve().parents[2] / "egs/aishell/s0/conf/train_conformer.yaml"
CONFORMER = ["--conf", str(CONF), "--no-cmvn", "--max-frames", "4000"]
TRAINED = {"plain": [], "aishell": CONFORMER, "aishell bf16": [*CONFORMER, "--bf16"]}


def contests(args: argparse.Namespace, rivals: Sequence[str]) -> list[Contest]:
    """The rows of the table."""
    return [row for task in args.tasks for row in CONTESTS[task](args, rivals)]


def offline(args: argparse.Namespace, rivals: Sequence[str]) -> Iterator[Contest]:
    """Seven recordings one by one and in a batch, and a long one; not slower than FunASR."""
    long = f"{args.seconds:g} s"
    titles = {"7/1": f"7 parts of {long}, one by one", "7/7": f"7 parts of {long}, in a batch"}
    for task, title in {**titles, "1/1": f"{long} in one piece"}.items():
        for rival in rivals:
            target = 1.0 if rival == "funasr" else None
            yield Contest(f"offline, {title}", "offline", task, rival, task, "rtf", target)


def stream(args: argparse.Namespace, rivals: Sequence[str]) -> Iterator[Contest]:
    """One stream; the mean chunk at most 0.8 of FunASR's."""
    for rival in rivals:
        for metric in ("chunk_ms_mean", "chunk_ms_p50", "chunk_ms_p99", "rtf"):
            target = 0.8 if (rival, metric) == ("funasr", "chunk_ms_mean") else None
            yield Contest("stream of 600 ms", "streaming", "1/1", rival, "1/1", metric, target)


def streams(args: argparse.Namespace, rivals: Sequence[str]) -> Iterator[Contest]:
    """Many in a batch, beside the peers and beside ours one after another: half the time."""
    alone, together = f"{args.streams}/1", f"{args.streams}/{args.streams}"
    for rival in (*rivals, "ours"):
        task = together if rival == "sherpa-onnx" else alone
        title, target = f"{args.streams} streams in a batch", 0.5 if rival == "ours" else None
        yield Contest(title, "streaming", together, rival, task, "rtf", target)


def vad(args: argparse.Namespace, rivals: Sequence[str]) -> Iterator[Contest]:
    """A long recording."""
    yield Contest(f"VAD of {args.vad_seconds:g} s", "vad", "all", "funasr", "all", "rtf")


def speakers(args: argparse.Namespace, rivals: Sequence[str]) -> Iterator[Contest]:
    """The embeddings of diarisation; a third of FunASR's time."""
    title = f"speaker embeddings of {args.vad_seconds:g} s"
    yield Contest(title, "speakers", "all", "funasr", "all", "rtf", 1 / 3)
    yield Contest(title, "speakers", "all", "funasr", "all", "peak_mb")


def cif(args: argparse.Namespace, rivals: Sequence[str]) -> Iterator[Contest]:
    """Forward and backward, beside both of the peer's."""
    for rival in CIF_RIVALS.values():
        yield Contest("CIF, forward and backward", "cif", "all", rival, "all", "ms")


def train(args: argparse.Namespace, rivals: Sequence[str]) -> Iterator[Contest]:
    """A training step of small and of the paper's size; of that, 1.5 times as fast as FunASR."""
    for task in TRAINED:
        target = None if task == "plain" else 1 / 1.5
        title = f"training step, {task}"
        yield Contest(title, "train", task, "funasr", task, "median_step_s", target)


def formats(args: argparse.Namespace, rivals: Sequence[str]) -> Iterator[Contest]:
    """Ours in float32 beside ours in bfloat16: time, memory, and how far the texts agree."""
    for task, title in {"7/1": "one by one", "7/7": "in a batch", "1/1": "in one piece"}.items():
        named = f"float32, {args.seconds:g} s {title}"
        yield Contest(named, "offline", task, "ours, bf16", task, "rtf")
    yield Contest("float32", "offline", "1/1", "ours, bf16", "1/1", "peak_mb")


def graphs(args: argparse.Namespace, rivals: Sequence[str]) -> Iterator[Contest]:
    """Where the peers' runtimes are asked for: ours by graphs in 8 bits beside torch in each format
    and beside the peers by the same graphs.
    """
    own = "ours, onnx int8"
    engines = [name for name, dtype in GRAPHS.items() if dtype == "int8" and name not in OURS]
    for task, title in {"7/1": "one by one", "1/1": "in one piece"}.items():
        named = f"graphs in int8, {args.seconds:g} s {title}"
        for rival in ("ours", "ours, bf16", "ours, int8", *engines) if args.onnx else ():
            yield Contest(named, "offline", task, rival, task, "rtf", own=own)


def texts(args: argparse.Namespace, rivals: Sequence[str]) -> Iterator[Contest]:
    """All recordings of a data directory in each format of ours."""
    task = f"{len(read_table(args.data / 'wav.scp'))}/1"
    for rival in OURS:
        if rival != "ours":
            yield Contest(f"float32, {args.data}", "offline", task, rival, task, "rtf")


CONTESTS: Mapping[str, Callable[[argparse.Namespace, Sequence[str]], Iterator[Contest]]] = {
    "offline": offline,
    "formats": formats,
    "graphs": graphs,
    "texts": texts,
    "stream": stream,
    "streams": streams,
    "vad": vad,
    "speakers": speakers,
    "cif": cif,
    "train": train,
}
