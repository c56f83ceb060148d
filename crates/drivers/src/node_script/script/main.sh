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
  forget_jobs "$1"
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
