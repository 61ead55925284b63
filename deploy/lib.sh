# shellcheck shell=bash
# What the scripts here share: where the cluster is, what is installed in it, and how they speak.

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

# Where the operator itself runs.
own_namespace=gill-hicks-system

say() { printf '== %s\n' "$*"; }

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# A command substitution does not end at a failed command, so these functions return its status.

# has_line TEXT LINE
has_line() { grep --quiet --line-regexp --fixed-strings -- "$2" <<<"$1"; }

# namespaces_in PHASE: those that are Active or Terminating, one a line.
namespaces_in() {
  "$kubectl" get namespaces --field-selector "status.phase=$1" \
    --output 'jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}'
}

# Not empty if the CRD of HardwarePortal is installed.
installed_crd() { "$kubectl" get crd hardwareportals.gill-hicks.dev --ignore-not-found --output name; }

# The HardwarePortals of the whole cluster as NAMESPACE/NAME, one a line; none where the CRD is missing.
all_portals() {
  local crd
  crd=$(installed_crd) || return
  if [[ -n $crd ]]; then
    "$kubectl" get hardwareportals --all-namespaces \
      --output 'jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}'
  fi
}

# operator_field JSONPATH: what the operator's Deployment holds there; empty where it is not installed.
operator_field() {
  "$kubectl" --namespace "$own_namespace" get deployment gill-hicks-operator --ignore-not-found --output "jsonpath=$1"
}

# The namespaces that WATCH_NAMESPACES names, one a line.
watched_namespaces() {
  local names
  names=$(operator_field '{.spec.template.spec.containers[0].env[?(@.name=="WATCH_NAMESPACES")].value}') || return
  if [[ -n $names ]]; then tr , '\n' <<<"$names"; fi
}

# with_work_in NAMESPACE…: those of them in which the operator still has work, one a line. In a namespace
# that is being deleted it has as long as a portal is there, which may wait for its finalizer.
with_work_in() {
  local active portals namespace
  active=$(namespaces_in Active) || return
  portals=$(all_portals) || return
  for namespace; do
    if has_line "$active" "$namespace" || grep --quiet "^$namespace/" <<<"$portals"; then echo "$namespace"; fi
  done
}

# Not empty if the operator works in all namespaces, or did until now.
rights_everywhere() { "$kubectl" get clusterrolebinding gill-hicks-operator --ignore-not-found --output name; }

# rights_in NAMESPACE…: the manifests of the operator's rights there. All in one go, as there may be a
# hundred namespaces.
rights_in() {
  local namespace
  for namespace; do
    sed "s/^metadata:\$/&\n  namespace: $namespace/" "$root/deploy/manifests/watched-namespace.yaml"
    echo '---'
  done
}

# The namespaces that hold the operator's rights, one a line, besides its own.
namespaces_with_rights() {
  local namespaces
  namespaces=$("$kubectl" get rolebindings --all-namespaces --field-selector metadata.name=gill-hicks-operator \
    --output 'jsonpath={range .items[*]}{.metadata.namespace}{"\n"}{end}') || return
  grep --invert-match --line-regexp --fixed-strings "$own_namespace" <<<"$namespaces" | grep . || true
}

# take_rights_away NAMESPACE…: what is gone already is no failure.
take_rights_away() {
  (($# > 0)) || return 0
  rights_in "$@" | "$kubectl" delete --ignore-not-found --filename -
}

# grant_collector NAMESPACE NAME: what the condition SourcesReporting of that portal asks for, as often as
# one likes.
grant_collector() {
  "$kubectl" create clusterrolebinding "gill-hicks-collector-$1-$2" --clusterrole=gill-hicks-collector \
    --serviceaccount="$1:$2-collector" --dry-run=client --output yaml |
    "$kubectl" apply --server-side --filename -
}

# The bindings of the collector's ClusterRole, which administrators made, one a line.
collector_grants() {
  "$kubectl" get clusterrolebindings \
    --output 'jsonpath={range .items[?(@.roleRef.name=="gill-hicks-collector")]}{.metadata.name}{"\n"}{end}'
}

wait_for_operator() {
  if ! "$kubectl" --namespace "$own_namespace" rollout status deployment/gill-hicks-operator --timeout=120s; then
    "$kubectl" --namespace "$own_namespace" describe pods
    "$kubectl" --namespace "$own_namespace" logs --selector app.kubernetes.io/name=gill-hicks-operator --tail=30 || true
    fail "the operator did not become ready; its pods and log above say why"
  fi
}

# refuse_while_there_are PORTALS COMMAND: fails if PORTALS, as all_portals prints them, is not empty, and
# says what has to happen before COMMAND.
refuse_while_there_are() {
  local installed advice=""
  if [[ -z $1 ]]; then return; fi
  installed=$(operator_field '{.metadata.name}')
  if [[ -z $installed ]]; then
    advice="
The operator is not installed any more, so portals with a finalizer do not end: install it again first, with
'make install', for the namespaces of these portals."
  fi
  fail "HardwarePortals that need the operator exist:
$(sed 's/^/  /' <<<"$1")
Without it nobody would finalize them, rotate their accounts or lock them. Nothing was changed. In this order:
  1. delete the portals          kubectl --namespace NAMESPACE delete hardwareportal NAME
  2. wait until they are gone    kubectl get hardwareportals --all-namespaces
  3. once more                   $2$advice"
}
