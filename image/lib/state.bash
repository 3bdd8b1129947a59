#!/bin/bash
# State of guests outside the volumes: a new container loses it. A note in a volume lists it, so that the new container
# can name the missing parts.

readonly STATE_NOTE=/etc/libvirt/qemu/.state-outside-volumes
shared='' unwritten=''
readonly SAME_CONTAINER=$STATE/state-noted # in the container's own layer: gone with it

# Two containers on the same volumes would run the same domains on the same disks. The lock goes with the container.
claim_volumes() {
    local lock
    { exec {lock}>>/etc/libvirt/qemu/.lock; } 2>/dev/null || return 0
    flock --nonblock "$lock" && return
    shared=yes
    warn 'another container uses the volume /etc/libvirt/qemu: guests of both would damage their disks; give each container volumes of its own'
}

# The package's own network filters are in every container.
list_state() {
    local path packaged=/usr/share/libvirt/nwfilter
    for path in /var/lib/libvirt/qemu/{save/*.save,{snapshot,checkpoint}/*/*.xml,nvram/*_VARS*} \
        /var/lib/libvirt/swtpm/* /etc/libvirt/secrets/*.xml /etc/libvirt/nwfilter/*.xml; do
        [[ -e $path && ! ($path == */nwfilter/* && -e $packaged/${path##*/}) ]] && printf '%s\n' "$path"
    done
}

note_state() {
    local now_there
    [[ -z $shared ]] || return 0 # the note belongs to the other container
    now_there=$(list_state)
    [[ $now_there == "${noted-unknown}" ]] && return
    if printf '%s\n' "$now_there" >"$STATE_NOTE.new" && mv -f "$STATE_NOTE.new" "$STATE_NOTE"; then
        unwritten='' noted=$now_there
    elif [[ -z $unwritten ]]; then
        unwritten=yes
        warn "$STATE_NOTE cannot be written: a new container will not name the state that it lacks; make room or make the volume writable"
    fi
} 2>/dev/null

warn_of_lost_state() {
    local path
    if [[ ! -e $SAME_CONTAINER && -e $STATE_NOTE && -z $shared ]]; then
        while read -r path; do
            [[ -z $path || -e $path ]] ||
                warn "$(name_state "$path"), and it is lost: the container is a new one, and ${path%/*} is not on a volume; mount one there to keep it"
        done <"$STATE_NOTE"
    fi
    : >"$SAME_CONTAINER"
    note_state
}

name_state() { # PATH
    local name=${1##*/} folder=${1%/*} definition
    case $1 in
        */save/*) printf 'domain %s had a managed save' "${name%.save}" ;;
        */snapshot/*) printf 'domain %s had the snapshot %s' "${folder##*/}" "${name%.xml}" ;;
        */checkpoint/*) printf 'domain %s had the checkpoint %s' "${folder##*/}" "${name%.xml}" ;;
        */nvram/*) printf 'domain %s had UEFI variables' "${name%_VARS*}" ;;
        */swtpm/*)
            definition=$(grep -ls "<uuid>$name</uuid>" /etc/libvirt/qemu/*.xml)
            [[ -z $definition ]] || name=$(basename "${definition%%$'\n'*}" .xml)
            printf 'domain %s had the state of an emulated TPM' "$name"
            ;;
        */secrets/*) printf 'there was the secret %s' "${name%.xml}" ;;
        *) printf 'there was the network filter %s' "${name%.xml}" ;;
    esac
}
