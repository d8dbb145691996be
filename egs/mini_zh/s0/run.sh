#!/usr/bin/env bash
# mini_zh: a small Mandarin recogniser from free recordings and synthetic sentences, on a CPU.
#
#   ./run.sh [--corpora <folder>] [--stage N] [--stop-stage N] [--num-utts N] [--tiny|--mwer|--lm true]
#
# Stages: -1 fetch, and speak by many voices  0 data  1 features and CMVN  2 tokens  3 train
#         4 MWER, if asked for  5 average  6 decode  7 score  8 decode and score as a stream
#         9 with a language model, if asked for
# The README beside this file says what the corpora are.
# shellcheck disable=SC1091,SC2154 # path.sh, cmd.sh and utils are made above or beside
set -euo pipefail
cd "$(dirname "$0")"

corpora=../../../../shared/data
extra=            # folder of more synthetic sentences (local/synthesize.py)
num_utts=0        # sentences of many voices that stage -1 makes (local/make_voices.sh)
hours=0           # of them at most; 0: all
share=1.0         # of the old synthetic sentences, to train with
stage=0
stop_stage=9
lm=false          # give the model n-grams of the text, and decode with them
prose=            # of these folders as well (local/fetch_sentences.py, fetch_modern.py)
lm_weights="0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8"
mwer=false        # fine-tune by expected errors; later stages take both models
tiny=false        # every stage on a few hundred clips and a very small model, in minutes
nj=2
work=.            # data/, fbank/ and exp/ go here
config=
mwer_config=
speeds=0.9,1.0,1.1
cuts="0,10,5:4 0,10,5:-1 0,8,4:4 0,8,4:-1" # of streams: chunk size and look-back, -1 for all
test_sets="test_dsp test_hsk test_synthetic test_voices test_real test_read" # of stages 1 and 6 to 9
seed=1

. ./path.sh
. ./cmd.sh
. utils/parse_options.sh

if [ "$tiny" = true ]; then
  speeds=1.0
  cuts=0,10,5:4
  config=${config:-conf/train_tiny.yaml}
  mwer_config=${mwer_config:-conf/train_mwer_tiny.yaml}
fi
config=${config:-conf/train_paraformer.yaml}
mwer_config=${mwer_config:-conf/train_mwer.yaml}
data=$work/data
dir=$work/exp/$(basename "$config" .yaml)
dirs=("$dir")
if [ "$mwer" = true ]; then dirs+=("$work/exp/$(basename "$mwer_config" .yaml)"); fi
train=$data/train
if [ "$speeds" != 1.0 ]; then train=$data/train_sp; fi

log() { echo "$(date '+%H:%M:%S') $*" >&2; }

if [ "$stage" -le -1 ] && [ "$stop_stage" -ge -1 ]; then
  log "stage -1: fetch the corpora"
  local/fetch_corpora.sh "$corpora"
  local/make_voices.sh --cmd "$train_cmd" --nj "$nj" --num-utts "$num_utts" --hours "$hours" \
    --seed "$seed" "$corpora" "$data/voices"
fi

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  log "stage 0: data directories"
  local/prepare_data.py --tiny "$tiny" --extra "$extra" --voices "$data/voices" --share "$share" \
    "$corpora" "$data"
fi

tests= # those whose corpora are here
for part in $test_sets; do
  if [ -s "$data/$part/text" ]; then tests+=" $part"; fi
done

if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
  log "stage 1: features and CMVN"
  steps/make_fbank.sh --cmd "$train_cmd" --nj "$nj" --speeds "$speeds" "$data/train"
  for part in dev $tests; do
    steps/make_fbank.sh --cmd "$train_cmd" --nj "$nj" "$data/$part"
  done
  steps/compute_cmvn_stats.sh --cmd "$train_cmd" "$train"
fi

if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
  log "stage 2: tokens, and the sounds of the text"
  make_tokens.py text="$data/train/text" out="$data/lang"
  rm -f "$data/lang/units.txt"
  for part in "$train" "$data/dev"; do
    local/make_units.py "$part" "$data/lang/seg_dict" "$data/lang/units.txt"
  done
fi

if [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ]; then
  log "stage 3: train"
  steps/train.sh --cmd "$train_cmd" --config "$config" --lang "$data/lang" \
    "$train" "$data/dev" "$dir" seed="$seed" unit_ctc.units="$data/lang/units.txt"
fi

if [ "$mwer" = true ] && [ "$stage" -le 4 ] && [ "$stop_stage" -ge 4 ]; then
  log "stage 4: fine-tune by expected errors"
  steps/average.sh --cmd "$train_cmd" --num 1 --last true "$dir" "$dir/start"
  steps/train.sh --cmd "$train_cmd" --config "$mwer_config" --lang "$data/lang" \
    "$train" "$data/dev" "${dirs[1]}" seed="$seed" init="$dir/start"
fi

if [ "$stage" -le 5 ] && [ "$stop_stage" -ge 5 ]; then
  log "stage 5: average"
  for trained in "${dirs[@]}"; do
    steps/average.sh --cmd "$train_cmd" --num 1 --last true --precision fp16 "$trained"
  done
fi

if [ "$stage" -le 6 ] && [ "$stop_stage" -ge 6 ]; then
  log "stage 6: decode"
  for trained in "${dirs[@]}"; do
    for part in $tests; do
      steps/decode.sh --cmd "$decode_cmd" --nj "$nj" \
        "$trained/final" "$data/$part" "$trained/decode_$part" lm_file=none
    done
  done
fi

if [ "$stage" -le 7 ] && [ "$stop_stage" -ge 7 ]; then
  log "stage 7: score"
  for trained in "${dirs[@]}"; do
    for part in $tests; do
      steps/score.sh --pinyin true "$data/$part" "$trained/decode_$part"
    done
  done
fi

if [ "$stage" -le 8 ] && [ "$stop_stage" -ge 8 ]; then
  log "stage 8: decode and score as streams"
  for cut in $cuts; do
    sizes=${cut%:*} back=${cut#*:}
    for part in $tests; do
      out=$dir/stream_${sizes//,/-}_${back/-1/all}_$part
      steps/decode_streaming.sh --cmd "$decode_cmd" --nj "$nj" "$dir/final" "$data/$part" "$out" \
        chunk_size="[$sizes]" encoder_chunk_look_back="$back"
      steps/score.sh --pinyin true "$data/$part" "$out"
    done
  done
fi

if [ "$lm" = true ] && [ "$stage" -le 9 ] && [ "$stop_stage" -ge 9 ]; then
  log "stage 9: decode and score with a language model"
  local/add_lm.sh --cmd "$decode_cmd" --nj "$nj" --prose "$prose" --weights "$lm_weights" \
    "$data" "$dir/final"
  for part in $tests; do
    steps/decode.sh --cmd "$decode_cmd" --nj "$nj" "$dir/final" "$data/$part" "$dir/decode_lm_$part"
    steps/score.sh --pinyin true "$data/$part" "$dir/decode_lm_$part"
  done
fi
