#!/usr/bin/env bash
# Train a model with CE + MAE (+ CTC); a run that was stopped goes on.
#
#   steps/train.sh [options] <train-data> <dev-data> <exp-dir> [train.py overrides ...]
#
#   --cmd utils/run.py    what runs the job
#   --config conf/train_paraformer.yaml
#   --lang data/lang      tokens.json, seg_dict
#   --cmvn <train-data>/am.mvn
#   --gpu 0               GPUs to ask for
# shellcheck disable=SC1091 # path.sh and utils are those of the recipe
set -euo pipefail

cmd=utils/run.py
config=conf/train_paraformer.yaml
lang=data/lang
cmvn=
gpu=0

if [ -f path.sh ]; then . ./path.sh; fi
. utils/parse_options.sh
if [ $# -lt 3 ]; then
  echo "usage: $0 [options] <train-data> <dev-data> <exp-dir> [overrides]; see --help" >&2
  exit 2
fi
data=$1
dev=$2
dir=$3
shift 3
read -r -a run <<<"$cmd"

for file in "$data/text" "$dev/text" "$lang/tokens.json" "$config"; do
  if [ ! -s "$file" ]; then
    echo "$0: $file: missing or empty; run the earlier stages" >&2
    exit 1
  fi
done
for folder in "$data" "$dev"; do
  if [ ! -s "$folder/feats.scp" ] && [ ! -s "$folder/wav.scp" ]; then
    echo "$0: $folder: neither feats.scp nor wav.scp is there; run the earlier stages" >&2
    exit 1
  fi
done

# A training step frees and takes large blocks all the time: glibc should keep them.
export MALLOC_MMAP_THRESHOLD_=1073741824 MALLOC_TRIM_THRESHOLD_=8589934592
export MALLOC_TOP_PAD_=268435456

"${run[@]}" --gpu "$gpu" "$dir/log/train.log" \
  train.py --config-dir "$(dirname "$config")" --config-name "$(basename "$config" .yaml)" \
  data="$data" dev="$dev" lang="$lang" cmvn="${cmvn:-$data/am.mvn}" dir="$dir" "$@"
echo "$0: trained $dir; curves: tensorboard --logdir $dir/tensorboard" >&2
