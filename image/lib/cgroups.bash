#!/bin/bash
# libvirt makes a control group for each guest: /machine/qemu-… of the control groups that it sees. In those of the host
# no limit of the container would hold for it, another container's guest of the same name would share it, and it would
# outlive the container. So libvirtd sees the container's own group as the root: in a cgroup namespace, with new mounts.
# They are in a mount namespace of libvirtd's own, so that the container's /sys/fs/cgroup stays what the mode gives.

readonly GROUPS_FOLDER=/sys/fs/cgroup
readonly LEAF=$GROUPS_FOLDER/container # all processes but the guests', with cgroup v2

own_groups=() # words before a command, so that its control groups are the container's own

unified() { [[ -e $GROUPS_FOLDER/cgroup.controllers ]]; } # cgroup v2 alone; v1 mounts each controller by itself

# Mounts the control groups anew, in place of what is there. Needs a mount namespace and a cgroup namespace.
show_own_groups() {
    local folder kind options hierarchies controllers mounted=''
    while read -r _ folder kind options _; do
        [[ $kind == cgroup?(2) && $folder/ == "$GROUPS_FOLDER"/* ]] || continue
        hierarchies=0::/
        [[ $kind == cgroup2 ]] || hierarchies=$(grep -v ^0 /proc/self/cgroup)
        while IFS=: read -r _ controllers _; do # as mount(8) names a hierarchy: cpu,cpuacct or name=systemd; v2: nothing
            [[ -z $controllers || ,$options, == *,"$controllers",* ]] || continue
            # By mount(2), which names what is mounted: of the calls in its place, a security module does not see that.
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
        warn "the container's own control groups cannot be used: domains will not start (${why##*: })" >&4
    exec "$@" 4>&-
}

# Finds the words that go before a command so that its control groups are the container's own; tried, since security
# modules have their own say. Otherwise there are none, and a warning names what does not work. Where /sys/fs/cgroup is
# read-only it stays so, although SYS_ADMIN could mount another one: the mode grants no control groups.
find_own_groups() {
    local folder=$GROUPS_FOLDER library why='capability SYS_ADMIN is missing'
    switched_on QEMU_CGROUPS || return
    unified || folder=$GROUPS_FOLDER/cpu
    if [[ ! -w $folder ]]; then
        warn '/sys/fs/cgroup is not mounted read-write, and QEMU_CGROUPS is not off: domains will not start'
        return
    fi
    library=". '$LIBRARY/log.bash'; . '$LIBRARY/cgroups.bash'"
    # shellcheck disable=SC2016 # expanded by the shell that is started
    if can SYS_ADMIN && why=$(unshare --mount --cgroup bash -c "$library; show_own_groups" 2>&1); then
        own_groups=(unshare --mount --cgroup bash -c "$library; exec_in_own_groups \"\$@\"" bash)
    elif unified && [[ $(</proc/self/cgroup) == 0::/ ]]; then
        warn "the cgroup namespace is private (not --cgroupns host), and QEMU_CGROUPS is not off: domains will not start (${why##*: })"
    elif can SYS_ADMIN || { ! switched_on QEMU_NAMESPACES && ! switched_on QEMU_REMEMBER_OWNER; }; then # or none will start
        warn "domains get control groups of the host: the container's limits do not hold for them, and other containers share them (${why##*: })"
    fi
}

# Removes the group that libvirt made for guests in those of the host, if nobody uses it any more.
leave_host_groups() {
    ((${#own_groups[@]} > 0)) || rmdir "$GROUPS_FOLDER"/{,*/}machine 2>/dev/null
}
