# shellcheck shell=bash
# Fake nodes by kwok, for more pods than a machine can run: a pod on one of them is said to be Ready
# as soon as it is scheduled, and a Job's pod to have succeeded. Nothing of it runs.

# The controller manager gives each node 254 addresses.
kwok_default_nodes=20

kwok_stages=$cache/kwok-stages.yaml

kwok_up() { # number of nodes
  local count=${1:-$kwok_default_nodes} number kwok_node
  [[ $count =~ ^[1-9][0-9]?$ ]] || fail "kwok-up takes a number of nodes from 1 to 99, not \"$count\""
  cluster_is_running || fail "the cluster does not run: run 'cluster up' first"
  require_go
  build_component kwok ""
  copy_kwok_stages
  if [[ ! -f $pki/kwok.kubeconfig ]]; then create_kubeconfig "$pki/kwok.kubeconfig" kwok; fi
  {
    render "$here/manifests/kwok.yaml"
    for ((number = 1; number <= count; number++)); do
      printf -v kwok_node 'kwok-%02d' "$number"
      printf -- '---\n'
      render "$here/manifests/kwok-node.yaml" kwok_node
    done
  } | apply
  start_kwok
  wait_for 60 kwok "$count fake nodes are Ready" \
    kubectl wait --for=condition=Ready nodes --selector type=kwok --timeout=0s
}

# They are the program's own: from the module that it was built of.
copy_kwok_stages() {
  local module stage
  if [[ -f $kwok_stages && ! $bin/kwok -nt $kwok_stages ]]; then return; fi
  module=$(cd "$here/components/kwok" && go list -m -f '{{.Dir}}' sigs.k8s.io/kwok)
  [[ -d $module ]] || fail "the sources of kwok are missing: run 'go mod download' in $here/components/kwok"
  for stage in "$module"/kustomize/stage/{node/fast,node/heartbeat-with-lease,pod/fast}/*.yaml; do
    if [[ ${stage##*/} != kustomization.yaml ]]; then
      cat "$stage"
      printf -- '---\n'
    fi
  done >"$kwok_stages.new"
  mv "$kwok_stages.new" "$kwok_stages"
}

start_kwok() {
  start_node_process kwok "$bin/kwok" \
    --kubeconfig="$pki/kwok.kubeconfig" --config="$kwok_stages" \
    --manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake \
    --node-ip="$node_address" --node-port=10247 --server-address="$node_address:10247" \
    --node-lease-duration-seconds=40
}

kwok_down() {
  if cluster_is_running; then delete_kwok_nodes; fi
  stop_processes 3 kwok
  say "kwok and its nodes are gone"
}

# Cordoned first, as a Deployment would give them new pods. Whoever created the pods still wants
# them, and so they wait for other nodes.
delete_kwok_nodes() {
  local nodes node
  nodes=$(kubectl get nodes --selector type=kwok --output name)
  if [[ -z $nodes ]]; then return; fi
  kubectl cordon --selector type=kwok >/dev/null
  for node in $nodes; do
    kubectl delete pods --all-namespaces --field-selector "spec.nodeName=${node#node/}" \
      --force --grace-period=0 2>/dev/null >&2
  done
  kubectl delete nodes --selector type=kwok >/dev/null
  render "$here/manifests/kwok.yaml" | kubectl delete --ignore-not-found --filename - >/dev/null
}
