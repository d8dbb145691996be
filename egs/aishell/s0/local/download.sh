#!/usr/bin/env bash
# Download AISHELL-1 (15 GB) and unpack it: <folder>/data_aishell.
#
#   local/download.sh [options] <folder>
#
#   --url https://www.openslr.org/resources/33     or a mirror of it
#   --md5 2f494334227864a8a8fec932999db9d8         of data_aishell.tgz; none: not checked
#
# What a stopped run has downloaded or unpacked is kept, and the next one goes on from there.
# shellcheck disable=SC1091,SC2154 # path.sh and utils are those of the recipe
set -euo pipefail

url=https://www.openslr.org/resources/33
md5=2f494334227864a8a8fec932999db9d8

if [ -f path.sh ]; then . ./path.sh; fi
. utils/parse_options.sh
if [ $# -ne 1 ]; then
  echo "usage: $0 [options] <folder>; see --help" >&2
  exit 2
fi
out=$1
archive=$out/data_aishell.tgz
part=$archive.partial
mkdir -p "$out"

right() { # whether a file is the archive
  [ "$md5" = none ] || [ "$(python -c 'import hashlib, sys
digest = hashlib.md5()
with open(sys.argv[1], "rb") as file:
    while block := file.read(1 << 20):
        digest.update(block)
print(digest.hexdigest())' "$1")" = "$md5" ]
}

if [ ! -f "$archive" ]; then
  if [ "$md5" = none ] || [ ! -f "$part" ] || ! right "$part"; then
    if ! curl --fail --location --retry 5 --continue-at - --output "$part" \
      "$url/data_aishell.tgz"; then
      echo "$0: $url/data_aishell.tgz: cannot be fetched; run again to go on, or give --url" >&2
      exit 1
    fi
  fi
  if ! right "$part"; then
    rm "$part"
    echo "$0: $url/data_aishell.tgz: its md5 is not $md5, so it was removed; run again" >&2
    exit 1
  fi
  mv "$part" "$archive"
fi
local/unpack.py "$archive" "$out"
