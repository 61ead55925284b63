# shellcheck shell=bash
# What makes the namespace a node: containerd, the kubelet and kube-proxy.

containerd_client() { ctr --address "$containerd_socket" --namespace k8s.io "$@"; }

containerd_answers() { containerd_client version; }

start_containerd() {
  note_new_folders
  mkdir -p "$run/cni" "$run/containerd" "$data/containerd"
  render "$here/config/containerd.toml" >"$run/containerd.toml"
  render "$here/config/pod-network.conflist" >"$run/cni/10-gill-hicks.conflist"
  start_node_process containerd containerd --config "$run/containerd.toml"
}

start_kubelet() {
  create_cgroups
  save_kernel_settings
  mkdir -p "$data/kubelet"
  # No resolver behind the cluster's own: the machine's may not be asked by pods.
  : >"$run/resolv.conf"
  render "$here/config/kubelet.yaml" >"$run/kubelet.yaml"
  start_node_process kubelet "$bin/kubelet" \
    --config="$run/kubelet.yaml" \
    --kubeconfig="$pki/kubelet.kubeconfig" \
    --root-dir="$data/kubelet" --cert-dir="$data/kubelet/pki" \
    --hostname-override="$node_name" --node-ip="$node_address"
}

start_kube_proxy() {
  render "$here/config/kube-proxy.yaml" >"$run/kube-proxy.yaml"
  start_node_process kube-proxy "$bin/kube-proxy" --config="$run/kube-proxy.yaml"
}

node_is_ready() { kubectl wait --for=condition=Ready "node/$node_name" --timeout=0s; }

# The mount points of the cgroup hierarchies: one on version 2, one per controller on version 1.
cgroup_roots() {
  if [[ -f /sys/fs/cgroup/cgroup.controllers ]]; then
    printf '%s\n' /sys/fs/cgroup
  else
    findmnt --noheadings --raw --output TARGET --types cgroup,cgroup2
  fi
}

# The kubelet wants its root cgroup to exist.
create_cgroups() {
  local root controllers
  while read -r root; do
    mkdir -p "$root/$cgroup"
    if [[ -f $root/cgroup.controllers ]]; then
      # cpu → +cpu: what the root offers, handed down.
      controllers=$(sed 's/[^ ]*/+&/g' "$root/cgroup.controllers")
      printf %s "$controllers" >"$root/cgroup.subtree_control"
    elif [[ -f $root/cpuset.cpus ]]; then
      # On version 1 a new cpuset is empty and takes no process.
      cat "$root/cpuset.cpus" >"$root/$cgroup/cpuset.cpus"
      cat "$root/cpuset.mems" >"$root/$cgroup/cpuset.mems"
    fi
  done < <(cgroup_roots)
}

# The kubelet sets these for the whole machine; `down` puts them back.
kernel_settings=(vm.overcommit_memory vm.panic_on_oom kernel.panic kernel.panic_on_oops kernel.keys.root_maxkeys kernel.keys.root_maxbytes)

save_kernel_settings() {
  if [[ ! -f $data/kernel-settings ]]; then sysctl "${kernel_settings[@]}" >"$data/kernel-settings" 2>/dev/null || true; fi
}

restore_kernel_settings() {
  if [[ -f $data/kernel-settings ]]; then sysctl -q -p "$data/kernel-settings" || true; fi
}

# Folders that the kubelet, containerd and the network plugins make in places
# that cannot be chosen; `down` removes those that were not there before.
note_new_folders() {
  local folder
  if [[ -f $data/new-folders ]]; then return; fi
  for folder in /var/lib/kubelet /var/log/containers /var/lib/cni /run/containerd; do
    if [[ ! -e $folder ]]; then printf '%s\n' "$folder"; fi
  done >"$data/new-folders"
}
