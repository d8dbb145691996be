#!/usr/bin/env bash
# Average the best epochs of a training: <exp-dir>/final, a released directory.
#
#   steps/average.sh [options] <exp-dir> [<out-dir>]
#
#   --cmd utils/run.py    what runs the job
#   --num 10              epochs to average
#   --last false          true: the last ones instead of the best on the dev set
#   --precision fp32      fp16: half the size
# shellcheck disable=SC1091 # path.sh and utils are those of the recipe
set -euo pipefail

cmd=utils/run.py
num=10
last=false
precision=fp32

if [ -f path.sh ]; then . ./path.sh; fi
. utils/parse_options.sh
if [ $# -lt 1 ] || [ $# -gt 2 ]; then
  echo "usage: $0 [options] <exp-dir> [<out-dir>]; see --help" >&2
  exit 2
fi
dir=$1
out=${2:-$dir/final}
read -r -a run <<<"$cmd"

"${run[@]}" "$dir/log/average.log" \
  average_model.py dir="$dir" out="$out" num="$num" last="$last" precision="$precision"
echo "$0: wrote $out" >&2
