#!/usr/bin/env bash
# Trains on a TPU slice of a GKE cluster as a JobSet, one container a host (launch/gke_jobset.yaml):
#
#   IMAGE=… BUCKET=… TOPOLOGY=v5e:4x4 launch/gke.sh [--dry-run] -- \
#       --config=configs/vitb16.py --workdir=gs://BUCKET/runs/b16 --config.data.sources=/data/PREPARED …
#
# Everything after -- goes to python -m lrsclip_jax.main; --dry-run prints commands and manifest and starts nothing.
# A JobSet of that name, ended or not, is replaced: a run under way saves first, and the new one continues it.
# Does the job fit the slice? lrsclip plan --config=vitb16 --topology=v5e:4x4 says so before.
# Environment:
#   IMAGE            launch/Dockerfile, built with EXTRA=tpu and pushed to a registry that the cluster reads
#   BUCKET           is mounted under /data, to be read
#   TOPOLOGY         the slice, as the planner writes it: v4:2x2x4, v5e:4x4, v5p:4x4x4, v6e:16x16
#   CHIPS            of a host; 4
#   NAME             the JobSet's; lrsclip
#   SERVICE_ACCOUNT  of Kubernetes, with access to the buckets; default
# The cluster needs the JobSet controller, the Cloud Storage FUSE driver and a node pool of that slice.

set -euo pipefail

usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }
fail() { echo "gke.sh: $1" >&2; exit 2; }
show() { printf '%q' "$1"; printf ' %q' "${@:2}"; echo; }

dry_run=
case ${1:-} in
  --help) usage; exit ;;
  '') usage >&2; exit 2 ;;
  --dry-run) dry_run=yes; shift ;;
esac
[[ ${1:-} == -- && $# -gt 1 ]] || fail "write [--dry-run] -- --config=FILE.py --workdir=DIR, not '$*'"
shift
[[ ${IMAGE:-} && ${BUCKET:-} && ${TOPOLOGY:-} ]] || fail "set IMAGE, BUCKET and TOPOLOGY"

case $TOPOLOGY in
  v4:*) accelerator=tpu-v4-podslice ;;
  v5e:*) accelerator=tpu-v5-lite-podslice ;;
  v5p:*) accelerator=tpu-v5p-slice ;;
  v6e:*) accelerator=tpu-v6e-slice ;;
  *) fail "TOPOLOGY=$TOPOLOGY: not a slice of v4, v5e, v5p or v6e, such as v5e:4x4" ;;
esac
shape=${TOPOLOGY#*:} per_host=${CHIPS:-4}
[[ $shape =~ ^[1-9][0-9]*(x[1-9][0-9]*)+$ ]] || fail "TOPOLOGY=$TOPOLOGY: write the shape as in v5e:4x4"
[[ $per_host =~ ^[1-9][0-9]*$ ]] || fail "CHIPS=$per_host: not a number of chips"
chips=$((${shape//x/*}))
((chips % per_host == 0)) || fail "TOPOLOGY=$TOPOLOGY: $chips chips don't divide into hosts of $per_host; set CHIPS"

quoted() { # for YAML, and for Kubernetes, which takes $$ for $
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "${text//\$/\$\$}"
}
arguments=$(quoted "$1")
for argument in "${@:2}"; do
  arguments+=", $(quoted "$argument")"
done

manifest=$(<"$(dirname "$0")/gke_jobset.yaml")
fill() { manifest=${manifest//"\${$1}"/"$2"}; }
fill NAME "${NAME:-lrsclip}"
fill IMAGE "$IMAGE"
fill BUCKET "$BUCKET"
fill SERVICE_ACCOUNT "${SERVICE_ACCOUNT:-default}"
fill ACCELERATOR "$accelerator"
fill TOPOLOGY "$shape"
fill CHIPS "$per_host"
fill HOSTS "$((chips / per_host))"
fill ARGUMENTS "[$arguments]"

# In the foreground: until the pods of the former run have saved and are gone.
delete=(kubectl delete jobset "${NAME:-lrsclip}" --ignore-not-found --cascade=foreground)
apply=(kubectl apply --filename=-)
if [[ $dry_run ]]; then
  show "${delete[@]}"
  printf '%s\n' "$(show "${apply[@]}") <<'EOF'" "$manifest" EOF
else
  "${delete[@]}"
  "${apply[@]}" <<<"$manifest"
fi
