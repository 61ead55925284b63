# shellcheck shell=bash
# A server that a script runs beside one command: its files are in a folder of their own, and both end
# with the script.

folder=$(mktemp -d)
server=
stop_server() {
  if [[ -n $server ]]; then
    # It may have ended by itself.
    kill "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
  fi
  rm -rf "$folder"
}
trap stop_server EXIT

free_port() { # address
  python3 -c 'import socket, sys; s = socket.create_server((sys.argv[1], 0)); print(s.getsockname()[1])' "$1"
}

# Starts a command and waits until a check of it succeeds.
start_server() { # name, check, command…
  local name=$1 check=$2 deadline=$((SECONDS + 60))
  shift 2
  "$@" >"$folder/log" 2>&1 &
  server=$!
  until "$check" &>/dev/null; do
    if ! kill -0 "$server" 2>/dev/null || ((SECONDS > deadline)); then
      fail_with_log "$folder/log" "$name does not answer"
    fi
    sleep 0.2
  done
}
