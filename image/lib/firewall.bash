#!/bin/bash
# libvirt leaves its firewall chains behind when its networks stop, which matters in the host's network.

readonly FIREWALL_BEFORE=$STATE/firewall-before

# Survives a kill: chains from before this container's first start are not its own.
remember_firewall() {
    can NET_ADMIN && [[ ! -e $FIREWALL_BEFORE ]] && nft list chains >"$FIREWALL_BEFORE"
}

# Removes libvirt's chains where none were there before this container, and then the tables that were made for them;
# tables that hold other rules by now stay.
restore_firewall() {
    local save saved table
    [[ -e $FIREWALL_BEFORE ]] || return
    if ! grep -q LIBVIRT_ "$FIREWALL_BEFORE"; then
        for save in iptables-save ip6tables-save; do
            saved=$($save)
            {
                sed -n -e '/^\*/p; /^COMMIT/p; s/^-A \(.*-j LIBVIRT_[A-Z]*\)$/-D \1/p' <<<"$saved"
                sed -n -e '/^\*/p; /^COMMIT/p; s/^:\(LIBVIRT_[A-Z]*\) .*/-X \1/p' <<<"$saved"
            } | ${save/save/restore} --noflush
        done
    fi
    nft list tables | while read -r table; do
        grep -qF "$table {" "$FIREWALL_BEFORE" ||
            nft list "$table" | grep -qvE '^(table .*|\s*chain .*|\s*type .*|\s*}|)$' ||
            nft delete "$table"
    done
    rm -f "$FIREWALL_BEFORE"
} 2>/dev/null
