# shellcheck shell=sh disable=SC2154,SC2034,SC2317  # names of the other parts
# main: the small verbs, and which one is asked for. Must come last.

read_file() {
  read -r encoded || fail 70 'no path'
  decode_path "$encoded"
  if [ ! -e "$path" ]; then
    text file absent
    return 0
  fi
  [ -f "$path" ] || fail 76 "$path is not a regular file"
  [ "$(stat -L -c %s -- "$path")" -le 1048576 ] || fail 80 "$path is larger than 1 MiB"
  text file present
  blob content <"$path"
}

sweep() {
  case $1 in '' | *[!0-9]*) fail 70 'not a number of days' ;; esac
  boot_identity
  clean_stages -
  before=$(($(date +%s) - $1 * 86400))
  swept=0
  for folder in "$state"/jobs/[0-9a-f]* "$state"/jobs/.new-*; do
    [ -d "$folder" ] || continue
    [ "$(stat -c %Y -- "$folder")" -lt "$before" ] || continue
    look_at_job "$folder"
    [ "$job_state" = running ] || { rm -rf -- "$folder" && swept=$((swept + 1)); }
  done
  text swept "$swept"
}

verb=${1:-}
case $verb in
  run)
    run "$2"
    ;;
  probe | stage | start | job | read | sweep)
    shift
    text script "$version"
    case $verb in
      read) read_file ;;
      *) "$verb" "$@" ;;
    esac
    text end "$verb"
    ;;
  *) fail 70 "unknown verb $verb" ;;
esac
