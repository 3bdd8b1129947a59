#!/bin/bash
# Names guests whose QEMU ended by itself, and whether the kernel killed it because memory ran out.
#
# libvirtd does not log this; it only sends an event to clients.

# Runs beside libvirtd for the container's whole life, and comes back after a libvirtd that was started anew.
watch_guests() {
    set_memory_files
    {
        trap '' TERM INT # ends with the container
        count_kills
        while true; do
            follow_guests < <(exec virsh --quiet event --event lifecycle --loop 2>/dev/null)
            sleep 1
        done
    } &
}

follow_guests() {
    local line result event="^event 'lifecycle' for domain '(.*)': (.*)$"
    while true; do
        IFS= read -r -t 2 line
        result=$?
        ((result == 0 || result > 128)) || break
        count_kills # early, so that an old kill does not count for this guest
        if ((result == 0)) && [[ $line =~ $event && ${BASH_REMATCH[2]} == 'Stopped Failed' ]]; then
            report_end "${BASH_REMATCH[1]}"
        fi
        note_state
    done
}

# Where the container's memory limit and the number of its processes that the kernel killed at that limit are.
set_memory_files() {
    local controllers path folder=/sys/fs/cgroup
    memory_kills='' memory_limit=''
    while IFS=: read -r _ controllers path; do
        case ,$controllers, in
            *,memory,*) folder=/sys/fs/cgroup/memory && break ;; # v1
            ,,) break ;;
        esac
    done < <(sort --reverse --numeric-sort /proc/self/cgroup) # v2 is number 0
    # With the host's groups, the container's own one has its whole path, unless only that one is mounted.
    [[ -d $folder$path && $path != *..* ]] && folder+=${path%/}
    if [[ -e $folder/memory.oom_control ]]; then
        memory_kills=$folder/memory.oom_control memory_limit=$folder/memory.limit_in_bytes
    elif [[ -e $folder/memory.events ]]; then
        memory_kills=$folder/memory.events memory_limit=$folder/memory.max
    fi
}

# Counts the kills that no line has named yet: of the container's processes, and of any process of the host.
count_kills() {
    local key value own=0 all=0
    [[ -z $memory_kills ]] || while read -r key value; do
        [[ $key == oom_kill ]] && own=$value
    done <"$memory_kills"
    while read -r key value; do
        [[ $key == oom_kill ]] && all=$value
    done </proc/vmstat
    # Several guests may be killed at once, and their ends come one after the other.
    if ((SECONDS - ${killed_at:=-60} >= 5)); then
        ((${own_unnamed:=0} == 0)) ||
            log error "out of memory: the kernel killed a process of the container, or of a guest that was starting; $(memory_advice)"
        own_unnamed=0 all_unnamed=0
    fi
    if ((own > ${own_known:=$own} || all > ${all_known:=$all})); then
        ((own_unnamed += own - own_known, all_unnamed += all - all_known))
        killed_at=$SECONDS
    fi
    own_known=$own all_known=$all
}

memory_advice() {
    local limit
    limit=$(cat "$memory_limit" 2>/dev/null)
    if [[ $limit =~ ^[0-9]+$ ]] && ((limit < 1 << 60)); then
        echo "the container's memory limit is $((limit >> 20)) MiB; raise it (docker run --memory) or give the guests less"
    else
        echo 'the container has no memory limit, so the host ran short; give the guests less'
    fi
}

report_end() { # DOMAIN
    local state limit why
    state=$(timeout 30 virsh --quiet domstate --reason "$1" 2>/dev/null)
    # A transient domain has no state any more.
    [[ -z $state || $state == *'(crashed)'* ]] || return
    limit=$(memory_advice)
    if ((own_unnamed > 0)); then
        why="out of memory: the kernel killed its QEMU; $limit"
    elif ((all_unnamed > 0)) && switched_on QEMU_CGROUPS; then
        # The guest's own group counted the kill and is gone; only the host's counter is left.
        why="probably out of memory: the kernel has just killed a process of the host; $limit"
    else
        why="its QEMU ended by itself or was killed, not out of memory; see /var/log/libvirt/qemu/$1.log"
    fi
    ((own_unnamed > 0 && own_unnamed--, all_unnamed > 0 && all_unnamed--))
    log error "domain $1 crashed: $why"
}
