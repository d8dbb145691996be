#!/usr/bin/env bash
# Expected: VOC holds PCM, so what SoX writes into a 16-bit VOC file SoX reads back, sample for sample.
# Happens: SoX writes into the block (type 9) a length that is 8 bytes too small: it counts 4 of the 12
# bytes of the block's own header. Its own reader and ffmpeg believe the length and give 4 samples (of
# two channels 2) less than were written; libsndfile reads on to the end of the file and gives them all.
# 8-bit files (block type 1) are whole.
# Matters: counts of samples differ by the reader; two readers that agree (SoX, ffmpeg) are both wrong,
# so a test that takes SoX as the reference for VOC demands the loss.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for program in sox ffmpeg python3; do
  command -v "$program" > /dev/null || { echo "$program is needed (apt install sox ffmpeg python3-venv)" >&2; exit 2; }
done
python3 -m venv venv
venv/bin/pip install -q soundfile==0.13.1 numpy==2.2.6
sox --version
ffmpeg -version | head -n 1
venv/bin/python -c 'import soundfile as s; print("soundfile", s.__version__, s.__libsndfile_version__)'

sox -r 16000 -n -b 16 -c 1 in.wav synth 1000s sine 440
sox in.wav -b 16 out.voc
ours=$(sox out.voc -t raw - | wc -c)
theirs=$(ffmpeg -v error -i out.voc -f s16le - | wc -c)
third=$(venv/bin/python -c 'import soundfile; print(2 * len(soundfile.read("out.voc")[0]))')
block=$(venv/bin/python -c 'b = open("out.voc", "rb").read(); print(b[26], int.from_bytes(b[27:30], "little"))')
sox in.wav -b 8 out8.voc
eight=$(sox out8.voc -t raw - | wc -c)
echo "written: 1000 samples, 2000 bytes; block type and length: $block (2012 would be right)"
echo "read back: sox $ours, ffmpeg $theirs, libsndfile $third bytes; of 8 bits sox $eight of 1000"
[ "$block" = "9 2004" ] && [ "$ours" = 1992 ] && [ "$theirs" = 1992 ] && [ "$third" = 2000 ] && [ "$eight" = 1000 ]
