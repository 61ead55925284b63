# shellcheck shell=bash
# Long-running processes, each known by a file with its pid, its start time and
# the boot it belongs to: a pid that was given to somebody else is never ours.

# Field 22 of /proc/PID/stat; counted after the last ")" since field 2, the
# program's name, may contain spaces.
process_start_time() { # pid
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
  read -ra fields <<<"${stat##*) }"
  # A zombie has ended; only its parent has not noticed.
  [[ ${fields[0]} != Z ]] || return 1
  printf %s "${fields[19]}"
}

boot_id() { cat /proc/sys/kernel/random/boot_id; }

# Prints the pid of a process of ours if it is alive.
process_pid() { # name
  local pid started boot
  [[ -f $run/pids/$1 ]] || return 1
  read -r pid started boot <"$run/pids/$1" || return 1
  [[ $boot == "$(boot_id)" && $(process_start_time "$pid") == "$started" ]] || return 1
  printf %s "$pid"
}

process_is_running() { process_pid "$1" >/dev/null; }

# Starts a command in its own session unless it runs already.
start_process() { # name, command…
  local name=$1 pid
  shift
  if process_is_running "$name"; then return; fi
  mkdir -p "$run/pids" "$logs"
  # In a shell without job control the child leads no process group, so setsid
  # and nsenter replace themselves by the program and $! stays its pid.
  # The lock (descriptor 9) must not live as long as the child.
  setsid "$@" </dev/null >"$logs/$name.log" 2>&1 9>&- &
  pid=$!
  printf '%s %s %s\n' "$pid" "$(process_start_time "$pid")" "$(boot_id)" >"$run/pids/$name"
  disown "$pid"
}

# The same inside the node's network namespace. `ip netns exec` would hide /sys/fs/cgroup.
start_node_process() { # name, command…
  local name=$1
  shift
  start_process "$name" nsenter --net="/run/netns/$namespace" -- "$@"
}

# Asks the named processes to end, all at once, and kills those that are still
# there after some seconds.
stop_processes() { # seconds, name…
  local deadline=$((SECONDS + $1)) name pid
  shift
  for name in "$@"; do
    if pid=$(process_pid "$name"); then kill -TERM "$pid" 2>/dev/null || true; fi
  done
  for name in "$@"; do
    while process_is_running "$name" && ((SECONDS < deadline)); do sleep 0.1; done
    if pid=$(process_pid "$name"); then kill -KILL "$pid" 2>/dev/null || true; fi
    while process_is_running "$name"; do sleep 0.1; done
    rm -f "$run/pids/$name"
  done
}
