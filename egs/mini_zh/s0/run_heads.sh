#!/usr/bin/env bash
# mini_zh, part 2: times and hotwords for the model that run.sh trained, and a forced aligner.
#
#   ./run_heads.sh [--model <trained dir>] [--stage N] [--stop-stage N] [--tiny true]
#
# Stages: 0 word times by energy  1 train the heads  2 average; times alone  3 train the aligner
#         4 decode with lists of hotwords, score  5 how far the times of words are off
# shellcheck disable=SC1091,SC2154 # path.sh, cmd.sh and utils are made above or beside
set -euo pipefail
cd "$(dirname "$0")"

stage=0
stop_stage=5
tiny=false        # very small models, in minutes
nj=2
work=.            # data/ and exp/ of run.sh
model=            # a released directory; default: what run.sh made of its configuration
snapshot=         # last.pt of its training, whose CTC head is compared with; default: beside it
marks=../../../../shared/data/synthetic/text_marks # text with marks of the synthetic sentences
seed=1
recordings=80     # of joined words, for stage 5
lists="none rare others" # of hotwords, for stage 4

. ./path.sh
. ./cmd.sh
. utils/parse_options.sh

heads=conf/train_heads.yaml
aligner=conf/train_aligner.yaml
base=train_paraformer
if [ "$tiny" = true ]; then
  heads=conf/train_heads_tiny.yaml
  aligner=conf/train_aligner_tiny.yaml
  base=train_tiny
  recordings=4
  lists=rare
fi
data=$work/data
train=$data/train
if [ "$data/train_sp/text" -nt "$data/train/text" ]; then train=$data/train_sp; fi
model=${model:-$work/exp/$base/final}
snapshot=${snapshot:-$work/exp/$base/last.pt}
dir=$work/exp/$(basename "$heads" .yaml)
aligner_dir=$work/exp/$(basename "$aligner" .yaml)
scores=$dir/scores

log() { echo "$(date '+%H:%M:%S') $*" >&2; }

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  log "stage 0: word times"
  known=()
  if [ -f "$marks" ]; then known=(--marks "$marks"); fi
  for part in "$train" "$data/dev" "$data/test_hsk"; do
    local/find_times.py "$part" ${known[@]+"${known[@]}"}
  done
fi

if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
  log "stage 1: train the second head and the hotword decoder"
  mkdir -p "$dir"
  local/init_hotwords.py "$model" "$dir/init.pt"
  steps/train.sh --cmd "$train_cmd" --config "$heads" --lang "$data/lang" --cmvn "$model/am.mvn" \
    "$train" "$data/dev" "$dir" seed="$seed" init="$dir/init.pt"
fi

if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
  log "stage 2: average"
  steps/average.sh --cmd "$train_cmd" --num 1 --last true --precision fp16 "$dir"
  local/keep_times.py "$dir/final" "$model" "$dir/times" # the model alone with its second head
fi

if [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ]; then
  log "stage 3: train the aligner"
  steps/train.sh --cmd "$train_cmd" --config "$aligner" --lang "$data/lang" \
    --cmvn "$model/am.mvn" "$train" "$data/dev" "$aligner_dir" seed="$seed"
  steps/average.sh --cmd "$train_cmd" --num 1 --last true --precision fp16 "$aligner_dir"
fi

test=$data/test_synthetic
if [ "$stage" -le 4 ] && [ "$stop_stage" -ge 4 ] && [ ! -s "$test/text" ]; then
  log "stage 4: left out, the sentences of $test are not here"
elif [ "$stage" -le 4 ] && [ "$stop_stage" -ge 4 ]; then
  log "stage 4: recall of words that training never saw, with and without a list of them"
  mkdir -p "$scores"
  local/rare_words.py list "$train/text" "$test/text" "$scores/rare.txt"
  local/rare_words.py list --distractors 200 "$train/text" "$test/text" "$scores/others.txt"
  for trained in times final; do # hotwords by posteriors, and by the SeACo decoder
    for list in $lists; do
      words=()
      if [ "$list" != none ]; then words=(hotword="$scores/$list.txt"); fi
      out=$scores/${trained}_$list
      steps/decode.sh --cmd "$decode_cmd" --nj "$nj" "$dir/$trained" "$test" "$out" \
        ${words[@]+"${words[@]}"}
      echo "== $trained $list"
      local/rare_words.py score "$scores/rare.txt" "$test/text" "$out/text"
      steps/score.sh "$test" "$out"
    done
  done
fi

if [ "$stage" -le 5 ] && [ "$stop_stage" -ge 5 ]; then
  log "stage 5: times of words in recordings joined from single ones, by the aligner and by CTC"
  joined=$work/data/joined_hsk
  local/join_words.py --count "$recordings" "$data/test_hsk" "$joined"
  align.py model="$aligner_dir/final" data="$joined" out="$scores/aligned"
  local/align_ctc.py "$model" "$snapshot" "$data/lang/units.txt" "$data/lang/seg_dict" \
    "$joined" "$scores/ctc.ctm"
  for found in aligned/ctm ctc.ctm; do
    echo "== $found"
    local/score_times.py "$joined/ctm" "$scores/$found"
  done
fi
