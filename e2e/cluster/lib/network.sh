# shellcheck shell=bash
# The node's network namespace and its only way out, the host. The host reaches
# the node, its pods and its Services directly; nothing is forwarded further.

forward_rules=(
  "-i $host_link -m comment --comment gill-hicks -j DROP"
  "-o $host_link -m comment --comment gill-hicks -j DROP"
)

network_exists() { [[ -e /run/netns/$namespace && -e /sys/class/net/$host_link ]]; }

in_node_network() { nsenter --net="/run/netns/$namespace" -- "$@"; }

# Names and addresses are the machine's, so there is one cluster per machine; a
# command with another run folder must not end it.
assert_network_is_ours() {
  local owner
  [[ -e /sys/class/net/$host_link ]] || return 0
  owner=$(<"/sys/class/net/$host_link/ifalias")
  [[ $owner == "$run" ]] || fail "there is a cluster with GILL_HICKS_RUN=$owner; set that to change it"
}

create_network() {
  if network_exists; then return; fi
  ip netns add "$namespace"
  in_node_network sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.disable_ipv6=1
  in_node_network ip link set lo up

  ip link add "$host_link" type veth peer name "$node_link" netns "$namespace"
  sysctl -qw "net.ipv6.conf.$host_link.disable_ipv6=1"
  ip link set "$host_link" alias "$run"
  ip address add "$host_address/30" dev "$host_link"
  ip link set "$host_link" up
  in_node_network ip address add "$node_address/30" dev "$node_link"
  in_node_network ip link set "$node_link" up
  # The kubelet wants a default route. It ends at the host.
  in_node_network ip route add default via "$host_address"
  ip route add "$pod_network" via "$node_address"
  ip route add "$service_network" via "$node_address"

  # Holds even where the host forwards for others (another container engine).
  local rule
  for rule in "${forward_rules[@]}"; do
    # shellcheck disable=SC2086 # the rule is a list of words
    iptables --wait -I FORWARD $rule
  done
}

delete_network() {
  local rule
  for rule in "${forward_rules[@]}"; do
    # shellcheck disable=SC2086 # the rule is a list of words
    while iptables --wait -D FORWARD $rule 2>/dev/null; do :; done
  done
  # Its peer and both routes go with it.
  ip link delete "$host_link" 2>/dev/null || true
  if [[ -e /run/netns/$namespace ]]; then ip netns delete "$namespace"; fi
  # `ip netns add` mounts this folder on itself; it is of use only to namespaces.
  if [[ -d /run/netns && -z $(ls -A /run/netns) ]]; then
    umount /run/netns 2>/dev/null || true
    rmdir /run/netns
  fi
}

# Addresses beyond the host that the host itself can reach: only these prove
# anything when the node cannot.
outside_addresses() {
  local address candidates=()
  while read -r _ address _; do candidates+=("$address:53"); done < <(grep '^nameserver' /etc/resolv.conf)
  while read -r _ _ address _; do candidates+=("$address:53" "$address:80" "$address:22"); done < <(ip -4 route show default)
  for address in "${candidates[@]}"; do
    if [[ $address != 127.* ]] && "$bin/probe" reach "$address" 2>/dev/null; then printf '%s\n' "$address"; fi
  done
}

assert_node_is_isolated() {
  local outside=()
  mapfile -t outside < <(outside_addresses)
  # A public address, for the machine whose resolver is itself.
  outside+=(1.1.1.1:443)
  in_node_network "$bin/probe" unreachable "${outside[@]}" ||
    fail "the node's network is not isolated: look at 'iptables -S FORWARD' for a rule before ours"
  say "the node cannot reach ${outside[*]}"
}
