#!/usr/bin/env bash
# Give a model its language model: character n-grams of modern text, and the weight that is best on the
# development set.
#
#   local/add_lm.sh [options] <data> <model-dir>
#
#   --cmd utils/run.py   what runs the jobs
#   --nj 2               number of jobs
#   --prose ""           folders of *.txt, as local/fetch_sentences.py and fetch_modern.py fetch them
#   --order 3            tokens of the longest n-grams
#   --most 900000        n-grams that are kept: 5 MB
#   --weights "0 0.1 .." those that are tried
#
# <data> has train, dev and test sets (local/prepare_data.py); no sentence of the latter two is in the
# model. It is <model-dir>/ngrams.lm, and lm_weight stands in config.yaml. Where ngrams.lm is there
# already, the weight alone is chosen anew.
# shellcheck disable=SC1091 # path.sh and utils are those of the recipe
set -euo pipefail

cmd=utils/run.py
nj=2
prose=
order=3
most=900000
weights="0 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8"

if [ -f path.sh ]; then . ./path.sh; fi
. utils/parse_options.sh
if [ $# -ne 2 ]; then
  echo "usage: $0 [options] <data> <model-dir>; see --help" >&2
  exit 2
fi
data=$1
model=$2
read -r -a prose <<<"$prose"

if [ ! -s "$model/ngrams.lm" ]; then
  local/lm_text.py --exclude "$data"/dev/text "$data"/test_*/text --out "$data/lm/text" \
    -- ${prose[@]+"${prose[@]}"} "$data/train/text"
  make_arpa.py text="$data/lm/text" lang="$model" out="$model/ngrams.lm" order="$order" most="$most"
fi

best=
for weight in $weights; do
  out=$data/lm/weight_$weight
  steps/decode.sh --cmd "$cmd" --nj "$nj" "$model" "$data/dev" "$out" lm_weight="$weight"
  compute_cer.py ref="$data/dev/text" hyp="$out/text" out="$out/score"
  best+="$(awk '/^%CER/ { print $2 }' "$out/score/cer") $weight"$'\n'
done
weight=$(sort -n <<<"${best%$'\n'}" | awk 'NR == 1 { print $2 }')
sed '/^lm_weight:/d' "$model/config.yaml" >"$model/.config.tmp"
echo "lm_weight: $weight" >>"$model/.config.tmp"
mv "$model/.config.tmp" "$model/config.yaml"
echo "$model: lm_weight $weight" >&2
