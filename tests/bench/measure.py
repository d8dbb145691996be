"""What the drivers share: audio, the measuring of one round, and the lines that `run.py` reads.

A driver loads one engine and says so in a line of JSON; then each task, of its command line or,
with `--tasks -`, of a line of its standard input, is one timed round and one more line; before the
first, the task is done once without counting. It runs in the project's environment or in the peers'
(numpy is all that this module needs of either).
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import time
import wave
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
RATE = 16000
CLIPS = sorted((ROOT / "paraformer/bundled/paraformer-zh-mini/example").glob("*.wav"))
# The engines that are ours, and the options of each.
OURS: dict[str, dict[str, Any]] = {
    "ours": {},
    "ours, bf16": {"dtype": "bf16"},
    "ours, int8": {"dtype": "int8"},
    **dict.fromkeys(("ours, onnx", "ours, onnx fp16", "ours, onnx int8"), {}),
}
# Those that hear by the graphs of a model, and the peers that hear by the same -> their numbers.
GRAPHS = {
    "ours, onnx": "fp32",
    "ours, onnx fp16": "fp16",
    **dict.fromkeys(("ours, onnx int8", "funasr-onnx, int8", "sherpa-onnx, int8"), "int8"),
}
# Fields of /proc/stat in which a processor works: user nice system irq softirq steal.
BUSY = (0, 1, 2, 5, 6, 7)

Answer = dict[str, Any]
Run = Callable[[str], Answer]


def speech(seconds: float, clips: Sequence[Path] = (), start: float = 0.0) -> np.ndarray:
    """Clips (16 kHz, 16 bits, mono; none: the bundled ones) one behind another, over and over:
    float32 samples (N,) in [-1, 1).

    start: seconds into that loop, so that streams say different things at a time.
    """
    parts = []
    for path in clips or CLIPS:
        with wave.open(str(path)) as clip:
            parts.append(np.frombuffer(clip.readframes(clip.getnframes()), "<i2"))
    loop = np.roll(np.concatenate(parts), -round(start * RATE))
    count = round(seconds * RATE)
    return np.tile(loop, -(-count // len(loop)))[:count].astype(np.float32) / 32768


def busy_ticks(stat: str) -> int:
    """Clock ticks in which any processor worked, of the text of /proc/stat.

    >>> busy_ticks("cpu  10 1 5 900 7 0 2 3 4 0")
    21
    """
    fields = [int(value) for value in stat.splitlines()[0].split()[1:]]
    return sum(fields[place] for place in BUSY)


def own_ticks(stat: str) -> int:
    """utime + stime of the text of /proc/PID/stat; the program's name may hold blanks.

    >>> own_ticks("7 (a b) c) S 1 7 7 0 -1 4194304 9 0 0 0 30 12 0 0 20 0 2 0")
    42
    """
    fields = stat.rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


class Meter:
    """Times a `with` block: `wall_s`, `cpu_s` of these processes (by default this one), and
    `others`, the processors that all else on the machine used meanwhile; None where no /proc is.
    """

    def __init__(self, *pids: int) -> None:
        self.pids = pids or (os.getpid(),)
        self.wall_s = self.cpu_s = 0.0
        self.others: float | None = None

    def __enter__(self) -> Meter:
        self._began = time.perf_counter(), self._ticks()
        return self

    def __exit__(self, *_: object) -> None:
        began, before = self._began
        self.wall_s = time.perf_counter() - began
        after = self._ticks()
        if before is not None and after is not None:
            tick = 1 / os.sysconf("SC_CLK_TCK")
            own = after[1] - before[1]
            self.cpu_s = own * tick
            self.others = max(0.0, (after[0] - before[0] - own) * tick / self.wall_s)

    def _ticks(self) -> tuple[int, int] | None:
        """Of all processors, and of these processes."""
        try:
            busy = busy_ticks(Path("/proc/stat").read_text())
            return busy, sum(own_ticks(Path(f"/proc/{p}/stat").read_text()) for p in self.pids)
        except OSError:
            return None

    def facts(self) -> Answer:
        """For an answer."""
        others = None if self.others is None else round(self.others, 2)
        return {
            "wall_s": round(self.wall_s, 4),
            "cpu_s": round(self.cpu_s, 2),
            "others": others,
            "peak_mb": peak_mb(),
        }


def peak_mb() -> int | None:
    """Most memory that this process has had; getrusage would count what its parent had."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    return next(int(line.split()[1]) // 1024 for line in status.splitlines() if "VmHWM" in line)


def parse_task(task: str) -> tuple[int, int]:
    """How many inputs or streams, and how many of them in a batch.

    >>> parse_task("8/1")
    (8, 1)
    """
    count, batch = (int(part) for part in task.split("/"))
    return count, batch


def auto_model(args: argparse.Namespace) -> Any:
    """Ours and the reference have the same class, built by the same call."""
    import torch

    package = importlib.import_module("paraformer" if args.engine in OURS else "funasr")
    options = {"disable_update": True, "disable_pbar": True, "log_level": "ERROR"}
    options |= OURS.get(args.engine, {})
    model = package.AutoModel(model=str(args.model), device="cpu", ncpu=args.threads, **options)
    torch.set_num_threads(args.threads)
    return model


def drive(
    doc: str,
    engines: Sequence[str],
    tasks: str,
    load: Callable[[argparse.Namespace], Run],
    argv: Sequence[str] | None = None,
) -> int:
    """The main function of a driver: load, say so, then a line for each task."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("--engine", choices=engines, required=True)
    parser.add_argument("--model", type=Path, required=True, help="model directory")
    parser.add_argument("--seconds", type=float, default=70.0, help="of audio in a round")
    parser.add_argument("--clips", type=Path, nargs="+", default=[], help="wav files of 16 kHz")
    parser.add_argument("--data", type=Path, help="data directory, heard whole by ours")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tasks", default=tasks, help=f"{tasks}, or - for lines of stdin")
    args = parser.parse_args(argv)
    out = _claim_stdout()
    with Meter() as meter:
        run = load(args)
    _answer(out, {"engine": args.engine, "task": "load", **meter.facts()})
    asked: Iterable[str] = sys.stdin if args.tasks == "-" else args.tasks.split(",")
    for line in asked:
        task = line.strip()
        _answer(out, {"engine": args.engine, "task": task, **run(task)})
    return 0


def _claim_stdout() -> TextIO:
    """Standard output for the answers alone: what libraries print there goes to stderr."""
    sys.stdout.flush()
    out = os.fdopen(os.dup(1), "w", encoding="utf8")
    os.dup2(2, 1)
    return out


def _answer(out: TextIO, answer: Answer) -> None:
    print(json.dumps(answer, ensure_ascii=False), file=out, flush=True)
