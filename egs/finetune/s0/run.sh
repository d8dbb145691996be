#!/usr/bin/env bash
# Fine-tune a released model: a released directory and your recordings give a released directory.
#
#   ./run.sh --model <dir or name> --train <data> --dev <data> [--out exp/x] [options] [key=value ...]
#
#   --train, --dev        Kaldi data directories, or what FunASR trains with: a.jsonl,b.jsonl, or
#                         train_wav.scp,train_text.txt
#   --new-tokens FILE     characters, or words with their pieces, that the model shall learn
#   --from-text N         also letters and digits of the training text that it does not know, if
#                         they are there N times
#   --lora R              adapters of rank R learn, instead of all weights
#   --find-lr true        look for the learning rate first
#   --features true       make features beforehand, which saves time where there are many epochs
#   --stage, --stop-stage 0 data  1 the start, features  2 the start on dev  3 train  4 choose  5 the result on dev
#   --precision fp16      of the result, or fp32, where it shall not be that of the start
#   --nj 2                jobs of features and decoding
#   --gpu 0, --nproc 1    GPUs to ask for, processes of the training
#   --hotword FILE        for the decoding of stages 2 and 5
#
# key=value: of paraformer/conf/finetune.yaml. The result is <out>/final. Paths count from where it is
# started.
# shellcheck disable=SC1091,SC2154 # path.sh, cmd.sh and utils are made above or beside
set -euo pipefail
here=$PWD
cd "$(dirname "$0")"
recipe=$PWD

model=
train=
dev=
out=exp/finetune
stage=0
stop_stage=5
config=conf/train_finetune.yaml
new_tokens=
from_text=0
lora=0
find_lr=false
features=false
hotword=
precision=
nj=2
gpu=0
nproc=1
seed=1

. ./path.sh
. ./cmd.sh
. utils/parse_options.sh

log() { echo "$(date '+%H:%M:%S') $*" >&2; }
wanted() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }
placed() { # a path as it was typed, seen from this folder
  if [[ $1 == /* ]]; then echo "$1"; else echo "$here/$1"; fi
}
from_here() { # the same of what may be a name as well
  if [[ $1 == ./* || $1 == ../* || -e $here/$1 ]]; then placed "$1"; else echo "$1"; fi
}
prepare() { # paths in lists and tables, and commands, count from where this was started, too
  (cd "$here" && "$recipe/local/prepare_data.py" "$1" "$2")
}
say_dropped() { # id and reason a line -> a line for each reason
  if [ ! -s "$1" ]; then return; fi
  cut -d ' ' -f 2- "$1" | sort | uniq -c | while read -r count reason; do
    log "dropped $count x $reason; see $1"
  done
}

for number in "$lora" "$from_text" "$nj"; do
  if [[ ! $number =~ ^[0-9]+$ ]]; then
    echo "$0: '$number': --lora, --from-text and --nj are whole numbers" >&2
    exit 2
  fi
done
if [ -z "$model" ] || [ -z "$train" ] || [ -z "$dev" ]; then
  echo "usage: $0 --model <dir or name> --train <data> --dev <data> [options]; see --help" >&2
  exit 2
fi
model=$(from_here "$model")
out=$(placed "$out")
data=$out/data
start=$out/start
options=("$@" seed="$seed")
if [ "$lora" -gt 0 ]; then
  options=(lora.rank="$lora" optim.lr=0.0005 "${options[@]}")
fi
most=(--nj "$nj" --min-success 0.5) # what cannot be read is counted and left out
decode=(steps/decode.sh --cmd "$decode_cmd" "${most[@]}")
heard=()
if [ -n "$hotword" ]; then heard=(hotword="$(from_here "$hotword")"); fi

if wanted 0; then
  log "stage 0: data"
  prepare "$train" "$data/train"
  prepare "$dev" "$data/dev"
fi

if wanted 1; then
  log "stage 1: the start, with new tokens if there are any"
  extend=(model="$model" out="$start")
  if [ -n "$new_tokens" ]; then extend+=(tokens="$(placed "$new_tokens")"); fi
  if [ "$from_text" -gt 0 ]; then extend+=(text="$data/train/text" min_count="$from_text"); fi
  new=$(extend_model.py "${extend[@]}")
  echo "$new" >"$out/new_tokens"
fi

if wanted 1 && [ "$features" = true ]; then
  log "stage 1: features"
  for part in train dev; do
    steps/make_fbank.sh --cmd "$train_cmd" "${most[@]}" "$data/$part"
  done
fi

if wanted 2; then
  log "stage 2: the start on dev"
  "${decode[@]}" "$start" "$data/dev" "$out/decode_start" ${heard[@]+"${heard[@]}"}
  steps/score.sh "$data/dev" "$out/decode_start"
fi

if wanted 3; then
  if [ ! -f "$out/new_tokens" ]; then echo "$0: $out/new_tokens: missing; run stage 1" >&2; exit 1; fi
  options=(new_tokens.count="$(cat "$out/new_tokens")" "${options[@]}")
  if [ "$find_lr" = true ]; then
    log "stage 3: learning rate"
    rate=$(find_lr.py --config-dir "$(dirname "$config")" --config-name "$(basename "$config" .yaml)" \
      init="$start" data="$data/train" dev="$data/dev" dir="$out/find_lr" "${options[@]}")
    log "the loss falls fastest at $rate"
    options=("${options[@]}" optim.lr="$rate")
  fi
  log "stage 3: train"
  steps/train.sh --cmd "$train_cmd" --gpu "$gpu" --nproc "$nproc" --config "$config" --init "$start" \
    "$data/train" "$data/dev" "$out" "${options[@]}"
  for part in data dev; do say_dropped "$out/dropped_$part"; done
fi

if wanted 4; then
  log "stage 4: choose"
  choose=(dir="$out" out="$out/final" name="$(basename "$model")")
  if [ -n "$precision" ]; then choose+=(precision="$precision"); fi
  select_model.py "${choose[@]}"
fi

if wanted 5; then
  log "stage 5: the result on dev"
  "${decode[@]}" "$out/final" "$data/dev" "$out/decode_final" ${heard[@]+"${heard[@]}"}
  steps/score.sh "$data/dev" "$out/decode_final"
  echo "the start:  $(head -n 1 "$out/decode_start/score/cer")"
  echo "the result: $(head -n 1 "$out/decode_final/score/cer")  $out/final"
fi
