# shellcheck shell=bash
# Builds the cluster's programs from the Go module proxy. Each folder under
# components/ is a module whose `tool` lines name what is built, or that has a
# main of its own; a program is rebuilt only when its go.mod or go.sum, its
# flags, that main or the compiler changed.

build_components() {
  local version=k8s.io/component-base/version
  require_go
  build_component kubernetes "-X $version.gitVersion=v1.34.4 -X $version.gitMajor=1 -X $version.gitMinor=34"
  build_own_program "$here/components/coredns"
  build_own_program "$here/images/probe"
}

# What tells how others read a portal's status: tests run both on its JSON.
build_health() {
  require_go
  build_own_program "$here/components/kstatus"
  build_own_program "$here/components/argocd-health"
}

# All programs of a module in one build, so that no package is compiled twice and links overlap.
build_component() { # component, linker flags
  local folder=$here/components/$1 stamp=$cache/stamps/$1 new=$bin/new want started=$SECONDS
  want=$(cat "$folder/go.mod" "$folder/go.sum" <(go version) | sha256sum | cut -d' ' -f1)-$2
  if [[ -f $stamp && $(<"$stamp") == "$want" ]]; then return; fi
  say "building $1 and what runs beside it (the first time takes minutes)"
  rm -rf "$new"
  mkdir -p "$new" "${stamp%/*}"
  (
    cd "$folder"
    mapfile -t packages < <(go list tool)
    ((${#packages[@]} > 0)) || fail "$folder/go.mod names no tools"
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w $2" -o "$new/" "${packages[@]}"
  )
  # Go names a program after the folder of its package, which says nothing of etcd's.
  if [[ -e $new/server ]]; then mv "$new/server" "$new/etcd"; fi
  mv "$new"/* "$bin/"
  rmdir "$new"
  say "  $1 ($((SECONDS - started)) s)"
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
