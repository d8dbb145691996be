#!/usr/bin/env bash
# pyroomacoustics 0.10.1 and when the direct sound arrives.
#
# One expects: that in a room without echoes a microphone 3.43 m from the source hears it 10 ms later,
# sound going 343 m in a second: 160 samples at 16 kHz.
# What happens: it arrives 40 samples later than that, 2.5 ms at 16 kHz and 5 ms at 8 kHz, whatever the
# distance: half of the filter of 81 taps by which delays between samples are made stands before it.
# Why it matters: speech that is put into rooms by these responses, to train on, is late against its
# alignment, its VAD labels and its clean copy, and by the more milliseconds the lower the rate. The
# constant frac_delay_length is what must be taken off, half of it.
set -euo pipefail

command -v python3 >/dev/null || { echo "python3 is not here (apt install python3-venv)" >&2; exit 2; }
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv

venv/bin/pip install -q --disable-pip-version-check pyroomacoustics==0.10.1
venv/bin/python -W ignore - <<'PYTHON'
from importlib.metadata import version

import numpy as np
import pyroomacoustics as pra

print("pyroomacoustics", version("pyroomacoustics"))
HALF_OF_THE_FILTER, SPEED = 40, 343.0


def arrival(rate, metres):
    """The sample at which the response of a room without echoes is largest."""
    room = pra.ShoeBox([8, 6, 4], fs=rate, max_order=0, air_absorption=False)
    room.set_sound_speed(SPEED)
    room.add_source([1, 3, 2])
    room.add_microphone([1 + metres, 3, 2])
    room.compute_rir()
    return int(np.argmax(np.abs(room.rir[0][0])))


same = True
for rate in (8000, 16000, 48000):
    for metres in (0.8575, 3.43):  # 2.5 and 10 ms
        expected, found = round(rate * metres / SPEED), arrival(rate, metres)
        late = found - expected
        print(f"{rate} Hz, {metres} m: at sample {found} where {expected} is right, "
              f"{1000 * late / rate:.2f} ms late")
        same &= late == HALF_OF_THE_FILTER
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
