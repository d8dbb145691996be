# shellcheck shell=bash disable=SC2034 # sourced by run.sh
# What runs the jobs: utils/run.py is this machine, utils/slurm.py a cluster, with the same command
# line: export train_cmd="utils/slurm.py --mem 4G" decode_cmd="utils/slurm.py --mem 2G"
train_cmd=${train_cmd:-utils/run.py}
decode_cmd=${decode_cmd:-utils/run.py}
