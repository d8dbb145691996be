#!/usr/bin/env bash
# tests/check_image.sh [DOCKERFILE]: does what the COPY and RUN lines of the image say, in an empty folder
# and an empty environment, and asks the server that comes of it. TORCH_INDEX: where torch comes from.
set -euo pipefail
file=$(realpath "${1:-egs/service/Dockerfile}")
root=$PWD
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
export VENV=$place/venv SRC=$place/src HOME=$place/home TORCH_INDEX=${TORCH_INDEX:-}
mkdir -p "$SRC" "$HOME"
while read -r word rest; do
  case $word in
    COPY)
      read -ra paths <<< "$rest"
      target=$place${paths[-1]}
      unset 'paths[-1]'
      for path in "${paths[@]}"; do cp -r "$root/$path" "$target"; done
      ;;
    RUN)
      echo "$rest" >&2
      (cd "$place" && bash -euc "$rest")
      ;;
  esac
done < "$file"
"$VENV/bin/funasr" serve +port=0 2> "$place/log" &
server=$!
for _ in $(seq 600); do
  grep -q 'serve: ready' "$place/log" && break
  sleep 0.2
done
url=$(grep -om 1 'http://[^ ]*' "$place/log")
text=$("$VENV/bin/funasr" client "$url" "$SRC/paraformer/bundled/paraformer-zh-mini/example/demo_2.wav")
kill -TERM "$server"
wait "$server"
echo "the server says: $text"
[ -n "$text" ]
