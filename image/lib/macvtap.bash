#!/bin/bash
# Nodes for macvtap links. libvirt makes the link and opens /dev/tapN, with N the link's index, within 200 ms. The kernel
# makes that node in the host's /dev; a container's is a snapshot from its start.

# In the host's network, the links of a killed container's guests are still there, with addresses that no other link may
# have. Whose they are, libvirt's status of those guests says.
forget_macvtap() {
    local line mac='' link
    while read -r line; do
        [[ $line =~ \<mac\ address=\'([^\']+) ]] && mac=${BASH_REMATCH[1]}
        [[ $line =~ \<target\ dev=\'(macvtap[^\']+) ]] && link=${BASH_REMATCH[1]} || continue
        [[ $(cat "/sys/class/net/$link/address" 2>/dev/null) != "$mac" ]] || ip link delete "$link"
    done < <(cat /run/libvirt/qemu/*.xml 2>/dev/null)
}

# Asked for by MACVTAP=yes: only who gives the device rule has a use for it.
serve_macvtap() {
    [[ $MACVTAP == @(yes|no) ]] || warn "MACVTAP=$MACVTAP is neither yes nor no: using no"
    [[ $MACVTAP == yes ]] && macvtap_is_open || return 0
    local said
    read -r said < <(exec "$LIBRARY/macvtap-nodes" libvirt 2> >(while read -r said; do warn "$said"; done)) ||
        warn 'the kernel does not tell of macvtap interfaces: domains with a direct interface will not start'
}

macvtap_is_open() {
    local major name node=$STATE/macvtap why
    # Refused, for want of a link that can carry it; but the kernel has loaded the module by then.
    ip link add link lo name macvtap-module type macvtap 2>/dev/null
    while read -r major name; do
        [[ $name != macvtap ]] || break
    done </proc/devices
    if [[ $name != macvtap ]]; then
        warn 'the host has no macvtap (modprobe macvtap there, before the container is made): domains with a direct interface will not start'
        return 1
    fi
    # Nobody's minor number: what is allowed and what is there are two answers.
    why=$({ rm -f "$node" && mknod "$node" c "$major" 0 && : <>"$node"; } 2>&1)
    rm -f "$node"
    [[ $why != *'not permitted' ]] && return
    warn "macvtap devices may not be opened (--device-cgroup-rule 'c $major:* rwm'): domains with a direct interface will not start"
    return 1
}
