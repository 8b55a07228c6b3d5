#!/usr/bin/env bash
# Trains under SLURM, one process a node or one a GPU. From the root of the repository, its environment activated:
#
#   sbatch --nodes=4 launch/slurm.sh -- --config=configs/vitb16.py --workdir=/shared/runs/b16 …
#   sbatch --nodes=4 --ntasks-per-node=8 launch/slurm.sh -- …     one process a GPU
#   launch/slurm.sh --dry-run -- …                                prints the command of a job and starts nothing
#
# Everything after -- goes to python -m lrsclip_jax.main on every node; the nodes share --workdir and the data. Options of
# sbatch override the #SBATCH lines below. Five minutes before the time limit, and in the grace time of a preemption,
# the run saves and the job queues itself again. scancel --signal=TERM JOB saves and ends it.
# Environment:
#   PYTHON  the interpreter, with lrsclip_jax[cuda13]; python

#SBATCH --job-name=lrsclip
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --time=1-00:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append

set -euo pipefail

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
fail() { echo "slurm.sh: $1" >&2; exit 2; }
show() { printf '%q' "$1"; printf ' %q' "${@:2}"; echo; }

dry_run=
case ${1:-} in
  --help) usage; exit ;;
  '') usage >&2; exit 2 ;;
  --dry-run) dry_run=yes; shift ;;
esac
[[ ${1:-} == -- && $# -gt 1 ]] || fail "write [--dry-run] -- --config=FILE.py --workdir=DIR, not '$*'"
[[ $dry_run || ${SLURM_JOB_ID:-} ]] || fail "submit it: sbatch launch/slurm.sh -- …"
[[ -f launch/gpus.sh ]] || fail "submit it from the root of the repository"

tasks=${SLURM_NTASKS_PER_NODE:-1}
cpus=${SLURM_CPUS_ON_NODE:-$(nproc)}
# The first bad exit ends all, or they would wait for it. SLURM gives a task one CPU; the data pipeline wants them all.
step=(srun --kill-on-bad-exit=1 --cpus-per-task="$((cpus / tasks))" bash launch/gpus.sh "$@")

if [[ $dry_run ]]; then
  show "${step[@]}"
  exit
fi

# The warning before the time limit comes to this shell alone. SIGTERM to srun would kill the processes at once;
# scancel hands it to them.
requeue=
trap 'requeue=yes; scancel --signal=TERM "$SLURM_JOB_ID" || true' USR1
"${step[@]}" &
interrupted=$((128 + $(kill -l USR1)))
status=$interrupted
while ((status == interrupted)); do
  status=0
  wait $! || status=$?
done

# 143: saved after SIGTERM. A job that leaves within the grace time of its preemption is not queued again by SLURM.
if ((status == 143)); then
  [[ $(scontrol show job "$SLURM_JOB_ID") != *PreemptTime=[0-9]* ]] || requeue=yes
  [[ -z $requeue ]] || scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
