#!/usr/bin/env bash
# libvorbisfile 1.3.7 (oggdec, sox) and chained Ogg Vorbis files whose first links are short.
#
# One expects: the same bytes give the same sound, whether they are read from a file or a pipe.
# What happens: of three Ogg files of one second each, joined with `cat` (RFC 3533, section 4), a
# pipe gives three seconds and the file, in which the reader can seek, only two: to find the links
# it jumps about in the file, and loses the first when the links hold a single page of sound. With
# links of three seconds, of several pages, nothing is lost. There is no error and no warning.
# Why it matters: short prompts and utterances are what people join with `cat`; one of them is
# missing, and two programs that agree (oggdec and sox) are both wrong, for they share the library.
set -euo pipefail

for program in sox oggenc oggdec; do
  command -v "$program" >/dev/null \
    || { echo "$program is not here (apt install sox vorbis-tools)" >&2; exit 2; }
done
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
oggdec --version
samples() { echo $(($(wc -c) / 2)); } # of 16 bits, on the standard input
found=
for seconds in 1 3; do
  for link in 1 2 3; do
    sox -R -r 48000 -n -c 1 -b 16 link.wav synth $seconds sine $((link * 440)) vol 0.3
    oggenc -Q -s $link -o $link.ogg link.wav
  done
  cat 1.ogg 2.ogg 3.ogg > chain.ogg
  whole=$((3 * 48000 * seconds))
  pipe=$(oggdec -Q -R -o - - < <(cat chain.ogg) | samples)
  file=$(oggdec -Q -R -o - chain.ogg | samples)
  other=$(sox chain.ogg -t s16 - | samples)
  echo "3 links of $seconds s, $whole samples: oggdec of a pipe $pipe, of the file $file, sox $other"
  found+="$pipe $file $other "
done
if [ "$found" != "144000 96000 96000 432000 432000 432000 " ]; then
  echo "the behaviour has changed" >&2
  exit 1
fi
