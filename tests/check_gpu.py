"""Recognition on a CUDA device beside the CPU: `tests/check_gpu.py [REPORT.json]`, within minutes.

Prints a line a check and writes them: texts of the fixtures in fp32 and bf16 beside those of the
CPU, batched throughput, a chunk of a stream, peak memory for a second of audio. Where there is no
such device it says so, and the exit code is 0; it is 1 where a text of fp32 is another.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from paraformer import AutoModel  # noqa: E402
from paraformer.data.audio.read import read_audio  # noqa: E402
from paraformer.hub.directories import BUNDLED  # noqa: E402

MODEL = "paraformer-zh-mini"
CLIPS = sorted((BUNDLED / MODEL / "example").glob("*.wav"))
COPIES = 64
RATE = 16000


def texts(device: str, dtype: str) -> list[str]:
    """The texts of the demo clips."""
    model = AutoModel(MODEL, device=device, dtype=dtype, disable_pbar=True)
    return [str(result["text"]) for result in model.generate(list(map(str, CLIPS)))]


def parity(device: str) -> dict[str, int]:
    """How many texts are those of the CPU, by number format."""
    wanted = texts("cpu", "fp32")
    found = {dtype: texts(device, dtype) for dtype in ("fp32", "bf16")}
    same = {dtype: sum(map(str.__eq__, said, wanted)) for dtype, said in found.items()}
    return {"texts": len(wanted), **{f"equal in {dtype}": count for dtype, count in same.items()}}


def throughput(device: str) -> dict[str, float]:
    """Seconds of audio a second in batches, and the most memory for a second of one batch."""
    waves = [read_audio(clip) for clip in CLIPS] * COPIES
    seconds = sum(map(len, waves)) / RATE
    model = AutoModel(MODEL, device=device, disable_pbar=True)
    batches = {"batch_size": COPIES, "batch_size_s": 600.0}
    model.generate([wave.numpy() for wave in waves[:COPIES]], **batches)
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    begun = time.perf_counter()
    model.generate([wave.numpy() for wave in waves], **batches)
    rate = seconds / (time.perf_counter() - begun)
    peak = torch.cuda.max_memory_allocated() / 1e6 if device != "cpu" else 0.0
    batch = min(600.0, seconds)
    return {"seconds of audio a second": round(rate, 1), "MB for one": round(peak / batch, 3)}


def stream(device: str) -> dict[str, float]:
    """Milliseconds that a chunk of 600 ms takes, the median, and the worst."""
    model = AutoModel(MODEL, device=device, disable_pbar=True)
    taken = []
    for _ in range(3):
        streamer = model.streamer(chunk_size=[0, 10, 5])
        wave = read_audio(CLIPS[0])
        for block in wave.split(9600):
            begun = time.perf_counter()
            streamer.feed(block.numpy())
            taken.append(1000 * (time.perf_counter() - begun))
        streamer.flush()
    ordered = sorted(taken[1:])
    return {"median ms": round(ordered[len(ordered) // 2], 2), "worst ms": round(ordered[-1], 2)}


def report(device: str) -> dict[str, dict[str, float]]:
    """All checks on a device, each printed when it is done."""
    found: dict[str, dict[str, float]] = {}
    for check in (parity, throughput, stream):
        found[check.__name__] = {**check(device)}
        said = ", ".join(f"{name} {value}" for name, value in found[check.__name__].items())
        print(f"{check.__name__}: {said}", flush=True)
    return found


def main(arguments: list[str]) -> int:
    """The exit code."""
    if not torch.cuda.is_available():
        print("no GPU")
        return 0
    print(torch.cuda.get_device_name())
    found = report("cuda")
    if arguments:
        Path(arguments[0]).write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return 0 if found["parity"]["equal in fp32"] == found["parity"]["texts"] else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
