# shellcheck shell=bash
# Builds the cluster's programs from the Go module proxy. Each folder under
# components/ is a module whose `tool` lines name what is built; a program is
# rebuilt only when its go.mod or go.sum, its flags or the compiler changed.

build_components() {
  local version=k8s.io/component-base/version
  require_go
  build_component etcd ""
  build_component kubernetes "-X $version.gitVersion=v1.34.4 -X $version.gitMajor=1 -X $version.gitMinor=34"
  build_component coredns ""
  build_component metrics-server ""
  build_probe
}

build_component() { # component, linker flags
  local folder=$here/components/$1 stamp=$cache/stamps/$1 want started=$SECONDS package name
  want=$(cat "$folder/go.mod" "$folder/go.sum" <(go version) | sha256sum | cut -d' ' -f1)-$2
  if [[ -f $stamp && $(<"$stamp") == "$want" ]]; then return; fi
  say "building $1 (the first time takes minutes)"
  mkdir -p "$bin" "${stamp%/*}"
  for package in $(cd "$folder" && go list tool); do
    name=${package##*/}
    # A module whose last element is its major version, as etcd's server/v3.
    if [[ $name =~ ^v[0-9]+$ ]]; then name=$1; fi
    (cd "$folder" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $2" -o "$bin/$name.new" "$package")
    mv "$bin/$name.new" "$bin/$name"
    say "  $name ($((SECONDS - started)) s)"
  done
  printf %s "$want" >"$stamp"
}

# The probe is ours, has no dependency and takes a second.
build_probe() {
  local folder=$here/images/probe stamp=$cache/stamps/probe want
  want=$(cat "$folder"/* <(go version) | sha256sum)
  if [[ -f $stamp && $(<"$stamp") == "$want" ]]; then return; fi
  (cd "$folder" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$bin/probe" .)
  printf %s "$want" >"$stamp"
}
