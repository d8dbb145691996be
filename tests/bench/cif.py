#!/usr/bin/env python3
"""Integrate-and-fire, forward and backward, beside the reference's loop and its vectorised form.

    tests/bench/cif.py --peer PEER/bin/python     # a python that has funasr 1.4.16

The same tensors go through all three, values and gradients are compared, and the medians of
each and their ratios are printed. Equal means equal to the loop: the vectorised form rounds its
cumulative sum to float32, and is itself 1e-5 from the loop. Rounds of the three alternate, so that
other work on the machine slows all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from paraformer.nn.cif import integrate, running_sum  # noqa: E402
from tests.bench.measure import Meter  # noqa: E402

TOLERANCE = 1e-5
RIVALS = {"cif": "loop", "cif_v1": "vectorised"}  # function of the reference -> what it is

# Runs in the peer's interpreter: a line "NAME" on stdin is one timed round of that function.
PEER = """
import sys, time
import numpy as np, torch
real, sys.stdout = sys.stdout, sys.stderr  # the import prints
from funasr.models.paraformer import cif_predictor
path, threads = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(threads)
x = {k: torch.from_numpy(v) for k, v in np.load(path).items()}
for line in sys.stdin:
    name = line.strip()
    alphas, hidden = (x[k].clone().requires_grad_() for k in ("alphas", "hidden"))
    began = time.perf_counter()
    tokens = getattr(cif_predictor, name)(hidden, alphas * 1.0, 1.0)[0]
    pull = torch.zeros_like(tokens)
    pull[:, : x["pull"].size(1)] = x["pull"]
    tokens.backward(pull)
    seconds = time.perf_counter() - began
    found = dict(tokens=tokens.detach(), alphas=alphas.grad, hidden=hidden.grad)
    np.savez(path + "." + name, **found)
    print(seconds, file=real, flush=True)
"""


def make_inputs(batch: int, frames: int, width: int) -> dict[str, Tensor]:
    """Weights that fire a token every four frames, hidden frames, and a gradient to send back."""
    torch.manual_seed(0)
    count = frames // 4
    weights = torch.rand(batch, frames) * 0.5
    weights = weights * ((count - 0.4) / weights.sum(1))[:, None]
    hidden = torch.randn(batch, frames, width)
    return {"alphas": weights, "hidden": hidden, "pull": torch.randn(batch, count - 1, width)}


def ours(inputs: dict[str, Tensor]) -> tuple[float, dict[str, Tensor]]:
    """Seconds of one round, and what came out."""
    alphas, hidden = (inputs[k].clone().requires_grad_() for k in ("alphas", "hidden"))
    began = time.perf_counter()
    tokens = integrate(running_sum(alphas * 1.0), hidden, inputs["pull"].size(1))
    tokens.backward(inputs["pull"])
    seconds = time.perf_counter() - began
    assert alphas.grad is not None
    assert hidden.grad is not None
    return seconds, {"tokens": tokens.detach(), "alphas": alphas.grad, "hidden": hidden.grad}


def load(path: Path, like: dict[str, Tensor]) -> dict[str, Tensor]:
    """Results of the reference, without the row that it adds for what did not fire."""
    theirs = {name: torch.from_numpy(value) for name, value in np.load(path).items()}
    return {name: value[:, : like[name].size(1)] for name, value in theirs.items()}


def difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, float]:
    """Largest difference of each result, as a share of the largest value."""
    return {name: float((a[name] - b[name]).abs().max() / b[name].abs().max()) for name in a}


def alternate(rounds: int, contestants: dict[str, Callable[[], float]]) -> dict[str, float]:
    """Median seconds of each, after one round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):
        for name, contestant in contestants.items():
            seconds = contestant()
            if number > 0:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def compare(options: argparse.Namespace) -> dict[str, object]:
    """Time and check all three."""
    torch.set_num_threads(options.threads)
    inputs = make_inputs(options.batch, options.frames, options.width)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npz"
        np.savez(path, **{name: value.numpy() for name, value in inputs.items()})
        command = [options.peer, "-c", PEER, str(path), str(options.threads)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, **pipes) as peer:

            def theirs(name: str) -> float:
                peer.stdin.write(f"{name}\n")
                peer.stdin.flush()
                return float(peer.stdout.readline())

            contestants: dict[str, Callable[[], float]] = {"ours": lambda: ours(inputs)[0]}
            contestants |= {name: lambda name=name: theirs(name) for name in RIVALS}
            with Meter(os.getpid(), peer.pid) as meter:
                medians = alternate(options.rounds, contestants)
            peer.stdin.close()
        found = ours(inputs)[1]
        theirs_of = {kind: load(Path(f"{path}.{name}.npz"), found) for name, kind in RIVALS.items()}
        unequal = {kind: difference(found, value) for kind, value in theirs_of.items()}
        unequal["loop and vectorised"] = difference(theirs_of["loop"], theirs_of["vectorised"])
    return {
        "ms": {name: round(1000 * seconds, 2) for name, seconds in medians.items()},
        "times_faster_than": {
            kind: round(medians[name] / medians["ours"], 1) for name, kind in RIVALS.items()
        },
        "relative_difference": unequal,
        "equal": max(unequal["loop"].values()) <= TOLERANCE,
        "others": meter.facts()["others"],
        "shape": [options.batch, options.frames, options.width],
        "threads": options.threads,
        "torch": torch.__version__,
    }


def main() -> int:
    """Print one JSON object; 1 if the results differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peer", required=True, help="python that has funasr 1.4.16")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    result = compare(parser.parse_args())
    print(json.dumps(result, indent=1))
    return 0 if result["equal"] else 1


if __name__ == "__main__":
    sys.exit(main())
