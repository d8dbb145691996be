#!/usr/bin/env bash
# Decode a data directory as streams: <out-dir>/{text,ctm,delay}.
#
#   steps/decode_streaming.sh [options] <model-dir> <data-dir> <out-dir> [decode_streaming.py overrides ...]
#
# The options are those of steps/decode.sh.
set -euo pipefail

exec "$(dirname "$0")/decode.sh" --program decode_streaming.py "$@"
