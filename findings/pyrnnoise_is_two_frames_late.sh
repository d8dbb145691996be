#!/usr/bin/env bash
# pyrnnoise 0.4.5 (RNNoise) and when the sound that it cleaned comes out.
#
# One expects: that a cleaned recording, which has the length of the noisy one, lies in time with it.
# What happens: it is 20 ms late, two frames of 10 ms, less a few samples; the last 20 ms of the
# recording are not in it. Of audio at 16 kHz some samples are missing besides.
# Why it matters: cleaned in front of a recogniser, a VAD or an aligner, all times are 20 ms late, and
# a mean error of 40 ms is what aligners are compared by. Nothing in the package tells of the delay.
set -euo pipefail

command -v python3 >/dev/null || { echo "python3 is not here (apt install python3-venv)" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv

venv/bin/pip install -q --disable-pip-version-check pyrnnoise==0.4.5
venv/bin/python -W ignore - <<'PYTHON'
from importlib.metadata import version

import numpy as np
from pyrnnoise import RNNoise

print("pyrnnoise", version("pyrnnoise"))
GLIDES = ((110, 180), (200, 130), (120, 260))  # Hz, of voices that rise and fall


def glide(rate, low, high):
    """Half a second of a voice-like sound whose pitch moves, so that it fits itself once only."""
    time = np.arange(rate // 2) / rate
    phase = 2 * np.pi * np.cumsum(low + (high - low) * time / 0.5) / rate
    return 0.1 * np.hanning(len(time)) * sum(np.sin(k * phase) / k for k in range(1, 15))


def lag(rate):
    """Milliseconds by which the cleaned sound is late, and how many samples it lacks."""
    sound = np.zeros(3 * rate)
    for number, (low, high) in enumerate(GLIDES):
        begin = round((0.3 + 0.8 * number) * rate)
        sound[begin : begin + rate // 2] += glide(rate, low, high)
    given = (32767 * sound).astype(np.int16)
    frames = [frame for _, frame in RNNoise(sample_rate=rate).denoise_chunk(given[None])]
    cleaned, given = np.concatenate(frames, -1)[0].astype(float), given.astype(float)
    most, size = rate // 10, min(len(given), len(cleaned))
    shifts = range(-most, most)
    inner = given[most : size - most]
    alike = [float(cleaned[most + s : size - most + s] @ inner) for s in shifts]
    return 1000 * shifts[int(np.argmax(alike))] / rate, len(given) - len(cleaned)


same = True
for rate in (48000, 16000):
    late, lacking = lag(rate)
    print(f"{rate} Hz: {late:.2f} ms late, {lacking} samples fewer")
    same &= abs(late - 20.0) < 0.5
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
