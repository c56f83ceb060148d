# shellcheck shell=sh disable=SC2154,SC2034,SC2317  # names of the other parts
# operation: what a job does, one at a time.

perform() {
  rest=$1$tab
  verb=${rest%%"$tab"*} rest=${rest#*"$tab"}
  one=${rest%%"$tab"*} rest=${rest#*"$tab"}
  two=${rest%%"$tab"*} rest=${rest#*"$tab"}
  three=${rest%%"$tab"*} rest=${rest#*"$tab"}
  four=${rest%%"$tab"*} rest=${rest#*"$tab"}
  five=${rest%%"$tab"*}
  case $verb in
    intent) ;;
    claim) claim_machine "$one" "$two" "$three" ;;
    install) install_file "$one" "$two" "$three" "$four" "$five" ;;
    adopt) adopt_file "$one" "$two" ;;
    remove) remove_file "$one" ;;
    sysctl) set_sysctl "$one" "$two" ;;
    reload) must systemctl daemon-reload ;;
    systemctl) control_unit "$one" "$two" ;;
    record) record_run "$one" "$two" ;;
    *) fail 70 "unknown operation $verb" ;;
  esac
}

# A unit that does not start says why in its journal, not through systemctl.
control_unit() {
  try systemctl --no-ask-password "$1" -- "$2" && return 0
  systemctl show -p ActiveState,SubState,Result,ExecMainStatus,NRestarts -- "$2" | tr '\n' ' '
  printf '\n'
  journalctl --no-pager -q -o cat -n 4 -u "$2" 2>/dev/null | head -c 1500
  exit 80
}

refuse_other_types() {
  if [ -L "$path" ] || { [ -e "$path" ] && [ ! -f "$path" ]; }; then
    fail 76 "$path is not a regular file"
  fi
}

install_file() {
  decode_path "$1"
  refuse_other_types
  sibling="$dir/.trueup-$job-$name~"
  if [ -f "$sibling" ] && [ ! -L "$sibling" ]; then
    has_digest "$sibling" "$2" || fail 74 "the staged $path has another digest"
    target=$sibling
  else
    has_digest "$path" "$2" || fail 74 "nothing is staged for $path"
    target=$path
  fi
  must chown -- "$4:$5" "$target"
  must chmod -- "$3" "$target"
  must sync -- "$target"
  # Last before the rename: what fails above must not look like drift afterwards.
  owner_put "file$tab$1" "$2"
  [ "$target" = "$path" ] || must mv -T -f -- "$sibling" "$path"
  must sync -- "$dir"
}

adopt_file() {
  decode_path "$1"
  refuse_other_types
  has_digest "$path" "$2" || fail 75 "$path has other content"
  owner_put "file$tab$1" "$2${tab}adopted"
}

remove_file() {
  decode_path "$1"
  if owner_names "file$tab$1"; then
    refuse_other_types
    must rm -f -- "$path"
    [ ! -d "$dir" ] || must sync -- "$dir"
    owner_put "file$tab$1" ''
  elif [ -e "$path" ] || [ -L "$path" ]; then
    fail 77 "$path is not trueup's"
  fi
}

set_sysctl() {
  case $1 in
    *..* | /* | '' | *[!A-Za-z0-9_./:-]*) fail 70 'not a kernel setting' ;;
  esac
  [ -f "/proc/sys/$1" ] || fail 80 "this kernel has no setting $1"
  decode "$2"
  must write_file "/proc/sys/$1" "$decoded"
}

record_run() {
  invocation=$(systemctl show -p InvocationID --value -- "$1")
  [ -n "$invocation" ] || fail 80 "$1 does not run"
  owner_put "run$tab$1" "$invocation$tab$2"
}
