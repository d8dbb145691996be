#!/usr/bin/env python3
"""Train ours or the reference's model class for some minutes on the same batches, and say how
fast it was.

    tests/bench/train.py --engine ours --data data/train_sp --lang data/lang --out exp/bench_ours
    PEER/bin/python tests/bench/train.py --engine funasr ...    # a venv with funasr 1.4.16

The model is that of the plain recipe, or of `--conf`, a recipe's training configuration. Both see
the same lists, batches, augmentation, model size, optimiser and schedule; the loop around the
reference is plain, since its own trainer asks for a GPU. The result is a released-layout directory
for bin/decode.py, and one JSON line: steps, median time of one (by the clock, of processors), audio
seconds per second, final loss, the load of other processes.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
import yaml  # noqa: E402
from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from paraformer.data.batches.augment import Augment  # noqa: E402
from paraformer.data.batches.dataset import (  # noqa: E402
    Batch,
    Batching,
    Loader,
    encoder_stride,
    read_utterances,
)
from paraformer.models.release import Release, build, merge, save_directory  # noqa: E402
from paraformer.train.losses import Weights, paraformer_losses  # noqa: E402
from paraformer.train.optim import Optim  # noqa: E402
from tests.bench.measure import Meter  # noqa: E402

Step = Callable[[Batch], torch.Tensor]
# The plain recipe of the reference's model class: CTC beside CE and MAE, 8 + 4 blocks of 256.
PLAIN = {
    "model_conf": {
        "ctc_weight": 0.3,
        "lsm_weight": 0.1,
        "length_normalized_loss": False,
        "predictor_weight": 1.0,
        "predictor_bias": 1,
        "sampling_ratio": 0.75,
    }
}
# The loader augments for both.
LEFT_OUT = ("specaug", "specaug_conf")


def configuration(lang: Path, cmvn: Path | None, conf: Path | None = None) -> dict[str, Any]:
    """The model of a training configuration; of conf/train.yaml with the losses of the plain
    recipe where there is none.
    """
    if conf is None:
        text = (ROOT / "paraformer/conf/train.yaml").read_text("utf8")
        model = merge(yaml.safe_load(text)["model"], PLAIN)
    else:
        with initialize_config_dir(str(conf.parent.resolve()), version_base="1.3"):
            composed = compose(conf.stem, ["hydra.searchpath=[pkg://paraformer.conf]"])
        model = OmegaConf.to_container(composed.model)
    files = {"token_list": str(lang / "tokens.json"), "seg_dict_file": str(lang / "seg_dict")}
    paths = {"tokenizer_conf": files, "frontend_conf": {"cmvn_file": cmvn and str(cmvn)}}
    kept = {k: v for k, v in model.items() if k not in LEFT_OUT and v is not None}
    return merge(kept, paths)


def our_step(release: Release) -> Step:
    """One forward pass of ours."""
    model = release.model
    losses = release.config["model_conf"]
    weights = Weights(**{k: v for k, v in losses.items() if k in Weights._fields})

    def step(batch: Batch) -> torch.Tensor:
        encoded = model.encode(batch.feats, batch.lengths)
        return paraformer_losses(model, weights, encoded, batch.text, batch.text_lengths).loss

    return step


def reference_step(release: Release) -> tuple[torch.nn.Module, Step]:
    """The reference's class of the same configuration, and one forward pass of it."""
    import funasr  # noqa: F401  (registers its classes)
    from funasr.register import tables

    conf = {k: v for k, v in release.config.items() if k not in ("model", "model_conf")}
    sizes = {
        "vocab_size": len(release.tokenizer.tokens),
        "input_size": release.frontend.output_size,
    }
    losses = release.config["model_conf"]
    model = tables.model_classes["Paraformer"](**conf, **losses, **sizes)
    predict = model.predictor.forward

    def predict_in_float32(hidden: torch.Tensor, *rest: Any, **named: Any) -> Any:
        with torch.autocast("cpu", enabled=False):  # its CIF refuses half precision
            return predict(hidden.float(), *rest, **named)

    model.predictor.forward = predict_in_float32

    def step(batch: Batch) -> torch.Tensor:
        lengths, text_lengths = batch.lengths.int(), batch.text_lengths.int()
        text = batch.text[:, : int(text_lengths.max())]  # it takes no padding beyond the longest
        loss = model(batch.feats[:, : int(lengths.max())], lengths, text, text_lengths)[0]
        return loss.float()

    return model, step


def batches(args: argparse.Namespace, release: Release) -> Generator[Batch, None, None]:
    """Epoch after epoch of the data directory."""
    stride = encoder_stride(release.frontend)
    utterances, _ = read_utterances(args.data, release.tokenizer.encode, stride)
    augment = Augment(freq_masks=2, time_masks=2)
    batching = Batching(max_frames=args.max_frames)
    loader = Loader(utterances, release.frontend, batching, augment, args.seed)
    for epoch in itertools.count(1):
        yield from loader.epoch(epoch)


def train(
    args: argparse.Namespace, model: torch.nn.Module, step: Step, data: Iterator[Batch]
) -> dict[str, float]:
    """The plain loop; the learning rate follows the clock, so that both engines end their
    schedule.
    """
    optim = Optim(lr=args.lr, schedule="cosine", warmup_steps=50, total_steps=1000)
    optimizer = optim.optimizer(model)
    model.train()
    times: list[float] = []
    busy: list[float] = []
    audio, loss, began = 0.0, torch.tensor(0.0), time.perf_counter()
    while (passed := time.perf_counter() - began) < args.minutes * 60:
        batch = next(data)
        start, worked = time.perf_counter(), time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = step(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        for group in optimizer.param_groups:
            group["lr"] = optim.rate(1 + int(passed / args.minutes / 60 * 1000))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
        busy.append(time.process_time() - worked)
        audio += batch.seconds
    return {
        "steps": len(times),
        "median_step_s": round(statistics.median(times), 4),
        "cpu_s": round(statistics.median(busy), 4),
        "audio_s_per_s": round(audio / sum(times), 1),
        "loss": round(float(loss), 3),
    }


def main() -> int:
    """Train, save, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=["ours", "funasr"], required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--lang", type=Path, required=True)
    parser.add_argument("--cmvn", type=Path, help="default: am.mvn of the data directory")
    parser.add_argument("--no-cmvn", action="store_true", help="features as they are")
    parser.add_argument("--conf", type=Path, help="training configuration, default: plain recipe")
    parser.add_argument("--max-frames", type=int, default=14400, help="of 10 ms in a batch")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, help="default: as torch finds it")
    parser.add_argument("--bf16", action="store_true")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    cmvn = None if args.no_cmvn else args.cmvn or args.data / "am.mvn"
    release = build(configuration(args.lang, cmvn, args.conf))
    if args.engine == "ours":
        model, step = release.model, our_step(release)
    else:
        model, step = reference_step(release)
    with contextlib.closing(batches(args, release)) as data, Meter() as meter:
        result = train(args, model, step, data)
    if args.engine == "funasr":
        release.model.load_state_dict(model.state_dict(), strict=True)
    save_directory(args.out, release)
    facts = {"engine": args.engine, "minutes": args.minutes, "bf16": args.bf16}
    print(json.dumps({**facts, **meter.facts(), **result}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
