# shellcheck shell=bash
# Debian packages that the cluster and the tests need.

packages=(
  buildah chromium chromium-driver conntrack containerd containernetworking-plugins
  curl gcc iproute2 iptables jq libc6-dev mariadb-server openssl procps python3-venv runc shellcheck util-linux wrk
)

install_packages() {
  local missing=() package
  for package in "${packages[@]}"; do
    if ! dpkg-query --show --showformat='${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed; then
      missing+=("$package")
    fi
  done
  if ((${#missing[@]} == 0)); then return; fi
  command -v apt-get >/dev/null || fail "these packages are missing and there is no apt-get to install them: ${missing[*]}"

  say "installing ${missing[*]}"
  local log=$cache/apt.log policy=/usr/sbin/policy-rc.d ours=
  mkdir -p "$cache"
  # Packages start their service when they are installed; a database or a
  # containerd that nobody asked for would be left running.
  if [[ ! -e $policy ]]; then
    ours=yes
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  local result=0
  {
    apt-get update -qq &&
      DEBIAN_FRONTEND=noninteractive apt-get install -qq --yes --no-install-recommends "${missing[@]}"
  } >"$log" 2>&1 </dev/null || result=$?
  if [[ -n $ours ]]; then rm -f "$policy"; fi
  if ((result != 0)); then fail_with_log "$log" "failed to install packages"; fi
}

require_linux_root() {
  [[ $(uname -s) == Linux ]] || fail "needs Linux (network namespaces and cgroups); use a cluster of your own and KUBECONFIG instead"
  ((EUID == 0)) || fail "needs root for namespaces, mounts and cgroups: run it with sudo --preserve-env=HOME,PATH"
}

require_go() {
  command -v go >/dev/null || fail "needs Go 1.26 or later on PATH to build Kubernetes"
}
