#!/usr/bin/env bash
# kaldiio 2.18.1 and WAV files of mu-law or A-law (format tags 7 and 6).
#
# One expects: 16-bit samples, as soundfile and sox give, or a refusal, as Kaldi itself, Python's
# `wave` and kaldiio for 24 bits give.
# What happens: the check of the format tag is switched off, so the code bytes come back as if they
# were unsigned 8-bit linear samples, without a warning; from a wav.scp, from an archive and from
# `load_mat` on the path. The number of samples and the rate are right, so nothing later notices:
# silence, which is byte 255 in mu-law, becomes full scale.
# Why it matters: telephone corpora are in mu-law. Features of such data look like any others, and a
# recogniser trained on or fed with them is merely bad.
set -euo pipefail

for program in sox python3; do
  command -v "$program" >/dev/null || { echo "$program is not here (apt install sox python3-venv)" >&2; exit 2; }
done
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check kaldiio==2.18.1 soundfile==0.13.1 numpy==2.2.6
sox -R -r 8000 -n -c 1 -b 16 linear.wav synth 1000s sine 440 vol 0.5 pad 0 1000s
sox linear.wav -e mu-law mulaw.wav
sox linear.wav -e a-law alaw.wav
venv/bin/python -W error - <<'PYTHON'
from importlib.metadata import version
from pathlib import Path

import kaldiio
import numpy as np
import soundfile

print("kaldiio", version("kaldiio"), "soundfile", soundfile.__version__)
same = True
for name in ("linear", "mulaw", "alaw"):
    content = Path(f"{name}.wav").read_bytes()
    codes = np.frombuffer(content[content.index(b"data") + 8 :], np.uint8)
    right = soundfile.read(f"{name}.wav", dtype="int16")[0]
    Path(f"{name}.ark").write_bytes(b"call " + content)
    Path(f"{name}.scp").write_text(f"call {name}.wav\n")
    with open(f"{name}.ark", "rb") as archive:
        ways = [next(kaldiio.load_ark(archive))[1]]
    ways += [kaldiio.load_scp(f"{name}.scp")["call"], kaldiio.load_mat(f"{name}.wav")]
    rate, found = ways[0]
    print(f"{name}: soundfile {right[:4]} ... {right[-1]}; kaldiio {found[:4]} ... {found[-1]} "
          f"({found.dtype}, {len(found)} samples, {rate} Hz)")
    expected = right if name == "linear" else codes
    same &= all(rate == 8000 and np.array_equal(way, expected) for rate, way in ways)
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
