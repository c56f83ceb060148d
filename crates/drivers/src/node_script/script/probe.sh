# shellcheck shell=sh disable=SC2154,SC2034,SC2317  # names of the other parts
# probe: what is true of the machine. Writes nothing but its memory of digests below /run.

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

unit_properties=LoadState,ActiveState,SubState,UnitFileState,Result,Type,InvocationID,ExecMainStartTimestamp,NRestarts,NeedDaemonReload,FragmentPath,RemainAfterExit

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

# Values that are secret leave as digests.
shown_value() {
  case $1 in
    *-file | *_FILE) shown=$2 ;;
    *token* | *secret* | *password* | *access-key* | *vpn-auth* | \
      *datastore-endpoint* | -t | \
      *TOKEN* | *SECRET* | *PASSWORD* | *ACCESS_KEY* | *VPN_AUTH* | *DATASTORE_ENDPOINT*)
      shown=sha256:$(printf '%s' "$2" | sha256sum)
      shown=${shown%% *}
      ;;
    *) shown=$2 ;;
  esac
}

# The words of a command line. An option's value is a word of its own, or follows `=`.
started_arguments() {
  option=''
  set -f
  # Split at blanks on purpose: systemd shows no quotes.
  # shellcheck disable=SC2086
  set -- $1
  set +f
  [ $# -le 2 ] || shift 2
  for word in "$@"; do
    case $word in
      -*=*)
        shown_value "${word%%=*}" "${word#*=}"
        printf 'arg\t%s=%s\n' "${word%%=*}" "$shown"
        option=''
        ;;
      -*)
        printf 'arg\t%s\n' "$word"
        option=$word
        [ "$option" != -t ] || option=--token
        ;;
      *)
        shown_value "$option" "$word"
        printf 'arg\t%s\n' "$shown"
        option=''
        ;;
    esac
  done
}

# What a running k3s was given beside its files: k3s hides its own command line, so
# the arguments are those of its unit, and the environment is that of its process.
probe_started() {
  [ -f /usr/local/bin/k3s ] || return 0
  for unit in k3s.service k3s-agent.service; do
    pid=0
    command=''
    while IFS= read -r line; do
      case $line in
        MainPID=*) pid=${line#*=} ;;
        ExecStart=*)
          command=${line#*argv\[\]=}
          command=${command%% ; ignore_errors=*}
          ;;
      esac
    done <<END
$(systemctl show -p MainPID,ExecStart -- "$unit" 2>/dev/null)
END
    [ "$pid" -gt 0 ] || continue
    {
      [ "${command#* * }" = "$command" ] || started_arguments "$command"
      tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | while IFS= read -r line; do
        case $line in K3S_*=*) ;; *) continue ;; esac
        shown_value "${line%%=*}" "${line#*=}"
        printf 'env\t%s\t%s\n' "${line%%=*}" "$shown"
      done
    } | head -c 65536 | blob "k3s-started $unit"
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
  probe_started
  probe_jobs
}
