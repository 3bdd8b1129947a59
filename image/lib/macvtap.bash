#!/bin/bash
# Nodes for macvtap links. libvirt makes the link and opens /dev/tapN, with N the link's index, within 200 ms. The kernel
# makes that node in the host's /dev only; new nodes do not appear in a container's /dev.

# In the host's network, the links of a killed container's guests are still there, and their addresses are in use.
# libvirt's status files of those guests name them.
forget_macvtap() {
    local line mac='' link
    while read -r line; do
        [[ $line =~ \<mac\ address=\'([^\']+) ]] && mac=${BASH_REMATCH[1]}
        [[ $line =~ \<target\ dev=\'(macvtap[^\']+) ]] && link=${BASH_REMATCH[1]} || continue
        [[ $(cat "/sys/class/net/$link/address" 2>/dev/null) != "$mac" ]] || ip link delete "$link"
    done < <(cat /run/libvirt/qemu/*.xml 2>/dev/null)
}

# Only with MACVTAP=yes: it is of no use without the device rule.
serve_macvtap() {
    [[ $MACVTAP == @(yes|no) ]] || warn "MACVTAP=$MACVTAP is neither yes nor no: using no"
    [[ $MACVTAP == yes ]] && macvtap_is_open || return 0
    local said
    read -r said < <(exec "$LIBRARY/macvtap-nodes" libvirt 2> >(while read -r said; do warn "$said"; done)) ||
        warn 'macvtap links cannot be watched: guests with a direct interface will not start; see the warning before'
}

macvtap_is_open() {
    local major name node=$STATE/macvtap why
    # This fails, since lo cannot carry it; but the kernel has loaded the module by then.
    ip link add link lo name macvtap-module type macvtap 2>/dev/null
    while read -r major name; do
        [[ $name != macvtap ]] || break
    done </proc/devices
    if [[ $name != macvtap ]]; then
        warn 'the host has no macvtap: guests with a direct interface will not start; run modprobe macvtap there, then make the container anew'
        return 1
    fi
    # An unused minor number: tests the permission, without a device.
    why=$({ rm -f "$node" && mknod "$node" c "$major" 0 && : <>"$node"; } 2>&1)
    rm -f "$node"
    [[ $why != *'not permitted' ]] && return
    warn "macvtap devices may not be opened: guests with a direct interface will not start; use --device-cgroup-rule 'c $major:* rwm'"
    return 1
}
