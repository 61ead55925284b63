# shellcheck shell=bash
# What the scripts here share: where the cluster is, and how they speak.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cluster=$root/e2e/cluster/cluster
: "${CLUSTER:?run this through make}" "${TAG:?}" "${IMAGE_PREFIX:?}" "${NAMESPACE:?}" "${CARGO_TARGET_DIR:?}" "${GILL_HICKS_CACHE:?}"

if [[ $CLUSTER == local ]]; then
  KUBECONFIG=${GILL_HICKS_RUN:-/run/gill-hicks}/kubeconfig
  kubectl=$GILL_HICKS_CACHE/bin/kubectl
elif [[ $CLUSTER == current ]]; then
  KUBECONFIG=${KUBECONFIG:-$HOME/.kube/config}
  kubectl=kubectl
else
  echo "CLUSTER is \"$CLUSTER\", expected local or current" >&2
  exit 64
fi
export KUBECONFIG

say() { printf '== %s\n' "$*"; }

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}
