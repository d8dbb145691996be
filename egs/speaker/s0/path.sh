# shellcheck shell=bash
# Sourced by every script of the recipe: programs on PATH, steps and utils beside run.sh.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
[ -e steps ] || ln -s ../../steps steps
[ -e utils ] || ln -s ../../../utils utils
if [ -d "$root/.venv/bin" ]; then PATH=$root/.venv/bin:$PATH; fi
export PATH=$root/bin:$PATH
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} PYTHONIOENCODING=utf-8 LC_ALL=C.UTF-8
