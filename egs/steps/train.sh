#!/usr/bin/env bash
# Train a model with CE + MAE (+ CTC); a run that was stopped goes on.
#
#   steps/train.sh [options] <train-data> <dev-data> <exp-dir> [train.py overrides ...]
#
#   --cmd utils/run.py    what runs the job
#   --config conf/train_paraformer.yaml
#   --lang data/lang      tokens.json, seg_dict
#   --cmvn <train-data>/am.mvn
#   --init <model>        a released directory to fine-tune, with its own tokens and CMVN
#   --gpu 0               GPUs to ask for, on each machine
#   --nproc 1             processes on each machine, which share every batch
#   --nodes 1             machines, which a cluster gives (--cmd utils/slurm.py)
#   --max-restarts 0      how often all are started again when one has died
#
# <train-data> and <dev-data> may also be lists of shards (make_shards.py).
# shellcheck disable=SC1091 # path.sh and utils are those of the recipe
set -euo pipefail

cmd=utils/run.py
config=conf/train_paraformer.yaml
lang=data/lang
cmvn=
init=
gpu=0
nproc=1
nodes=1
max_restarts=0

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

needed=("$config")
if [ -n "$init" ]; then
  tokens=(init="$init")
else
  needed+=("$lang/tokens.json")
  tokens=(lang="$lang" cmvn="${cmvn:-$data/am.mvn}")
fi
for folder in "$data" "$dev"; do
  if [ -f "$folder" ]; then needed+=("$folder"); else needed+=("$folder/text"); fi
done
for file in "${needed[@]}"; do
  if [ ! -s "$file" ]; then
    echo "$0: $file: missing or empty; run the earlier stages" >&2
    exit 1
  fi
done
for folder in "$data" "$dev"; do
  if [ -d "$folder" ] && [ ! -s "$folder/feats.scp" ] && [ ! -s "$folder/wav.scp" ]; then
    echo "$0: $folder: neither feats.scp nor wav.scp is there; run the earlier stages" >&2
    exit 1
  fi
done

. utils/memory.sh

options=(--gpu "$gpu")
launch=()
if [ "$nodes" -gt 1 ]; then options+=(--nodes "$nodes"); fi
if [ "$nodes" -gt 1 ] || [ "$nproc" -gt 1 ] || [ "$max_restarts" -gt 0 ]; then
  launch=(utils/launch.py --nproc "$nproc" --max-restarts "$max_restarts")
fi
"${run[@]}" "${options[@]}" "$dir/log/train.log" ${launch[@]+"${launch[@]}"} \
  train.py --config-dir "$(dirname "$config")" --config-name "$(basename "$config" .yaml)" \
  data="$data" dev="$dev" dir="$dir" "${tokens[@]}" "$@"
echo "$0: trained $dir; curves: tensorboard --logdir $dir/tensorboard" >&2
