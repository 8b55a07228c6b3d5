#!/usr/bin/env bash
# Runs a study as a SLURM job array, a part of its trainings in each job. From the root of the repository, its
# environment activated:
#
#   sbatch --array=1-8 launch/study.sh -- loss_weights:DATA --workdir=/shared/studies …
#   launch/study.sh --dry-run -- …                     prints the command of a job and starts nothing
#
# Everything after -- goes to lrsclip study on every node, which share --workdir and the data. Options of sbatch override
# the #SBATCH lines below. Five minutes before the time limit the training saves and the job queues itself again. What
# the other jobs train is not trained twice, and the last one to end writes the whole table.
# Environment:
#   PYTHON  the interpreter, with lrsclip_jax[cuda13]; python

#SBATCH --job-name=study
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --output=%x-%A_%a.out
#SBATCH --open-mode=append

set -euo pipefail

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
fail() { echo "study.sh: $1" >&2; exit 2; }
show() { printf '%q' "$1"; printf ' %q' "${@:2}"; echo; }

dry_run=
case ${1:-} in
  --help) usage; exit ;;
  '') usage >&2; exit 2 ;;
  --dry-run) dry_run=yes; shift ;;
esac
[[ ${1:-} == -- && $# -gt 1 ]] || fail "write [--dry-run] -- STUDY --workdir=DIR, not '$*'"
[[ $dry_run || ${SLURM_JOB_ID:-} ]] || fail "submit it: sbatch --array=1-8 launch/study.sh -- …"
shift

part=$((${SLURM_ARRAY_TASK_ID:-1} - ${SLURM_ARRAY_TASK_MIN:-1} + 1))
command=("${PYTHON:-python}" -m lrsclip_jax study "--shard=$part/${SLURM_ARRAY_TASK_COUNT:-1}" "$@")

if [[ $dry_run ]]; then
  show "${command[@]}"
  exit
fi

requeue=
trap 'requeue=yes; kill -TERM "$!" || true' USR1
"${command[@]}" &
interrupted=$((128 + $(kill -l USR1)))
status=$interrupted
while ((status == interrupted)); do
  status=0
  wait $! || status=$?
done

# 143: saved after SIGTERM.
if ((status == 143)) && [[ $requeue ]]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
fi
exit "$status"
