#!/usr/bin/env python3
"""Forced alignment by CTC, to compare with: torchaudio's `forced_align` on the sounds of the text.

    local/align_ctc.py MODEL_DIR LAST.pt UNITS SEG_DICT DATA OUT_CTM

LAST.pt is the snapshot of the run that made MODEL_DIR: it holds the head over UNITS (initials and
toned finals, local/make_units.py) that training needs. A word begins with its first unit and ends
with its last one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from types import ModuleType

import torch
from make_units import units_of

from paraformer.backends.torch_engine import frame_seconds
from paraformer.data.audio.read import read_audio
from paraformer.data.corpus.tables import fields, read_rows, read_table, write_text
from paraformer.data.text.tokenizer import read_seg_dict
from paraformer.errors import ParaformerError
from paraformer.extras import load_torchaudio
from paraformer.models.paraformer import CtcHead
from paraformer.models.release import load_directory
from paraformer.models.weights import read_torch


def unit_head(path: Path, width: int) -> CtcHead:
    """The head of a snapshot."""
    state = read_torch(path)["objective"]
    weight, bias = (state[f"unit_head.ctc_lo.{name}"] for name in ("weight", "bias"))
    head = CtcHead(width, len(bias))
    head.load_state_dict({"ctc_lo.weight": weight, "ctc_lo.bias": bias})
    return head.eval()


def word_spans(
    torchaudio: ModuleType, logp: torch.Tensor, words: list[list[int]]
) -> list[tuple[int, int]]:
    """First and last frame of each word. logp (T, V)."""
    targets = torch.tensor([[unit for word in words for unit in word]])
    path, scores = torchaudio.functional.forced_align(logp[None], targets, blank=0)
    tokens = iter(torchaudio.functional.merge_tokens(path[0], scores[0].exp()))
    spans = []
    for word in words:
        found = [next(tokens) for _ in word]
        spans.append((found[0].start, found[-1].end))
    return spans


@torch.no_grad()
def main() -> int:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("model", "snapshot", "units", "seg_dict", "data", "out"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    try:
        torchaudio = load_torchaudio("local/align_ctc.py")
        release = load_directory(args.model)
        head = unit_head(args.snapshot, release.model.encoder.output_size)
        ids = {row.key: number for number, row in enumerate(read_rows(args.units), start=1)}
        seg_dict, texts = read_seg_dict(args.seg_dict), read_table(args.data / "text")
        shift = frame_seconds(release)
        lines = []
        for key, path in read_table(args.data / "wav.scp").items():
            feats = release.frontend(read_audio(path))
            memory, _ = release.model.encode(feats[None], torch.tensor([len(feats)]))
            words = fields(texts[key])
            units = [[ids[unit] for unit in units_of(word, seg_dict)] for word in words]
            spans = word_spans(torchaudio, head(memory)[0], units)
            for word, (start, end) in zip(words, spans, strict=True):
                lines.append(f"{key} 1 {start * shift:.3f} {(end - start) * shift:.3f} {word}\n")
        write_text(args.out, "".join(lines))
    except (ParaformerError, OSError, KeyError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
