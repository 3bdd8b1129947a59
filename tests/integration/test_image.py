"""The image, from outside: what its build parameters, start, end and restart do on a real engine.

What it can do for guests is for the suites. The guests here are a firmware without a medium, which ignores ACPI, and
a boot sector that does nothing but obey the power button.
"""

import dataclasses
import re
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import docker
import pytest

from conformance.engine import base_image, image, labels
from conformance.engine import client as engines
from conformance.engine.client import Engine
from conformance.engine.host_shell import HostShell
from conformance.errors import HarnessError, Unsupported
from conformance.host import char_devices
from conformance.host import network as host_network
from conformance.model import contract as contracts
from conformance.model import mode
from conformance.model.mode import Mode
from conformance.run import cleanup
from conformance.util.wait import wait_for

pytestmark = pytest.mark.timeout(120)

RUN = labels.new_run()
TAG = "conformance-test"
VOLUMES = {
    "/var/lib/libvirt/images": "775",
    "/var/log/libvirt/qemu": "755",
    "/etc/libvirt/qemu": "775",
    "/etc/libvirt/storage": "755",
}
NETWORK_FILE = "/etc/libvirt/qemu/networks/default.xml"
EVENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (info|warning|error) (entrypoint|libvirtd): \S.*")
ANSWERS = "libvirt answers on"

DOMAIN = """
<domain type='qemu'><name>{name}</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><devices>{devices}</devices></domain>
"""
INTERFACE = "<interface type='network'><source network='default'/></interface>"
DISK = (
    "<disk type='file'><driver type='raw'/><source file='/var/lib/libvirt/images/{name}.img'/>"
    "<target dev='sda' bus='sata'/></disk>"
)

CONSOLE = "<serial type='pty'/>"
OPEN = "Escape character is"

OBEYS_ACPI = (
    bytes.fromhex(
        "ba0206 b80001 ef"  # out 0x602, 0x100: enable the power button's event
        "ba0006 ed f6c401 74fa"  # until in 0x600 has it
        "ba0406 b80020 ef"  # out 0x604, 0x2000: sleep state S5
        "f4 ebfd"
    ).ljust(510, b"\0")
    + b"\x55\xaa"
)
"""A boot sector that waits for the ACPI power button (registers where SeaBIOS puts them) and powers off."""


class Daemon:
    """A container of the image.

    Args:
        client: the engine.
        tag: the image.
        given: how the container may touch its host.
        volumes: container path by volume name or host path.
        environment: variables.
        changes: what is different in the engine call's outermost level.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        tag: str,
        given: Mode,
        volumes: Mapping[str, str],
        environment: Mapping[str, str],
        **changes: Any,
    ) -> None:
        self.api = client.api
        body = given.engine_call(tag, environment=environment, volumes=volumes, labels={labels.RUN: RUN}, host_port=0)
        # AppArmor has a mode of its own; here it would only hide the image's behaviour.
        body["HostConfig"]["SecurityOpt"] = [*(body["HostConfig"]["SecurityOpt"] or []), "apparmor=unconfined"]
        created = self.api.create_container_from_config(body | changes)  # type: ignore[no-untyped-call]
        self.id = str(created["Id"])

    def start(self) -> None:
        """Start it without waiting for libvirt."""
        self.earlier = len(self._lines())
        self.api.start(self.id)

    def wait_until_ready(self) -> None:
        """Wait until the log of this life says that libvirt answers."""
        wait_for("libvirt", lambda: any(ANSWERS in line for line in self.log()), seconds=30, seen=self.text)

    def log(self) -> list[str]:
        """Return what was said since the last start."""
        return self.text().splitlines()

    def text(self) -> str:
        return "\n".join(self._lines()[self.earlier :])

    def _lines(self) -> list[str]:
        # Not by time: a container's first lines may come before the engine notes its start.
        return self.api.logs(self.id).decode().splitlines()

    def complaints(self) -> list[str]:
        """Return the warnings and errors, without their times."""
        return [line.partition(" ")[2] for line in self.log() if EVENT.sub(r"\1", line) in ("warning", "error")]

    def warnings(self) -> list[str]:
        """Return the texts of the image's own warnings."""
        start = "warning entrypoint: "
        return [line.removeprefix(start) for line in self.complaints() if line.startswith(start)]

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.api.inspect_container(self.id)["State"]
        return state

    def sh(self, script: str, **environment: str) -> str:
        """Run a script in the container; returns its output, or fails the test with it."""
        status, output = self.try_sh(script, **environment)
        assert status == 0, f"{script}: {output}"
        return output

    def try_sh(self, script: str, **environment: str) -> tuple[int, str]:
        call = self.api.exec_create(self.id, ["timeout", "30", "sh", "-c", script], environment=environment)
        output = self.api.exec_start(call["Id"]).decode().strip()
        return self.api.exec_inspect(call["Id"])["ExitCode"], output

    def define_guest(self, name: str, devices: str = "", *, uefi: bool = False) -> None:
        xml = DOMAIN.format(name=name, devices=devices)
        if uefi:
            xml = xml.replace("<os>", "<os firmware='efi'>")
        self.sh(f'printf "%s" "$XML" >/tmp/{name}.xml; virsh define /tmp/{name}.xml', XML=xml)

    def start_guest(self, name: str, devices: str = "", *, uefi: bool = False) -> None:
        self.define_guest(name, devices, uefi=uefi)
        self.sh(f"virsh start {name}")

    def start_obedient_guest(self, name: str) -> None:
        escaped = "".join(f"\\{byte:03o}" for byte in OBEYS_ACPI)
        self.sh(f"printf '{escaped}' >/var/lib/libvirt/images/{name}.img")
        self.sh(f"truncate --size 1M /var/lib/libvirt/images/{name}.img")  # the firmware boots from no less
        self.start_guest(name, DISK.format(name=name))
        # Before that the firmware runs, and ignores the power button.
        wait_for(
            "the boot sector",
            lambda: "rd_req 0" not in self.sh(f"virsh domblkstat {name} sda"),
            seconds=20,
        )

    def open_console(self, name: str) -> str:
        """Open a guest's console, and leave it open; returns what was said of that."""
        call = self.api.exec_create(self.id, ["virsh", "console", name], tty=True, stdin=True)
        said = ""
        for piece in self.api.exec_start(call["Id"], tty=True, stream=True):
            said += piece.decode()
            if OPEN in said:
                break
        return said

    def wait_for_another(self, before: str) -> None:
        """Wait until libvirtd is another process than before, and answers."""
        ready = f'now=$(pidof libvirtd) && test "$now" != {before} && timeout 5 virsh hostname'
        wait_for("another libvirtd", lambda: self.try_sh(ready)[0] == 0, seconds=40, seen=self.text)

    def stop(self, seconds: int = 60) -> int:
        self.api.stop(self.id, timeout=seconds)
        return int(self.state()["ExitCode"])

    def kill(self) -> None:
        self.api.kill(self.id)
        self.api.wait(self.id, timeout=30)

    def wait_for_end(self) -> int:
        wait_for("the container's end", lambda: not self.state()["Running"], seconds=30, seen=self.text)
        return int(self.state()["ExitCode"])

    def remove(self) -> None:
        self.api.remove_container(self.id, v=True, force=True)


class Start(Protocol):
    """Start a container; it is removed when the test is over."""

    def __call__(
        self,
        given: Mode | None = ...,
        *,
        tag: str = ...,
        volumes: Mapping[str, str] = ...,
        wait: bool = ...,
        **environment: str,
    ) -> Daemon: ...


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = engines.connect()
    yield engine
    cleanup.remove(engine.client, RUN)


@pytest.fixture(scope="module")
def tag(engine: Engine) -> str:
    return image.ensure_image(engine, lambda line: None, tag=f"{TAG}:default").tag


@pytest.fixture(scope="module")
def unprivileged() -> Mode:
    """The documented mode, as far as this host has the devices."""
    return _without(mode.from_contract(contracts.load(), "unprivileged"), *[
        one for one in ("dev-kvm", "dev-net-tun") if not Path("/", *one.split("-")).exists()
    ])  # fmt: skip


def _without(given: Mode, *exposures: str) -> Mode:
    return dataclasses.replace(given, exposures=tuple(one for one in given.exposures if one.id not in exposures))


def _in_host_network(given: Mode) -> Mode:
    exposure = contracts.load().exposures_of(contracts.load().mode("unprivileged-hostnet"))
    return dataclasses.replace(
        given, exposures=(*given.exposures, *[one for one in exposure if one.id == "network-host"])
    )


@pytest.fixture(scope="module")
def least() -> Mode:
    """The recommended mode, as far as this host has the devices."""
    return _without(mode.from_contract(contracts.load(), "least"), *[
        one for one in ("dev-kvm", "dev-net-tun") if not Path("/", *one.split("-")).exists()
    ])  # fmt: skip


@pytest.fixture(scope="module")
def shared(engine: Engine, tag: str, unprivileged: Mode) -> Iterator[Daemon]:
    """One container in the documented mode, for tests that only look."""
    daemon = Daemon(engine.client, tag, unprivileged, {}, {})
    try:
        daemon.start()
        daemon.wait_until_ready()
        yield daemon
    finally:
        daemon.remove()


@pytest.fixture
def start(engine: Engine, tag: str, unprivileged: Mode) -> Iterator[Start]:
    default = tag
    with ExitStack() as stack:

        def start(
            given: Mode | None = None,
            *,
            tag: str = default,
            volumes: Mapping[str, str] | None = None,
            wait: bool = True,
            **environment: str,
        ) -> Daemon:
            daemon = Daemon(engine.client, tag, given or unprivileged, volumes or {}, environment)
            stack.callback(daemon.remove)
            daemon.start()
            if wait:
                daemon.wait_until_ready()
            return daemon

        yield start


@pytest.fixture
def volumes(engine: Engine) -> dict[str, str]:
    """Fresh named volumes for everything that the image keeps; removed at the end of the module."""
    return {engine.client.api.create_volume(labels={labels.RUN: RUN})["Name"]: path for path in VOLUMES}


# ------------------------------------------------------------------------------------------------------- start


def test_libvirt_answers_soon_after_the_start(shared: Daemon) -> None:
    answered = next(line for line in shared.log() if ANSWERS in line).partition(" ")[0]
    seconds = _time(answered) - _time(shared.state()["StartedAt"])
    assert seconds.total_seconds() <= 5, "the target is 1.5 s on an idle machine"


def _time(stamp: str) -> datetime:
    return datetime.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)


def test_every_event_is_one_line(shared: Daemon) -> None:
    assert [line for line in shared.log() if not EVENT.fullmatch(line)] == []


def test_the_documented_mode_is_without_complaints(shared: Daemon, unprivileged: Mode) -> None:
    if not unprivileged.exposes("/dev/kvm") or not unprivileged.exposes("/dev/net/tun"):
        pytest.skip("this host lacks /dev/kvm or /dev/net/tun, about which the image complains")
    assert shared.complaints() == []


def test_process_1_reaps_orphans(shared: Daemon) -> None:
    assert shared.sh("cat /proc/1/comm") == "tini"
    shared.sh("sh -c 'sleep 0.1 &'; sleep 0.5")
    assert "Z" not in shared.sh("ps --no-headers -eo stat")


def test_volumes_belong_to_libvirt(shared: Daemon) -> None:
    for path, permission in VOLUMES.items():
        assert shared.sh(f"stat -c '%U %G %u %g %a' {path}") == f"libvirt libvirt 2001 2001 {permission}"


def test_the_defaults_are_started_and_start_again(shared: Daemon) -> None:
    network = shared.sh("virsh net-info default")
    pool = shared.sh("virsh pool-info default")
    assert re.findall(r"^(?:Active|Autostart|Persistent): +(\w+)$", network, re.M) == ["yes"] * 3
    assert re.findall(r"^(?:State|Autostart|Persistent): +(\w+)$", pool, re.M) == ["running", "yes", "yes"]
    assert "<forward mode='nat'>" in shared.sh("virsh net-dumpxml default")
    assert "<path>/var/lib/libvirt/images</path>" in shared.sh("virsh pool-dumpxml default")


def test_devices_are_open_to_qemu(shared: Daemon, unprivileged: Mode) -> None:
    for device in unprivileged.devices:
        shared.sh(f"setpriv --reuid libvirt --regid libvirt --init-groups test -r {device} -a -w {device}")


def test_qemu_runs_as_libvirt(start: Start) -> None:
    daemon = start()
    daemon.start_guest("guest")
    assert daemon.sh("ps --no-headers -o user,group -C qemu-system-x86_64").split() == ["libvirt", "libvirt"]


def test_host_procsys_is_bound_to_proc_sys(start: Start, unprivileged: Mode) -> None:
    daemon = start(_without(unprivileged, "systempaths"))
    assert "/proc/sys" in daemon.sh("findmnt --noheadings --output TARGET /proc/sys")
    daemon.sh("cat /proc/sys/net/ipv4/ip_forward >/proc/sys/net/ipv4/ip_forward")
    assert daemon.warnings() == []


def test_docker_asks_libvirt_itself_for_its_health(engine: Engine, tag: str, unprivileged: Mode) -> None:
    second = 1_000_000_000
    often = {"Interval": second, "Timeout": 2 * second, "StartPeriod": second, "Retries": 1}
    daemon = Daemon(engine.client, tag, unprivileged, {}, {}, Healthcheck=often)
    try:
        daemon.start()

        def health() -> str:
            return str(daemon.state()["Health"]["Status"])

        wait_for("a healthy container", lambda: health() == "healthy", seconds=30, seen=daemon.text)
        daemon.sh("kill -STOP $(pidof libvirtd)")
        wait_for("an unhealthy container", lambda: health() == "unhealthy", seconds=30, seen=health)
    finally:
        daemon.remove()


def test_only_the_documented_ways_in_are_offered(shared: Daemon) -> None:
    listening = shared.sh("ss --no-header --tcp --listening --numeric | awk '{print $4}'").split()
    assert [one for one in listening if not one.startswith("192.168.122.1:")] == ["0.0.0.0:16509"]
    settings = shared.sh("cat /etc/libvirt/libvirtd.conf").splitlines()
    assert {"listen_tls = 0", 'auth_tcp = "none"'} <= {*settings}
    shared.sh("test ! -e /etc/pki/CA/cacert.pem && ! command -v sshd")
    assert shared.sh("stat -c '%a %g' /run/libvirt/libvirt-sock") == "770 2001"
    assert {*shared.api.inspect_container(shared.id)["Config"]["Volumes"]} == {*VOLUMES}


# --------------------------------------------------------------------------------------------- build parameters


def test_build_parameters_are_honoured(engine: Engine, start: Start) -> None:
    parameters = {"LIBVIRT_UID": "3001", "LIBVIRT_GID": "3002", "TCP_PORT": "17000"}
    built = image.ensure_image(engine, lambda line: None, tag=f"{TAG}:parameters", buildargs=parameters)
    given = mode.from_contract(contracts.load(), "required-only")
    elsewhere = given.image.model_copy(update={"port": 17000})
    daemon = start(dataclasses.replace(given, image=elsewhere), tag=built.tag)
    assert daemon.sh("id -u libvirt; id -g libvirt; getent group 3002").split() == ["3001", "3002", "libvirt:x:3002:"]
    for path in VOLUMES:
        assert daemon.sh(f"stat -c '%u %g' {path}") == "3001 3002"
    assert daemon.sh("virsh -c qemu+tcp://127.0.0.1:17000/system uri") == "qemu+tcp://127.0.0.1:17000/system"
    daemon.sh("healthcheck")
    assert "17000/tcp" in engine.client.images.get(built.tag).attrs["Config"]["ExposedPorts"]


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        ({"LIBVIRT_UID": "33"}, "LIBVIRT_UID=33 is the user 'www-data' already"),
        ({"LIBVIRT_GID": "0"}, "LIBVIRT_GID=0 is the group 'root' already"),
        ({"LIBVIRT_UID": "libvirt"}, "must be numbers"),
    ],
)
def test_a_build_parameter_that_cannot_be_honoured_ends_the_build(
    engine: Engine, tag: str, parameters: dict[str, str], reason: str
) -> None:
    with pytest.raises(HarnessError, match=re.escape(reason)):
        image.ensure_image(engine, lambda line: None, tag=f"{TAG}:refused", buildargs=parameters)


def test_the_base_image_is_on_the_label(engine: Engine, tag: str) -> None:
    found = image.find(engine, tag)
    assert found is not None
    assert found.base.split()[0] in (base_image.BASE, base_image.MADE_BASE)


def test_port_and_address_can_be_chosen_at_the_start(start: Start) -> None:
    daemon = start(TCP_PORT="17001", LISTEN_ADDRESS="127.0.0.1")
    assert daemon.sh("ss --no-header --tcp --listening --numeric | awk '{print $4}'").count("127.0.0.1:17001") == 1
    daemon.sh("healthcheck")


# ------------------------------------------------------------------------------------------ volumes and defaults


def test_old_files_in_bind_mounts_become_libvirts(start: Start, tmp_path: Path) -> None:
    folders = {str(tmp_path / str(number)): path for number, path in enumerate(VOLUMES)}
    for folder in folders:
        Path(folder).mkdir(mode=0o700)
    images = Path(next(iter(folders)))
    (images / "old").mkdir()
    (images / "old" / "disk.img").touch(mode=0o600)
    daemon = start(volumes=folders)
    owners = daemon.sh("find /var/lib/libvirt/images -printf '%U:%G\\n' | sort -u")
    assert owners == "2001:2001"
    assert {path: daemon.sh(f"stat -c %a {path}") for path in VOLUMES} == VOLUMES
    assert daemon.sh("virsh net-list --name; virsh pool-list --name").split() == ["default", "default"]


def test_a_definition_that_was_there_before_is_not_overwritten(start: Start, tmp_path: Path) -> None:
    (tmp_path / "networks").mkdir()
    mine = "<network><name>default</name><bridge name='mine0'/></network>"
    (tmp_path / "networks" / "default.xml").write_text(mine)
    daemon = start(volumes={str(tmp_path): "/etc/libvirt/qemu"})
    assert "mine0" in daemon.sh("virsh net-dumpxml default")
    assert "Active:         no" in daemon.sh("virsh net-info default")


def test_what_was_changed_or_removed_stays_so(start: Start, volumes: dict[str, str]) -> None:
    first = start(volumes=volumes)
    uuid = first.sh("virsh net-uuid default")
    first.sh(f"sed s/192.168.122/192.168.77/g {NETWORK_FILE} >/tmp/n.xml && virsh net-define /tmp/n.xml")
    first.sh("virsh pool-destroy default && virsh pool-undefine default")
    first.start_guest("guest")
    first.sh("virsh destroy guest")
    assert first.stop() == 0
    second = start(volumes=volumes)
    assert "192.168.77.1" in second.sh("virsh net-dumpxml default")
    assert second.sh("virsh net-uuid default; virsh net-list --name").split() == [uuid, "default"]
    assert second.sh("virsh pool-list --all --name") == ""
    assert second.sh("virsh list --all --name") == "guest"
    assert second.warnings() == []


def test_the_pool_is_the_same_after_a_restart(start: Start, volumes: dict[str, str]) -> None:
    first = start(volumes=volumes)
    uuid = first.sh("virsh pool-uuid default")
    first.stop()
    assert start(volumes=volumes).sh("virsh pool-uuid default") == uuid


# -------------------------------------------------------------------------------------------- missing exposures

NO_GUESTS, NO_NETWORKS = "guests will not start", "virtual networks will not start"


@pytest.mark.parametrize(
    ("exposure", "names", "consequence"),
    [
        ("dev-kvm", "/dev/kvm", "guests run under emulation only"),
        ("dev-net-tun", "/dev/net/tun", "guests with a network interface will not start"),
        ("SYS_ADMIN", "SYS_ADMIN", NO_GUESTS),
        ("SYS_PTRACE", "SYS_PTRACE", NO_GUESTS),
        ("NET_ADMIN", "NET_ADMIN", NO_NETWORKS),
        ("SYS_MODULE", "", ""),  # nothing needs a module
    ],
)
def test_a_missing_exposure_is_one_warning(
    start: Start, unprivileged: Mode, exposure: str, names: str, consequence: str
) -> None:
    daemon = start(_without(unprivileged, exposure))
    expected = {device for device in ("/dev/kvm", "/dev/net/tun") if not unprivileged.exposes(device)} | {names} - {""}
    warnings = daemon.warnings()
    assert len(warnings) == len(expected)
    assert not names or any(names in warning and consequence in warning for warning in warnings)


def test_without_writable_kernel_settings_the_warning_names_host_procsys(start: Start, unprivileged: Mode) -> None:
    (warning,) = start(_without(unprivileged, "systempaths", "proc-sys", "dev-kvm", "dev-net-tun")).warnings()[:1]
    assert "/proc/sys:/host-procsys" in warning
    assert NO_NETWORKS in warning


def test_with_nothing_at_all_libvirt_still_answers(start: Start, unprivileged: Mode) -> None:
    daemon = start(dataclasses.replace(unprivileged, exposures=()))
    names = ["SYS_ADMIN", "SYS_PTRACE", "NET_ADMIN", "/host-procsys", "/sys/fs/cgroup", "/dev/kvm", "/dev/net/tun"]
    warnings = daemon.warnings()
    assert [name for name in names if sum(name in warning for warning in warnings) != 1] == []
    daemon.sh("healthcheck")
    assert daemon.stop() == 0


# ----------------------------------------------------------------------------------------------- control groups

BIG = DOMAIN.replace("'MiB'>32<", "'MiB'>600<").replace(
    "<vcpu>", "<memoryBacking><allocation mode='immediate'/></memoryBacking><vcpu>"
)


def test_a_containers_limits_hold_for_its_guests_alone_and_their_groups_end_with_it(start: Start) -> None:
    limited, free = start(), start()
    for daemon in (limited, free):
        daemon.start_guest("same")
        assert daemon.id in daemon.sh('cat /proc/"$(cat /run/libvirt/qemu/same.pid)"/cgroup')
        own = daemon.sh("cat /proc/1/cgroup")
        assert own.endswith("/container") or not own.startswith("0::"), "cgroup v2, where processes leave the guests'"

    limited.sh("virsh schedinfo same --set cpu_shares=77")
    assert "77" not in free.sh("virsh schedinfo same | grep cpu_shares")

    limited.api.update_container(limited.id, mem_limit="300m", memswap_limit="300m")
    start_big = 'printf "%s" "$XML" >/tmp/big.xml; virsh create /tmp/big.xml'
    assert limited.try_sh(start_big, XML=BIG.format(name="big", devices=""))[0] != 0
    free.sh(start_big, XML=BIG.format(name="big", devices=""))

    limited.kill()
    left = f"find /sys/fs/cgroup -name '*{limited.id}*'"
    wait_for("the groups' end", lambda: free.sh(left) == "", seconds=20, seen=lambda: free.sh(left))


def test_without_sys_admin_the_warning_says_that_limits_do_not_hold(start: Start, unprivileged: Mode) -> None:
    daemon = start(_without(unprivileged, "SYS_ADMIN"), QEMU_NAMESPACES="off", QEMU_REMEMBER_OWNER="off")
    (warning,) = [one for one in daemon.warnings() if "SYS_ADMIN" in one]
    assert "the container's limits do not hold" in warning


# ------------------------------------------------------------------------------------------------------ macvtap

DIRECT = "<interface type='direct'><mac address='52:54:00:00:00:7a'/><source dev='{link}' mode='bridge'/></interface>"


@pytest.fixture(scope="module")
def macvtap(engine: Engine, tag: str, unprivileged: Mode) -> Mode:
    """The documented mode, and the devices of macvtap interfaces."""
    rule = contracts.load().exposures_of(contracts.load().mode("unprivileged-macvtap"))
    try:
        majors = char_devices.majors(HostShell(engine.client, tag, RUN), ["macvtap"])
    except Unsupported as error:
        pytest.skip(str(error))
    added = tuple(one for one in rule if one.id == "macvtap")
    return dataclasses.replace(unprivileged, exposures=(*unprivileged.exposures, *added), majors=majors)


def test_a_macvtap_links_node_comes_and_goes_with_it(start: Start, macvtap: Mode) -> None:
    daemon = start(macvtap, MACVTAP="yes")
    assert [warning for warning in daemon.warnings() if "macvtap" in warning] == []
    for link in ("one", "two"):
        daemon.sh(f"ip link add link eth0 name {link} type macvtap")
    nodes = daemon.sh("cd /sys/class/macvtap && ls -d tap*").split()
    assert len(nodes) == 2
    for node in nodes:
        owner = f"stat --format='%U %G %a' /dev/{node}"
        wait_for(f"/dev/{node}", lambda: daemon.try_sh(owner)[1] == "libvirt root 660", seconds=20)  # noqa: B023
        daemon.sh(f": <>/dev/{node}")
    daemon.sh("ip link delete one; ip link delete two")
    wait_for("the nodes to go", lambda: daemon.try_sh("ls /dev/tap*")[0] != 0, seconds=20)


def test_somebody_elses_macvtap_links_get_no_node(start: Start, macvtap: Mode) -> None:
    daemon = start(macvtap)
    daemon.sh("ip link add link eth0 name theirs type macvtap")
    nodes = "/usr/local/lib/libvirt-container/macvtap-nodes libvirt"
    daemon.sh(f"{nodes} >/tmp/said & until grep -q listening /tmp/said; do sleep 0.1; done")
    daemon.sh("ip link add link eth0 name own type macvtap")
    own, theirs = (daemon.sh(f"cat /sys/class/net/{link}/ifindex") for link in ("own", "theirs"))
    wait_for("the node", lambda: daemon.try_sh(f"test -c /dev/tap{own}")[0] == 0, seconds=20)
    assert daemon.sh("ls -d /dev/tap*") == f"/dev/tap{own}"
    assert theirs != own


def test_macvtap_guests_start_with_libvirt(start: Start, macvtap: Mode, volumes: dict[str, str]) -> None:
    daemon = start(macvtap, volumes=volumes, MACVTAP="yes", SHUTDOWN_TIMEOUT="1")
    daemon.start_guest("guest", DIRECT.format(link="eth0"))
    daemon.sh("virsh autostart guest")
    daemon.stop()
    daemon.start()
    daemon.wait_until_ready()
    wait_for("the guest", lambda: daemon.sh("virsh domstate guest") == "running", seconds=20, seen=daemon.text)


def test_nobody_waits_for_macvtap_unasked(start: Start, macvtap: Mode) -> None:
    daemon = start(macvtap)
    assert "macvtap-nodes" not in daemon.sh("ps --no-headers -eo args")
    assert [warning for warning in daemon.warnings() if "macvtap" in warning] == []


def test_without_the_device_rule_the_warning_names_it(start: Start, macvtap: Mode, unprivileged: Mode) -> None:
    daemon = start(unprivileged, MACVTAP="yes")
    (warning,) = [one for one in daemon.warnings() if "macvtap" in one]
    assert f"--device-cgroup-rule 'c {macvtap.majors['macvtap']}:* rwm'" in warning
    assert "guests with a direct interface will not start" in warning


def test_what_is_neither_yes_nor_no_is_said(start: Start) -> None:
    assert "MACVTAP=true is neither yes nor no: using no" in start(MACVTAP="true").warnings()


# ---------------------------------------------------------------------------------------------------------- end


def test_guests_are_asked_by_acpi_and_have_a_deadline(start: Start) -> None:
    daemon = start(SHUTDOWN_TIMEOUT="4")
    daemon.start_obedient_guest("obedient")
    daemon.start_guest("stubborn", INTERFACE)
    assert daemon.stop() == 0
    said = daemon.text()
    assert "shutting down domain obedient" in said
    assert daemon.warnings() == ["domain stubborn is still active: destroying it"]
    assert "stopping network default" in said
    assert said.splitlines()[-1].endswith("info entrypoint: stopped")


def test_without_guests_the_end_is_quick_and_the_next_start_complete(start: Start) -> None:
    daemon = start()
    began = time.monotonic()
    assert daemon.stop(seconds=20) == 0
    assert time.monotonic() - began < 10
    daemon.start()
    daemon.wait_until_ready()
    assert daemon.sh("virsh net-list --name; virsh pool-list --name").split() == ["default", "default"]


def test_nothing_is_stale_after_a_kill(start: Start, unprivileged: Mode) -> None:
    daemon = start()
    daemon.start_guest("guest", INTERFACE if unprivileged.exposes("/dev/net/tun") else "")
    before = daemon.complaints()
    daemon.kill()
    daemon.start()
    daemon.wait_until_ready()
    assert daemon.sh("virsh domstate guest") == "shut off"
    assert daemon.sh("virsh net-list --name; virsh pool-list --name").split() == ["default", "default"]
    daemon.sh("virsh start guest")
    assert daemon.complaints() == before


def test_a_console_that_was_open_at_a_kill_opens_again(start: Start) -> None:
    daemon = start()
    daemon.start_guest("guest", CONSOLE)
    assert OPEN in daemon.open_console("guest")
    daemon.kill()
    daemon.start()
    daemon.wait_until_ready()
    # Its lock names a process, and there is one of that number again.
    assert "LCK" not in daemon.sh("ls /run/lock")
    daemon.sh("virsh start guest")
    assert OPEN in daemon.open_console("guest")


# ------------------------------------------------------------------------------------ a libvirtd that dies or hangs


@pytest.mark.parametrize("name", ["unprivileged", "least"])
def test_a_libvirtd_that_dies_or_hangs_is_replaced_and_guests_go_on(
    start: Start, unprivileged: Mode, name: str
) -> None:
    given = unprivileged if name == "unprivileged" else mode.from_contract(contracts.load(), name)
    daemon = start(_without(given, *({"dev-kvm", "dev-net-tun"} - _devices(unprivileged))), HANG_SECONDS="4")
    daemon.start_obedient_guest("guest")
    guest = daemon.sh("pidof qemu-system-x86_64")

    for signal_, said in (("KILL", "libvirtd was killed by SIGKILL"), ("STOP", "libvirtd has not answered for 4 s")):
        before = daemon.sh("pidof libvirtd")
        daemon.sh(f"kill -{signal_} {before}")
        daemon.wait_for_another(before)
        assert any(said in warning for warning in daemon.warnings())
        assert daemon.sh("pidof qemu-system-x86_64; virsh domstate guest").split() == [guest, "running"]
        assert daemon.sh("virsh net-list --name") == "default"
        # The new libvirtd knows its network's dnsmasq.
        daemon.sh("test $(pidof dnsmasq | wc -w) = 2 && kill -0 $(cat /run/libvirt/network/default.pid)")
    assert "Address already in use" not in daemon.text()
    assert [line for line in daemon.log() if not EVENT.fullmatch(line)] == []

    daemon.sh("kill -STOP $(pidof libvirtd)")
    assert daemon.stop() == 0
    said = daemon.text().rpartition("info entrypoint: stopping\n")[2]
    assert "shutting down domain guest" in said
    assert "still active" not in said
    assert said.splitlines()[-1].endswith("info entrypoint: stopped")


def _devices(given: Mode) -> set[str]:
    return {one.id for one in given.exposures}


def test_a_libvirtd_that_cannot_be_replaced_ends_the_container(start: Start) -> None:
    daemon = start()
    daemon.start_guest("guest")
    daemon.sh("echo 'no = such setting' >>/etc/libvirt/libvirtd.conf; kill -KILL $(pidof libvirtd)")
    assert daemon.wait_for_end() == 1
    assert len([warning for warning in daemon.warnings() if "starting it again" in warning]) == 3
    assert "by SIGTERM to QEMU" in daemon.text()
    assert "error entrypoint: libvirtd was restarted 3 times" in daemon.log()[-1]


def test_without_any_libvirtd_the_end_is_that_of_qemu(start: Start) -> None:
    daemon = start()
    daemon.start_guest("guest")
    daemon.sh("echo 'no = such setting' >>/etc/libvirt/libvirtd.conf; kill -STOP $(pidof libvirtd)")
    assert daemon.stop() == 0
    assert "by SIGTERM to QEMU" in daemon.text()
    assert daemon.log()[-1].endswith("info entrypoint: stopped")


def test_a_libvirtd_that_does_not_come_up_can_be_stopped(start: Start, tmp_path: Path) -> None:
    daemon = start(wait=False, volumes=_in_place_of_libvirtd(tmp_path, "exec sleep 1000"))
    assert daemon.stop(seconds=20) == 0


def _in_place_of_libvirtd(folder: Path, script: str) -> dict[str, str]:
    instead = folder / "libvirtd"
    instead.write_text(f"#!/bin/sh\n{script}\n")
    instead.chmod(0o755)
    return {str(instead): "/usr/local/sbin/libvirtd"}


@pytest.mark.parametrize(
    ("script", "fate"),
    [
        ("exit 7", "libvirtd ended with status 7; its last error: none"),
        ("kill -SEGV $$", "libvirtd was killed by SIGSEGV; its last error: none"),
    ],
)
def test_a_libvirtd_that_never_answered_ends_the_container_with_its_fate(
    start: Start, tmp_path: Path, script: str, fate: str
) -> None:
    daemon = start(wait=False, volumes=_in_place_of_libvirtd(tmp_path, script))
    assert daemon.wait_for_end() == 1
    assert daemon.log()[-1].endswith(f"error entrypoint: {fate}")


def test_seconds_that_are_no_number_are_said(start: Start) -> None:
    assert "HANG_SECONDS=1m is not a number of seconds: using 60" in start(HANG_SECONDS="1m").warnings()


def test_a_hung_libvirtd_stays_where_no_seconds_are_set(start: Start) -> None:
    daemon = start(HANG_SECONDS="0")
    before = daemon.sh("pidof libvirtd")
    daemon.sh("kill -STOP $(pidof libvirtd); sleep 10")
    assert daemon.sh("pidof libvirtd") == before
    daemon.sh("kill -CONT $(pidof libvirtd); virsh hostname")


def test_guests_whose_qemu_hangs_cost_one_shutdown_timeout_together(start: Start) -> None:
    daemon = start(SHUTDOWN_TIMEOUT="3")
    daemon.start_guest("one")
    daemon.start_guest("other")
    daemon.sh("kill -STOP $(pidof qemu-system-x86_64)")
    began = time.monotonic()
    assert daemon.stop() == 0
    assert time.monotonic() - began < 25, "3 s for all, 10 s until libvirt kills QEMU"
    said = daemon.text()
    assert all(f"domain {name} cannot be shut down: no answer within 3 s" in said for name in ("one", "other"))
    assert daemon.log()[-1].endswith("info entrypoint: stopped")


def test_a_guest_that_ends_while_no_libvirtd_runs_is_named(start: Start) -> None:
    daemon = start()
    daemon.start_guest("guest")
    before = daemon.sh("pidof libvirtd")
    daemon.sh(f"kill -KILL {before} $(pidof qemu-system-x86_64)")
    daemon.wait_for_another(before)
    assert any("domain guest no longer runs" in warning for warning in daemon.warnings())


def test_a_full_volume_gets_its_default_network_once_there_is_room(start: Start, engine: Engine) -> None:
    room = {"type": "tmpfs", "device": "tmpfs", "o": "size=64k"}
    name = engine.client.api.create_volume(driver_opts=room, labels={labels.RUN: RUN})["Name"]
    volumes = {name: "/etc/libvirt/qemu"}
    holder = start(volumes={name: "/full"})
    holder.sh("dd if=/dev/zero of=/full/fill bs=1k 2>/dev/null || test -s /full/fill")
    daemon = start(volumes=volumes)
    assert any("no default network: /etc/libvirt/qemu" in one for one in daemon.warnings())
    holder.sh("rm /full/fill")
    assert daemon.stop() == 0
    daemon.start()
    daemon.wait_until_ready()
    assert daemon.sh("virsh net-list --name") == "default"


def test_a_second_container_on_the_same_volumes_says_so_and_keeps_the_note(
    start: Start, volumes: dict[str, str]
) -> None:
    first = start(volumes=volumes)
    first.start_guest("guest")
    first.sh("virsh managedsave guest")
    first.sh("timeout 20 sh -c 'until grep -q guest.save /etc/libvirt/qemu/.state-outside-volumes; do sleep 0.2; done'")

    said = start(volumes=volumes).warnings()

    assert any("another container uses the volume /etc/libvirt/qemu" in warning for warning in said)
    assert not any("lost" in warning for warning in said)
    assert "guest.save" in first.sh("cat /etc/libvirt/qemu/.state-outside-volumes")


def test_a_users_own_settings_of_qemu_are_compared_with_the_images(start: Start, tmp_path: Path) -> None:
    own = tmp_path / "qemu.conf"
    own.write_text('user = "libvirt"\nmax_queued = 5\n')
    (warning,) = [one for one in start(volumes={str(own): "/etc/libvirt/qemu.conf"}).warnings() if "of your own" in one]
    assert 'stdio_handler = "file"' in warning
    assert "user =" not in warning


def test_a_users_own_settings_of_qemu_get_the_switches_and_keep_their_migration_host(
    start: Start, tmp_path: Path
) -> None:
    own = tmp_path / "qemu.conf"
    own.write_text('migration_host = "192.0.2.1"\n')
    daemon = start(volumes={str(own): "/etc/libvirt/qemu.conf"}, QEMU_CGROUPS="off", MIGRATION_HOST="192.0.2.2")
    assert "cgroup_controllers = []" in own.read_text().splitlines()
    assert _migration_host(daemon) == ['"192.0.2.1"']
    assert any("MIGRATION_HOST=192.0.2.2 has no effect" in warning for warning in daemon.warnings())


@pytest.mark.parametrize(("name", "after"), [("unprivileged", "2001"), ("least", "0")])
def test_a_stopped_guests_image_belongs_to_its_former_owner_or_to_root(
    start: Start, unprivileged: Mode, least: Mode, name: str, after: str
) -> None:
    daemon = start(least if name == "least" else unprivileged)
    image = "/var/lib/libvirt/images/d.img"
    daemon.sh(f"truncate --size 1M {image}; chown 2001:2001 {image}")
    daemon.start_guest("guest", DISK.format(name="d"))
    daemon.sh("virsh destroy guest")
    assert daemon.sh(f"stat -c %u {image}") == after


def test_a_port_that_is_none_is_said(start: Start) -> None:
    daemon = start(TCP_PORT="99999")
    assert "TCP_PORT=99999 is not a port from 1 to 65535: using 16509" in daemon.warnings()
    assert "libvirt answers on 0.0.0.0:16509" in daemon.text()
    daemon.sh("healthcheck")


# ------------------------------------------------------------------------------------------------ crashed guests

ALLOCATE = "object_add memory-backend-ram,id=more,size=600M,prealloc=on"


def _wait_for_crash(daemon: Daemon, name: str) -> str:
    start = f"error entrypoint: domain {name} crashed: "
    wait_for(f"word of {name}", lambda: start in daemon.text(), seconds=20, seen=daemon.text)
    (text,) = [line.removeprefix(start) for line in daemon.complaints() if line.startswith(start)]
    return text


def test_a_guest_that_the_kernel_killed_out_of_memory_is_named(start: Start, least: Mode) -> None:
    daemon = start(least)
    daemon.api.update_container(daemon.id, mem_limit="300m", memswap_limit="300m")
    daemon.start_guest("greedy")
    daemon.start_guest("modest")
    daemon.try_sh(f"virsh qemu-monitor-command greedy --hmp '{ALLOCATE}'")
    reason = _wait_for_crash(daemon, "greedy")
    assert reason.startswith("out of memory")
    assert "memory limit is 300 MiB" in reason
    assert daemon.sh("virsh domstate modest") == "running"
    assert "domain modest" not in daemon.text()


def test_a_guest_that_was_killed_otherwise_is_named_and_a_destroyed_one_is_not(start: Start, least: Mode) -> None:
    daemon = start(least)
    for name in ("killed", "destroyed"):
        daemon.start_guest(name)
    daemon.sh("virsh destroy destroyed")
    daemon.sh("kill -KILL $(cat /run/libvirt/qemu/killed.pid)")
    reason = _wait_for_crash(daemon, "killed")
    assert "not out of memory" in reason
    assert "/var/log/libvirt/qemu/killed.log" in reason
    assert "domain destroyed" not in daemon.text()


def test_a_healthy_life_of_the_recommended_mode_has_no_errors(start: Start, least: Mode) -> None:
    daemon = start(least)
    daemon.start_guest("guest")
    daemon.sh("virsh managedsave guest; virsh start guest; virsh destroy guest")
    assert [line for line in daemon.complaints() if line.startswith("error ")] == []


# ----------------------------------------------------------------------------------------------------- migration


def _address(daemon: Daemon) -> str:
    return str(daemon.api.inspect_container(daemon.id)["NetworkSettings"]["IPAddress"])


def _migration_host(daemon: Daemon) -> list[str]:
    return daemon.sh("sed -n 's/^migration_host = //p' /etc/libvirt/qemu.conf").split("\n")


def test_a_guest_migrates_to_another_container_without_its_address_for_that(start: Start, least: Mode) -> None:
    source, target = start(least), start(least)
    source.start_guest("guest")
    source.sh(f"virsh migrate --live guest qemu+tcp://{_address(target)}/system")
    assert target.sh("virsh domstate guest") == "running"
    assert source.sh("virsh domstate guest") == "shut off"


def test_the_address_for_migration_is_written_anew_at_each_start(start: Start) -> None:
    daemon = start()
    assert _migration_host(daemon) == [f'"{_address(daemon)}"']
    daemon.stop()
    daemon.start()
    daemon.wait_until_ready()
    assert _migration_host(daemon) == [f'"{_address(daemon)}"']


def test_the_address_for_migration_can_be_chosen(start: Start) -> None:
    assert _migration_host(start(MIGRATION_HOST="vm.example.org")) == ['"vm.example.org"']


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", 'a"b'])
def test_an_address_for_migration_that_cannot_be_is_a_warning(start: Start, host: str) -> None:
    daemon = start(MIGRATION_HOST=host)
    assert [one for one in daemon.warnings() if f"MIGRATION_HOST={host} is no name or address" in one] != []
    assert _migration_host(daemon) == [f'"{_address(daemon)}"']


# ---------------------------------------------------------------------------------------------------- lost state

SECRET = "<secret ephemeral='no'><uuid>0e6ad3a0-9c5b-4a2c-8b0f-3c1d5a9a7d11</uuid></secret>"
TPM = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
TPM_IN_VOLUME = TPM.replace("/></tpm>", "><source type='dir' path='/var/lib/libvirt/images/tpm'/></backend></tpm>")
FILTERED = INTERFACE.replace("</interface>", "<filterref filter='mine'/></interface>")
ENCRYPTED = DISK.replace(
    "<target",
    "<encryption format='luks'><secret type='passphrase' uuid='0e6ad3a0-9c5b-4a2c-8b0f-3c1d5a9a7d11'/></encryption>"
    "<target",
)
LOST = {
    "domain by-uefi had UEFI variables": "/var/lib/libvirt/qemu/nvram",
    "domain saved had a managed save": "/var/lib/libvirt/qemu/save",
    "domain disked had the snapshot first": "/var/lib/libvirt/qemu/snapshot/disked",
    "domain measured had the state of an emulated TPM": "/var/lib/libvirt/swtpm",
    "there was the secret 0e6ad3a0-9c5b-4a2c-8b0f-3c1d5a9a7d11": "/etc/libvirt/secrets",
    "there was the network filter mine": "/etc/libvirt/nwfilter",
}


def _lost(daemon: Daemon) -> list[str]:
    return sorted(one for one in daemon.warnings() if "is lost" in one)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_new_container_names_the_state_that_is_lost_and_the_same_one_is_quiet(
    start: Start, least: Mode, volumes: dict[str, str], end: str
) -> None:
    first = start(least, volumes=volumes, SHUTDOWN_TIMEOUT="0")
    first.sh("qemu-img create -f qcow2 /var/lib/libvirt/images/d.img 1M; chown libvirt: /var/lib/libvirt/images/d.img")
    first.start_guest("disked", DISK.format(name="d").replace("'raw'", "'qcow2'"))
    first.sh("virsh destroy disked; virsh snapshot-create-as disked first")
    first.start_guest("measured", TPM)
    first.sh('printf "%s" "$XML" >/tmp/s.xml; virsh secret-define /tmp/s.xml', XML=SECRET)
    first.sh('printf "%s" "$XML" >/tmp/f.xml; virsh nwfilter-define /tmp/f.xml', XML="<filter name='mine'/>")
    first.define_guest("filtered", FILTERED)
    first.define_guest("encrypted", ENCRYPTED.format(name="e"))
    first.start_guest("by-uefi", uefi=True)
    first.sh("mkdir /var/lib/libvirt/images/tpm")
    first.start_guest("measured-in-volume", TPM_IN_VOLUME)
    first.start_guest("saved")
    first.sh("virsh managedsave saved")
    time.sleep(5 if end == "kill" else 0)  # it is noted every 2 s, and at the end
    getattr(first, end)()
    first.start()
    first.wait_until_ready()
    assert _lost(first) == []
    first.stop()

    second = start(least, volumes=volumes)
    assert _lost(second) == sorted(
        f"{what}, and it is lost: the container is a new one,"
        f" and {folder} is not on a volume; mount one there to keep it"
        for what, folder in LOST.items()
    )
    second.sh("virsh start saved")
    assert second.sh("virsh domstate saved --reason") == "running (booted)"
    for name, missing in (("filtered", "filter 'mine' is missing"), ("encrypted", "no secret with matching uuid")):
        assert missing in second.try_sh(f"virsh start {name}")[1]
    second.sh("test -s /var/lib/libvirt/images/tpm/tpm2-00.permall && virsh start measured-in-volume")
    second.kill()
    second.start()
    second.wait_until_ready()
    assert _lost(second) == []


def test_state_that_was_removed_is_not_lost(start: Start, least: Mode, volumes: dict[str, str]) -> None:
    first = start(least, volumes=volumes, SHUTDOWN_TIMEOUT="0")
    first.start_guest("guest")
    first.sh("virsh managedsave guest; virsh managedsave-remove guest")
    first.stop()
    assert _lost(start(least, volumes=volumes)) == []


# --------------------------------------------------------------------------------------------- the host's network


@pytest.fixture
def port() -> int:
    """A free port of the host, on the loopback address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_hosts_network_is_afterwards_what_it_was(
    engine: Engine, tag: str, start: Start, unprivileged: Mode, port: int
) -> None:
    before = host_network.snapshot(HostShell(engine.client, tag, RUN))
    daemon = start(_in_host_network(unprivileged), TCP_PORT=str(port), LISTEN_ADDRESS="127.0.0.1", SHUTDOWN_TIMEOUT="1")
    try:
        daemon.start_guest("guest", INTERFACE if unprivileged.exposes("/dev/net/tun") else "")
        assert host_network.snapshot(HostShell(engine.client, tag, RUN)) != before
        # A kill leaves everything behind; the next life of the same container takes it over, and away.
        daemon.kill()
        daemon.start()
        daemon.wait_until_ready()
        assert daemon.sh("virsh net-list --name") == "default"
    finally:
        status = daemon.stop()
    assert status == 0
    assert host_network.snapshot(HostShell(engine.client, tag, RUN)) == before


def test_a_killed_containers_macvtap_link_is_taken_away_by_its_next_life(
    engine: Engine, tag: str, start: Start, macvtap: Mode, port: int
) -> None:
    before = host_network.snapshot(HostShell(engine.client, tag, RUN))
    given = _in_host_network(macvtap)
    daemon = start(given, MACVTAP="yes", TCP_PORT=str(port), LISTEN_ADDRESS="127.0.0.1", SHUTDOWN_TIMEOUT="1")
    try:
        daemon.start_guest("guest", DIRECT.format(link="virbr0"))
        daemon.kill()
        daemon.start()
        daemon.wait_until_ready()
        # It has the address that the guest's next link is to have.
        daemon.sh("virsh start guest")
    finally:
        status = daemon.stop()
    assert status == 0
    assert host_network.snapshot(HostShell(engine.client, tag, RUN)) == before


def test_a_port_that_is_taken_is_the_reason(start: Start, unprivileged: Mode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        daemon = start(_in_host_network(unprivileged), wait=False, TCP_PORT=str(port), LISTEN_ADDRESS="127.0.0.1")
        assert daemon.wait_for_end() != 0
    assert daemon.log()[-1].endswith("Address already in use")
