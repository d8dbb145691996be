#!/usr/bin/env python3
"""Lower the bias of "no mark" until F1 over all marks of the dev set is largest.

    local/calibrate.py MODEL DEV/text_marks OUT

A model trained by cross-entropy writes too few marks for that: they are the rarer choice. OUT is
MODEL with that one number changed, in half precision.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from paraformer.models.release import PunctuationRelease, load_punctuation, save_directory
from paraformer.train.punctuation import IGNORED, NO_MARK, PassageLoader, Sampling, read_passages

STEPS = [step / 10 for step in range(16)]


@torch.inference_mode()
def scores(release: PunctuationRelease, path: Path) -> tuple[Tensor, Tensor]:
    """Logits (U, marks) and labels (U,) of all words of a table of passages."""
    passages = read_passages(path, release.tokenizer, release.marks)
    loader = PassageLoader(passages, [], release.tokenizer.unk_id, Sampling())
    model = release.model.eval()
    logits, labels = [], []
    for batch in loader.epoch(0):
        keep = batch.labels != IGNORED
        logits.append(model(batch.ids, batch.lengths)[keep].float())
        labels.append(batch.labels[keep])
    return torch.cat(logits), torch.cat(labels)


def f1(logits: Tensor, labels: Tensor, lower: float) -> float:
    """F1 in per cent over all marks with the bias of "no mark" so much lower."""
    shifted = logits.clone()
    shifted[:, NO_MARK] -= lower
    best = shifted.argmax(-1)
    hits = ((best == labels) & (best > NO_MARK)).sum()
    return float(200 * hits / ((best > NO_MARK).sum() + (labels > NO_MARK).sum()))


def main() -> int:
    """Write OUT and say what was chosen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    release = load_punctuation(args.model)
    logits, labels = scores(release, args.dev)
    found = {lower: f1(logits, labels, lower) for lower in STEPS}
    chosen = max(found, key=lambda lower: found[lower])
    with torch.no_grad():
        release.model.decoder.bias[NO_MARK] -= chosen
    save_directory(args.out, release, dtype=torch.float16)
    print(f"bias {-chosen}: F1 {found[0.0]:.2f} -> {found[chosen]:.2f} on dev", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
