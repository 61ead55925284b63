# shellcheck shell=bash
# `up` and `down`: the order of things.

# In the order in which they start; `down` ends them in the reverse order.
cluster_processes=(
  etcd containerd kube-apiserver kube-controller-manager kube-scheduler
  kubelet kube-proxy coredns metrics-server
)
# What can run beside it, and ends with it.
companion_processes=(kwok)

cluster_is_running() {
  local name
  network_exists || return 1
  for name in "${cluster_processes[@]}"; do process_is_running "$name" || return 1; done
}

something_is_running() {
  local name
  for name in "${cluster_processes[@]}"; do
    if process_is_running "$name"; then return 0; fi
  done
  return 1
}

cluster_up() {
  assert_network_is_ours
  install_packages
  build_components
  if cluster_is_running && node_is_ready &>/dev/null; then
    provide_volumes
    say "the cluster is up; KUBECONFIG=$kubeconfig"
    return
  fi
  # After a reboot or a crash of the machine etcd, which does not fsync here,
  # cannot be trusted: start anew. If a single process died, start that one.
  if ! something_is_running && cluster_left_traces; then
    say "removing what an earlier cluster left behind"
    cluster_down
  fi

  mkdir -p "$run" "$data" "$logs"
  chmod 711 "$run" "$data"
  create_network
  start_etcd_and_certificates
  start_containerd
  wait_for 20 etcd "etcd answers" etcd_answers
  start_api_server
  wait_for 20 containerd "containerd answers" containerd_answers
  provide_cluster_images
  wait_for 60 kube-apiserver "the API server is ready" api_server_answers
  grant_access
  start_controller_manager
  start_scheduler
  start_kubelet
  start_kube_proxy
  start_coredns
  start_metrics_server
  provide_volumes
  wait_for 60 kubelet "node $node_name is Ready" node_is_ready
  wait_for 30 coredns "DNS answers" dns_answers
  run_self_test
  wait_for 90 metrics-server "the metrics API answers" metrics_answer
  say "the cluster is up; KUBECONFIG=$kubeconfig"
}

start_etcd_and_certificates() {
  start_etcd
  create_certificates
}

# A pod is asked, since pods are what must be able to do some things and not others.
run_self_test() {
  local outside
  assert_node_is_isolated
  outside=$({ outside_addresses; echo 1.1.1.1:443; } | paste -sd, | sed 's/[^,]*/"&"/g')
  kubectl delete pod cluster-self-test --namespace kube-system --ignore-not-found >/dev/null
  # A pod can be created once its namespace's service account was.
  wait_for 30 kube-controller-manager "service accounts are made" kubectl get serviceaccount default --namespace kube-system
  render "$here/manifests/self-test.yaml" outside | kubectl apply --filename - >/dev/null
  wait_for 60 kubelet "a pod has run" self_test_ended
  if [[ $(self_test_phase) != Succeeded ]]; then
    kubectl logs --namespace kube-system --all-containers --prefix cluster-self-test >&2 || true
    fail "the self-test failed: a pod cannot use DNS or a Service, or can reach the outside"
  fi
  kubectl delete pod cluster-self-test --namespace kube-system --wait=false >/dev/null
  say "a pod resolves names, reaches Services and reaches nothing outside"
}

self_test_phase() { kubectl get pod cluster-self-test --namespace kube-system --output jsonpath='{.status.phase}'; }

self_test_ended() { [[ $(self_test_phase) == @(Succeeded|Failed) ]]; }

cluster_down() {
  assert_network_is_ours
  if mariadb_is_running && [[ $(mariadb_setting MYSQL_HOST) == "$host_address" ]]; then
    # Its address goes away with the network.
    mariadb_down
  fi
  local reversed=() name
  for name in "${cluster_processes[@]}"; do
    if [[ $name != @(etcd|containerd) ]]; then reversed=("$name" "${reversed[@]}"); fi
  done
  stop_processes 3 "${companion_processes[@]}" "${reversed[@]}"
  kill_containers
  stop_processes 3 containerd etcd
  unmount_everything
  delete_network
  remove_cgroups
  restore_kernel_settings
  remove_files
  assert_nothing_is_left
}

cluster_status() {
  local name pid
  if network_exists; then
    printf '%-24s %s\n' network "host $host_address, node $node_address"
  else
    printf '%-24s %s\n' network absent
  fi
  for name in "${cluster_processes[@]}" "${companion_processes[@]}" mariadb; do
    if pid=$(process_pid "$name"); then
      printf '%-24s pid %-8s %s\n' "$name" "$pid" "$logs/$name.log"
    else
      printf '%-24s %s\n' "$name" "not running"
    fi
  done
  cluster_is_running || return 3
  printf '%-24s %s\n' "audit log" "$logs/audit.log"
  printf '%-24s %s\n' kubeconfig "$kubeconfig"
  kubectl get nodes
}
