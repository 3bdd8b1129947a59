#!/bin/bash
# Access to the host: capabilities, kernel settings, modules and devices.
# Each step that the mode does not allow logs one warning: the missing exposure, the consequence, and the remedy.

declare -rA CAPABILITY=(
    [CHOWN]=0 [DAC_OVERRIDE]=1 [FOWNER]=3 [KILL]=5 [SETGID]=6 [SETUID]=7 [SETPCAP]=8 [NET_BIND_SERVICE]=10
    [NET_ADMIN]=12 [NET_RAW]=13 [SYS_MODULE]=16 [SYS_CHROOT]=18 [SYS_PTRACE]=19 [SYS_ADMIN]=21 [MKNOD]=27
)

read_capabilities() {
    local key value
    while read -r key value; do
        [[ $key == CapEff: ]] && effective=$((16#$value))
    done </proc/self/status
}
can() { ((effective >> CAPABILITY[$1] & 1)); }

# The consequences were measured: docs/privileges.md.
check_capabilities() {
    local one
    for one in CHOWN DAC_OVERRIDE FOWNER; do
        can "$one" || warn "capability $one is missing: libvirtd cannot share its files with the user libvirt, and will not start; use --cap-add $one"
    done
    for one in SETGID SETPCAP SETUID; do
        can "$one" || warn "capability $one is missing: neither guests nor virtual networks with DHCP will start; use --cap-add $one"
    done
    can NET_ADMIN || warn 'capability NET_ADMIN is missing: virtual networks will not start; use --cap-add NET_ADMIN'
    for one in NET_BIND_SERVICE NET_RAW; do
        can "$one" || warn "capability $one is missing: virtual networks with DHCP will not start; use --cap-add $one"
    done
    can KILL || warn 'capability KILL is missing: guests cannot be stopped; use --cap-add KILL'
    { ! switched_on QEMU_NAMESPACES && ! switched_on QEMU_REMEMBER_OWNER; } || can SYS_ADMIN ||
        warn 'capability SYS_ADMIN is missing: guests will not start; use --cap-add SYS_ADMIN, or set QEMU_NAMESPACES=off and QEMU_REMEMBER_OWNER=off'
    for one in MKNOD SYS_CHROOT SYS_PTRACE; do
        ! switched_on QEMU_NAMESPACES || can "$one" ||
            warn "capability $one is missing: guests will not start; use --cap-add $one, or set QEMU_NAMESPACES=off"
    done
}

confined() { [[ -r /proc/self/attr/current && $(tr -d "\0" </proc/self/attr/current 2>/dev/null) == *' (enforce)' ]]; }

# Tries it, since security modules and filters of system calls may refuse it.
check_namespaces() {
    local why option=seccomp=unconfined
    switched_on QEMU_NAMESPACES && can SYS_ADMIN || return
    why=$(unshare --mount true 2>&1) && return
    ! confined || option=apparmor=unconfined
    warn "mount namespaces are refused (${why##*: }): guests will not start; use --security-opt $option, or set QEMU_NAMESPACES=off"
}

bind_host_procsys() {
    local why remedy
    # By mount(2), which names the source: a security module does not see it in the newer calls.
    [[ ! -d /host-procsys ]] || LIBMOUNT_FORCE_MOUNT2=always mount --bind /host-procsys /proc/sys 2>/dev/null
    # Opens it for writing, since permissions do not show the refusal of a security module.
    why=$({ : >>/proc/sys/net/ipv4/ip_forward; } 2>&1) && return
    if confined; then
        remedy='use --security-opt apparmor=unconfined'
    elif [[ -d /host-procsys ]]; then
        remedy='/host-procsys has an effect only with --cap-add SYS_ADMIN'
    else
        remedy='use --volume /proc/sys:/host-procsys or --security-opt systempaths=unconfined'
    fi
    warn "/proc/sys cannot be written (${why##*: }): virtual networks will not start; $remedy"
}

# Loads the module of a missing device; the kernel itself loads bridge, NAT and filter modules.
# New nodes do not appear in a container's /dev, so this makes the node too.
load_module() { # MODULE NODE
    local module=$1 node=$2 numbers=/sys/class/misc/${2##*/}/dev why major minor
    [[ ! -e $node && ! -e $numbers ]] || return 0
    can SYS_MODULE && [[ -d /lib/modules/$(</proc/sys/kernel/osrelease) ]] || return 0
    if ! why=$(modprobe "$module" 2>&1); then
        warn "kernel module $module cannot be loaded (${why##*: }): there is no $node; load it on the host with modprobe $module"
    elif [[ -e $numbers ]]; then
        log info "loaded the kernel module $module"
        IFS=: read -r major minor <"$numbers"
        mkdir -p "${node%/*}" && mknod "$node" c "$major" "$minor"
        can_open "$node" || rm -f "$node"
    fi
}

load_modules() {
    local cpu
    cpu=$(</proc/cpuinfo)
    [[ $cpu == *' vmx '* ]] && load_module kvm_intel /dev/kvm
    [[ $cpu == *' svm '* ]] && load_module kvm_amd /dev/kvm
    load_module tun /dev/net/tun
}

can_open() { [[ -c $1 ]] && { : <>"$1"; } 2>/dev/null; }
qemu_may_use() { setpriv --reuid libvirt --regid libvirt --init-groups test -r "$1" -a -w "$1"; }

# Where QEMU's user may not use /dev/kvm, libvirt probes QEMU again and again: 13 s for each domain start.
open_kvm() {
    local gid group
    if ! can_open /dev/kvm; then
        warn '/dev/kvm is missing or unusable: guests run under emulation only; use --device /dev/kvm on a host with KVM'
    elif qemu_may_use /dev/kvm; then
        return
    elif [[ $(</proc/mounts) == *' /dev devtmpfs '* ]]; then # the host's own node: join its group, change nothing
        read -r gid group < <(stat --format='%g %G' /dev/kvm)
        [[ $group == UNKNOWN ]] && group=kvm-host && groupadd --gid "$gid" kvm-host
        ((gid > 0)) && usermod --append --groups "$group" libvirt
    else
        chgrp kvm /dev/kvm && chmod 660 /dev/kvm
    fi
    [[ ! -e /dev/kvm ]] || qemu_may_use /dev/kvm ||
        warn '/dev/kvm is closed to the user libvirt: guests run without KVM, and each of their starts takes seconds; on the host, give the node a group other than root and mode 660'
}

open_tun() {
    if ! can_open /dev/net/tun; then
        warn '/dev/net/tun is missing or unusable: guests with a network interface will not start; use --device /dev/net/tun'
    elif [[ $(</proc/mounts) != *' /dev devtmpfs '* ]]; then
        chmod 666 /dev/net/tun # as on any host: NET_ADMIN decides about its use
    fi
}
