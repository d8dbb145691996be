#!/usr/bin/env bash
# Compute mean and variance of the features of a data directory for the normalisation: am.mvn.
#
#   steps/compute_cmvn_stats.sh [options] <data-dir> [<log-dir> [<am.mvn>]]
#
#   --cmd utils/run.py    what runs the job
#   --lfr-m 7             frames joined into one, ...
#   --lfr-n 6             ... every so many: those of the model
#
# <log-dir> is <data-dir>/log and <am.mvn> is <data-dir>/am.mvn, unless given.
# shellcheck disable=SC1091 # path.sh and utils are those of the recipe
set -euo pipefail

cmd=utils/run.py
lfr_m=7
lfr_n=6

if [ -f path.sh ]; then . ./path.sh; fi
. utils/parse_options.sh
if [ $# -lt 1 ] || [ $# -gt 3 ]; then
  echo "usage: $0 [options] <data-dir> [<log-dir> [<am.mvn>]]; see --help" >&2
  exit 2
fi
data=${1%/}
logdir=${2:-$data/log}
out=${3:-$data/am.mvn}
read -r -a run <<<"$cmd"

if [ ! -s "$data/feats.scp" ]; then
  echo "$0: $data/feats.scp: missing or empty; run steps/make_fbank.sh $data" >&2
  exit 1
fi
"${run[@]}" "$logdir/compute_cmvn_$(basename "$data").log" \
  compute_cmvn.py feats="$data/feats.scp" out="$out" lfr_m="$lfr_m" lfr_n="$lfr_n"
echo "$0: wrote $out" >&2
