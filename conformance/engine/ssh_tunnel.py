"""An engine behind ssh: the user's own ``ssh`` forwards its socket to this machine.

That program knows the user's keys, agent, known hosts and ``~/.ssh/config``. It runs in batch mode, without prompts.
"""

import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from conformance.errors import EngineError
from conformance.util.supervisor import SupervisedProcess
from conformance.util.wait import DeadlineExpired, wait_for

ENGINE_SOCKET = "/var/run/docker.sock"

OPEN_SECONDS = 15.0
"""From ssh's start to the forwarded socket: name, connection, keys."""

OPTIONS = (
    "BatchMode=yes",
    "ExitOnForwardFailure=yes",
    "ConnectTimeout=10",
    "ServerAliveInterval=10",  # a network that swallows everything ends the tunnel after 30 s
    "ServerAliveCountMax=3",
    "StreamLocalBindMask=0177",
    # A connection that is shared with the user's other sessions would outlive this one, or take it along.
    "ControlMaster=no",
    "ControlPath=none",
)
"""What ssh_config(5) says of each."""

_REMEDIES = (
    (
        r"Could not resolve hostname",
        "the host name cannot be resolved",
        "correct DOCKER_HOST, or add the host to ~/.ssh/config",
    ),
    (
        r"IDENTIFICATION HAS CHANGED",
        "the host's key has changed",
        "find out why; if the change is legitimate, run ssh-keygen -R {host}, then ssh {words} true",
    ),
    (
        r"Host key verification failed",
        "the host's key is unknown on this machine",
        "run ssh {words} true once, and compare the key that it shows",
    ),
    (
        r"Permission denied|Too many authentication failures",
        "permission denied: the host accepts no key of this user",
        "ssh-copy-id {words}, or ssh-add the right key; this must work without a prompt:"
        " ssh -o BatchMode=yes {words} true",
    ),
    (
        r"Connection refused|No route to host|timed out|Connection closed|Network is unreachable",
        "the host does not answer",
        "see whether it is up and its sshd listens on this port: ssh {words} true",
    ),
    (
        r"administratively prohibited",
        "the host's sshd forwards no sockets",
        "on that host, set in /etc/ssh/sshd_config: AllowTcpForwarding yes and AllowStreamLocalForwarding yes",
    ),
)
"""Pattern in ssh's output, its meaning, and a remedy."""


@dataclass(frozen=True)
class Target:
    """The parts of an ``ssh://`` address.

    Attributes:
        host: a name that ssh knows.
        user: empty where ssh decides.
        port: None where ssh decides.
        socket: the engine's, over there.
    """

    host: str
    user: str = ""
    port: int | None = None
    socket: str = ENGINE_SOCKET

    @property
    def words(self) -> list[str]:
        """Return ssh's arguments."""
        port = [f"-p{self.port}"] if self.port else []
        return [*port, "--", f"{self.user}@{self.host}" if self.user else self.host]


def parse(address: str) -> Target:
    """Read ``ssh://[USER@]HOST[:PORT][/PATH/OF/docker.sock]``.

    Raises:
        EngineError: it is something else.
    """
    example = "write it as in ssh://user@host, ssh://host:2222 or ssh://host/run/user/1000/docker.sock"
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise EngineError(f"{address} is not a valid address: {error}", example) from error
    if parts.password is not None:
        raise EngineError("an ssh:// address cannot hold a password", "let ssh log in with a key (ssh-copy-id)")
    host = parts.netloc.rpartition("@")[2]
    host = host[1 : host.index("]")] if host.startswith("[") else host.partition(":")[0]  # as written: ssh's to match
    if parts.scheme != "ssh" or not host or parts.query or parts.fragment:
        raise EngineError(f"{address} names no host", example)
    path = unquote(parts.path)
    return Target(host, unquote(parts.username or ""), port, path if path.strip("/") else ENGINE_SOCKET)


class Tunnel:
    """A forwarded engine's socket, for as long as this process lives.

    Args:
        address: ``ssh://[USER@]HOST[:PORT][/PATH/OF/docker.sock]``.
        options: more words for ssh, such as ``-i KEY`` or ``-o UserKnownHostsFile=FILE``.
        seconds: within how many seconds it has to be there.

    Raises:
        EngineError: ssh is not installed, or could not log in and forward; says why in its words, and what to do.
    """

    def __init__(self, address: str, options: Sequence[str] = (), *, seconds: float = OPEN_SECONDS) -> None:
        self.address = address
        self._target = parse(address)
        self._options = tuple(options)
        if shutil.which("ssh") is None:
            raise EngineError(
                f"{address} cannot be reached: ssh is not installed", "sudo apt-get install openssh-client"
            )
        self._kept = SupervisedProcess(lambda folder: command(self._target, folder / "engine.sock", self._options))
        self.socket = self._kept.path / "engine.sock"
        try:
            wait_for("ssh to forward the socket", self._there, seconds=seconds, interval=0.05)
        except DeadlineExpired as error:
            said = f"; its output: {_quoted(self._kept.log)}" if self._kept.log.strip() else ""
            raise EngineError(
                f"ssh did not reach {address} within {seconds:g} s{said}", f"try: ssh {self._by_hand} true"
            ) from error
        finally:
            if not self._there_now():
                self.close()

    @property
    def alive(self) -> bool:
        """Say whether ssh still runs."""
        return self._kept.alive

    def close(self) -> None:
        """End ssh and remove the socket."""
        self._kept.close()

    def why(self, seen: str) -> EngineError:
        """Return why no engine answers at the forwarded socket, from ssh's output or a look at the other host.

        Args:
            seen: the error of connecting.
        """
        return self._explained() or self._asked(seen)

    @property
    def _by_hand(self) -> str:
        return shlex.join([*self._options, *(word for word in self._target.words if word != "--")])

    def _there(self) -> bool:
        if self._there_now():
            return True
        if not self._kept.alive:
            raise self._explained() or EngineError(
                f"ssh to {self.address} failed: {_quoted(self._kept.log)}", f"try: ssh {self._by_hand} true"
            )
        return False

    def _there_now(self) -> bool:
        """Say whether ssh listens; the socket is there a moment before that."""
        return self._kept.alive and self.socket.exists() and _listens(self.socket)

    def _explained(self) -> EngineError | None:
        log = self._kept.log
        for pattern, meaning, remedy in _REMEDIES:
            if re.search(pattern, log):
                return EngineError(
                    f"no engine through {self.address}: {meaning}; ssh's output: {_quoted(log)}",
                    remedy.format(words=self._by_hand, host=self._target.host),
                )
        return None

    def _asked(self, seen: str) -> EngineError:
        path = shlex.quote(self._target.socket)
        script = f"if [ ! -S {path} ]; then echo absent; elif [ ! -w {path} ]; then echo denied; else echo there; fi"
        words = ["ssh", *_options(self._options), *self._target.words, script]
        said = ""
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=OPEN_SECONDS
            )
            said = done.stdout.strip()
        where, user = self._target.socket, self._target.user or "the user"
        if said == "absent":
            return EngineError(
                f"no engine through {self.address}: that host has no socket {where}",
                "start Docker on that host (sudo systemctl start docker), or name its socket: ssh://HOST/PATH",
            )
        if said == "denied":
            return EngineError(
                f"no engine through {self.address}: permission denied for {user} at {where}",
                f"run on that host: sudo usermod -aG docker {self._target.user or 'USER'}"
                " (members of that group are as good as root)",
            )
        return EngineError(
            f"no usable engine through {self.address} at {where}: {seen}; ssh's output: {_quoted(self._kept.log)}",
            f"try: ssh {self._by_hand} docker version",
        )


_tunnels: dict[tuple[str, tuple[str, ...]], Tunnel] = {}
_opening = threading.Lock()


def to(address: str, options: Sequence[str] = (), *, seconds: float = OPEN_SECONDS) -> Tunnel:
    """Return this process's tunnel to an address, opening it where there is none or it has ended.

    Raises:
        EngineError: it cannot be opened.
    """
    key = (address, tuple(options))
    with _opening:
        known = _tunnels.get(key)
        if known is None or not known.alive:
            if known is not None:
                known.close()
            _tunnels[key] = known = Tunnel(address, options, seconds=seconds)
        return known


def command(target: Target, local: Path, options: Sequence[str] = ()) -> list[str]:
    """Return ssh's words that forward a socket of this machine to the target's, and run nothing there."""
    return ["ssh", "-N", "-T", "-a", "-x", *_options(options), "-L", f"{local}:{target.socket}", *target.words]


def _options(options: Sequence[str]) -> list[str]:
    """Return all options, the caller's first: of each, ssh takes the first value."""
    return [*options, *(word for option in OPTIONS for word in ("-o", option))]


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(str(path))
        except OSError:
            return False
    return True


def _quoted(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip() and not line.startswith("@")]
    return " / ".join(lines[-3:]) or "nothing"
