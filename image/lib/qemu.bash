#!/bin/bash
# The QEMU driver's switches: what libvirt does for each domain unless it is told not to, and what takes a capability
# or a mount of the host. From the environment, anew at each start.

readonly QEMU_CONFIG=/etc/libvirt/qemu.conf
readonly SWITCHES='# From the environment:'

declare -rA SETTING=(
    [QEMU_NAMESPACES]='namespaces = []'       # a mount namespace for each domain, with a /dev of its own
    [QEMU_CGROUPS]='cgroup_controllers = []'  # a control group for each domain
    [QEMU_REMEMBER_OWNER]='remember_owner = 0' # who owned an image before, in attributes of the kind "trusted"
)
declare -A switched_off=()

# A file of the user's own hides the image's settings, without which domains do not start or run as somebody else.
check_qemu_config() {
    local line missing=()
    while IFS= read -r line; do
        [[ $line =~ ^([a-z_]+)\ = ]] || continue
        grep -qs "^[[:space:]]*${BASH_REMATCH[1]}[[:space:]]*=" "$QEMU_CONFIG" || missing+=("$line")
    done <"$DEFAULTS/qemu.conf"
    ((${#missing[@]} == 0)) ||
        warn "$QEMU_CONFIG is a file of your own and lacks settings that the image needs: $(IFS=';'; echo "${missing[*]}")"
}

configure_qemu() {
    local switch kept whole why
    for switch in "${!SETTING[@]}"; do
        case ${!switch} in
            on) ;;
            off) switched_off[$switch]=yes ;;
            *) warn "$switch=${!switch} is neither on nor off: taken as on" ;;
        esac
    done
    # Written in place: a file that is mounted cannot be replaced.
    kept=$(sed "/^$SWITCHES/,\$d" "$QEMU_CONFIG")
    whole=$(
        printf '%s\n' "$kept" "$SWITCHES"
        for switch in "${!switched_off[@]}"; do printf '%s\n' "${SETTING[$switch]}"; done
        migration_setting "$kept"
    )
    why=$({ printf '%s\n' "$whole" >"$QEMU_CONFIG"; } 2>&1) ||
        warn "$QEMU_CONFIG cannot be written (${why##*: }): QEMU_NAMESPACES and the like, and MIGRATION_HOST, have no effect"
}

switched_on() { [[ -z ${switched_off[$1]:-} ]]; } # SWITCH

# Where another daemon sends a migrating domain to. libvirt offers its host's name, which for a container is its ID, and
# nobody else resolves that.
migration_setting() { # TEXT, the user's own
    local host=${MIGRATION_HOST:-}
    if grep -q '^[[:space:]]*migration_host[[:space:]]*=' <<<"$1"; then # a file of the user's own
        [[ -z $host ]] || warn "MIGRATION_HOST=$host is not used: $QEMU_CONFIG sets migration_host; remove it there" >&2
        return
    fi
    # libvirtd does not start with a name or an address that would mean the other side itself.
    if [[ -n $host && (! $host =~ ^[][A-Za-z0-9.:_-]+$ || $host =~ ^(localhost.*|127\..*|\[?::1\]?)$) ]]; then
        warn "MIGRATION_HOST=$host is no name or address for other hosts to reach: using the container's own address" >&2
        host=''
    fi
    [[ -n $host ]] || host=$(own_address)
    [[ -z $host ]] || printf 'migration_host = "%s"\n' "$host"
}

# The source address of the default route. The destinations are reserved for documentation: nothing is sent.
own_address() {
    local line
    line=$({ ip -4 route get 192.0.2.1 || ip -6 route get 2001:db8::1; } 2>/dev/null) || return
    [[ $line =~ \ src\ ([^\ ]+) ]] && printf '%s' "${BASH_REMATCH[1]}"
}
