# shellcheck shell=bash disable=SC2034 # sourced by run.sh
# What runs the jobs: utils/run.py is this machine; a cluster has a program of the same contract.
train_cmd=utils/run.py
