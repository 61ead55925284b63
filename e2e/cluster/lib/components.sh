# shellcheck shell=bash
# Builds the cluster's programs from the Go module proxy. Each folder under
# components/ is a module whose `tool` lines name what is built, or that has a
# main of its own; a program is rebuilt only when its go.mod or go.sum, its
# flags, that main or the compiler changed.

build_components() {
  local version=k8s.io/component-base/version
  require_go
  build_component etcd ""
  build_component kubernetes "-X $version.gitVersion=v1.34.4 -X $version.gitMajor=1 -X $version.gitMinor=34"
  build_own_program "$here/components/coredns"
  build_component metrics-server ""
  build_own_program "$here/images/probe"
}

# What tells how others read a portal's status: tests run both on its JSON.
build_health() {
  require_go
  build_own_program "$here/components/kstatus"
  build_own_program "$here/components/argocd-health"
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

# A module with a main of its own, which gives the program the name of its folder.
build_own_program() { # folder
  local folder=$1 name=${1##*/} stamp want started=$SECONDS
  stamp=$cache/stamps/$name
  want=$(cat "$folder"/* <(go version) | sha256sum)
  if [[ -f $stamp && $(<"$stamp") == "$want" && -x $bin/$name ]]; then return; fi
  say "building $name"
  mkdir -p "$bin" "${stamp%/*}"
  (cd "$folder" && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$bin/$name.new" .)
  mv "$bin/$name.new" "$bin/$name"
  say "  $name ($((SECONDS - started)) s)"
  printf %s "$want" >"$stamp"
}
