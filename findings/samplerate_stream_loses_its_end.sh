#!/usr/bin/env bash
# samplerate 0.2.4 (python-samplerate) and the end of a stream that it resamples.
#
# One expects: that a Resampler that is fed in blocks, the last one with end_of_input=True, gives the
# samples that resample() gives of the whole.
# What happens: the last ones never come: 143 of 8,000 where 16 kHz become 8 kHz by sinc_best, 18 ms.
# Each call gives as many samples as its own block is worth at most, so what the filter holds back at
# the beginning is left in it at the end, and more calls with an empty block give nothing. Silence put
# behind the sound drives it out, equal to the whole.
# Why it matters: the last syllable of each stream is cut, and the times of streams that are joined
# move on by as much each time.
set -euo pipefail

command -v python3 >/dev/null || { echo "python3 is not here (apt install python3-venv)" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv

venv/bin/pip install -q --disable-pip-version-check samplerate==0.2.4
venv/bin/python -W ignore - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import samplerate

print("samplerate", version("samplerate"))
RATIO, BLOCK = 0.5, 160
sound = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000).astype(np.float32)
blocks = np.split(sound, len(sound) // BLOCK)


def stream(kind, silence):
    """All that comes of the blocks, the last one said to be the last; silence: blocks behind."""
    made = samplerate.Resampler(kind)
    fed = [*blocks, *[np.zeros(BLOCK, np.float32)] * silence]
    found = [made.process(one, RATIO, end_of_input=one is fed[-1]) for one in fed]
    found += [made.process(np.zeros(0, np.float32), RATIO, end_of_input=True) for _ in range(3)]
    return np.concatenate(found)


same = True
for kind, lost in (("sinc_best", 143), ("sinc_medium", 46), ("sinc_fastest", 19)):
    whole = samplerate.resample(sound, RATIO, kind)
    streamed, driven = stream(kind, silence=0), stream(kind, silence=4)
    print(f"{kind}: {len(whole)} samples of the whole, {len(streamed)} of the stream")
    same &= len(whole) - len(streamed) == lost
    same &= bool(np.array_equal(driven[: len(whole)], whole))
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
