#!/usr/bin/env bash
# sbatch --array=1-8 slurm.sh wav.scp exp/batch [option=value ...]: a list in eight parts, by funasr.
# One of them again: sbatch --array=3 slurm.sh wav.scp exp/batch shard=auto/8
#SBATCH --job-name=funasr
#SBATCH --output=%x.%A.%a.log
#SBATCH --cpus-per-task=2
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
list=$1 out=$2
shift 2
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"
exec funasr "+input=$list" "+output_dir=$out" +resume=true +shard=auto "$@"
