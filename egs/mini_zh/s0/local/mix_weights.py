#!/usr/bin/env python3
"""Weights between those of a model and those of a model that was trained from it.

    local/mix_weights.py BEFORE AFTER SHARE OUT

OUT, a released directory in half precision, has SHARE of AFTER and the rest of BEFORE. What was
learnt for new voices is then nearly kept, and less of the old ones is forgotten.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from paraformer.errors import ParaformerError
from paraformer.models.release import load_directory, save_directory
from paraformer.models.weights import load_state, read_weights


def main() -> int:
    """See the top of this file."""
    if len(sys.argv) != 5:
        print("usage: local/mix_weights.py BEFORE AFTER SHARE OUT", file=sys.stderr)
        return 2
    before, after, share = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
    try:
        release = load_directory(after)
        old, new = (read_weights(folder / "model.pt") for folder in (before, after))
        mixed = {name: torch.lerp(old[name].float(), new[name].float(), share) for name in new}
        load_state(release.model, mixed, after)
        save_directory(sys.argv[4], release, dtype=torch.float16)
    except (ParaformerError, KeyError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
