# shellcheck shell=sh disable=SC2154,SC2034,SC2317  # names of the other parts
# owner: the ownership record, and whose the machine is.

load_owner() {
  owner_holder=''
  owner_epoch=''
  owner_rest=''
  [ -e "$state/owner" ] || return 0
  while IFS= read -r line; do
    case $line in
      "claim$tab"*)
        line=${line#*"$tab"}
        owner_holder=${line%%"$tab"*}
        owner_epoch=${line#*"$tab"}
        ;;
      *) owner_rest=$owner_rest$line$newline ;;
    esac
  done <"$state/owner"
  case $owner_epoch in
    '' | *[!0-9]*) fail 78 'the ownership record has no claim; it was damaged or changed by hand' ;;
  esac
}

# Prints the rest of the record without the line that begins with $1.
owner_without() {
  printf '%s' "$owner_rest" | while IFS= read -r line; do
    case $line in
      "$1$tab"*) ;;
      *) printf '%s\n' "$line" ;;
    esac
  done
}

owner_put() {
  owner_rest=$(owner_without "$1")
  owner_rest=${owner_rest:+$owner_rest$newline}
  [ -z "$2" ] || owner_rest=$owner_rest$1$tab$2$newline
  save_owner
}

owner_names() {
  case $newline$owner_rest in
    *"$newline$1$tab"*) return 0 ;;
    *) return 1 ;;
  esac
}

write_owner() { printf 'claim\t%s\t%s\n%s' "$owner_holder" "$owner_epoch" "$owner_rest" | cat >"$state/owner.new"; }

save_owner() {
  must write_owner
  must sync -- "$state/owner.new"
  must mv -f -- "$state/owner.new" "$state/owner"
  must sync -- "$state"
}

# The holder's own epoch may grow; another holder is turned away unless somebody asked for it.
claim_machine() {
  load_owner
  if [ -n "$owner_epoch" ]; then
    if [ "$owner_holder" != "$1" ] && [ "$3" != take-over ]; then
      decode "$owner_holder"
      fail 72 "held by $decoded (epoch $owner_epoch)"
    fi
    if [ "$owner_holder" != "$1" ] && [ "$2" -le "$owner_epoch" ]; then
      fail 71 "the recorded epoch is $owner_epoch; a take-over needs a higher one than $2"
    fi
    [ "$2" -ge "$owner_epoch" ] || fail 71 "the recorded epoch is $owner_epoch, ours is $2"
    [ "$owner_holder$tab$owner_epoch" != "$1$tab$2" ] || return 0
  fi
  owner_holder=$1 owner_epoch=$2
  save_owner
}
