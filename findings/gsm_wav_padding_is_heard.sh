#!/bin/bash
# A GSM 6.10 WAV with an odd number of blocks of 65 bytes has an odd data chunk, so RIFF puts a
# padding byte behind it (which sox counts to it), and that is no sound. One would expect as many samples as the fact chunk and
# every other decoder say: 320 a block. libsndfile (python-soundfile) counts the padding byte as the
# begin of one more block and gives 320 samples, 40 ms at 8 kHz, that were never recorded. It does
# so to every second telephone recording of this kind, and lengths and segment ends are wrong by it.
set -euo pipefail
command -v sox >/dev/null || { echo "needs sox (apt install sox)" >&2; exit 2; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install soundfile==0.13.1 numpy
for blocks in 74 75; do
  sox -q -r 8000 -n -c 1 -e gsm "$folder/$blocks.wav" synth "$((blocks * 320))s" sine 440 vol 0.5
done
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import struct
import sys

import soundfile

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__)
extra = {}
for blocks in (74, 75):
    path = f"{sys.argv[1]}/{blocks}.wav"
    content = open(path, "rb").read()
    (told,) = struct.unpack_from("<I", content, content.index(b"fact") + 8)
    (size,) = struct.unpack_from("<I", content, content.index(b"data") + 4)
    read = len(soundfile.read(path)[0])
    print(f"data chunk {size} bytes = {size / 65:g} blocks, fact chunk {told}, read {read}")
    extra[blocks] = read - size // 65 * 320
if extra != {74: 0, 75: 320}:
    sys.exit(f"the behaviour has changed: {extra}")
print("an odd number of blocks gives 320 samples too many")
PYTHON
