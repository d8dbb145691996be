#!/usr/bin/env bash
# vad: an FSMN-VAD from clips of speech, their pauses and noises, on a CPU.
#
#   ./run.sh [--corpora <folder>] [--extra <data dir>] [--reference-vad <model dir>] [--stage N] [--stop-stage N]
#            [--tiny true]
#
# Stages: 0 data  3 train  7 score.  The README beside this file says what the corpora are.
# shellcheck disable=SC1091,SC2154 # path.sh, cmd.sh and utils are made above or beside
set -euo pipefail
cd "$(dirname "$0")"

corpora=../../../../shared/data
extra=            # a data directory with more clips to train on
reference_vad=    # another VAD, whose result is compared with
stage=0
stop_stage=7
tiny=false        # every stage on a few minutes and a very small model, in a minute
work=.            # data/ and exp/ go here
config=
seed=1
nj=2              # processes that make recordings

. ./path.sh
. ./cmd.sh
. utils/parse_options.sh

prepare=(--nj "$nj")
if [ "$tiny" = true ]; then
  config=${config:-conf/train_tiny.yaml}
  prepare+=(--tiny)
fi
if [ -n "$extra" ]; then prepare+=(--extra "$extra"); fi
config=${config:-conf/train_fsmn_vad.yaml}
data=$work/data
name=$(basename "$config" .yaml)
dir=$work/exp/$name
read -r -a train <<<"$train_cmd"

log() { echo "$(date '+%H:%M:%S') $*" >&2; }

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  if [ "$tiny" = true ] && [ ! -d "$corpora" ]; then
    log "stage 0: $corpora is not here; sounds made by code stand in for speech"
    corpora=$work/standin
    local/make_standin.py "$corpora"
  fi
  log "stage 0: recordings"
  local/prepare_data.py "${prepare[@]}" "$corpora" "$data"
fi

if [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ]; then
  log "stage 3: train"
  "${train[@]}" "$dir/log/train.log" \
    train_vad.py --config-dir "$(dirname "$config")" --config-name "$name" \
    data="$data/train" dev="$data/dev" dir="$dir" seed="$seed"
fi

if [ "$stage" -le 7 ] && [ "$stop_stage" -ge 7 ]; then
  log "stage 7: score"
  reference=()
  if [ -d "$reference_vad" ]; then reference=(reference_vad="$reference_vad"); fi
  for part in test_clean test_noisy test_meeting test_real; do
    if [ ! -f "$data/$part/wav.scp" ]; then continue; fi
    if [ ! -f "$data/$part/segments" ] && [ ${#reference[@]} -eq 0 ]; then continue; fi
    echo "== $dir $part"
    score_vad.py data="$data/$part" model="$dir/final" out="$dir/scores/$part" \
      ${reference[@]+"${reference[@]}"}
  done
fi
