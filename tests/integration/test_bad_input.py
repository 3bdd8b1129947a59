"""What must not go wrong when something else does: a clear end, nothing left behind, no record lost or invented.

No guest is booted here: where a session is needed it asks the smallest mode, and the rest is a container alone.
"""

import contextlib
import dataclasses
import io
import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import libvirt
import pytest

from conformance.container import libvirt_connection
from conformance.container.container import Container
from conformance.engine import client as engine
from conformance.engine import image, labels
from conformance.engine.host_shell import HostShell
from conformance.errors import ImageFailure, ImageLate
from conformance.guests.factory import Guests
from conformance.host import network, network_leftovers, network_lock
from conformance.media import probe as probe_media
from conformance.model import contract as contracts
from conformance.model import mode, record
from conformance.model.verdict import Verdict, blames_image, gravest
from conformance.plugin.state import EXIT_CANNOT_RUN
from conformance.run import cleanup
from conformance.util import paths
from conformance.util.wait import wait_for

pytestmark = pytest.mark.timeout(300)

RUN = labels.new_run()
OTHER_RUN = f"9{RUN[1:]}"
"""Another run of this process, in a time to come: no sweep takes it for dead."""
SESSION = [sys.executable, "-u", "-m", "pytest", "suites"]
SESSION_SECONDS = 200


@pytest.fixture(scope="module")
def where() -> engine.Engine:
    return engine.connect()


@pytest.fixture(scope="module")
def tag(where: engine.Engine) -> str:
    return image.ensure_image(where, lambda _text: None).tag


@pytest.fixture
def container(where: engine.Engine, tag: str) -> Iterator[Container]:
    """A container of the image in the smallest mode; started, and not waited for."""
    one = Container(where.client, mode.from_contract(contracts.load(), "required-only"), tag, run=RUN)
    try:
        yield one.start()
    finally:
        one.remove()


def left_by(client: docker.DockerClient, process: int) -> list[str]:
    """Return what a run of this machine left on the engine; its label ends with its process."""
    found = [
        *client.api.containers(all=True, filters={"label": labels.RUN}),
        *client.api.networks(filters={"label": labels.RUN}),
        *(client.api.volumes(filters={"label": labels.RUN})["Volumes"] or []),
    ]
    return [str(one) for one in found if str(one["Labels"][labels.RUN]).endswith(f"-{process}")]


def containers_of(client: docker.DockerClient, process: int) -> list[str]:
    """Return the ids of the running containers of a run."""
    found = client.api.containers(filters={"label": labels.RUN})
    return [str(one["Id"]) for one in found if one["Labels"][labels.RUN].endswith(f"-{process}")]


class Session:
    """A run of the matrix in a process of its own, read line by line."""

    def __init__(self, results: Path, *options: str, mode: str = "required-only", **environment: str) -> None:
        self.results = results
        self.output = ""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [*SESSION, "-v", "--mode", mode, "--results", str(results), *options],
            cwd=paths.PROJECT,
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # In the background of a shell, a process starts with ctrl-C ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def until(self, text: str) -> None:
        """Read on until a line has this text."""
        deadline = time.monotonic() + SESSION_SECONDS
        while True:
            line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            assert line is not None, f"ended before {text!r}:\n{self.output}"
            self.output += line
            if text in line:
                return

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Read to the end; return the exit status."""
        deadline = time.monotonic() + SESSION_SECONDS
        try:
            while (line := self._lines.get(timeout=max(0.0, deadline - time.monotonic()))) is not None:
                self.output += line
            return self.process.wait(SESSION_SECONDS)
        finally:
            self.process.kill()

    @property
    def records(self) -> list[record.Record]:
        return list(record.read(self.results))


# ----------------------------------------------------------------------------------------- the image


Other = Callable[..., str]


@pytest.fixture
def other(where: engine.Engine, tag: str) -> Iterator[Other]:
    """Makes an image like ours that runs another command, and returns its tag."""
    made: list[str] = []

    def other(*command: str) -> str:
        base = where.client.containers.create(tag, labels={labels.RUN: RUN})
        try:
            # tini hands SIGTERM on, so that the end is quick.
            words = json.dumps(["/usr/bin/tini", "--", *command])
            base.commit("conformance-test-other", str(len(made)), changes=[f"ENTRYPOINT {words}"])
        finally:
            base.remove(v=True)
        made.append(f"conformance-test-other:{len(made)}")
        return made[-1]

    yield other
    for one in made:
        where.client.images.remove(one)


def test_an_image_that_never_opens_its_port_fails_within_the_deadline(
    where: engine.Engine, other: Other, tmp_path: Path
) -> None:
    deaf = other("sleep", "infinity")
    session = Session(tmp_path, "-m", "api", "--image", deaf, "--ready-seconds", "3")

    assert session.end() == 1, session.output
    assert {one.verdict for one in session.records} == {Verdict.FAILS}
    assert "waited 3 s for libvirt to answer" in session.records[0].reason
    assert "the container listens on no port" in session.output, session.output
    assert session.output.count("starting the container") == 1, "it is waited for once, not for each test"
    assert left_by(where.client, session.process.pid) == []


NO_LIBVIRT = """
use IO::Socket::INET;
my $server = IO::Socket::INET->new(LocalPort => 16509, Listen => 9, ReuseAddr => 1);
while (my $client = $server->accept) { print $client "220 this is another service\r\n" x 99; sleep(1); close($client) }
"""


def test_an_image_that_answers_and_is_no_libvirt_fails_within_the_deadline(
    where: engine.Engine, other: Other, tmp_path: Path
) -> None:
    session = Session(tmp_path, "-m", "api", "--image", other("perl", "-e", NO_LIBVIRT), "--ready-seconds", "4")

    assert session.end() == 1, session.output
    assert {one.verdict for one in session.records} == {Verdict.FAILS}
    assert "waited 4 s for libvirt to answer" in session.records[0].reason
    assert "the container listens on 16509" in session.output, session.output
    assert left_by(where.client, session.process.pid) == []


def test_an_image_with_nothing_in_it_is_told_and_leaves_nothing(where: engine.Engine, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("empty"))
    where.client.api.import_image_from_data(buffer.getvalue(), "conformance-test-empty", "1")
    try:
        session = Session(tmp_path, "-m", "api", "--image", "conformance-test-empty:1")
        status = session.end()
    finally:
        where.client.images.remove("conformance-test-empty:1")

    assert status == 1, session.output
    assert {one.verdict for one in session.records} <= {Verdict.FAILS, Verdict.ERROR}
    assert "No command specified" in session.records[0].reason
    assert left_by(where.client, session.process.pid) == []


def test_a_wrong_port_in_the_contract_names_the_right_one(where: engine.Engine, tag: str) -> None:
    asked = mode.from_contract(contracts.load(), "required-only")
    asked = dataclasses.replace(asked, image=asked.image.model_copy(update={"port": 16510}))
    container = Container(where.client, asked, tag, run=RUN)
    try:
        container.start()
        with pytest.raises(ImageLate, match="port 16510; the container listens on 16509"):
            container.wait_until_ready(10)
    finally:
        container.remove()


# ---------------------------------------------------------------------------------------- the daemon


def test_a_daemon_that_hangs_ends_each_call_and_is_started_again(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libvirt_connection, "KEEPALIVE_SECONDS", 1)
    monkeypatch.setattr("conformance.container.container.OPEN_SECONDS", 2)
    connection = container.wait_until_ready()
    container.run("pkill", "-STOP", "-x", "libvirtd")

    started = time.monotonic()
    with pytest.raises(libvirt.libvirtError, match=r"keepalive|closed") as caught:
        connection.listAllDomains()
    assert time.monotonic() - started < 60
    assert blames_image(caught.value)
    with pytest.raises(ImageLate, match="libvirt to answer"):
        container.wait_until_ready(3)

    container.revive()
    assert container.connection.getType() == "QEMU"


def test_a_daemon_that_is_killed_is_there_again(container: Container) -> None:
    connection = container.wait_until_ready()
    container.run("pkill", "-KILL", "-x", "libvirtd")

    with pytest.raises(libvirt.libvirtError):
        wait_for("the connection's end", lambda: connection.listAllDomains() is None, seconds=20)
    assert container.wait_until_ready().getType() == "QEMU"


def test_a_daemon_that_never_starts_ends_the_container_and_the_reason_is_said(container: Container) -> None:
    container.wait_until_ready()
    container.run("sh", "-c", "echo 'no = such setting' >>/etc/libvirt/libvirtd.conf; pkill -KILL -x libvirtd")
    wait_for("the container's end", lambda: not container.running, seconds=60)

    with pytest.raises(ImageFailure, match=r"ended before libvirt answered(.|\n)*libvirtd was restarted 3 times"):
        container.wait_until_ready()


@pytest.mark.parametrize(
    ("signal_", "ready", "guest"),
    # The image replaces a daemon that ended before the guest is booted again; for one that hangs it waits for longer.
    # After SIGTERM libvirtd may wait for its own deadline of 30 s before it ends.
    [("KILL", 20, Verdict.WORKS), ("STOP", 20, Verdict.FAILS), ("TERM", 45, Verdict.WORKS)],
)
def test_a_daemon_that_ends_or_hangs_while_a_guest_boots_costs_that_guests_verdict_at_most(
    where: engine.Engine, tmp_path: Path, signal_: str, ready: int, guest: Verdict
) -> None:
    session = Session(tmp_path, "-m", "virtio_net or volumes", "--ready-seconds", str(ready), mode="unprivileged")
    session.until("a guest by BIOS")
    for one in containers_of(where.client, session.process.pid):
        command = where.client.api.exec_create(one, ["pkill", f"-{signal_}", "-x", "libvirtd"])
        where.client.api.exec_start(command["Id"])

    assert session.end() == (0 if guest is Verdict.WORKS else 1), session.output
    verdicts = {
        feature: gravest(one.verdict for one in session.records if one.feature == feature)
        for feature in ("virtio-net", "volumes")
    }
    assert verdicts == {"virtio-net": guest, "volumes": Verdict.WORKS}, session.output
    assert left_by(where.client, session.process.pid) == []


class OnFullDisk(Container):
    """A container whose volumes are too small for anything."""

    def _make_volume(self, purpose: str) -> str:
        options = {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}
        made = self.client.api.create_volume(driver="local", driver_opts=options, labels=self._labels)
        return str(made["Name"])


def test_a_full_disk_is_not_blamed_on_the_image(where: engine.Engine, tag: str) -> None:
    container = OnFullDisk(where.client, mode.from_contract(contracts.load(), "required-only"), tag, run=RUN)
    probe = probe_media.ensure(lambda _text: None)
    try:
        container.start().wait_until_ready()
        guests = Guests(container, probe, None, "tcg", lambda _text: None)  # type: ignore[arg-type]
        with pytest.raises(libvirt.libvirtError, match="No space left on device") as caught:
            guests.boot("iso")
    finally:
        container.remove()
    assert not blames_image(caught.value)


# ---------------------------------------------------------------------------------------- the engine


class Proxy:
    """Stands for an engine: hands everything on to the real one, and does something at a moment.

    Args:
        path: the socket to listen on.
        target: the real engine's socket.
        moment: a request's first line.
        act: what is done when it comes for the first time, before it is handed on.
    """

    def __init__(self, path: Path, target: str, moment: str, act: Callable[["Proxy"], None]) -> None:
        self.gone = threading.Event()
        self.came = False
        self._moment = re.compile(moment.encode())
        self._act = act
        self._target = target
        self._open: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self.gone.is_set():
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self._target)
            self._open += [near, far]
            threading.Thread(target=self._copy, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._copy, args=(far, near, False), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, requests: bool) -> None:
        try:
            while data := source.recv(65536):
                if requests and not self.came and self._moment.search(data):
                    self.came = True
                    self._act(self)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def end(self) -> None:
        self.gone.set()
        # shutdown wakes whoever is in accept or recv; close alone does not.
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


@pytest.mark.parametrize(
    "moment", [r"PUT \S+/archive", r"POST \S+/volumes/create", r"POST \S+/containers/\w+/start", r"POST \S+/exec/"]
)
def test_an_engine_that_goes_away_at_any_moment_is_said_and_the_next_run_cleans_up(
    where: engine.Engine, tmp_path: Path, moment: str
) -> None:
    proxy = Proxy(tmp_path / "engine.sock", where.host.removeprefix("unix://"), moment, Proxy.end)
    try:
        session = Session(tmp_path / "results", "-m", "api", DOCKER_HOST=f"unix://{tmp_path}/engine.sock")
        status = session.end()
    finally:
        proxy.end()

    assert proxy.came
    assert status in (1, EXIT_CANNOT_RUN), session.output
    assert "the engine no longer answers" in session.output
    assert "Traceback" not in session.output
    assert {one.verdict for one in session.records} <= {Verdict.ERROR}
    cleanup.sweep(where.client)
    assert left_by(where.client, session.process.pid) == []


def test_an_engine_that_goes_away_is_an_error_once_and_the_next_run_cleans_up(
    where: engine.Engine, tmp_path: Path
) -> None:
    # The first stop is the one of the test that puts a new container on the volumes.
    proxy = Proxy(
        tmp_path / "engine.sock", where.host.removeprefix("unix://"), r"POST \S+/containers/\w+/stop", Proxy.end
    )
    results = tmp_path / "results"
    try:
        session = Session(results, "-m", "api or volumes", DOCKER_HOST=f"unix://{tmp_path}/engine.sock")
        status = session.end()
    finally:
        proxy.end()

    assert status == 1, session.output
    before = [one for one in session.records if one.verdict is not Verdict.ERROR]
    errors = [one for one in session.records if one.verdict is Verdict.ERROR]
    assert {one.feature for one in before} == {"api", "volumes"}, session.output
    assert {one.check for one in errors} == {"test_images_that_lay_there_before_belong_to_libvirt_after_a_start"}
    assert "the engine no longer answers" in errors[0].reason
    assert session.output.count("cannot clean up") == 1
    assert left_by(where.client, session.process.pid)

    cleanup.sweep(where.client)

    assert left_by(where.client, session.process.pid) == []


# -------------------------------------------------------------------------------------------- ctrl-C


MOMENTS = {
    "a throw-away container is made": r"POST \S+/containers/create",
    "the host's KVM is asked": r"PUT \S+/archive",
    "a network is made": r"POST \S+/networks/create",
    "a volume is made": r"POST \S+/volumes/create",
    "a command runs in the container": r"POST \S+/exec/\w+/start",
    "the container is stopped": r"POST \S+/containers/\w+/stop",
    "a volume is removed": r"DELETE \S+/volumes/",
}
"""Requests to the engine, each the first of its kind in a session."""


@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_while_the_engine_works_leaves_nothing(where: engine.Engine, tmp_path: Path, moment: str) -> None:
    proxy = Proxy(
        tmp_path / "engine.sock",
        where.host.removeprefix("unix://"),
        MOMENTS[moment],
        lambda _proxy: session.interrupt(),
    )
    try:
        session = Session(tmp_path / "results", "-m", "api", DOCKER_HOST=f"unix://{tmp_path}/engine.sock")
        status = session.end()
    finally:
        proxy.end()

    assert proxy.came
    assert status == pytest.ExitCode.INTERRUPTED, session.output
    # A removal that was interrupted is finished by the engine alone.
    wait_for("nothing to be left", lambda: not left_by(where.client, session.process.pid), seconds=30)


def test_ctrl_c_while_a_guest_boots_leaves_nothing(where: engine.Engine, tmp_path: Path) -> None:
    session = Session(tmp_path, "-m", "api or iso", mode="unprivileged")
    session.until("a guest by BIOS")
    session.interrupt()

    assert session.end() == pytest.ExitCode.INTERRUPTED, session.output
    assert {one.feature for one in session.records} == {"api"}, "what the guest did not say is in no record"
    wait_for("nothing to be left", lambda: not left_by(where.client, session.process.pid), seconds=30)


@pytest.mark.parametrize(
    "moment", ["looking for a container engine", "starting the container", "stopping the container"]
)
def test_ctrl_c_leaves_nothing(where: engine.Engine, tmp_path: Path, moment: str) -> None:
    session = Session(tmp_path, "-m", "api")
    session.until(moment)
    session.interrupt()

    assert session.end() == pytest.ExitCode.INTERRUPTED, session.output
    # A removal that was interrupted is finished by the engine alone.
    wait_for("nothing to be left", lambda: not left_by(where.client, session.process.pid), seconds=30)


def test_a_second_ctrl_c_leaves_nothing_that_the_next_run_does_not_remove(where: engine.Engine, tmp_path: Path) -> None:
    session = Session(tmp_path, "-m", "api")
    session.until("starting the container")
    session.interrupt()
    session.until("stopping the container")
    session.interrupt()

    assert session.end() != 0, session.output
    cleanup.sweep(where.client)
    assert left_by(where.client, session.process.pid) == []


# ------------------------------------------------------------------------------------------------- two runs


def test_two_runs_at_once_on_one_engine_do_not_meet(where: engine.Engine, tmp_path: Path) -> None:
    sessions = [Session(tmp_path / name, "-m", "api or volumes") for name in ("one", "other")]

    statuses = [session.end() for session in sessions]

    assert statuses == [0, 0], "\n".join(session.output for session in sessions)
    for session in sessions:
        assert {one.run.rpartition("-")[2] for one in session.records} == {str(session.process.pid)}
        assert {one.feature for one in session.records} == {"api", "volumes"}
        assert left_by(where.client, session.process.pid) == []


def test_two_runs_at_once_in_the_hosts_network_take_turns(
    where: engine.Engine, tag: str, host_before: frozenset[str], tmp_path: Path
) -> None:
    sessions = [Session(tmp_path / name, "-m", "api", mode="unprivileged-hostnet") for name in ("one", "other")]

    statuses = [session.end() for session in sessions]

    output = "\n".join(session.output for session in sessions)
    assert statuses == [0, 0], output
    assert "to leave the host's network" in output
    for session in sessions:
        assert left_by(where.client, session.process.pid) == []
    with network_lock.held(lambda _text: None):
        assert network.snapshot(HostShell(where.client, tag, RUN)) == host_before


# ---------------------------------------------------------------------------------------- the host's network


@pytest.fixture
def host_before(where: engine.Engine, tag: str) -> frozenset[str]:
    """The host's network, with nobody's container in it."""
    with network_lock.held(lambda _text: None):
        return network.snapshot(HostShell(where.client, tag, RUN))


def in_host_network(where: engine.Engine, tag: str, run: str) -> Container:
    return Container(where.client, mode.from_contract(contracts.load(), "unprivileged-hostnet"), tag, run=run)


def test_a_container_that_was_killed_and_removed_leaves_the_host_as_it_was(
    where: engine.Engine, tag: str, host_before: frozenset[str]
) -> None:
    with network_lock.held(lambda _text: None):
        network_leftovers.remember(HostShell(where.client, tag, OTHER_RUN))
        container = in_host_network(where, tag, OTHER_RUN).start()
        try:
            container.wait_until_ready().networkCreateXML("<network><name>isolated</name></network>")
            container.kill()
        finally:
            container.remove()
        left = network.snapshot(HostShell(where.client, tag, RUN)) - host_before

        gone = cleanup.remove(where.client, OTHER_RUN, alone=True)

        assert {line.partition(":")[0] for line in left} >= {"virbr0", "virbr1", "-A FORWARD -j LIBVIRT_FWI"}
        assert "virbr0" in gone[0]
        assert network.snapshot(HostShell(where.client, tag, RUN)) == host_before


def test_while_another_libvirt_is_in_the_hosts_network_nothing_of_it_is_taken(
    where: engine.Engine, tag: str, host_before: frozenset[str]
) -> None:
    with network_lock.held(lambda _text: None):
        network_leftovers.remember(HostShell(where.client, tag, OTHER_RUN))
        theirs = in_host_network(where, tag, RUN).start()
        try:
            theirs.wait_until_ready()
            theirs_and_hosts = network.snapshot(HostShell(where.client, tag, RUN))

            said = cleanup.remove(where.client, OTHER_RUN, alone=True)[0]

            assert re.search(r"not removed, since libvirtd \(process \d+\).* is there too: LIBVIRT_.*virbr0", said)
            assert network.snapshot(HostShell(where.client, tag, RUN)) == theirs_and_hosts
        finally:
            theirs.stop()
            theirs.remove()
        assert network.snapshot(HostShell(where.client, tag, RUN)) == host_before


@pytest.mark.parametrize("its_container", ["still there", "killed and removed"])
def test_what_a_killed_matrix_left_in_the_hosts_network_the_next_run_removes(
    where: engine.Engine, tag: str, host_before: frozenset[str], tmp_path: Path, its_container: str
) -> None:
    session = Session(tmp_path, "-m", "virtio_net", mode="unprivileged-hostnet")
    session.until("a guest by BIOS")
    session.process.kill()
    session.end()
    with network_lock.held(lambda _text: None):
        if its_container == "killed and removed":
            for one in containers_of(where.client, session.process.pid):
                where.client.api.remove_container(one, v=True, force=True)
        assert network.snapshot(HostShell(where.client, tag, RUN)) - host_before

        cleanup.sweep(where.client, alone=True)

        assert network.snapshot(HostShell(where.client, tag, RUN)) == host_before
    assert left_by(where.client, session.process.pid) == []
