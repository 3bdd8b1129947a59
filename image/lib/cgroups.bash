#!/bin/bash
# libvirt makes a control group for each guest: /machine/qemu-… below the root that it sees. Below the host's root, the
# container's limits would not hold for the guest, another container's guest of the same name would share the group, and
# the group would outlive the container. So libvirtd sees the container's own group as the root: in a cgroup namespace,
# with new mounts. These are in a mount namespace of libvirtd's own; the container's /sys/fs/cgroup stays as it is.

readonly GROUPS_FOLDER=/sys/fs/cgroup
readonly LEAF=$GROUPS_FOLDER/container # all processes but the guests', with cgroup v2

own_groups=() # words before a command, so that its control groups are the container's own

unified() { [[ -e $GROUPS_FOLDER/cgroup.controllers ]]; } # cgroup v2 alone; v1 mounts each controller by itself

# Mounts the control groups anew, in place of the present mounts. Needs a mount namespace and a cgroup namespace.
show_own_groups() {
    local folder kind options hierarchies controllers mounted=''
    while read -r _ folder kind options _; do
        [[ $kind == cgroup?(2) && $folder/ == "$GROUPS_FOLDER"/* ]] || continue
        hierarchies=0::/
        [[ $kind == cgroup2 ]] || hierarchies=$(grep -v ^0 /proc/self/cgroup)
        while IFS=: read -r _ controllers _; do # as mount(8) names a hierarchy: cpu,cpuacct or name=systemd; v2: nothing
            [[ -z $controllers || ,$options, == *,"$controllers",* ]] || continue
            # By mount(2), which names the source: a security module does not see it in the newer calls.
            umount "$folder" && LIBMOUNT_FORCE_MOUNT2=always \
                mount --types "$kind" --options "rw,nosuid,nodev,noexec${controllers:+,$controllers}" "$kind" "$folder" || return
            mounted=yes
            break
        done <<<"$hierarchies"
    done <<<"$(</proc/mounts)"
    [[ -n $mounted ]] || { echo "no control groups are mounted below $GROUPS_FOLDER" && return 1; }
}

# A group of cgroup v2 shares controllers with the groups below it only while no process is in itself. The engine's
# `exec` follows the container's first process; one that came in the meantime is moved in the next round.
leave_own_group() {
    local pid controllers tries=50
    read -r controllers <"$GROUPS_FOLDER/cgroup.controllers"
    mkdir -p "$LEAF" || return
    while true; do
        while read -r pid; do
            { echo "$pid" >"$LEAF/cgroup.procs"; } 2>/dev/null # or it has ended
        done <"$GROUPS_FOLDER/cgroup.procs"
        { echo "+${controllers// / +}" >"$GROUPS_FOLDER/cgroup.subtree_control"; } 2>/dev/null && return
        ((tries-- > 0)) || break
        sleep 0.1
    done
    echo "+${controllers// / +}" >"$GROUPS_FOLDER/cgroup.subtree_control"
}

# Replaces the process with a command whose control groups are the container's own. Runs in namespaces of its own.
exec_in_own_groups() { # COMMAND...
    local why
    why=$({ show_own_groups && { ! unified || leave_own_group; }; } 2>&1) ||
        warn "the container's own control groups cannot be used (${why##*: }): guests will not start; set QEMU_CGROUPS=off" >&4
    exec "$@" 4>&-
}

# Sets own_groups, the words before a command that runs in the container's own control groups. Tries them first, since
# security modules may refuse. Otherwise own_groups stays empty, and a warning names the consequence. A read-only
# /sys/fs/cgroup stays read-only, although SYS_ADMIN could mount another one: the mode grants no control groups.
find_own_groups() {
    local folder=$GROUPS_FOLDER library why='capability SYS_ADMIN is missing'
    switched_on QEMU_CGROUPS || return
    unified || folder=$GROUPS_FOLDER/cpu
    if [[ ! -w $folder ]]; then
        warn '/sys/fs/cgroup is not mounted read-write: guests will not start; mount it so, or set QEMU_CGROUPS=off'
        return
    fi
    library=". '$LIBRARY/log.bash'; . '$LIBRARY/cgroups.bash'"
    # shellcheck disable=SC2016 # expanded by the shell that is started
    if can SYS_ADMIN && why=$(unshare --mount --cgroup bash -c "$library; show_own_groups" 2>&1); then
        own_groups=(unshare --mount --cgroup bash -c "$library; exec_in_own_groups \"\$@\"" bash)
    elif unified && [[ $(</proc/self/cgroup) == 0::/ ]]; then
        warn "the cgroup namespace is private (${why##*: }): guests will not start; use --cgroupns host, or set QEMU_CGROUPS=off"
    elif can SYS_ADMIN || { ! switched_on QEMU_NAMESPACES && ! switched_on QEMU_REMEMBER_OWNER; }; then # or none will start
        warn "guests get control groups of the host (${why##*: }): the container's limits do not hold for them, and other containers share them"
    fi
}

# Removes the group that libvirt made for guests below the host's root, unless it is still in use.
leave_host_groups() {
    ((${#own_groups[@]} > 0)) || rmdir "$GROUPS_FOLDER"/{,*/}machine 2>/dev/null
}
