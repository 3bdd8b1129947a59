"""A private engine in namespaces of its own: it comes up, is shared, and leaves nothing but its data.

The network namespace keeps it apart from the engine on which the other tests run; the mount namespace hides an engine
of the machine, which would be used in place of a private one. It is also the one engine that may be restarted under a
container of the image: the matrix never touches the engine that it runs on.
"""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from conformance.engine import client, docker_context, engine_processes, image, local_daemon
from conformance.util.wait import wait_for

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a private engine"),
    pytest.mark.skipif(shutil.which("dockerd", path=local_daemon._path()) is None, reason="dockerd is not installed"),
    pytest.mark.timeout(180),
]

RUN = (
    "import sys; from conformance.engine import local_daemon\n"
    "try: sys.exit(local_daemon.run(sys.argv[1:], lambda line: print(line, file=sys.stderr, flush=True)))\n"
    "except KeyboardInterrupt: sys.exit(130)"
)

CONTAINER = """
import docker, sys
client = docker.from_env()
client.networks.create("extra")
client.api.import_image_from_file(sys.argv[1], repository="sleeper", tag="1")
client.containers.run("sleeper:1", ["/sleep", "600"], detach=True, ports={"80/tcp": 18080})
"""

DEFAULT_SOCKET = Path(docker_context.DEFAULT_HOST.removeprefix("unix://"))

OTHER_ENGINE = """
import http.server, json, socketserver, sys

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "a client"

    def do_GET(self):
        body = json.dumps({"ApiVersion": "1.41", "Version": "20.10"} if self.path.endswith("/version") else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

server = socketserver.ThreadingUnixStreamServer(sys.argv[1], Handler)
print("up", flush=True)
server.serve_forever()
"""
"""Answers at a Unix socket as an engine does that is asked for its version and its description."""


def _hear() -> None:
    """Start with no signal ignored, as ctrl-C is in the background of a shell, and a hang-up under nohup."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class Namespace:
    """A network and a mount namespace, a cache in them, and commands that run there."""

    def __init__(self, holder: int, cache: Path) -> None:
        self.enter = ["nsenter", f"--net=/proc/{holder}/ns/net", f"--mount=/proc/{holder}/ns/mnt", "--"]
        self.cache = cache
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
        self.environment["CONFORMANCE_CACHE"] = str(cache)
        self.environment["DOCKER_CONFIG"] = str(cache)

    def output(self, *command: str) -> str:
        return subprocess.run([*self.enter, *command], check=True, capture_output=True, text=True, timeout=30).stdout

    def hide_engine(self) -> None:
        """Let nothing answer at the default socket, as on a machine without an engine.

        Only the socket is covered: dockerd looks into /run for systemd.
        """
        self.output("sh", "-c", 'if [ -e "$1" ]; then mount --bind /dev/null "$1"; fi', "sh", str(DEFAULT_SOCKET))

    def start(self, command: Sequence[str]) -> "subprocess.Popen[str]":
        """Start a run that gives ``command`` an engine."""
        return subprocess.Popen(
            [*self.enter, sys.executable, "-c", RUN, *command],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_hear,
        )

    def hold(self) -> "subprocess.Popen[str]":
        """Start a run that holds an engine until its standard input ends; returns when it does."""
        run = self.start(["sh", "-c", "echo up; read nothing"])
        assert run.stdout is not None
        assert run.stdout.readline() == "up\n", run.stderr and run.stderr.read()
        return run

    def state(self) -> str:
        """Return everything on this host that an engine changes, beside its data."""
        mounts = [line for line in self.output("cat", "/proc/self/mountinfo").splitlines() if str(self.cache) in line]
        containers = {folder.name for folder in self.cache.glob("engine/data/containers/*")}
        groups = [str(one) for one in Path("/sys/fs/cgroup").glob("**/docker/*/") if one.name in containers]
        rules = "".join(self.output(tool) for tool in ("iptables-save", "ip6tables-save"))
        rules = re.sub(
            r"^#.*\n|\[\d+:\d+\]|^\*\w+\n(:\w+ ACCEPT \[\d+:\d+\]\n)*COMMIT\n", "", rules, flags=re.MULTILINE
        )
        return "\n".join(
            [
                rules,
                self.output("ip", "-o", "link"),
                self.output("ip", "route"),
                self.output("cat", "/proc/sys/net/ipv4/ip_forward"),
                *mounts,
                *groups,
                str(Path("/etc/docker/key.json").exists()),
            ]
        )

    def processes(self) -> list[list[str]]:
        return [
            command
            for command in engine_processes.processes().values()
            if str(self.cache) in " ".join(command) and "python" not in command[0] and command[0] != "nsenter"
        ]

    def dockerd(self) -> int:
        return next(
            pid
            for pid, command in engine_processes.processes().items()
            if command[0] == "dockerd" and str(self.cache) in " ".join(command)
        )


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    # Not pytest's folder: its path is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="engine") as cache:
        holder = subprocess.Popen(["unshare", "--net", "--mount", "--propagation", "slave", "sleep", "600"])
        try:
            # The program starts once unshare is done with the namespaces and the propagation of their mounts.
            program = Path(f"/proc/{holder.pid}/cmdline")
            wait_for("the namespaces", lambda: program.read_bytes().startswith(b"sleep"), seconds=10)
            namespace = Namespace(holder.pid, Path(cache))
            namespace.hide_engine()
            namespace.output("ip", "link", "set", "lo", "up")
            namespace.output("sh", "-c", "echo 0 >/proc/sys/net/ipv4/ip_forward")
            yield namespace
            left = namespace.processes()
        finally:
            holder.kill()
            holder.wait()
    assert not left


@pytest.fixture
def untouched(namespace: Namespace) -> Iterator[None]:
    """Fails a test after which the host is not as it was."""
    before = namespace.state()
    yield
    assert namespace.state() == before
    assert sorted(path.name for path in (namespace.cache / "engine").iterdir()) == [
        "change.lock", "daemon.json", "data", "dockerd.log", "users.lock",
    ]  # fmt: skip


@pytest.fixture
def sleeper(tmp_path: Path) -> Path:
    """An image with nothing but ``sleep`` and its libraries."""
    archive = tmp_path / "sleeper.tar"
    libraries = re.findall(
        r"/\S+", subprocess.run(["ldd", "/bin/sleep"], check=True, capture_output=True, text=True).stdout
    )
    with tarfile.open(archive, "w", dereference=True) as tar:
        tar.add("/bin/sleep", "sleep")
        for library in libraries:
            tar.add(library)
        folder = tarfile.TarInfo("etc")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder, io.BytesIO())
    return archive


def end(run: "subprocess.Popen[str]", seconds: float = 60) -> tuple[int, str]:
    _, errors = run.communicate(timeout=seconds)
    return run.returncode, errors


@pytest.mark.usefixtures("untouched")
def test_a_command_gets_an_engine_and_nothing_is_left(namespace: Namespace, sleeper: Path) -> None:
    run = namespace.start([sys.executable, "-c", CONTAINER, str(sleeper)])
    status, errors = end(run)
    assert status == 0, errors
    assert "starting a private one" in errors
    assert "stopping the private engine" in errors


@pytest.mark.usefixtures("untouched")
def test_an_engine_of_the_machine_is_used_unless_it_is_hidden(namespace: Namespace) -> None:
    # Over an empty /run: whether the machine that runs this test has an engine makes no difference.
    namespace.output("mount", "-t", "tmpfs", "none", str(DEFAULT_SOCKET.parent))
    other = subprocess.Popen(
        [*namespace.enter, sys.executable, "-c", OTHER_ENGINE, str(DEFAULT_SOCKET)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        assert end(namespace.start(["true"])) == (0, "")

        namespace.hide_engine()

        status, errors = end(namespace.start(["true"]))
        assert status == 0, errors
        assert "starting a private one" in errors
    finally:
        other.kill()
        other.communicate()


@pytest.mark.usefixtures("untouched")
def test_two_runs_share_one_engine(namespace: Namespace) -> None:
    first = namespace.hold()
    engine = namespace.dockerd()
    second = namespace.hold()
    assert namespace.dockerd() == engine
    assert "another run uses it" in end(first)[1]
    assert namespace.dockerd() == engine
    assert "stopping the private engine" in end(second)[1]


@pytest.mark.usefixtures("untouched")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_run_stops_its_engine(namespace: Namespace, number: signal.Signals) -> None:
    run = namespace.hold()
    run.send_signal(number)
    assert run.stdin is not None
    run.stdin.close()  # as a terminal's ctrl-C reaches the command as well
    run.stdin = None
    assert end(run)[0] == 130


@pytest.mark.usefixtures("untouched")
def test_the_engine_of_a_killed_run_is_taken_over_and_stopped(namespace: Namespace) -> None:
    first = namespace.hold()
    engine = namespace.dockerd()
    first.kill()
    first.communicate()
    assert namespace.dockerd() == engine
    second = namespace.hold()
    assert namespace.dockerd() == engine
    assert "already runs" in end(second)[1]


@pytest.mark.usefixtures("untouched")
def test_what_a_killed_engine_left_is_taken_away(namespace: Namespace, sleeper: Path) -> None:
    first = namespace.start(["sh", "-c", f"{sys.executable} -c '{CONTAINER}' {sleeper}; echo up; read nothing"])
    assert first.stdout is not None
    assert first.stdout.readline() == "up\n"
    assert any("containerd-shim" in command[0] for command in namespace.processes())
    for pid in (first.pid, namespace.dockerd()):
        os.kill(pid, signal.SIGKILL)
    first.communicate()
    status, errors = end(namespace.start(["true"]))
    assert status == 0, errors
    assert "leftovers of a killed private engine" in errors


@pytest.mark.timeout(600)
@pytest.mark.parametrize("how", ["stop", "kill"])
def test_after_a_restart_of_the_engine_what_is_persistent_is_back(
    namespace: Namespace, tmp_path: Path, how: str
) -> None:
    where = client.connect()
    archive = tmp_path / "image.tar"
    with archive.open("wb") as tar:
        for chunk in where.client.images.get(image.ensure_image(where, print).id).save():
            tar.write(chunk)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DOCKER_")}
    environment["DOCKER_CONFIG"] = str(namespace.cache)  # not the context that this user has chosen

    done = subprocess.run(
        [
            *(*namespace.enter, sys.executable, str(Path(__file__).with_name("engine_restart.py"))),
            *(str(namespace.cache / "engine"), str(archive), how),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["stopped"]
    assert seen["boots"][0] != seen["boots"][1]
    assert seen["after"] == seen["before"] | {"domain": seen["before"]["domain"] | {"active": False}}
    assert seen["default"]
    assert seen["stale"] == []
