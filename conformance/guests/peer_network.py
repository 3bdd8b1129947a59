"""What is beyond the container: a bridge network of the run's own, and a server on it that tells whom it sees.

The server also leases addresses of that network, to guests on macvtap: a NAT's guests have their own.
"""

import ipaddress
import shlex

import docker
import docker.errors
import docker.types

from conformance.container.container import Container
from conformance.engine import labels, names
from conformance.engine.api_errors import engine_errors
from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError
from conformance.media.probe import PEER_COMMAND, PEER_PORT, Probe
from conformance.model.mode import Mode

OWN_RIGHTS = ["label=disable"]
"""Security options of the containers here: where SELinux confines, a capability that one is given is refused to it."""

LEASES = 100
"""So many of the network's addresses are leased, the last ones: an engine gives the first ones to containers."""


def peer_image(client: docker.DockerClient, probe: Probe) -> str:
    """Return the tag of the image of the probe's peer, which is imported first where the engine has none.

    Raises:
        docker.errors.DockerException: the engine refused.
        requests.exceptions.RequestException: it is gone.
    """
    repository, tag = "libvirt-conformance-peer", probe.recipe[:12]
    try:
        client.images.get(f"{repository}:{tag}")
    except docker.errors.ImageNotFound:
        client.api.import_image_from_file(str(probe.peer), repository=repository, tag=tag)
    return f"{repository}:{tag}"


class PeerNetwork:
    """A run's bridge network and the server on it.

    Args:
        client: the engine.
        probe: the media; its peer is the server's file system.
        run: the run's id, for names and labels.
    """

    def __init__(self, client: docker.DockerClient, probe: Probe, run: str) -> None:
        self._client = client
        self._probe = probe
        self._run = run
        self.network = names.fixed(run, "network")
        self.name = ""
        """The server's name, which the engine's DNS server knows on this network."""
        self._network_id = ""
        self._server_id = ""

    def start(self) -> "PeerNetwork":
        """Make the network and start the server.

        Raises:
            EngineError: the engine refused.
        """
        marks = {labels.RUN: self._run}
        with engine_errors():
            self._network_id = str(
                self._client.api.create_network(
                    self.network,
                    driver="bridge",
                    labels=marks,
                    # Docker 28 drops what reaches a container's address from other than its own bridge, such as
                    # a guest in host network mode; engines that do not know the option ignore it.
                    options={"com.docker.network.bridge.gateway_mode_ipv4": "nat-unprotected"},
                )["Id"]
            )
            self.name = names.new(self._run, "peer")
            server = self._client.api.create_container(
                peer_image(self._client, self._probe),
                command=["/bin/busybox", "sh", "-c", serving(self._subnet)],
                name=self.name,
                labels=marks,
                stop_signal="SIGKILL",  # the first process of a container ignores SIGTERM
                host_config=self._client.api.create_host_config(network_mode=self.network, security_opt=OWN_RIGHTS),
            )
            self._server_id = str(server["Id"])
            self._client.api.start(self._server_id)
        return self

    @property
    def address(self) -> str:
        """Return the server's address."""
        with engine_errors():
            networks = self._client.api.inspect_container(self._server_id)["NetworkSettings"]["Networks"]
        return str(networks[self.network]["IPAddress"])

    @property
    def server(self) -> str:
        """Return where the server listens, as ``IP:PORT``."""
        return f"{self.address}:{PEER_PORT}"

    @property
    def gateway(self) -> str:
        """Return the host's own address on this network: what the server sees of the host's network."""
        return self._configuration["Gateway"]

    @property
    def _subnet(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self._configuration["Subnet"])

    @property
    def _configuration(self) -> dict[str, str]:
        with engine_errors():
            return dict(self._client.api.inspect_network(self._network_id)["IPAM"]["Config"][0])

    def link(self, mode: Mode) -> str:
        """Return the link that leads to this network where a container of a mode is: its own, or the host's."""
        return f"br-{self._network_id[:12]}" if mode.host_network else "eth0"

    def source(self, container: Container) -> str:
        """Return the address from which the server sees whoever is behind a container's NAT."""
        return self.gateway if container.mode.host_network else container.address

    def sees(self, address: str) -> bool:
        """Say whether anybody answers at an address, asked from this network.

        Raises:
            EngineError: it could not be tried.
        """
        command = ["/bin/busybox", "ping", "-c", "3", "-W", "2", address]
        said = self._shell.output(command, network_mode=self.network)
        if "transmitted" not in said:
            raise EngineError(f"{address} could not be asked: {said.strip()}")
        return " 0 packets received" not in said

    def reaches(self, url: str, *, by_way_of: str) -> bool:
        """Say whether somebody on this network reaches a server behind one of its addresses.

        Args:
            url: what is asked for, by an address that only the router knows.
            by_way_of: the address on this network that is taken for the router.

        Raises:
            EngineError: it could not be tried.
        """
        host = url.removeprefix("http://").partition("/")[0].partition(":")[0]
        script = (
            f"ip route add {host}/32 via {by_way_of} && echo tried; wget -q -T 5 -O - {url} >/dev/null && echo reached"
        )
        said = self._shell.run(script, network_mode=self.network, cap_add=["NET_ADMIN"], security_opt=OWN_RIGHTS)
        if "tried" not in said:
            raise EngineError(f"no route to {host} by way of {by_way_of} could be made: {said.strip()}")
        return "reached" in said

    def opens(self, address: str, port: int) -> bool:
        """Say whether somebody on this network can open a TCP connection to an address.

        Raises:
            EngineError: it could not be tried.
        """
        script = 'echo tried; nc -w 5 "$1" "$2" -e /bin/busybox true 2>/dev/null && echo opened'
        said = self._shell.run(script, address, str(port), network_mode=self.network)
        if "tried" not in said:
            raise EngineError(f"{address}:{port} could not be tried: {said.strip()}")
        return "opened" in said

    def output(self, script: str, *arguments: str, seconds: int = 60) -> str:
        """Return what a shell script writes that is run on this network, as containers of the image are.

        Raises:
            EngineError: it could not be run, or not to its end within so many seconds.
        """
        return self._shell.run(script, *arguments, seconds=seconds, network_mode=self.network)

    @property
    def _shell(self) -> HostShell:
        with engine_errors():
            return HostShell(
                self._client, peer_image(self._client, self._probe), self._run, interpreter=("/bin/busybox", "sh")
            )


def serving(subnet: ipaddress.IPv4Network) -> str:
    """Return the script of the server: it leases the last addresses of its network, and answers as the probe's peer."""
    first, last = subnet[-LEASES - 2], subnet[-2]
    configuration = (
        f"start {first}\nend {last}\ninterface eth0\noption subnet {subnet.netmask}\n"
        "lease_file /tmp/leases\npidfile /tmp/udhcpd.pid\n"
    )
    return (
        f"printf %s {shlex.quote(configuration)} >/tmp/udhcpd.conf; : >/tmp/leases;"
        f" udhcpd -f /tmp/udhcpd.conf & exec {shlex.join(PEER_COMMAND)}"
    )
