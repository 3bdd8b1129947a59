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

configure_qemu() {
    local switch
    for switch in "${!SETTING[@]}"; do
        case ${!switch} in
            on) ;;
            off) switched_off[$switch]=yes ;;
            *) warn "$switch=${!switch} is neither on nor off: taken as on" ;;
        esac
    done
    sed -i "/^$SWITCHES/,\$d" "$QEMU_CONFIG"
    ((${#switched_off[@]} == 0)) || {
        printf '%s\n' "$SWITCHES"
        for switch in "${!switched_off[@]}"; do printf '%s\n' "${SETTING[$switch]}"; done
    } >>"$QEMU_CONFIG"
}

switched_on() { [[ -z ${switched_off[$1]:-} ]]; } # SWITCH
