# shellcheck shell=bash
# How the scripts speak: one line per step with the seconds since the start,
# and on failure the end of the log that explains it.

say() { printf '[%3d s] %s\n' "$SECONDS" "$*"; }

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

fail_with_log() { # log file, message…
  local log=$1
  shift
  {
    printf '%s: %s\n' "${0##*/}" "$*"
    if [[ -s $log ]]; then
      printf -- '--- the last lines of %s\n' "$log"
      tail -n 25 "$log"
    else
      printf -- '--- %s is empty\n' "$log"
    fi
  } >&2
  exit 1
}

# Tries a command until it succeeds. Ends early when the process that is waited
# for has died; after the deadline (seconds) shows that process's log.
wait_for() { # deadline, process name, what is waited for, command…
  local deadline=$((SECONDS + $1)) process=$2 what=$3
  shift 3
  until "$@" &>/dev/null; do
    if ! process_is_running "$process"; then
      fail_with_log "$logs/$process.log" "$process ended while waiting until $what"
    fi
    if ((SECONDS >= deadline)); then
      fail_with_log "$logs/$process.log" "gave up waiting until $what"
    fi
    sleep 0.2
  done
  say "$what"
}
