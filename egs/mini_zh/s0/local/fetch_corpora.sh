#!/usr/bin/env bash
# Fetch the public corpora of mini_zh and lay them out as local/prepare_data.py reads them.
#
#   local/fetch_corpora.sh <corpora-folder>
#
# About 2 GB by git from MIRROR (default https://github.com). What is there already is not fetched again. The synthetic
# sentences are not public: they are made again, see local/synthesize.py. So is the test of three read sentences, which
# asks for a registration (AISHELL-3).
set -euo pipefail
if [ $# -ne 1 ]; then
  echo "usage: $0 <corpora-folder>" >&2
  exit 2
fi
out=$1
mirror=${MIRROR:-https://github.com}
mkdir -p "$out/sources"

for repository in hugolpz/audio-cmn zhongyuchen/DSPSpeech-20 nodepa/seedlingo shjwudp/shu; do
  name=$(basename "$repository")
  if [ -d "$out/sources/$name" ]; then continue; fi
  rm -rf "$out/sources/.$name.partial"
  if ! git clone --quiet --depth 1 "$mirror/$repository" "$out/sources/.$name.partial"; then
    echo "$0: $mirror/$repository: cannot be fetched; set MIRROR, or fetch it into $out/sources/$name" >&2
    exit 1
  fi
  mv "$out/sources/.$name.partial" "$out/sources/$name"
done
local/arrange_sources.py "$out/sources" "$out"
