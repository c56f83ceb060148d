# trueup-node: all that trueup does on a machine.
#
# It is not installed: it comes with every call and is run as `sh -c SCRIPT trueup VERB ARG…`, as
# root (through `sudo -n` otherwise). A job runs a copy of it out of its own folder. It needs sh,
# coreutils, flock and systemd; no awk, no sed, no bash.
#
# Requests come on stdin, replies go to stdout as lines `KEY<TAB>VALUE`. VALUE is `=TEXT` (plain, no
# newline) or base64. The first line is `script`, the last one `end`: a reply without `end` was cut
# off; what stands before `script` was said by the login shell and is skipped.
#
#   probe              facts; stdin: sections of lines (files, files whose content is wanted, kernel
#                      settings, units, paths for free space), each ended by an empty line
#   stage JOB          stdin: a line `PATH-B64 SHA256 SIZE`, then SIZE bytes, which become the 0600
#                      sibling `.trueup-JOB-NAME~` of PATH
#   start JOB TIMEOUT SHA256   stdin: intent lines, an empty line, then this script, which has that
#                      digest; starts the job once
#   run JOB            inside the job: the intent's operations, in order, under the machine's lock
#   job JOB WAIT       state of a job; waits up to WAIT seconds for its end
#   read               a file of at most 1 MiB; stdin: `PATH-B64`
#   sweep DAYS         forgets jobs that ended, or belong to another boot, and are older
#
# Intent lines (fields by TAB, paths and free text in base64):
#   intent DIGEST
#   claim HOLDER-B64 EPOCH keep|take-over
#   install PATH-B64 SHA256 MODE OWNER GROUP      adopt PATH-B64 SHA256      remove PATH-B64
#   sysctl KEY/AS/PATH VALUE-B64      reload      systemctl VERB UNIT      record UNIT DIGEST
#
# /var/lib/trueup, root's alone:
#   owner         `claim HOLDER-B64 EPOCH`, `file PATH-B64 SHA256`, `run UNIT INVOCATION DIGEST`
#   lock          held by the job that writes
#   staged/JOB    siblings and folders that were made for a job, to be cleaned
#   jobs/JOB/     script, intent, boot, alive (held while it runs), out, code (its exit code)
# /run/trueup/sums remembers digests of big files by device, inode, size and ctime.
#
# Rules: a value never becomes code (no eval, everything quoted, `--` before operands). Files change
# by rename only. What is owned is recorded before it is written.
# Exit codes: 70 bad request, 71 stale epoch, 72 other holder, 73 no space, 74 stage lost,
# 75 content differs, 76 other type, 77 not owned, 78 record not understood, 79 other intent,
# 80 operation failed, 124 stopped or out of time.

set -u
umask 077
export LC_ALL=C
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/current-system/sw/bin
version=1
state=/var/lib/trueup
tab='	'
newline='
'
quotes="\"'"

# --- replies ---------------------------------------------------------------------------------

text() { printf '%s\t=%s\n' "$1" "$2"; }

# The value comes on stdin.
blob() {
  printf '%s\t' "$1"
  base64 -w0
  printf '\n'
}

fail() {
  printf '%s\n' "$2" >&2
  exit "$1"
}

# --- values ----------------------------------------------------------------------------------

# Sets $decoded. A trailing `x` keeps newlines at the end, which `$( )` would cut off.
decode() {
  decoded=$(printf '%s' "$1" | base64 -d 2>/dev/null && printf x) || fail 70 'not base64'
  decoded=${decoded%x}
}

# Sets $path, $dir and $name of an absolute path in base64.
decode_path() {
  decode "$1"
  case $decoded in
    *"$newline"* | */ | *//* | */./* | */../* | */. | */..) fail 70 'not a plain absolute path' ;;
    /*) path=$decoded ;;
    *) fail 70 'not a plain absolute path' ;;
  esac
  name=${path##*/}
  dir=${path%/*}
  dir=${dir:-/}
}

check_job() {
  case $1 in
    '' | *[!0-9a-f-]*) fail 70 'not a job id' ;;
  esac
}

# Runs a command and tells a full disk from other failures; its words go to stderr, capped.
try() {
  said=$("$@" 2>&1) && return 0
  tried=$?
  printf '%.2000s\n' "$said" >&2
  case $said in
    *'No space left'* | *'quota exceeded'*) exit 73 ;;
  esac
  return "$tried"
}

must() { try "$@" || exit 80; }

digest_of() {
  sum=$(sha256sum <"$1") || return 1
  sum=${sum%% *}
}

has_digest() { [ -f "$1" ] && digest_of "$1" && [ "$sum" = "$2" ]; }

# boot_id is the host's in a container; PID 1's start time tells the machine's own boots apart.
boot_identity() {
  read -r boot_id </proc/sys/kernel/random/boot_id || boot_id=unknown
  read -r stat_line </proc/1/stat || stat_line=
  # shellcheck disable=SC2086 # the fields after the name, which may hold spaces and brackets
  set -- ${stat_line##*) }
  boot="$boot_id ${20:-unknown}"
}

# Through `cat`: the shell's own printf says no more than "I/O error" of a full disk.
write_file() { printf '%s\n' "$2" | cat >"$1"; }

# --- the ownership record ----------------------------------------------------------------------

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

# --- probe -----------------------------------------------------------------------------------

# Sets $sum and $told (first line of `--version`, where $2 asks for it) of a file, remembered
# while device, inode, size and ctime stay. Not remembered in the first two seconds after a change.
remembered_sum() {
  key=$(stat -c '%d:%i:%s:%.9Z' -- "$1") || return 1
  sum=''
  told=''
  if [ -f /run/trueup/sums ]; then
    while IFS=$tab read -r seen_key seen_sum seen_told; do
      [ "$seen_key" = "$key" ] && sum=$seen_sum && told=${seen_told#=}
    done </run/trueup/sums
  fi
  if [ -n "$sum" ]; then
    [ -n "$2" ] && [ -z "$told" ] || return 0
  fi
  digest_of "$1" || return 1
  if [ -n "$2" ]; then
    told=$(timeout 10 "$1" --version 2>/dev/null </dev/null | head -c 200) || told=
    told=${told%%"$newline"*}
  fi
  changed=${key##*:}
  [ "$((now_s - ${changed%%.*}))" -gt 2 ] || return 0
  mkdir -p /run/trueup 2>/dev/null || return 0
  [ "$(wc -l 2>/dev/null </run/trueup/sums || printf 0)" -lt 200 ] || : >/run/trueup/sums
  printf '%s\t%s\t=%s\n' "$key" "$sum" "$told" >>/run/trueup/sums
}

probe_identity() {
  read -r now_s <<END
$(date +%s)
END
  text now "$now_s"
  read -r init </proc/1/comm || init=unknown
  text init "$init"
  missing=
  for tool in base64 cat chmod chown date flock head mkdir mv rm rmdir sha256sum sleep stat sync systemctl systemd-run tail timeout tr wc; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
  done
  text missing "${missing# }"
  boot_identity
  text boot "$boot"
  machine_id=
  [ ! -r /etc/machine-id ] || read -r machine_id </etc/machine-id
  text machine-id "$machine_id"
  read -r hostname </proc/sys/kernel/hostname
  text hostname "$hostname"
  os_id=linux
  os_version=''
  if [ -r /etc/os-release ]; then
    while IFS='=' read -r os_key os_value; do
      os_value=${os_value#["$quotes"]}
      os_value=${os_value%["$quotes"]}
      case $os_key in
        ID) os_id=$os_value ;;
        VERSION_ID) os_version=$os_value ;;
      esac
    done </etc/os-release
  fi
  text os "$os_id $os_version"
  [ ! -f "$state/owner" ] || head -c 1048576 -- "$state/owner" | blob owner
}

probe_files() {
  wanted=$newline
  set --
  while IFS= read -r line && [ -n "$line" ]; do set -- "$@" "$line"; done
  while IFS= read -r line && [ -n "$line" ]; do wanted=$wanted$line$newline; done
  [ $# -gt 0 ] || return 0
  found=$(stat -c "%F$tab%a$tab%U$tab%G$tab%s$tab%Y$tab%n" -- "$@" 2>&1)
  set --
  while IFS=$tab read -r type mode user group size mtime path; do
    case $type in
      '' | 'stat: '*': No such file or directory' | 'stat: '*': Not a directory') continue ;;
      'stat: '*)
        text stat-error "$type"
        continue
        ;;
      regular*)
        if [ "$size" -gt 1048576 ]; then
          remembered_sum "$path" '' && text "sum $path" "$sum"
        else
          set -- "$@" "$path"
        fi
        case $wanted in
          *"$newline$path$newline"*) [ "$size" -gt 65536 ] || blob "content $path" <"$path" ;;
        esac
        ;;
    esac
    text "stat $path" "$type$tab$mode$tab$user$tab$group$tab$size$tab$mtime"
  done <<END
$found
END
  [ $# -eq 0 ] || sha256sum -z -- "$@" 2>/dev/null | blob sums
}

# The kernel gives a setting only to a read of the whole, which the shell's `read` is not.
probe_sysctls() {
  set --
  while IFS= read -r line && [ -n "$line" ]; do set -- "$@" "/proc/sys/$line"; done
  [ $# -eq 0 ] || head -v -n 1 -- "$@" 2>/dev/null | blob sysctls
}

unit_properties=LoadState,ActiveState,SubState,UnitFileState,Result,Type,InvocationID,ExecMainStartTimestamp,NRestarts,NeedDaemonReload,FragmentPath,ExecStart

# Before systemd 249 there is no `--timestamp=unix`.
show_units() {
  shown=$(systemctl show --timestamp=unix -p "$unit_properties" -- "$@" 2>/dev/null) && {
    printf '%s\n' "$shown"
    return 0
  }
  systemctl show -p "$unit_properties" -- "$@" | while IFS= read -r line; do
    case $line in
      ExecMainStartTimestamp=?*) line=ExecMainStartTimestamp=@$(date -d "${line#*=}" +%s) ;;
    esac
    printf '%s\n' "$line"
  done
}

probe_units() {
  set --
  while IFS= read -r line && [ -n "$line" ]; do set -- "$@" "$line"; done
  [ $# -eq 0 ] || show_units "$@" | blob units
}

# Free space of a path that does not exist yet is that of its nearest parent.
probe_free() {
  while IFS= read -r line && [ -n "$line" ]; do
    place=$line
    while [ -n "$place" ] && [ ! -e "$place" ]; do place=${place%/*}; done
    space=$(stat -f -c '%a %S' -- "${place:-/}" 2>/dev/null) || continue
    text "free $line" "$((${space% *} * ${space#* }))"
  done
}

probe_k3s() {
  if [ -f /usr/local/bin/k3s ] && remembered_sum /usr/local/bin/k3s version; then
    text k3s-binary "$sum $told"
  fi
  if [ -d /var/lib/rancher/k3s/server/db/etcd/member ]; then
    text k3s-datastore etcd
  elif [ -f /var/lib/rancher/k3s/server/db/state.db ]; then
    text k3s-datastore sqlite
  else
    text k3s-datastore none
  fi
  for dropin in /etc/rancher/k3s/config.yaml.d/*.yaml /etc/rancher/k3s/config.yaml.d/*.yml; do
    [ -f "$dropin" ] || continue
    shown=$dropin
    case $shown in
      *[[:cntrl:]]*) shown=$(printf '%s' "$shown" | tr '[:cntrl:]' '?') ;;
    esac
    head -c 65536 -- "$dropin" | blob "dropin $shown"
  done
}

# Sets $job_state to running, unknown or `ended CODE`.
look_at_job() {
  job_state=unknown
  if [ -f "$1/code" ]; then
    read -r code <"$1/code"
    job_state="ended ${code%% *}"
    return 0
  fi
  job_boot=
  [ ! -f "$1/boot" ] || read -r job_boot <"$1/boot"
  [ "$job_boot" = "$boot" ] || return 0
  case $(systemctl is-active -- "trueup-${1##*/}.service" 2>/dev/null) in
    active | activating | deactivating | reloading) job_state=running ;;
    *)
      # It may have ended between the two looks.
      [ ! -f "$1/code" ] || look_at_job "$1"
      ;;
  esac
}

probe_jobs() {
  for folder in "$state"/jobs/[0-9a-f]*; do
    [ -d "$folder" ] || continue
    look_at_job "$folder"
    text "job ${folder##*/}" "$job_state"
  done
}

probe() {
  probe_identity
  probe_files
  probe_sysctls
  probe_units
  probe_free
  probe_k3s
  probe_jobs
}

# --- stage -----------------------------------------------------------------------------------

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

# What a dead job left: its code is written, or it was never started within the hour.
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
      [ "$(($(date +%s) - touched))" -lt 3600 ] || drop_stages "$list"
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

# --- jobs ------------------------------------------------------------------------------------

take_intent() { while IFS= read -r line && [ -n "$line" ]; do printf '%s\n' "$line"; done | cat >"$1"; }

take_script() { cat >"$1"; }

start() {
  check_job "$1"
  case $2 in '' | *[!0-9]*) fail 70 'not a time' ;; esac
  boot_identity
  folder=$state/jobs/$1
  must mkdir -p -- "$state/jobs"
  new=$state/jobs/.new-$1-$$
  must mkdir -- "$new"
  trap 'rm -rf -- "$new"' EXIT
  must take_intent "$new/intent"
  must take_script "$new/script"
  has_digest "$new/script" "$3" || fail 70 'the request did not arrive whole'
  if [ -d "$folder" ]; then
    IFS= read -r had <"$folder/intent" && IFS= read -r asked <"$new/intent" || exit 80
    [ "$had" = "$asked" ] || fail 79 "job $1 exists with another intent"
    text started before
    return 0
  fi
  must write_file "$new/boot" "$boot"
  must write_file "$new/out" ''
  # The exit code's place is taken now, so that a full disk cannot hide how the job ended.
  must write_file "$new/code.new" '       '
  must sync -- "$new/intent" "$new/script" "$new/boot" "$new/code.new" "$new"
  must mv -T -- "$new" "$folder"
  must sync -- "$state/jobs"
  trap - EXIT
  try systemd-run --quiet --collect --unit="trueup-$1" --property="RuntimeMaxSec=$2" \
    --property=TimeoutStopSec=10 --description="trueup job $1" \
    /bin/sh "$folder/script" run "$1" || {
    # Should systemd start it late all the same, it finds the code and ends.
    write_code 80
    fail 80 'systemd-run did not start the job'
  }
  text started now
}

write_code() {
  printf '%-7s\n' "$1" 1<>"$folder/code.new"
  sync -- "$folder/code.new" "$folder/out"
  mv -f -- "$folder/code.new" "$folder/code"
  sync -- "$folder"
}

# Called at the end of a job, also when it is stopped. On a machine that goes down everything fails:
# then no code is left, and what the job was doing is unknown.
end_job() {
  trap '' TERM HUP INT
  if [ "$1" -ne 0 ] && [ "$(systemctl is-system-running)" = stopping ]; then exit 1; fi
  [ ! -f "$state/staged/$job" ] || (drop_stages "$state/staged/$job")
  write_code "$1"
}

run() {
  check_job "$1"
  job=$1 folder=$state/jobs/$1
  [ ! -e "$folder/code" ] || exit 80
  exec >>"$folder/out" 2>&1 </dev/null
  # Whoever waits for the end of this job waits for this lock.
  exec 8>"$folder/alive"
  flock 8
  # A running subshell keeps the trap's own shell waiting; systemd ends the whole group, it first.
  trap 'printf "stopped: its time was over, or somebody stopped it\n"; end_job 124; exit 124' TERM HUP INT
  (
    exec 9>"$state/lock" || exit 80
    flock 9 || exit 80
    while IFS= read -r operation <&3; do
      perform "$operation" || exit $?
    done 3<"$folder/intent"
  ) &
  worker=$!
  wait "$worker"
  ended=$?
  # Ended by a signal: systemd's own, to the whole group.
  [ "$ended" -lt 128 ] || ended=124
  end_job "$ended"
  exit "$ended"
}

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
  owner_put "file$tab$1" "$2"
  must chown -- "$4:$5" "$target"
  must chmod -- "$3" "$target"
  must sync -- "$target"
  [ "$target" = "$path" ] || must mv -T -f -- "$sibling" "$path"
  must sync -- "$dir"
}

adopt_file() {
  decode_path "$1"
  refuse_other_types
  has_digest "$path" "$2" || fail 75 "$path has other content"
  owner_put "file$tab$1" "$2"
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

# systemd's own message does not say how the unit fared; its log might say secrets.
control_unit() {
  try systemctl --no-ask-password "$1" -- "$2" && return 0
  systemctl show -p ActiveState,SubState,Result,ExecMainStatus,NRestarts -- "$2" | tr '\n' ' '
  exit 80
}

record_run() {
  invocation=$(systemctl show -p InvocationID --value -- "$1")
  [ -n "$invocation" ] || fail 80 "$1 does not run"
  owner_put "run$tab$1" "$invocation$tab$2"
}

job() {
  check_job "$1"
  folder=$state/jobs/$1
  boot_identity
  if [ ! -d "$folder" ]; then
    text state absent
    return 0
  fi
  read -r up _ </proc/uptime
  until=$((${up%%.*} + $2))
  while look_at_job "$folder" && [ "$job_state" = running ]; do
    read -r up _ </proc/uptime
    left=$((until - ${up%%.*}))
    [ "$left" -gt 0 ] || break
    # Ends with the job. The pause is for a job that has not taken its lock yet.
    [ ! -e "$folder/alive" ] || flock -s -w "$left" "$folder/alive" true
    sleep 0.05
  done
  text state "$job_state"
  [ ! -f "$folder/out" ] || tail -c 4096 -- "$folder/out" | blob out
}

# --- the rest --------------------------------------------------------------------------------

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
