# shellcheck shell=bash
# Builds images without a container engine and gives them to the node's containerd.

docker_files=$here/../../deploy/docker

# Storage for one build only: nothing is cached, so nothing can go stale.
buildah_here() {
  # Overlay storage would leave a mount behind; the variable for the driver is
  # ignored once the folder is given.
  BUILDAH_ISOLATION=chroot buildah --storage-driver vfs --root "$scratch/storage" --runroot "$scratch/run" "$@"
}

# Builds one image and imports it, unless containerd has exactly that image under that name.
provide_image() { # name with tag, context folder, buildah bud's further arguments…
  local image=$1 context=$2 digest stamp scratch started=$SECONDS
  shift 2
  digest=$(cd "$context" && { find . -type f -print0 | sort -z | xargs -0 sha256sum; printf '%s\n' "$@"; } | sha256sum)
  stamp=$data/images/${image//\//_}
  if [[ -f $stamp && $(<"$stamp") == "$digest" ]] && containerd_has_image "$image"; then
    say "$image is up to date"
    return
  fi
  mkdir -p "$cache/images" "$data/images"
  scratch=$(mktemp -d "$cache/images/build.XXXXXX")
  local result=0
  {
    buildah_here bud --quiet --layers=false --tag "$image" "$@" "$context" &&
      buildah_here push --quiet "$image" "docker-archive:$scratch/image.tar:$image" &&
      containerd_client images import --snapshotter overlayfs "$scratch/image.tar"
  } >"$scratch/log" 2>&1 || result=$?
  if ((result != 0)); then
    mkdir -p "$logs"
    mv "$scratch/log" "$logs/image.log"
    rm -rf "$scratch"
    fail_with_log "$logs/image.log" "failed to build $image"
  fi
  rm -rf "$scratch"
  printf %s "$digest" >"$stamp"
  say "$image imported ($((SECONDS - started)) s)"
}

containerd_has_image() { [[ -n $(containerd_client images list --quiet "name==$1") ]]; }

# The pause image holds every pod, the probe asks the network questions.
provide_cluster_images() {
  local context=$data/contexts
  mkdir -p "$context/pause" "$context/probe"
  if [[ ! -x $bin/pause || $here/images/pause/pause.c -nt $bin/pause ]]; then
    gcc -static -Os -s -o "$bin/pause" "$here/images/pause/pause.c"
  fi
  cp --preserve=timestamps "$bin/pause" "$here/images/pause/Dockerfile" "$context/pause/"
  cp --preserve=timestamps "$bin/probe" "$here/images/probe/Dockerfile" "$context/probe/"
  provide_image "$pause_image" "$context/pause"
  provide_image "$probe_image" "$context/probe"
}

# The project's own images, from binaries that cargo has already built.
build_images() { # tag, name…
  (($# > 0)) || fail "build-images needs a tag"
  local tag=$1 name target binaries context
  shift
  if (($# == 0)); then set -- operator hardware portal collector; fi
  target=$(uname -m)-unknown-linux-gnu
  binaries=${CARGO_TARGET_DIR:-$here/../../target}/$target/release
  process_is_running containerd || fail "containerd does not run: run 'cluster up' first"
  for name in "$@"; do
    [[ -x $binaries/$name ]] || fail "$binaries/$name is missing: run 'cargo build --release -p $name'"
    # Its own context, so that a change of one binary rebuilds one image.
    context=$data/contexts/$name
    rm -rf "$context"
    mkdir -p "$context/deploy/docker" "$context/prebuilt"
    # Whoever keeps files for himself by a umask would make images that nobody can start.
    install -m 644 "$docker_files/Dockerfile" "$docker_files/rds-ca.pem" "$context/deploy/docker/"
    install -m 644 /etc/ssl/certs/ca-certificates.crt "$context/prebuilt/"
    install -m 755 "$binaries/$name" "$context/prebuilt/"
    provide_image "$image_prefix/$name:$tag" "$context" \
      --file deploy/docker/Dockerfile --target "$name" --build-arg BINARIES=prebuilt
  done
}

# Archives that others made with `docker save` or `buildah push docker-archive:`.
load_archives() { # file…
  (($# > 0)) || fail "load-images needs the archives to load"
  process_is_running containerd || fail "containerd does not run: run 'cluster up' first"
  local archive
  for archive in "$@"; do
    [[ -f $archive ]] || fail "$archive is not a file: make one with 'docker save' or 'buildah push IMAGE docker-archive:FILE'"
    containerd_client images import --snapshotter overlayfs "$archive"
  done
}
