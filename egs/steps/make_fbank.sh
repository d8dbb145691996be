#!/usr/bin/env bash
# Make log-mel features of a data directory: its feats.scp and utt2num_frames.
#
#   steps/make_fbank.sh [options] <data-dir> [<log-dir> [<fbank-dir>]]
#
#   --cmd utils/run.py    what runs the jobs
#   --nj 4                number of jobs
#   --speeds 1.0          0.9,1.0,1.1: three of each utterance, in <data-dir>_sp
#   --compress true       two bytes a number instead of four
#   --num-threads 1       threads of each job
#   --frontend ""         words for make_fbank.py, such as "window=povey upscale_samples=false"
#   --min-success 0.95    fail if a smaller share of the utterances gets features
#
# <log-dir> is <data-dir>/log and <fbank-dir> is <data-dir>/data, unless given.
# shellcheck disable=SC1091 # path.sh and utils are those of the recipe
set -euo pipefail

cmd=utils/run.py
nj=4
speeds=1.0
compress=true
num_threads=1
frontend=
min_success=0.95

if [ -f path.sh ]; then . ./path.sh; fi
. utils/parse_options.sh
if [ $# -lt 1 ] || [ $# -gt 3 ]; then
  echo "usage: $0 [options] <data-dir> [<log-dir> [<fbank-dir>]]; see --help" >&2
  exit 2
fi
data=${1%/}
logdir=${2:-$data/log}
fbankdir=${3:-$data/data}
read -r -a run <<<"$cmd"
read -r -a front <<<"$frontend"

name=$(basename "$data")
if [ "$speeds" = 1.0 ] || [ "$speeds" = 1 ]; then
  out=$data
  # Those of an earlier run know less, or more, than this one will.
  for table in feats.scp utt2num_frames; do
    if [ -f "$data/$table" ]; then
      mkdir -p "$data/.backup"
      mv "$data/$table" "$data/.backup/$table"
    fi
  done
else
  out=${data}_sp
  name=${name}_sp
fi
utils/validate_data_dir.py --wav --no-feats --no-text --no-files --no-sort --empty-text "$data"
if [ "$out" != "$data" ]; then
  utils/perturb_data_dir_speed.py "$speeds" "$data" "$out"
fi

utterances=$data/wav.scp
if [ -f "$data/segments" ]; then utterances=$data/segments; fi
total=$(grep -c '[^[:space:]]' "$utterances")
if [ "$nj" -gt "$total" ]; then
  echo "$0: $total utterances, so $total jobs instead of $nj" >&2
  nj=$total
fi
utils/split_data.py --per-utt "$data" "$nj"

# A part may fall below min_success as long as the whole does not.
"${run[@]}" JOB=1:"$nj" "$logdir/make_fbank_$name.JOB.log" \
  make_fbank.py data="$data/split${nj}utt/JOB" out="$fbankdir" name="raw_fbank_$name.JOB" \
  speeds="[$speeds]" compress="$compress" num_threads="$num_threads" min_success=0 \
  ${front[@]+"${front[@]}"}

for table in feats.scp utt2num_frames; do
  part=${table/feats.scp/scp}
  for ((n = 1; n <= nj; n++)); do
    cat "$fbankdir/raw_fbank_$name.$n.$part"
  done | LC_ALL=C sort -k1,1 >"$out/.$table.tmp"
done
IFS=, read -r -a each <<<"$speeds"
wanted=$((total * ${#each[@]}))
made=$(wc -l <"$out/.feats.scp.tmp")
echo "$0: made features of $((made)) of $wanted utterances of $name" >&2
if ! awk -v made="$made" -v wanted="$wanted" -v share="$min_success" \
  'BEGIN { exit !(made > 0 && made >= share * wanted) }'; then
  rm "$out/.feats.scp.tmp" "$out/.utt2num_frames.tmp"
  echo "$0: less than $min_success of them; look into $logdir/make_fbank_$name.*.log" >&2
  exit 1
fi
for table in feats.scp utt2num_frames; do
  mv "$out/.$table.tmp" "$out/$table"
done
if [ "$made" -lt "$wanted" ]; then
  echo "$0: run utils/fix_data_dir.py $out to leave the others out" >&2
fi
