#!/usr/bin/env bash
# soundfile 0.13.1 (libsndfile 1.2.2, mpg123) and MP3 whose Xing tag does not name a delay.
#
# One expects: a tag that gives the counts of frames and bytes only, as encoders other than LAME
# write it, says nothing about samples to leave out, so a decoder gives all, as for a file without
# a tag, and all decoders give the same.
# What happens: because of such a tag soundfile drops the first 529 samples (the delay of an MP3
# decoder), which ffmpeg keeps, and which soundfile too keeps where there is no tag.
# Why it matters: two decoders that agree on files with LAME's tag and on files with none differ on
# these by 529 samples, 33 ms at 16 kHz, more than three frames of features; so do counts and times.
set -euo pipefail

for program in ffmpeg sox python3; do
  command -v "$program" >/dev/null || { echo "$program is not here (apt install ffmpeg sox python3-venv)" >&2; exit 2; }
done
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check soundfile==0.13.1 numpy==2.2.6
sox -R -r 16000 -n -c 1 -b 16 in.wav synth 2 noise vol 0.5
encode() { ffmpeg -v error -i in.wav -map_metadata -1 -id3v2_version 0 "${@:2}" "$1"; }
encode no_tag.mp3 -b:a 64k -write_xing 0
encode full_tag.mp3 -b:a 64k
ffmpeg -version | head -n 1
venv/bin/python -W error - <<'PYTHON'
import subprocess
from pathlib import Path

import soundfile

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__)
content = bytearray(Path("full_tag.mp3").read_bytes())
extension = content.index(b"Lav", content.index(b"Info"))  # in the place of LAME's name
content[extension : extension + 36] = bytes(36)
Path("counts_only.mp3").write_bytes(content)
found = {}
for name in ("no_tag", "full_tag", "counts_only"):
    path = f"{name}.mp3"
    raw = subprocess.run(["ffmpeg", "-v", "fatal", "-i", path, "-f", "s16le", "-"], capture_output=True, check=True)
    found[name] = len(raw.stdout) // 2, len(soundfile.read(path)[0])
    print(f"{name}: ffmpeg {found[name][0]}, soundfile {found[name][1]} samples, info {soundfile.info(path).frames}")
less = {name: theirs - own for name, (theirs, own) in found.items()}
same = less == {"no_tag": 0, "full_tag": 0, "counts_only": 529}
raise SystemExit(0 if same else f"the behaviour has changed: {less}")
PYTHON
