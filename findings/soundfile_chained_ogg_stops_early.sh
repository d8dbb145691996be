#!/usr/bin/env bash
# soundfile 0.13.1 (libsndfile 1.2.2) and chained Ogg files, Opus or Vorbis.
#
# One expects: Ogg files put one behind the other are one valid file (RFC 3533, section 4; RFC 7845
# and the Vorbis specification ask decoders to read such chains), so all of it is read, as ffmpeg,
# sox, opusdec and oggdec do; or it is said that there is more.
# What happens: `info` counts, and `read` gives, only the first link of the chain, without an error
# or a warning.
# Why it matters: radio streams (Icecast starts a link with each title) and recordings joined with
# `cat` are chains. Everything after the first link is lost, and the duration that is told agrees
# with what is read, so a check of one against the other finds nothing.
set -euo pipefail

for program in ffmpeg sox opusenc opusdec oggenc oggdec python3; do
  command -v "$program" >/dev/null \
    || { echo "$program is not here (apt install ffmpeg sox opus-tools vorbis-tools python3-venv)" >&2; exit 2; }
done
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
python3 -m venv venv
venv/bin/pip install -q --disable-pip-version-check soundfile==0.13.1 numpy==2.2.6
for part in 1 2; do # 3 s, then 6 s
  sox -R -r 48000 -n -c 1 -b 16 $part.wav synth $((3 * part)) sine $((part * 440)) vol 0.3
  opusenc --quiet --serial $part $part.wav $part.opus
  oggenc -Q -s $part -o $part.ogg $part.wav
done
cat 1.opus 2.opus > chain.opus
cat 1.ogg 2.ogg > chain.ogg

samples() { echo $(($(wc -c) / 2)); } # of 16 bits, on the standard input
opus=$(opusdec --quiet --rate 48000 chain.opus - 2>/dev/null | samples)
vorbis=$(oggdec -Q -R -o - chain.ogg | samples)
echo "opusdec: $opus, oggdec: $vorbis, sox (Vorbis): $(sox chain.ogg -t s16 - | samples) of 432000 samples"
ffmpeg -version | head -n 1
for kind in opus ogg; do
  echo "ffmpeg, chain.$kind: $(ffmpeg -v fatal -i chain.$kind -f s16le - | samples)"
done
venv/bin/python -W error - "$opus" "$vorbis" <<'PYTHON'
import sys

import soundfile

print("soundfile", soundfile.__version__, soundfile.__libsndfile_version__)
found = []
for name in ("chain.opus", "chain.ogg"):
    found += [soundfile.info(name).frames, len(soundfile.read(name)[0])]
    print(f"{name}: info {found[-2]}, read {found[-1]} samples")
same = found == [144000] * 4 and sys.argv[1:] == ["432000"] * 2
raise SystemExit(0 if same else "the behaviour has changed")
PYTHON
