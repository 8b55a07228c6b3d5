#!/usr/bin/env bash
# Runs on every host of a TPU VM slice, started by launch/tpu_vm.sh: builds the image, mounts the bucket, trains in a
# container and follows it. A run that is under way is followed, not started again.
#
#   launch/tpu_vm_worker.sh [--dry-run] -- --config=configs/vitb16.py --workdir=gs://BUCKET/runs/b16 …
#
# Everything after -- goes to python -m lrsclip_jax.main; --dry-run prints the commands and starts nothing.
# Environment:
#   BUCKET  is mounted under /data, to be read

set -euo pipefail

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
fail() { echo "tpu_vm_worker.sh: $1" >&2; exit 2; }
show() { printf '%q' "$1"; printf ' %q' "${@:2}"; echo; }

dry_run=
case ${1:-} in
  --help) usage; exit ;;
  '') usage >&2; exit 2 ;;
  --dry-run) dry_run=yes; shift ;;
esac
[[ ${1:-} == -- && $# -gt 1 ]] || fail "write [--dry-run] -- --config=FILE.py --workdir=DIR, not '$*'"
shift

run() { if [[ $dry_run ]]; then show "$@"; else "$@"; fi; }

running() { [[ $(sudo docker container inspect --format='{{.State.Running}}' lrsclip_jax 2>/dev/null) == true ]]; }

install_gcsfuse() {
  local packages=https://packages.cloud.google.com/apt key=/usr/share/keyrings/cloud.google.asc
  curl --fail --silent --show-error "$packages/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $packages gcsfuse-$(lsb_release --codename --short) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get update --quiet
  sudo apt-get install --quiet --yes gcsfuse
}

start() {
  # JAX warns of slow starts on TPU v5e and newer without it.
  run sudo sh -c 'echo always > /sys/kernel/mm/transparent_hugepage/enabled'
  local root
  root=$(dirname "$0")/..
  run sudo docker build --file="$root/launch/Dockerfile" --build-arg=EXTRA=tpu --tag=lrsclip_jax "$root"
  if [[ ${BUCKET:-} ]]; then
    [[ $dry_run ]] || command -v gcsfuse >/dev/null || install_gcsfuse
    run sudo mkdir -p /mnt/data
    mountpoint --quiet /mnt/data || run sudo gcsfuse --implicit-dirs -o ro,allow_other "$BUCKET" /mnt/data
  fi
  [[ $dry_run ]] || sudo docker rm --force lrsclip_jax >/dev/null 2>&1 || true
  # The host's network, on which the hosts find one another; root, to whom the TPU's device files belong; at the end of
  # a preempted host as much time to save as it has.
  run sudo docker run --detach --name=lrsclip_jax --network=host --privileged --user=root --stop-timeout=120 \
    --volume=lrsclip_cache:/root/.cache ${BUCKET:+--volume=/mnt/data:/data:ro} lrsclip_jax "$@"
}

if [[ $dry_run ]] || ! running; then
  start "$@"
fi
run sudo docker logs --follow lrsclip_jax
[[ $dry_run ]] || exit "$(sudo docker wait lrsclip_jax)"
