# shellcheck shell=bash
# Sourced by the installers of the bed: where the cache is, and how things enter it.
#
# Everything that is slow to make lives in one cache outside the repository. An
# entry's name carries the hash of its recipe, it is made in a directory of its
# own and renamed into place, so an installer that was killed leaves nothing
# that looks finished, and a changed recipe is made anew.

set -euo pipefail

CACHE="${TRUEUP_BED_CACHE:-/var/cache/trueup-bed}"
INSTALL_DIR="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export TRUEUP_BED_CACHE="$CACHE"

say() { printf '%s\n' "bed: $*" >&2; }

# The first 16 hex digits of the hash over standard input.
hash_of_input() { sha256sum | cut -c1-16; }

# link_current NAME TARGET: makes $CACHE/NAME a symlink to TARGET in one rename.
link_current() {
  local name=$1 target=$2
  [ "$(readlink "$CACHE/$name" 2>/dev/null)" = "$target" ] && return 0
  ln -sfn "$target" "$CACHE/.$name.$$"
  mv -T "$CACHE/.$name.$$" "$CACHE/$name"
}

# forget_old NAME: removes what earlier recipes made of NAME, when no machine
# stands on it. Three days, because branches with different recipes take turns.
forget_old() {
  local name=$1 entry
  while IFS= read -r entry; do
    grep -qF "$entry" /proc/self/mounts || rm -rf "$entry"
  done < <(find "$CACHE" -maxdepth 1 -name "$name-[0-9a-f]*" -mtime +3 ! -name "$(readlink "$CACHE/$name")")
}

# with_lock NAME COMMAND...: two installers at once make each thing once. The lock
# is inherited: when an installer is killed, it stays until its last child is gone.
with_lock() {
  local name=$1
  shift
  mkdir -p "$CACHE/locks"
  (
    flock 9
    "$@"
  ) 9>"$CACHE/locks/$name"
}
