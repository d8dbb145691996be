#!/usr/bin/env bash
# ffmpeg 5.1, WebM or Matroska files joined with `cat`, and `aresample=async=1:first_pts=0`.
#
# One expects: that filter is the usual way to make the position of each sample its time: it fills
# gaps with silence. WebM files one behind the other are a valid EBML stream (RFC 8794), which
# ffmpeg decodes to its end, so with the filter there is at least as much sound as without.
# What happens: the times of the second file begin at zero again, and what is "earlier" than what
# has been written is cut away, without a warning (only `-v verbose` names it). Of two files of
# equal length the second is gone; of a longer second file the tail is left, right behind the first.
# Ogg Opus files joined in the same way stay whole, for ffmpeg's Ogg reader continues the times.
# Why it matters: the pieces of a browser's recorder that was stopped and started again are joined so.
# Without the filter, gaps shorten a recording and its time stamps shift; with it, sound is lost.
set -euo pipefail

for program in ffmpeg sox opusenc; do
  command -v "$program" >/dev/null \
    || { echo "$program is not here (apt install ffmpeg sox opus-tools)" >&2; exit 2; }
done
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
for part in 1 2; do # 2 s, then 3 s
  sox -R -r 48000 -n -c 1 -b 16 $part.wav synth $((part + 1)) sine $((part * 440)) vol 0.3
  ffmpeg -v error -i $part.wav -c:a libopus $part.webm
  opusenc --quiet --serial $part $part.wav $part.opus
done
samples() { # FILE FILTER
  echo $(($(ffmpeg -v fatal -i "$1" -af "$2" -f s16le pipe:1 | wc -c) / 2))
}
fill=aresample=async=1:first_pts=0
ffmpeg -version | head -n 1
for kind in webm opus; do
  cat 1.$kind 2.$kind > joined.$kind
  echo "$kind: parts of $(samples 1.$kind anull) and $(samples 2.$kind anull) samples; joined" \
    "$(samples joined.$kind anull), with the filter $(samples joined.$kind $fill)"
done
said=$(ffmpeg -v warning -i joined.webm -af $fill -f s16le -y joined.raw 2>&1 | grep -ic "drop\|discard" || true)
echo "warnings about lost samples: $said"
parts=$(($(samples 1.webm anull) + $(samples 2.webm anull)))
extra=$(($(samples joined.webm anull) - parts)) # the decoder's delay is not taken off twice
lost=$((parts - $(samples joined.webm $fill)))
if [ $extra -lt 0 ] || [ $extra -gt 400 ] || [ $lost -lt 95000 ] || [ "$said" -ne 0 ] \
  || [ "$(samples joined.opus $fill)" -ne 240000 ]; then
  echo "the behaviour has changed" >&2
  exit 1
fi
