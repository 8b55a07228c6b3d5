#!/usr/bin/env bash
# Trains on this machine, in one process.
#
#   launch/laptop.sh [--dry-run] -- --config=configs/quickstart.py --workdir=runs/quickstart
#
# Everything after -- goes to python -m lrsclip_jax.main; --dry-run prints the command and starts nothing.
# Environment:
#   PYTHON   the interpreter; python
#   DEVICES  splits the CPU into so many devices, to try the mesh of a larger machine before renting it

set -euo pipefail

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
fail() { echo "laptop.sh: $1" >&2; exit 2; }
show() { printf '%q' "$1"; printf ' %q' "${@:2}"; echo; }

dry_run=
case ${1:-} in
  --help) usage; exit ;;
  '') usage >&2; exit 2 ;;
  --dry-run) dry_run=yes; shift ;;
esac
[[ ${1:-} == -- && $# -gt 1 ]] || fail "write [--dry-run] -- --config=FILE.py --workdir=DIR, not '$*'"
shift

# A laptop's one GPU draws the screen, too: take its memory as it is needed, not three quarters of it at once.
command=(env XLA_PYTHON_CLIENT_PREALLOCATE="${XLA_PYTHON_CLIENT_PREALLOCATE:-false}")
if [[ ${DEVICES:-} ]]; then
  command+=(JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES="$DEVICES")
fi
command+=("${PYTHON:-python}" -m lrsclip_jax.main "$@")

if [[ $dry_run ]]; then
  show "${command[@]}"
else
  exec "${command[@]}"
fi
