#!/usr/bin/env bash
# AISHELL-1: 178 hours of read Mandarin, 400 speakers; a Paraformer of 46 million parameters.
#
#   ./run.sh [--corpus <folder>] [--stage N] [--stop-stage N] [--config conf/train_x.yaml]
#
# Stages: -1 download and unpack  0 data  1 features and CMVN  2 tokens  3 train  4 MWER, if asked
#         for  5 average  6 decode, greedily and with CTC  7 score  8 decode and score as a stream
# The README beside this file says more.
# shellcheck disable=SC1091,SC2154 # path.sh, cmd.sh and utils are made above or beside
set -euo pipefail
cd "$(dirname "$0")"

corpus=corpus     # data_aishell.tgz and data_aishell/ go or are here
url=https://www.openslr.org/resources/33
md5=2f494334227864a8a8fec932999db9d8
stage=-1
stop_stage=8
config=           # default: conf/train_conformer.yaml
mwer=false        # fine-tune by expected errors; later stages take both models
mwer_config=
features=true     # false: made while the model trains, of one speed; CMVN of 2,000 utterances
speeds=0.9,1.0,1.1
tiny=false        # every stage on a few recordings and a very small model
nj=16
gpu=0             # to ask cmd.sh for
nproc=1           # processes of the training, one a GPU
average=30        # epochs
ctc_weight=0.3    # of decoding with CTC
beam_size=10
cuts="0,10,5:4 0,8,4:4 0,10,5:-1" # of streams: chunk size and look-back, -1 for all
tests='test'      # decoded beside dev; other corpora have several
work=.            # data/ and exp/ go here
seed=1

. ./path.sh
. ./cmd.sh
. utils/parse_options.sh

prepare=() sets="dev $tests"
pick=(--num "$average")
if [ "$tiny" = true ]; then
  config=${config:-conf/train_tiny.yaml}
  mwer_config=${mwer_config:-conf/train_mwer_tiny.yaml}
  speeds=1.0 nj=1 cuts=0,10,5:4 beam_size=2
  prepare=(--limit 64) sets=$tests
  pick=(--num 1 --last true)
fi
config=${config:-conf/train_conformer.yaml}
mwer_config=${mwer_config:-conf/train_mwer.yaml}
data=$work/data
dir=$work/exp/$(basename "$config" .yaml)
dirs=("$dir")
if [ "$mwer" = true ]; then dirs+=("$work/exp/$(basename "$mwer_config" .yaml)"); fi
train=$data/train
if [ "$features" != true ]; then speeds=1.0; fi
if [ "$speeds" != 1.0 ]; then train=$data/train_sp; fi
cmvn=$data/am_$(basename "$config" .yaml).mvn
launch=(--cmd "$train_cmd" --gpu "$gpu" --nproc "$nproc" --lang "$data/lang" --cmvn "$cmvn")

log() { echo "$(date '+%H:%M:%S') $*" >&2; }
wanted() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }

if wanted -1; then
  log "stage -1: download and unpack"
  local/download.sh --url "$url" --md5 "$md5" "$corpus"
fi

if wanted 0; then
  log "stage 0: data directories"
  local/prepare_data.py ${prepare[@]+"${prepare[@]}"} "$corpus/data_aishell" "$data"
fi

if wanted 1; then
  log "stage 1: features and CMVN"
  counted=$train
  if [ "$features" = true ]; then
    steps/make_fbank.sh --cmd "$train_cmd" --nj "$nj" --speeds "$speeds" "$data/train"
    for part in dev $tests; do steps/make_fbank.sh --cmd "$train_cmd" --nj "$nj" "$data/$part"; done
  else
    counted=$data/train_cmvn
    number=$(wc -l <"$data/train/text")
    utils/subset_data_dir.py "$data/train" $((number < 2000 ? number : 2000)) "$counted"
    steps/make_fbank.sh --cmd "$train_cmd" --nj "$nj" "$counted"
  fi
  # As many frames are stacked as the configuration says: --lfr-m 7 --lfr-n 6.
  read -r -a stacked < <(train.py --config-dir "$(dirname "$config")" \
    --config-name "$(basename "$config")" --cfg job |
    sed -n 's/^ *lfr_\([mn]\): */--lfr-\1 /p' | paste -sd ' ')
  steps/compute_cmvn_stats.sh --cmd "$train_cmd" "${stacked[@]}" "$counted" "$data/log" "$cmvn"
fi

if wanted 2; then
  log "stage 2: tokens"
  make_tokens.py text="$data/train/text" out="$data/lang" english=letters
fi

if wanted 3; then
  log "stage 3: train"
  steps/train.sh "${launch[@]}" --config "$config" "$train" "$data/dev" "$dir" seed="$seed"
fi

if [ "$mwer" = true ] && wanted 4; then
  log "stage 4: fine-tune by expected errors"
  steps/average.sh --cmd "$train_cmd" "${pick[@]}" "$dir" "$dir/start"
  steps/train.sh "${launch[@]}" --config "$mwer_config" \
    "$train" "$data/dev" "${dirs[1]}" seed="$seed" init="$dir/start"
fi

if wanted 5; then
  log "stage 5: average"
  for trained in "${dirs[@]}"; do steps/average.sh --cmd "$train_cmd" "${pick[@]}" "$trained"; done
fi

if wanted 6; then
  log "stage 6: decode"
  for trained in "${dirs[@]}"; do
    for part in $sets; do
      decode=(steps/decode.sh --cmd "$decode_cmd" --nj "$nj" "$trained/final" "$data/$part")
      "${decode[@]}" "$trained/decode_$part"
      "${decode[@]}" "$trained/decode_ctc_$part" \
        decoding_ctc_weight="$ctc_weight" beam_size="$beam_size"
    done
  done
fi

if wanted 7; then
  log "stage 7: score"
  for trained in "${dirs[@]}"; do
    for part in $sets; do
      steps/score.sh "$data/$part" "$trained/decode_$part"
      steps/score.sh "$data/$part" "$trained/decode_ctc_$part"
    done
  done
fi

if wanted 8 && ! grep -q 'sanm_shfit: [1-9]' "$dir/final/config.yaml"; then
  log "stage 8: left out, the decoder of $config hears whole recordings; train_unified does not"
elif wanted 8; then
  log "stage 8: decode and score as streams"
  for cut in $cuts; do
    sizes=${cut%:*} back=${cut#*:}
    for part in $tests; do
      out=$dir/stream_${sizes//,/-}_${back/-1/all}_$part
      steps/decode_streaming.sh --cmd "$decode_cmd" --nj "$nj" "$dir/final" "$data/$part" "$out" \
        chunk_size="[$sizes]" encoder_chunk_look_back="$back"
      steps/score.sh "$data/$part" "$out"
    done
  done
fi
