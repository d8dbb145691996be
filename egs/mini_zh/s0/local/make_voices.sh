#!/usr/bin/env bash
# Make synthetic Mandarin sentences of many voices: fetch, choose, speak in parallel jobs, put together.
#
#   local/make_voices.sh [options] <corpora-folder> <out>
#
#   --cmd utils/run.py   what runs the jobs
#   --nj 2               number of jobs
#   --num-utts 8000      sentences; no sentence of a test set of the corpora is one of them
#   --hours 0            end when there is this much; 0: all
#   --speakers 400
#   --seed 1             other speakers, and other sentences
#   --tokens <file>      tokens.json: only sentences of these characters
#   --tiny false         sentences that are composed, and hums in place of voices: nothing is fetched
#
# Each job has a data directory of its own, <out>/parts/JOB. A second run with as many jobs goes on where
# the first stopped, and speaks more where --num-utts or --hours says so.
# shellcheck disable=SC1091 # path.sh and utils are those of the recipe
set -euo pipefail

cmd=utils/run.py
nj=2
num_utts=8000
hours=0
speakers=400
seed=1
tokens=
tiny=false

if [ -f path.sh ]; then . ./path.sh; fi
. utils/parse_options.sh
if [ $# -ne 2 ]; then
  echo "usage: $0 [options] <corpora-folder> <out>; see --help" >&2
  exit 2
fi
corpora=$1
out=$2
if [ "$num_utts" -eq 0 ]; then
  echo "$0: no sentences asked for; --num-utts 8000 makes 12 hours" >&2
  exit 0
fi
read -r -a run <<<"$cmd"

python=python3
voices=hum
least=10 # of each character in the prose
only=()
if [ "$tiny" = true ]; then
  least=1
  only=(--composed)
else
  local/fetch_voices.sh "$out/kokoro"
  python=$out/kokoro/venv/bin/python
  voices=$out/kokoro
fi
if [ -n "$tokens" ]; then tokens=(--tokens "$tokens"); else tokens=(); fi

if [ ! -s "$out/prose/said.txt" ]; then local/fetch_sentences.py ${only[@]+"${only[@]}"} "$out/prose"; fi
excluded=()
for table in real_sentences many_voices aishell1_sample synthetic aishell3_samples; do
  if [ -s "$corpora/$table/text" ]; then excluded+=("$corpora/$table/text"); fi
done
local/select_sentences.py --exclude ${excluded[@]+"${excluded[@]}"} --number "$num_utts" --plain 0.5 \
  --min-length 4 --max-length 26 --min-count "$least" --seed "$seed" --prefix "$seed" \
  ${tokens[@]+"${tokens[@]}"} "$out/prose" "$out/sentences"

share=$(awk -v hours="$hours" -v nj="$nj" 'BEGIN { print hours / nj }')
. utils/memory.sh
"${run[@]}" JOB=1:"$nj" "$out/log/speak.JOB.log" \
  "$python" local/speak_voices.py "$voices" "$out/sentences/text_marks" "$out/parts/JOB" \
  --part "JOB/$nj" --hours "$share" --speakers "$speakers" --seed "V$seed"
