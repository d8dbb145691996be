#!/usr/bin/env bash
# Decode a data directory with a released directory: <out-dir>/text.
#
#   steps/decode.sh [options] <model-dir> <data-dir> <out-dir> [decode.py overrides ...]
#
#   --cmd utils/run.py    what runs the jobs
#   --nj 2                number of jobs
#   --num-threads 1       threads of each job
#   --min-success 0.95    fail if a smaller share of the utterances is decoded
#   --program decode.py   or decode_streaming.py, which makes the tables ctm and delay as well
# shellcheck disable=SC1091 # path.sh and utils are those of the recipe
set -euo pipefail

cmd=utils/run.py
nj=2
num_threads=1
min_success=0.95
program=decode.py

if [ -f path.sh ]; then . ./path.sh; fi
. utils/parse_options.sh
if [ $# -lt 3 ]; then
  echo "usage: $0 [options] <model-dir> <data-dir> <out-dir> [overrides]; see --help" >&2
  exit 2
fi
model=$1
data=${2%/}
out=$3
shift 3
read -r -a run <<<"$cmd"

utterances=$data/feats.scp
for table in wav.scp segments; do
  if [ -f "$data/$table" ]; then utterances=$data/$table; fi
done
if [ ! -s "$utterances" ]; then
  echo "$0: $utterances: missing or empty; run the earlier stages" >&2
  exit 1
fi
total=$(grep -c '[^[:space:]]' "$utterances")
if [ "$nj" -gt "$total" ]; then nj=$total; fi
utils/split_data.py --per-utt "$data" "$nj"

. utils/memory.sh
"${run[@]}" JOB=1:"$nj" "$out/log/decode.JOB.log" \
  "$program" model="$model" data="$data/split${nj}utt/JOB" out="$out/part.JOB" \
  num_threads="$num_threads" min_success=0 "$@"

join() { # the parts of a table, sorted by id and by what else is named
  local table=$1
  shift
  for ((n = 1; n <= nj; n++)); do
    cat "$out/part.$n/$table"
  done | LC_ALL=C sort -s -k1,1 "$@"
}

join text >"$out/.text.tmp"
made=$(wc -l <"$out/.text.tmp")
echo "$0: decoded $((made)) of $total utterances of $data" >&2
if ! awk -v made="$made" -v wanted="$total" -v share="$min_success" \
  'BEGIN { exit !(made > 0 && made >= share * wanted) }'; then
  rm "$out/.text.tmp"
  echo "$0: less than $min_success of them; look into $out/log/decode.*.log" >&2
  exit 1
fi
if [ -f "$out/part.1/delay" ]; then join delay >"$out/delay"; fi
# By file, channel and time, since a recording may have segments in several parts.
if [ -f "$out/part.1/ctm" ]; then join ctm -k2,2 -k3,3n >"$out/ctm"; fi
if [ -f "$out/part.1/stm" ]; then join stm -k2,2 -k4,4n >"$out/stm"; fi
mv "$out/.text.tmp" "$out/text"
