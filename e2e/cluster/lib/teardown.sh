# shellcheck shell=bash
# Removes what a cluster leaves on the machine, and only that.

# Containers are exactly the processes in our cgroup; a shim names our socket.
kill_containers() {
  local pids deadline=$((SECONDS + 10))
  while pids=$(container_pids) && [[ -n $pids ]]; do
    # shellcheck disable=SC2086 # a list of numbers
    kill -KILL $pids 2>/dev/null || true
    if ((SECONDS >= deadline)); then fail "these containers do not end: $pids"; fi
    sleep 0.1
  done
  while pids=$(shim_pids) && [[ -n $pids ]]; do
    # shellcheck disable=SC2086 # a list of numbers
    kill -KILL $pids 2>/dev/null || true
    if ((SECONDS >= deadline)); then fail "these shims do not end: $pids"; fi
    sleep 0.1
  done
}

container_pids() {
  local root
  root=$(our_cgroups | head -n 1)
  if [[ -z $root ]]; then return; fi
  find "$root" -name cgroup.procs -exec cat {} + 2>/dev/null || true
}

shim_pids() {
  local file command
  for file in /proc/[0-9]*/cmdline; do
    command=$(tr '\0' ' ' 2>/dev/null <"$file") || continue
    if [[ $command == *containerd-shim*" -address $containerd_socket "* ]]; then
      file=${file#/proc/}
      printf '%s\n' "${file%/cmdline}"
    fi
  done
}

our_cgroups() {
  local root
  while read -r root; do
    if [[ -d $root/$cgroup ]]; then printf '%s\n' "$root/$cgroup"; fi
  done < <(cgroup_roots)
}

remove_cgroups() {
  local root deadline=$((SECONDS + 5))
  while read -r root; do
    # A killed process stays in its cgroup for a moment.
    while [[ -d $root ]] && ! find "$root" -depth -type d -exec rmdir {} + 2>/dev/null; do
      if ((SECONDS >= deadline)); then break; fi
      sleep 0.1
    done
  done < <(our_cgroups)
}

our_mounts() {
  local target
  while read -r target; do
    if [[ $target == "$run/"* || $target == "$data/"* ]]; then printf '%s\n' "$target"; fi
  done < <(findmnt --noheadings --raw --output TARGET)
}

# The innermost first.
unmount_everything() {
  local target
  while read -r target; do
    umount "$target" 2>/dev/null || umount --lazy "$target"
  done < <(our_mounts | tac)
}

remove_files() {
  local address result container link folder part
  # Shims keep their sockets in a folder that containerd does not let one choose.
  while read -r address; do
    rm -f "${address#unix://}"
  done < <(find "$run/containerd" -name address -type f -exec sh -c 'cat "$1"; echo' sh {} \; 2>/dev/null)
  # What the network plugins cache about our pods, and the kubelet's links to logs.
  for result in /var/lib/cni/results/gill-hicks-*-eth0; do
    container=${result#*/gill-hicks-}
    rm -f "$result" "/var/lib/cni/results/cni-loopback-${container%-eth0}-lo"
  done
  for link in /var/log/containers/*.log; do
    if [[ $(readlink "$link") == "$data/pod-logs/"* ]]; then rm -f "$link"; fi
  done
  if [[ -f $data/new-folders ]]; then
    while read -r folder; do rm -rf "$folder"; done <"$data/new-folders"
  fi
  for part in cni containerd runc kubeconfig Corefile audit-policy.yaml containerd.toml kubelet.yaml kube-proxy.yaml resolv.conf; do
    rm -rf "${run:?}/$part"
  done
  for part in etcd containerd kubelet pod-logs cni pki volumes images contexts kernel-settings new-folders; do
    rm -rf "${data:?}/$part"
  done
}

cluster_left_traces() { [[ -n $(traces) || -e $data/etcd || -e $kubeconfig ]]; }

# One line for each thing of ours that still exists.
traces() {
  local name pid
  for name in "${cluster_processes[@]}" "${companion_processes[@]}"; do
    if pid=$(process_pid "$name"); then printf 'process %s (%s)\n' "$pid" "$name"; fi
  done
  container_pids | sed 's/^/container process /'
  shim_pids | sed 's/^/shim /'
  our_mounts | sed 's/^/mount /'
  our_cgroups | sed 's/^/cgroup /'
  if [[ -e /run/netns/$namespace ]]; then printf 'network namespace %s\n' "$namespace"; fi
  if [[ -e /sys/class/net/$host_link ]]; then printf 'link %s\n' "$host_link"; fi
  ip route show | grep -F "$node_address" | sed 's/^/route /' || true
  iptables --wait -S | grep -F "$host_link" | sed 's/^/firewall rule /' || true
}

assert_nothing_is_left() {
  local left
  left=$(traces)
  if [[ -n $left ]]; then fail "this is left and should not be:"$'\n'"$left"; fi
  say "nothing is left; the logs stay in $logs"
}
