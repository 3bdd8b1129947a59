"""The confinement of a guest's QEMU: its user, capabilities, filter of system calls, namespaces and sockets.

The kernel is the source: proc(5), ss(8). A domain that is paused at its first instruction is enough: QEMU confines
itself before that (``-sandbox``), and libvirt before QEMU starts.
"""

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import libvirt

from conformance.container.container import Container
from conformance.errors import ImageFailure

NAME = "confined"

DOMAIN = f"""<domain type='qemu'><name>{NAME}</name><memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os>
<devices><graphics type='vnc' autoport='yes'/></devices></domain>"""
"""It names no address for its graphics: libvirt's default applies."""

STATUS = r"""
qemu=$(cat "/run/libvirt/qemu/$1.pid") || exit
for comm in /proc/[0-9]*/comm; do
    case $(cat "$comm" 2>/dev/null) in
        libvirtd | virtqemud) daemon=${comm%/comm} && daemon=${daemon##*/} ;;
    esac
done
for who in qemu daemon; do
    eval "pid=\$$who"
    sed "s/^/$who /" "/proc/$pid/status" || exit
    sed "s/^/$who Group:/" "/proc/$pid/cgroup" || exit
    sed "s/^/$who Limit:/" "/proc/$pid/limits" || exit
    echo "$who Nice: $(sed 's/.*) //' "/proc/$pid/stat" | cut -d ' ' -f 17)"
done
echo "qemu Name: $qemu"
echo "daemon Namespace: $(readlink "/proc/$daemon/ns/mnt")"
"""
"""Run by ``sh`` as root, with the domain's name as its argument."""

OWN = r"""
qemu=$(cat "/run/libvirt/qemu/$1.pid") || exit
echo "qemu Namespace: $(readlink "/proc/$qemu/ns/mnt")"
ss --no-header --listening --tcp --udp --numeric --processes | grep "pid=$qemu," |
    while read -r _ _ _ _ local _; do echo "qemu Listens: ${local%:*}"; done
"""
"""Run by ``sh`` as QEMU's user: root needs SYS_PTRACE for it (proc(5))."""

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")
"""The bounding set only limits what a program may gain, and ``no_new_privs`` forbids any gain."""

LOOPBACK = ("127.0.0.1", "[::1]")


@dataclass(frozen=True)
class Confinement:
    """The confinement of one QEMU process, beside its daemon's.

    Attributes:
        user: its real, effective, saved and file-system user IDs.
        groups: its group IDs, the supplementary ones too.
        capabilities: the capabilities that it has or can pass on, as a bit mask.
        new_privileges: whether a program that it runs may gain privileges.
        filters: number of seccomp filters on its system calls, beyond those of its daemon.
        mount_namespace: it has one of its own, not its daemon's.
        control_group: it has one of its own, not its daemon's.
        limits: by name those of its limits that differ from its daemon's, soft and hard; and ``Nice``, if that differs.
        listens: the addresses on which it accepts connections or datagrams.
    """

    user: frozenset[int]
    groups: frozenset[int]
    capabilities: int
    new_privileges: bool
    filters: int
    mount_namespace: bool
    control_group: bool
    limits: Mapping[str, str]
    listens: frozenset[str]

    @property
    def beyond_loopback(self) -> frozenset[str]:
        """The addresses of :attr:`listens` that other machines can reach."""
        return self.listens - set(LOOPBACK)


@contextlib.contextmanager
def of_paused_domain(container: Container) -> Iterator[Confinement]:
    """Start a domain, paused at its first instruction, and read its QEMU's confinement.

    Raises:
        libvirt.libvirtError: the domain does not start; the daemon's own words.
        ImageFailure: the kernel's files about QEMU or the daemon cannot be read.
    """
    domain = container.connection.createXML(
        DOMAIN, libvirt.VIR_DOMAIN_START_PAUSED | libvirt.VIR_DOMAIN_START_AUTODESTROY
    )
    try:
        yield read(container, NAME)
    finally:
        domain.destroy()


def read(container: Container, name: str) -> Confinement:
    """Read the confinement of a running domain's QEMU.

    Raises:
        ImageFailure: the kernel's files about QEMU or the daemon cannot be read.
    """
    as_root = _output(container, STATUS, name)
    user = re.search(r"^qemu Uid:\s*(\d+)", as_root, re.MULTILINE)
    return parse(as_root + _output(container, OWN, name, user=user[1] if user else ""))


def _output(container: Container, script: str, name: str, user: str = "") -> str:
    done = container.run("sh", "-c", script, "sh", name, user=user)
    if done.status:
        error = done.stderr.decode(errors="replace").strip()
        raise ImageFailure(f"the state of QEMU of domain {name} cannot be read: {error}")
    return done.text


def parse(text: str) -> Confinement:
    """Read the output of :data:`STATUS` and :data:`OWN`.

    Raises:
        ImageFailure: a field is missing.
    """
    fields: dict[tuple[str, str], list[str]] = {}
    for line in text.splitlines():
        who, _, rest = line.partition(" ")
        key, _, value = rest.partition(":")
        fields.setdefault((who, key), []).append(value.strip())

    def values(who: str, key: str) -> list[str]:
        if not fields.get((who, key), [""])[0]:
            raise ImageFailure(f"the kernel does not state {key!r} of {who}")
        return fields[who, key]

    qemus_filters, daemons_filters = (_filters(values(who, "Seccomp"), fields, who) for who in ("qemu", "daemon"))
    return Confinement(
        user=frozenset(map(int, values("qemu", "Uid")[0].split())),
        groups=frozenset(map(int, " ".join(values("qemu", "Gid") + fields.get(("qemu", "Groups"), [])).split())),
        capabilities=_union(int(values("qemu", kind)[0], 16) for kind in CAPABILITY_SETS),
        new_privileges=values("qemu", "NoNewPrivs")[0] == "0",
        filters=qemus_filters - daemons_filters,
        mount_namespace=values("qemu", "Namespace") != values("daemon", "Namespace"),
        control_group=values("qemu", "Group") != values("daemon", "Group"),
        limits=_differing(values("qemu", "Limit"), values("daemon", "Limit"))
        | ({"Nice": nice} if (nice := values("qemu", "Nice")[0]) != values("daemon", "Nice")[0] else {}),
        listens=frozenset(fields.get(("qemu", "Listens"), [])),
    )


def _differing(qemus: list[str], daemons: list[str]) -> dict[str, str]:
    """Return by name the lines of one process's /proc/PID/limits that another's does not have."""
    lines = (re.split(r"\s{2,}", line) for line in qemus if line not in daemons)
    return {name: " ".join(rest) for name, *rest in lines}


def _filters(mode: list[str], fields: dict[tuple[str, str], list[str]], who: str) -> int:
    """Return the number of filters; kernels before 5.9 do not count them, and state only that there are some."""
    return int(fields.get((who, "Seccomp_filters"), ["1" if mode == ["2"] else "0"])[0])


def _union(masks: Iterator[int]) -> int:
    union = 0
    for mask in masks:
        union |= mask
    return union
