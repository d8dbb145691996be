#!/usr/bin/env bash
# soundfile 0.13.1 (libsndfile 1.2.2, mpg123) and MP3 of variable rate without a Xing tag.
#
# One expects: such a file is valid (the tag is optional), so it is read to its end.
# What happens: the length is guessed from the first frames, and `info` and `read` end there, without
# an error or a warning: a loud begin makes the file look short, and all behind the guess is lost.
# With constant rate the guess is right; with the tag the length is exact.
# Why it matters: MP3 that was written to a pipe, streamed or cut has no tag. Of a recording that
# is loud first and quiet then, half is missing, while the duration told agrees with what is read.
set -euo pipefail

for program in ffmpeg sox python3; do
  command -v "$program" >/dev/null || { echo "$program is not here (apt install ffmpeg sox python3-venv)" >&2; exit 2; }
done
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check soundfile==0.13.1 numpy==2.2.6
# Two seconds of noise, then six of a quiet tone.
sox -R -r 16000 -n -c 1 -b 16 noise.wav synth 2 noise vol 0.5
sox -R -r 16000 -n -c 1 -b 16 tone.wav synth 6 sine 440 vol 0.01
sox noise.wav tone.wav in.wav
encode() { ffmpeg -v error -i in.wav -map_metadata -1 -id3v2_version 0 "${@:2}" "$1"; }
encode constant.mp3 -b:a 64k -write_xing 0
encode variable.mp3 -q:a 2 -write_xing 0
encode tagged.mp3 -q:a 2
ffmpeg -version | head -n 1
venv/bin/python -W error - <<'PYTHON'
import subprocess

import soundfile

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__)
found = {}
for name in ("constant", "variable", "tagged"):
    path = f"{name}.mp3"
    raw = subprocess.run(["ffmpeg", "-v", "fatal", "-i", path, "-f", "s16le", "-"], capture_output=True, check=True)
    found[name] = len(raw.stdout) // 2, len(soundfile.read(path)[0])
    print(f"{name}: ffmpeg {found[name][0]}, soundfile {found[name][1]} samples, info {soundfile.info(path).frames}")
less = {name: theirs - own for name, (theirs, own) in found.items()}
same = less["constant"] == less["tagged"] == 0 and less["variable"] > 32000
raise SystemExit(0 if same else f"the behaviour has changed: {less}")
PYTHON
