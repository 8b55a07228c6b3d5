#!/usr/bin/env bash
# Trains on all GPUs of this machine, Ampere or newer, in one process.
#
#   launch/gpus.sh [--dry-run] -- --config=configs/vitb16.py --workdir=runs/b16 …
#
# Everything after -- goes to python -m lrsclip_jax.main; --dry-run prints the command and starts nothing.
# Environment:
#   PYTHON                the interpreter, with lrsclip_jax[cuda13]; python
#   CUDA_VISIBLE_DEVICES  0,1: takes these GPUs only
#   every variable set below keeps the value that it already has, and XLA_FLAGS is passed on:
#   XLA_FLAGS=--xla_gpu_deterministic_ops=true repeats a run to the bit, more slowly

set -euo pipefail

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
fail() { echo "gpus.sh: $1" >&2; exit 2; }
show() { printf '%q' "$1"; printf ' %q' "${@:2}"; echo; }

dry_run=
case ${1:-} in
  --help) usage; exit ;;
  '') usage >&2; exit 2 ;;
  --dry-run) dry_run=yes; shift ;;
esac
[[ ${1:-} == -- && $# -gt 1 ]] || fail "write [--dry-run] -- --config=FILE.py --workdir=DIR, not '$*'"
shift

# Variables of JAX and CUDA only, which other versions ignore. A word in XLA_FLAGS that a jaxlib doesn't know aborts the
# process, so there is none. NCCL chooses NVLink SHARP and its protocols by itself.
settings=(
  # The latency-hiding scheduler, pipelined collectives and double-buffered loops: the gathering of a layer's weights
  # runs behind the arithmetic of the layer before, for some more compile time.
  JAX_OPTIMIZATION_LEVEL="${JAX_OPTIMIZATION_LEVEL:-O1}"
  # The GPUs are ours: 0.9 of their memory instead of 0.75. The rest is for NCCL, cuDNN and the CUDA context.
  XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.9}"
)
# Hopper starts kernels in the order in which they were issued only through one queue; without it arithmetic gets before
# the collective that was to run behind it. Blackwell doesn't need it and becomes slower.
if [[ $(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1) == 9.0 ]]; then
  settings+=(CUDA_DEVICE_MAX_CONNECTIONS="${CUDA_DEVICE_MAX_CONNECTIONS:-1}")
fi
command=(env "${settings[@]}" "${PYTHON:-python}" -m lrsclip_jax.main "$@")

if [[ $dry_run ]]; then
  show "${command[@]}"
else
  exec "${command[@]}"
fi
