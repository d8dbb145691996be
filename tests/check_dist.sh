#!/usr/bin/env bash
# tests/check_dist.sh WHEEL [PYTHON ...]: the wheel in a fresh venv of each Python (3.10 to 3.14, as far
# as they are there) recognises the demo clips. PIP_ARGS: where torch comes from, for instance.
set -euo pipefail
wheel=$(realpath "$1")
shift
most_bytes=45000000
if [ "$(stat -c %s "$wheel" 2> /dev/null || stat -f %z "$wheel")" -ge "$most_bytes" ]; then
  echo "check_dist: $wheel has $most_bytes bytes or more; take something out" >&2
  exit 1
fi
[ $# -gt 0 ] || set -- python3.10 python3.11 python3.12 python3.13 python3.14
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
cd "$place"
checked=0
for python in "$@"; do
  if ! "$python" -c 'import ensurepip' 2> /dev/null; then
    echo "$python: not here" >&2
    continue
  fi
  "$python" -m venv --clear venv
  # shellcheck disable=SC2086
  if ! venv/bin/pip install --quiet ${PIP_ARGS:-} torch 2> "$place/pip.log"; then
    echo "$python: no torch for it here: $(grep -m 1 '^ERROR' "$place/pip.log")" >&2
    continue
  fi
  venv/bin/pip install --quiet "$wheel"
  clips=$(venv/bin/python -c 'from paraformer.hub.directories import BUNDLED as b; print(b)')
  venv/bin/funasr "$clips/paraformer-zh-mini/example" > "$(basename "$python").txt"
  echo "$("$python" -V): $(grep -c '^demo_. .' "$(basename "$python").txt") of 5 clips"
  [ "$(grep -c '^demo_. .' "$(basename "$python").txt")" -eq 5 ]
  checked=$((checked + 1))
done
[ "$checked" -gt 0 ]
