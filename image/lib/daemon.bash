#!/bin/bash
# libvirtd's life: start it, watch it, and start it again when it ended or hangs. Guests are processes of their own,
# which go on without libvirtd; the next one adopts them by its status files in /run/libvirt.

# Whether a signal came, and whether libvirtd ever answered; libvirtd's process, and the watcher's; and libvirtd's end, as
# 'ended with status 1', 'was killed by SIGKILL' or 'did not answer within 60 s'.
stopping='' answered='' libvirtd='' watcher='' fate=''

readonly LAST_ERROR=$STATE/last-error # of the libvirtd of now, kept by the relay

readonly PROBE_SECONDS=10 # from one probe to the next, and the longest that one takes
readonly STOP_PROBE_SECONDS=5 # SIGTERM: until libvirtd counts as hung
readonly START_SECONDS=15 # that one which replaces another has at least
readonly STARTS=3 # in a row, until the container ends

heed_signals() { trap 'stopping=yes' TERM INT; }
heed_no_more_signals() { trap : TERM INT; stopping=''; } # caught, not ignored: children inherit ignored signals

start_relay() {
    exec 3> >(trap '' TERM INT; relay_libvirtd)
    relay=$!
}

# Ends the relay, once everything that libvirtd wrote is in the log.
stop_relay() {
    exec 3>&-
    wait "$relay"
}

start_libvirtd() {
    local config=$STATE/libvirtd.conf
    printf '%s\ntcp_port = "%s"\nlisten_addr = "%s"\n' \
        "$(</etc/libvirt/libvirtd.conf)" "$TCP_PORT" "$LISTEN_ADDRESS" >"$config"
    rm -f "$LAST_ERROR" # the error of an earlier one is not the reason of this one's end
    "${own_groups[@]}" libvirtd --listen --config "$config" 4>&1 >&3 2>&3 3>&- &
    libvirtd=$! fate=''
}

# Ends each dnsmasq that the next libvirtd could not recognise, since it would find the address in use: without
# SYS_PTRACE it cannot read another user's /proc/PID/exe. The leases are in a file, and stay.
end_unknown_dnsmasq() {
    local file pid
    for file in /run/libvirt/network/*.pid; do
        pid=$(<"$file")
        [[ $(<"/proc/$pid/comm") != dnsmasq ]] || readlink "/proc/$pid/exe" >/dev/null || kill -KILL "$pid"
    done
} 2>/dev/null

# Names guests that ended while no libvirtd watched them: no other line does.
name_ended_guests() {
    local file name
    for file in /run/libvirt/qemu/*.pid; do
        name=${file##*/} name=${name%.pid}
        is_guest "$file" || warn "domain $name no longer runs: its QEMU ended or was killed while no libvirtd ran; see /var/log/libvirt/qemu/$name.log"
    done
}

restart_libvirtd() {
    name_ended_guests
    end_unknown_dnsmasq
    start_libvirtd
}

running() { kill -0 "$libvirtd" 2>/dev/null; }

# Whether libvirtd answers on its own socket. Both calls have its threads for urgent work: a busy libvirtd answers.
answers() { timeout --kill-after=1 "$1" virsh --quiet hostname >/dev/null 2>&1 3>&-; } # SECONDS

# In the background, since bash runs a signal's trap only after a command in the foreground has ended.
pause() { # SECONDS
    sleep "$1" 3>&- &
    wait "$!"
} 2>/dev/null # bash's own words on a libvirtd that was killed

# Waits until libvirtd answers; false, with its fate, if it ended, or did not answer in time and was killed for that.
# A signal ends this, too.
await_ready() { # SECONDS, 0 for no limit
    local limit=$1 probe=$PROBE_SECONDS began=$SECONDS
    ((limit == 0 || limit > probe)) || probe=$limit
    while [[ -z $stopping ]]; do
        answers "$probe" &
        wait "$!" && return
        if ! running; then
            reap
            return 1
        elif ((limit > 0 && SECONDS - began >= limit)); then
            kill -KILL "$libvirtd"
            reap
            fate="did not answer within $limit s"
            return 1
        fi
        pause 0.05
    done
    return 1
} 2>/dev/null

# Waits for libvirtd's end, and finds out its fate. A signal ends this, too.
reap() {
    local status signal
    while running; do
        [[ -z $stopping ]] || return
        wait "$libvirtd" 2>/dev/null
    done
    wait "$libvirtd" 2>/dev/null # its own status at last, where a signal ended the wait before
    status=$?
    fate="ended with status $status"
    ((status <= 128)) || ! signal=$(kill -l "$status" 2>/dev/null) || fate="was killed by SIG$signal"
} 2>/dev/null

# Kills libvirtd when it has not answered for HANG_SECONDS. Only time spent in probes counts, none of them for longer than
# its own deadline, and it takes two of them: a container that was paused has not hung.
watch_libvirtd() {
    local silent=0 probe=$(((HANG_SECONDS + 1) / 2)) status
    local cause='a client died during an upload or download over TCP, seen with libvirt 11.3'
    ((probe < PROBE_SECONDS)) || probe=$PROBE_SECONDS
    while ((silent < HANG_SECONDS)); do
        answers "$probe"
        status=$?
        if ((status == 0)); then
            silent=0
            sleep "$probe"
        elif ((status == 124 || status == 137)); then # it took all of its time
            silent=$((silent + probe))
        else
            silent=$((silent + 1))
            sleep 1
        fi
    done
    warn "libvirtd has not answered for $HANG_SECONDS s: killing it (a known cause: $cause)"
    kill -KILL "$libvirtd"
}

start_watching() {
    ((HANG_SECONDS > 0)) || return 0
    watch_libvirtd 3>&- &
    watcher=$!
}

stop_watching() {
    [[ -n $watcher ]] || return 0
    kill "$watcher" 2>/dev/null
    wait "$watcher" 2>/dev/null
    watcher=''
}

# Runs libvirtd until a signal says to stop (true), or until it cannot run (false, with its fate). It cannot if it never
# answered, or if several in a row that were started in place of an earlier one did not.
supervise() {
    local start limit=$HANG_SECONDS
    ((limit == 0 || limit > START_SECONDS)) || limit=$START_SECONDS
    start_libvirtd
    await_ready 0 || { [[ -n $stopping ]]; return; }
    answered=yes
    while true; do
        log info "libvirt answers on $LISTEN_ADDRESS:$TCP_PORT"
        start_watching
        reap
        stop_watching
        [[ -z $stopping ]] || return 0
        for ((start = 1; start <= STARTS; start++)); do
            warn "libvirtd $fate: starting it again; guests keep running"
            ((start == 1)) || pause "$((2 * start))" # a short fault must not cost the guests
            restart_libvirtd
            ! await_ready "$limit" || continue 2
            [[ -z $stopping ]] || return 0
        done
        fate="was restarted $STARTS times and never answered; the last one $fate"
        return 1
    done
}

log_fate() { log error "libvirtd $fate; its last error: $(cat "$LAST_ERROR" 2>/dev/null || echo none)"; }

# Provides a libvirtd that answers, for the container's end: replaces one that hangs or has ended. One that never answered
# has no guests to shut down.
revive_libvirtd() {
    ! running || ! await_ready "$STOP_PROBE_SECONDS" || return 0
    [[ -n $answered ]] || return
    warn "libvirtd ${fate:-is gone}: starting another one to shut down the guests"
    restart_libvirtd
    await_ready "$START_SECONDS"
}

# Seen in libvirt 11.3: now and then, libvirtd has ended everything and still waits for its own deadline of 30 s. With no
# domain and no network left there is nothing to lose.
stop_libvirtd() {
    local tries=30
    kill -TERM "$libvirtd"
    while running && ((tries-- > 0)); do
        sleep 0.1
    done
    ! running || { log info 'libvirtd did not stop within 3 s: killing it' && kill -KILL "$libvirtd"; }
}

# Whether the process in a file is a guest's: a file that was left behind may hold a number that was used again.
is_guest() { # FILE
    local pid
    pid=$(<"$1") && [[ -n $pid && $(<"/proc/$pid/comm") == qemu* ]]
} 2>/dev/null

# The process IDs of guests, or false if there are none.
guests() {
    local file found=1
    for file in /run/libvirt/qemu/*.pid; do
        is_guest "$file" || continue
        cat "$file"
        echo
        found=0
    done
    return "$found"
} 2>/dev/null

# Ends guests without libvirtd: QEMU closes its images on SIGTERM; the guest's system loses its power.
end_guests() {
    local pids tries=$((10 * 10))
    mapfile -t pids < <(guests)
    ((${#pids[@]} > 0)) || return 0
    warn "ending the remaining guests (${#pids[@]}) by SIGTERM to QEMU, without a shutdown"
    kill -TERM "${pids[@]}"
    while guests >/dev/null && ((tries-- > 0)); do
        sleep 0.1
    done
    mapfile -t pids < <(guests)
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}"
}
