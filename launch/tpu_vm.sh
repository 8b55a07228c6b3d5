#!/usr/bin/env bash
# Trains on a TPU VM slice, one container a host, from any machine with gcloud that stays up:
#
#   TPU=NAME ZONE=ZONE launch/tpu_vm.sh [--dry-run] -- --config=configs/vitb16.py --workdir=gs://BUCKET/runs/b16 …
#
# Everything after -- goes to python -m lrsclip_jax.main on every host; --dry-run prints the commands and starts nothing.
# The hosts get the commit that is checked out here and run launch/tpu_vm_worker.sh. If the connection breaks, the run
# continues, and the same command follows it; to end it, saved:
#
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command='sudo docker stop --time=300 lrsclip_jax'
#
# Does the job fit the slice? lrsclip plan --config=vitb16 --topology=v5e:4x4 says so before.
# Environment:
#   TPU, ZONE    the slice's name and zone
#   ACCELERATOR  v5litepod-16, v5p-64, v6e-256 …: creates the slice, and once more whenever it was preempted; without it
#                the slice must exist
#   RUNTIME      the slice's image; the one that Google names for the accelerator
#   SPOT         yes: at the price of preemptions
#   BUCKET       is mounted on every host, to be read: --config.data.sources=/data/PREPARED

set -euo pipefail

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
fail() { echo "tpu_vm.sh: $1" >&2; exit 2; }
show() { printf '%q' "$1"; printf ' %q' "${@:2}"; echo; }

dry_run=
case ${1:-} in
  --help) usage; exit ;;
  '') usage >&2; exit 2 ;;
  --dry-run) dry_run=yes; shift ;;
esac
[[ ${1:-} == -- && $# -gt 1 ]] || fail "write [--dry-run] -- --config=FILE.py --workdir=DIR, not '$*'"
[[ ${TPU:-} && ${ZONE:-} ]] || fail "set TPU and ZONE, the slice's name and zone"

run() { if [[ $dry_run ]]; then show "$@"; else "$@"; fi; }

state() { # of the queued resource; empty if there is none
  gcloud compute tpus queued-resources describe "$TPU" --zone="$ZONE" --format='value(state.state)' 2>/dev/null || true
}

create() {
  local runtime
  case $ACCELERATOR in
    v5litepod-*) runtime=v2-alpha-tpuv5-lite ;;
    v5p-*) runtime=v2-alpha-tpuv5 ;;
    v6e-*) runtime=v2-alpha-tpuv6e ;;
    *) runtime=tpu-ubuntu2204-base ;;
  esac
  run gcloud compute tpus queued-resources create "$TPU" --node-id="$TPU" --zone="$ZONE" \
    --accelerator-type="$ACCELERATOR" --runtime-version="${RUNTIME:-$runtime}" ${SPOT:+--spot}
}

await_slice() {
  local now
  while now=$(state) && [[ $now != ACTIVE ]]; do
    case $now in
      '') create ;;
      FAILED) fail "no slice: gcloud compute tpus queued-resources describe $TPU --zone=$ZONE says why" ;;
      SUSPENDED) gcloud compute tpus queued-resources delete "$TPU" --zone="$ZONE" --force --quiet ;;
    esac
    sleep 30
  done
}

train() {
  local archive=${TMPDIR:-/tmp}/lrsclip_jax.tar.gz
  local unpack="rm -rf lrsclip_jax && mkdir lrsclip_jax && tar -xzf lrsclip_jax.tar.gz -C lrsclip_jax"
  local start
  start=$(show env BUCKET="${BUCKET:-}" bash lrsclip_jax/launch/tpu_vm_worker.sh "$@")
  run git -C "$(dirname "$0")/.." archive --format=tar.gz --output="$archive" HEAD &&
    run gcloud compute tpus tpu-vm scp "$archive" "$TPU:lrsclip_jax.tar.gz" --zone="$ZONE" --worker=all &&
    run gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$unpack && $start"
}

if [[ $dry_run ]]; then
  [[ -z ${ACCELERATOR:-} ]] || create
  train "$@"
  exit
fi

while true; do
  [[ -z ${ACCELERATOR:-} ]] || await_slice
  status=0
  train "$@" || status=$?
  # Done, bad input, or a slice that is not ours to create.
  if ((status == 0 || status == 2)) || [[ -z ${ACCELERATOR:-} ]]; then break; fi
  sleep 120 # A preempted slice calls itself active for a while.
  [[ $(state) != ACTIVE ]] || break
done
echo "tpu_vm.sh: the slice $TPU still exists, and costs" >&2
exit "$status"
