# shellcheck shell=bash
# Packages of Python, each set in a virtual environment of its own below the cache.

# Installs what a file of requirements names, unless that is there already, into $cache/tools/NAME.
install_python() { # name, file of requirements
  # shellcheck disable=SC2154 # of settings.sh
  local folder=$cache/tools/$1 requirements=$2 lock
  mkdir -p "$cache/tools"
  exec {lock}>"$cache/tools/$1.lock"
  flock "$lock"
  if ! cmp --silent "$requirements" "$folder/installed"; then
    echo "installing what $requirements names" >&2
    rm -rf "$folder"
    python3 -m venv "$folder"
    "$folder/bin/pip" install --quiet --requirement "$requirements" >&2
    cp "$requirements" "$folder/installed"
  fi
  exec {lock}>&-
}
