#!/usr/bin/env bash
# Score decoded sets: the character error rate of each <decode-dir>/text.
#
#   steps/score.sh [options] <data-dir> <decode-dir>
#
#   --pinyin false        true: also the error rates of pinyin, with and without tones
#   --tags "<>"           pairs of brackets of what is no speech: '<>[]' leaves out [noise] too
#   --simplified false    true: traditional characters count as the simplified ones
# shellcheck disable=SC1091 # path.sh and utils are those of the recipe
set -euo pipefail

pinyin=false
tags="<>"
simplified=false

if [ -f path.sh ]; then . ./path.sh; fi
. utils/parse_options.sh
if [ $# -ne 2 ]; then
  echo "usage: $0 [options] <data-dir> <decode-dir>; see --help" >&2
  exit 2
fi
echo "== $2"
compute_cer.py ref="$1/text" hyp="$2/text" out="$2/score" pinyin="$pinyin" \
  tags="$tags" simplified="$simplified"
