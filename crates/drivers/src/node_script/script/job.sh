# shellcheck shell=sh disable=SC2154,SC2034,SC2317  # names of the other parts
# job: from its start to its exit code, and what becomes of it.

take_intent() { while IFS= read -r line && [ -n "$line" ]; do printf '%s\n' "$line"; done | cat >"$1"; }

take_script() { cat >"$1"; }

# Folders that are older than so many days, unless their job runs. Sets $swept.
forget_jobs() {
  before=$(($(date +%s) - $1 * 86400))
  swept=0
  for old in "$state"/jobs/[0-9a-f]* "$state"/jobs/.new-*; do
    [ -d "$old" ] || continue
    [ "$(stat -c %Y -- "$old")" -lt "$before" ] || continue
    look_at_job "$old"
    [ "$job_state" = running ] || { rm -rf -- "$old" && swept=$((swept + 1)); }
  done
}

# A folder has some 30 KB.
forget_jobs_where_many() {
  set -- "$state"/jobs/*
  [ $# -lt 200 ] || forget_jobs 7
}

start() {
  check_job "$1"
  case $2 in '' | *[!0-9]*) fail 70 'not a time' ;; esac
  boot_identity
  forget_jobs_where_many
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
