# shellcheck shell=sh disable=SC2034,SC2317  # names for the other parts
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
#   same PATH-B64 SHA256
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
