#!/bin/bash
# Output: one line an event, as `TIME LEVEL COMPONENT: TEXT`, for the entrypoint and for libvirtd.

now() { printf '%(%FT%T)T.%sZ' "${EPOCHREALTIME%.*}" "${EPOCHREALTIME:11:3}"; }
log() { printf '%s %s entrypoint: %s\n' "$(now)" "$1" "$2"; } # LEVEL TEXT
warn() { log warning "$1"; }

# Writes each event of libvirtd as one line in the same format, and keeps its last error. An event may have several
# lines; it is held back for a moment to see whether more follow.
relay_libvirtd() {
    local piece line='' stamp level=error text='' result parts
    local event='^([0-9-]{10}) ([0-9:.]{12})\+0000: [0-9]+: (debug|info|warning|error) : (.*)$'
    while true; do
        IFS= read -r ${text:+-t 0.05} piece
        result=$? # above 128: no end of line came in time
        line+=$piece
        ((result > 128)) && [[ -n $line ]] && continue # a pause in the middle of a line: the rest is still to come
        if [[ $line =~ $event ]]; then
            parts=("${BASH_REMATCH[@]}") # print_event matches, too
            [[ -z $text ]] || print_event "$stamp" "$level" "$text"
            stamp="${parts[1]}T${parts[2]}Z" level=${parts[3]} text=${parts[4]}
        elif [[ -n $line ]]; then # more of the same event, or a message from before libvirtd's log was open
            [[ -n $text ]] || stamp=$(now)
            text+=${text:+ | }$line
        elif ((result != 0)) && [[ -n $text ]]; then
            print_event "$stamp" "$level" "$text"
            text=''
        fi
        line=''
        ((result == 0 || result > 128)) || break
    done
    [[ -z $text ]] || print_event "$stamp" "$level" "$text" # the last line may have had no end
}

print_event() { # STAMP LEVEL TEXT
    local level=$2
    # Logged at every start and stop in a container, which has neither D-Bus nor firmware tables.
    local harmless='DBus not available|virGDBusGetSystemBus|udevGetDMIData|dmidecode|Configured security driver "none"'
    # The image has its own warning about the missing device.
    harmless+='|virHostCPU.*Unable to open /dev/kvm: No such file or directory'
    # A client that was killed.
    harmless+='|virNetSocketReadWire.*End of file while reading data'
    # libvirt looks for control groups at each start, even if they are off.
    [[ ${QEMU_CGROUPS:-on} != off ]] || harmless+='|At least one cgroup controller is required'
    [[ $3 =~ $harmless ]] && level=info
    printf '%s %s libvirtd: %s\n' "$1" "$level" "$3"
    # This one only reports that there was an error before it.
    [[ $level != error || $3 == *'Driver state initialization failed' ]] || printf '%s\n' "$3" >"$LAST_ERROR"
}
