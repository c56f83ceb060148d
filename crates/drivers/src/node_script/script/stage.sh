# shellcheck shell=sh disable=SC2154,SC2034,SC2317  # names of the other parts
# stage: bytes that wait beside their place.

# Siblings first, then the folders that were made for them, the last one first.
drop_stages() {
  folders=''
  while IFS=$tab read -r kind encoded; do
    decode "$encoded"
    case $kind in
      stage) rm -f -- "$decoded" ;;
      dir) folders=$decoded$newline$folders ;;
    esac
  done <"$1"
  printf '%s' "$folders" | while IFS= read -r place; do rmdir -- "$place" 2>/dev/null; done
  rm -f -- "$1"
}

# What a dead job left: its code is written, or it was never started within the hour, or its
# step (the name up to the dash) is tried anew: whoever staged before did not live to start it.
clean_stages() {
  for list in "$state"/staged/[0-9a-f]*; do
    [ -f "$list" ] || continue
    other=${list##*/}
    [ "$other" != "$1" ] || continue
    if [ -d "$state/jobs/$other" ]; then
      look_at_job "$state/jobs/$other"
      [ "$job_state" = running ] || drop_stages "$list"
    else
      touched=$(stat -c %Y -- "$list") || continue
      [ "${other%%-*}" != "${1%%-*}" ] && [ "$(($(date +%s) - touched))" -lt 3600 ] ||
        drop_stages "$list"
    fi
  done
}

# Folders that are missing above a file are made 0755 and remembered, the topmost one first.
make_parents() {
  made=''
  place=$1
  while [ ! -e "$place" ]; do
    made=$place$newline$made
    place=${place%/*}
    place=${place:-/}
  done
  [ -n "$made" ] || return 0
  (umask 022 && try mkdir -p -- "$1") || exit $?
  printf '%s' "$made" | while IFS= read -r place; do
    printf 'dir\t%s\n' "$(printf '%s' "$place" | base64 -w0)"
  done >>"$state/staged/$2"
}

write_stage() {
  # noclobber: created anew (O_EXCL), never through somebody's link.
  (set -C && head -c "$2" >"$1")
}

stage() {
  check_job "$1"
  IFS=' ' read -r encoded wanted_sum size || fail 70 'no header'
  decode_path "$encoded"
  case $size in '' | *[!0-9]*) fail 70 'not a size' ;; esac
  boot_identity
  try mkdir -p -- "$state/staged" || fail 80 "cannot make $state"
  clean_stages "$1"
  make_parents "$dir" "$1"
  [ -d "$dir" ] || fail 76 "$dir is not a directory"
  # Told before the bytes are sent. No blocks in all means a file system that does not count.
  space=$(stat -f -c '%a*%S %b' -- "$dir") || exit 80
  [ "${space#* }" -eq 0 ] || [ "$((${space% *}))" -gt "$size" ] ||
    fail 73 "no space left on device: $size bytes wanted"
  sibling="$dir/.trueup-$1-$name~"
  must rm -f -- "$sibling"
  trap 'rm -f -- "$sibling"' EXIT
  trap 'exit 143' TERM HUP INT
  printf 'stage\t%s\n' "$(printf '%s' "$sibling" | base64 -w0)" >>"$state/staged/$1" || exit 73
  try write_stage "$sibling" "$size" || fail 80 "cannot write beside $path"
  has_digest "$sibling" "$wanted_sum" || fail 74 'the bytes did not arrive whole'
  must sync -- "$sibling"
  trap - EXIT
  text staged "$sum"
}
