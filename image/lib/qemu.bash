#!/bin/bash
# The QEMU driver's switches, from the environment at each start: steps of each guest's start that need a capability or
# a mount of the host, and that the user can switch off.

readonly QEMU_CONFIG=/etc/libvirt/qemu.conf
readonly SWITCHES='# From the environment:'

declare -rA SETTING=(
    [QEMU_NAMESPACES]='namespaces = []'       # a mount namespace for each guest, with a /dev of its own
    [QEMU_CGROUPS]='cgroup_controllers = []'  # a control group for each guest
    [QEMU_REMEMBER_OWNER]='remember_owner = 0' # an image's former owner, in attributes of the kind "trusted"
)
declare -A switched_off=()

# A file of the user's own hides the image's settings; without them guests do not start, or run as another user.
check_qemu_config() {
    local line missing=()
    while IFS= read -r line; do
        [[ $line =~ ^([a-z_]+)\ = ]] || continue
        grep -qs "^[[:space:]]*${BASH_REMATCH[1]}[[:space:]]*=" "$QEMU_CONFIG" || missing+=("$line")
    done <"$DEFAULTS/qemu.conf"
    ((${#missing[@]} == 0)) ||
        warn "$QEMU_CONFIG is a file of your own and lacks settings of the image: guests may not start, or run as another user; add to it: $(IFS=';'; echo "${missing[*]}")"
}

configure_qemu() {
    local switch kept whole why
    for switch in "${!SETTING[@]}"; do
        case ${!switch} in
            on) ;;
            off) switched_off[$switch]=yes ;;
            *) warn "$switch=${!switch} is neither on nor off: using on" ;;
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
        warn "$QEMU_CONFIG cannot be written (${why##*: }): QEMU_NAMESPACES, QEMU_CGROUPS, QEMU_REMEMBER_OWNER and MIGRATION_HOST have no effect; mount it writable"
}

switched_on() { [[ -z ${switched_off[$1]:-} ]]; } # SWITCH

# The address to which another daemon sends a migrating guest. By default libvirt offers its host's name: a container's
# is its ID, which other hosts cannot resolve.
migration_setting() { # TEXT, the user's own
    local host=${MIGRATION_HOST:-}
    if grep -q '^[[:space:]]*migration_host[[:space:]]*=' <<<"$1"; then # a file of the user's own
        [[ -z $host ]] || warn "MIGRATION_HOST=$host has no effect: $QEMU_CONFIG sets migration_host; remove the setting there" >&2
        return
    fi
    # libvirtd does not start with a name or an address that would mean the other side itself.
    if [[ -n $host && (! $host =~ ^[][A-Za-z0-9.:_-]+$ || $host =~ ^(localhost.*|127\..*|\[?::1\]?)$) ]]; then
        warn "MIGRATION_HOST=$host is no name or address that other hosts can reach: using the container's own address" >&2
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
