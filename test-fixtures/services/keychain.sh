#!/bin/sh
# Runs a command with a Secret Service (keychain) of its own, unlocked and kept in STATE_DIR:
#   keychain.sh STATE_DIR command [argument…]
# Needs Debian's packages gnome-keyring and dbus. The keyring's daemon ends with the command, whose exit code is the script's.
set -eu
state=$1
shift
mkdir -p "$state/data" "$state/run"
chmod 700 "$state/run"
export PLUTO_TEST_KEYCHAIN="$state" XDG_DATA_HOME="$state/data" XDG_RUNTIME_DIR="$state/run"
# What the bus itself says goes to a file; the command keeps its own standard error.
exec 3>&2 2>"$state/bus.log"
exec dbus-run-session -- sh -c '
  exec 2>&3 3>&-
  printf %s "${KEYRING_PASSWORD:-test}" | gnome-keyring-daemon --unlock --components=secrets >/dev/null
  exec "$@"
' sh "$@"
