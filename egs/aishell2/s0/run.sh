#!/usr/bin/env bash
# AISHELL-2: 1,000 hours of read Mandarin. Stage 0 is here, the others are those of AISHELL-1.
#
#   ./run.sh [options] [-- options of ../../aishell/s0/run.sh]
#
# Stages: 0 data  1 to 8 as ../../aishell/s0/run.sh
# shellcheck disable=SC1091,SC2154 # path.sh and utils are made above or beside
set -euo pipefail
cd "$(dirname "$0")"

train=corpus/AISHELL-2/iOS/data
eval=corpus/AISHELL-DEV-TEST-SET
stage=0
stop_stage=8
work=$PWD # data/ and exp/ go here

. ./path.sh
. utils/parse_options.sh

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  echo "$(date '+%H:%M:%S') stage 0: data directories" >&2
  local/prepare_data.py "$train" "$eval" "$work/data"
fi

if [ "$stop_stage" -ge 1 ]; then
  tests=$(cd "$work/data" && dirname test_*/text | paste -sd ' ' -)
  exec ../../aishell/s0/run.sh --stage $((stage > 1 ? stage : 1)) --stop-stage "$stop_stage" \
    --work "$(cd "$work" && pwd)" --tests "$tests" "$@"
fi
