#!/usr/bin/env bash
# speaker: a CAM++ from clips of many speakers, and how well it tells them apart.
#
#   ./run.sh [--corpora <folder>] [--many false] [--fold K] [--stage N] [--stop-stage N] [--tiny true]
#
# Stages: 0 data  1 features  3 train  4 train on with a large margin  7 trials  8 who speaks when.
# The README beside this file says what the corpora are.
# shellcheck disable=SC1091,SC2154 # path.sh, cmd.sh and utils are made above or beside
set -euo pipefail
cd "$(dirname "$0")"

corpora=../../../../shared/data
many=true         # train on the synthetic voices too
fold=0            # whose speakers of DSPSpeech-20 are the test
stage=0
stop_stage=8
tiny=false        # every stage on a few clips and a very small model, in a minute
work=.            # data/ and exp/ go here
config=
margin_config=
speeds=0.9,1.0,1.1   # of the real voices: each speed is a speaker of its own
vad=fsmn-vad-mini    # finds the speech of stage 8
threshold=0.31       # cosine from which two clips are one speaker's
seed=1
nj=2

. ./path.sh
. ./cmd.sh
. utils/parse_options.sh

mix=(--number 20 --seconds 60)
if [ "$tiny" = true ]; then
  config=${config:-conf/train_tiny.yaml}
  margin_config=${margin_config:-conf/margin_tiny.yaml}
  speeds=0.9,1.0
  mix=(--number 1 --seconds 5)
fi
config=${config:-conf/train_campplus.yaml}
margin_config=${margin_config:-conf/margin_campplus.yaml}
data=$work/data
name=$(basename "$config" .yaml)
dir=$work/exp/$name
margin=$(basename "$margin_config" .yaml)
mdir=$work/exp/$margin
read -r -a train <<<"$train_cmd"

log() { echo "$(date '+%H:%M:%S') $*" >&2; }

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  if [ "$tiny" = true ] && [ ! -d "$corpora" ]; then
    log "stage 0: $corpora is not here; sounds made by code stand in for speech"
    corpora=$work/standin
    ../../vad/s0/local/make_standin.py --number 24 "$corpora"
  fi
  log "stage 0: clips and trials"
  local/prepare_data.py --fold "$fold" "$corpora" "$data"
fi

if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
  log "stage 1: features"
  frontend="window=povey upscale_samples=false"  # those that speaker models hear
  steps/make_fbank.sh --nj "$nj" --frontend "$frontend" "$data/dev"
  steps/make_fbank.sh --nj "$nj" --frontend "$frontend" --speeds "$speeds" "$data/real"
  sets=("$data/real_sp")
  if [ "$many" = true ] && [ -d "$data/many" ]; then
    steps/make_fbank.sh --nj "$nj" --frontend "$frontend" "$data/many"
    sets+=("$data/many")
  fi
  utils/combine_data.py "$data/train" "${sets[@]}"
fi

if [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ]; then
  log "stage 3: train"
  "${train[@]}" "$dir/log/train.log" \
    train_speaker.py --config-dir "$(dirname "$config")" --config-name "$name" \
    data="$data/train" dev="$data/dev" dir="$dir" seed="$seed"
fi

if [ "$stage" -le 4 ] && [ "$stop_stage" -ge 4 ]; then
  log "stage 4: train on with a large margin and longer crops"
  "${train[@]}" "$mdir/log/train.log" \
    train_speaker.py --config-dir "$(dirname "$margin_config")" --config-name "$margin" \
    data="$data/train" dev="$data/dev" dir="$mdir" init="$dir/final" seed="$seed"
fi

if [ "$stage" -le 7 ] && [ "$stop_stage" -ge 7 ]; then
  for part in ocean_test dsp_test; do
    if [ ! -f "$data/$part/trials" ]; then continue; fi
    log "stage 7: trials of $part"
    out=$mdir/$part
    embed.py model="$mdir/final" data="$data/$part" out="$out"
    for trials in "$data/$part"/trials*; do
      echo "== $trials"
      verify.py trials="$trials" embeddings="$out/embedding.scp" threshold="$threshold"
    done
  done
  log "stage 7: the same by a cohort (as-norm)"
  embed.py model="$mdir/final" data="$data/real" out="$mdir/cohort"
  utils/utt2spk_to_spk2utt.py "$data/real/utt2spk" >"$mdir/cohort/spk2utt"
  for part in ocean_test dsp_test; do
    if [ ! -f "$data/$part/trials" ]; then continue; fi
    echo "== $data/$part/trials, by a cohort"
    verify.py trials="$data/$part/trials" embeddings="$mdir/$part/embedding.scp" \
      cohort="$mdir/cohort/embedding.scp" cohort_spk2utt="$mdir/cohort/spk2utt"
  done
fi

if [ "$stage" -le 8 ] && [ "$stop_stage" -ge 8 ]; then
  log "stage 8: who speaks when"
  local/mix_turns.py "${mix[@]}" --speakers 2 --seed "$seed" "$data/ocean_test" "$data/mix2"
  for known in 2 null; do
    diarize.py model="$mdir/final" vad_model="$vad" data="$data/mix2" out="$mdir/mix2.$known" \
      preset_spk_num="$known"
    for collar in 0.25 0; do
      echo "== $data/mix2, preset_spk_num=$known, collar=$collar"
      score_der.py ref="$data/mix2/rttm" hyp="$mdir/mix2.$known/rttm" collar="$collar"
    done
  done
fi
