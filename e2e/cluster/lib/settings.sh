# shellcheck shell=bash
# Where things are and what they are called. Nothing here has an effect.

# Built programs and downloads; survives everything.
cache=${GILL_HICKS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gill-hicks}
# What others need to talk to a running cluster: kubeconfig, sockets, pid files.
run=${GILL_HICKS_RUN:-/run/gill-hicks}
# What a running cluster writes. Not below /run, which many machines mount
# `noexec` and keep in memory; another run folder gets its own data, though.
if [[ -n ${GILL_HICKS_DATA:-} ]]; then
  data=$GILL_HICKS_DATA
elif [[ -n ${GILL_HICKS_RUN:-} ]]; then
  data=$run/data
else
  data=/var/lib/gill-hicks
fi

bin=$cache/bin
logs=$data/logs
pki=$data/pki
volumes=$data/volumes
kubeconfig=$run/kubeconfig
containerd_socket=$run/containerd/containerd.sock

# The node lives in a network namespace that has one way out: the host's end of a veth pair.
namespace=gill-hicks
host_link=gh-host
node_link=gh-node
host_address=10.250.0.1
node_address=10.250.0.2
node_name=gill-hicks-node
pod_network=10.244.0.0/16
# The only real node's share of the pod network, the first /24 that is handed out.
node_pod_network=10.244.0.0/24
service_network=10.96.0.0/16
api_service_address=10.96.0.1
api_url=https://$node_address:6443

# Every container is in a cgroup below this one, in each hierarchy.
cgroup=gill-hicks

image_prefix=localhost/gill-hicks
pause_image=$image_prefix/pause:1
probe_image=$image_prefix/probe:1

# Names that templates may use as @name@.
template_variables=(
  run data pki logs volumes node_name node_address host_address pod_network node_pod_network
  service_network api_url cgroup containerd_socket pause_image probe_image
)

# Prints a file with its @name@ tokens replaced, also those of the variables named.
render() { # file, name…
  local text name
  text=$(<"$1")
  for name in "${template_variables[@]}" "${@:2}"; do
    text=${text//"@$name@"/${!name}}
  done
  printf '%s\n' "$text"
}
