"""./run on machines where something is missing: said at once, with what to do."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from conformance.plugin.state import EXIT_CANNOT_RUN as CANNOT_RUN
from conformance.util import paths

TOOLS = (
    "bash", "cat", "comm", "df", "dirname", "env", "flock", "grep", "head", "mkdir", "readlink", "rm", "sed",
    "sha256sum", "sort", "stat", "tail", "tee", "touch", "tr",
)  # fmt: skip


NOBODY = 65534


class Machine:
    """A checkout with ``run`` alone, and a PATH of stubs that note how they were called."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.bin = folder / "bin"
        self.home = folder / "home"
        self.calls = folder / "calls"
        self.unprivileged = False
        self.folder: Path | None = None
        """The caller's; none is that of the tests."""
        for one in (self.checkout, self.bin, self.home):
            one.mkdir()
        shutil.copy(paths.PROJECT / "run", self.checkout)
        for name in ("pyproject.toml", "constraints.txt"):
            (self.checkout / name).write_text("")
        (self.checkout / "docs").mkdir()
        shutil.copy(paths.DOCS / "commands.md", self.checkout / "docs")
        (self.checkout / "lab").mkdir()
        shutil.copy(paths.PROJECT / "lab" / "packages", self.checkout / "lab")
        script = self.checkout / "run"
        # The real folders are kept out: what is not a stub is not there.
        text = script.read_text()
        for there, here in (
            ('export PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"', ":"),
            ("python=/usr/bin/python3", f"python={self.bin}/python3"),
            ("/var/run/docker.sock", f"{folder}/docker.sock"),
            ("/etc/ssh", f"{folder}/ssh"),
            ("os_release=/etc/os-release", f"os_release={folder}/os-release"),
        ):
            assert there in text
            text = text.replace(there, here)
        script.write_text(text)
        self.os_release = folder / "os-release"
        self.os_release.write_text('PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n')
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or f"/bin/{tool}")
        self.stub("id", 'case "$1" in -u) echo 0;; *) echo root;; esac')
        self.stub("apt-get")
        self.stub("dpkg-query", 'shift 2; for name; do [ "$name" = "$MISSING" ] || echo "$name installed"; done')
        self.stub("dockerd")
        self.stub("python3", PYTHON.replace("$CALLS", str(self.calls)))

    def stub(self, name: str, script: str = "") -> None:
        stub = self.bin / name
        stub.unlink(missing_ok=True)
        stub.write_text(f'#!/bin/bash\necho "{name} $*" >>{self.calls}\n{script}\n')
        stub.chmod(0o755)

    def user(self) -> None:
        """Simulate a user who is not root."""
        self.unprivileged = os.geteuid() == 0
        self.stub("id", 'case "$1" in -u) echo 1000;; *) echo joe;; esac')

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        for one in (self.checkout, self.home, self.calls):
            one.chmod(0o777)
        return subprocess.run(
            [self.checkout / "run", *arguments],
            cwd=self.folder,
            env={"PATH": str(self.bin), "HOME": str(self.home), "DOCKER_HOST": "tcp://192.0.2.1:2375", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
            user=NOBODY if self.unprivileged else None,
        )

    def called(self, word: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if word in line]


PYTHON = r"""
case "$1" in
    --version) echo Python 3.11.2 ;;
    -m)
        mkdir -p "$3/bin"
        printf '#!/bin/bash\necho "pip $*" >>"$CALLS"\nexit "${PIP:-0}"\n' >"$3/bin/pip"
        printf '#!/bin/bash\necho "conformance $*"\n' >"$3/bin/conformance"
        printf '#!/bin/bash\necho "tox $*"\n' >"$3/bin/python"
        /bin/chmod +x "$3"/bin/*
        exit "${VENV:-0}" ;;
esac
"""


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A machine in a folder that every user can enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Machine(Path(folder))


def test_hands_over_and_is_quick_the_second_time(machine: Machine) -> None:
    done = machine.run("matrix", "-m", "kvm or uefi")
    assert (done.returncode, done.stdout) == (0, "conformance matrix -m kvm or uefi\n")
    assert machine.called("pip install -") or machine.called("pip install --quiet")
    assert not machine.called("apt-get")
    done = machine.run("test", "-e", "lint")
    assert (done.returncode, done.stdout, done.stderr) == (0, "tox tests/run_tox.py run --current-env -e lint\n", "")
    assert not machine.called("pip")
    done = machine.run("bench", "--repeat", "3")
    assert (done.returncode, done.stdout) == (0, "conformance bench --repeat 3\n")
    done = machine.run("lab", "ssh", "debian-13", "docker ps", "--all")
    assert (done.returncode, done.stdout) == (0, "conformance lab ssh debian-13 docker ps --all\n")


def test_relative_paths_belong_to_the_callers_folder(machine: Machine) -> None:
    machine.run("matrix")
    program = machine.checkout / ".venv" / "bin" / "conformance"
    program.write_text("#!/bin/bash\npwd\n")
    machine.folder = machine.home
    for command in ("matrix", "tables"):
        assert machine.run(command, "--results=own").stdout == f"{machine.home}\n"


def test_tox_runs_in_the_checkout(machine: Machine) -> None:
    machine.run("test")
    (machine.checkout / ".venv" / "bin" / "python").write_text('#!/bin/bash\necho "$PWD $*"\n')
    machine.folder = machine.home
    assert machine.run("test", "-e", "lint").stdout == (
        f"{machine.checkout} tests/run_tox.py run --current-env -e lint\n"
    )


def test_a_change_of_what_is_needed_is_installed(machine: Machine) -> None:
    machine.run("matrix")
    (machine.checkout / "constraints.txt").write_text("pytest==9\n")
    machine.run("matrix")
    assert machine.called("pip")


@pytest.mark.parametrize("broken", [{"PIP": "1"}, {"VENV": "1"}])
def test_an_unfinished_environment_is_made_anew(machine: Machine, broken: dict[str, str]) -> None:
    done = machine.run("matrix", **broken)
    assert done.returncode == CANNOT_RUN
    assert "what to do:" in done.stderr
    (machine.checkout / ".venv" / "half").write_text("")
    assert machine.run("matrix").returncode == 0
    assert not (machine.checkout / ".venv" / "half").exists()


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("words", [["matrix"], ["test"], ["doctor"]])
def test_an_environment_that_is_a_link_is_refused(machine: Machine, words: list[str], there: bool) -> None:
    others = machine.home / "their-venv"
    if there:
        others.mkdir()
        (others / "theirs").write_text("")
    (machine.checkout / ".venv").symlink_to(others)
    done = machine.run(*words, MISSING="gcc")
    assert done.returncode == CANNOT_RUN
    assert f"is a symbolic link to {others}" in done.stderr
    assert f"what to do: rm {machine.checkout}/.venv" in done.stderr
    assert (machine.checkout / ".venv").is_symlink()
    assert [one.name for one in others.iterdir()] == ["theirs"] if there else not others.exists()
    assert not machine.called("apt-get")


def test_missing_packages_are_installed_and_named(machine: Machine) -> None:
    done = machine.run("matrix", MISSING="libvirt-dev")
    assert done.returncode == 0
    assert "Installing Debian packages: libvirt-dev" in done.stderr
    assert machine.called("install libvirt-dev")
    assert not machine.called("update")


def test_lists_of_packages_are_updated_only_if_needed(machine: Machine) -> None:
    machine.stub("apt-get", 'case "$*" in *--simulate*) exit 100;; esac')
    assert machine.run("matrix", MISSING="gcc").returncode == 0
    assert [line.split()[-1] for line in machine.called("apt-get")] == ["gcc", "update", "gcc"]


@pytest.mark.parametrize("failing", ["update", "install"])
def test_no_mirror(machine: Machine, failing: str) -> None:
    machine.stub("apt-get", f'echo "E: no network" >&2; case "$*" in *--simulate*|*" {failing}"*) exit 100;; esac')
    done = machine.run("matrix", MISSING="gcc")
    assert done.returncode == CANNOT_RUN
    assert "E: no network" in done.stderr
    assert "what to do: read the error above; if a mirror cannot be reached" in done.stderr
    assert not (machine.checkout / ".venv").exists()


def test_an_engine_is_installed_where_there_is_none(machine: Machine) -> None:
    (machine.bin / "dockerd").unlink()
    done = machine.run("matrix", MISSING="docker.io", DOCKER_HOST="")
    assert machine.called("install docker.io")
    assert done.returncode == 0


def test_commands_without_tests_install_no_engine(machine: Machine) -> None:
    (machine.bin / "dockerd").unlink()
    machine.run("test", "-e", "unit,lint", MISSING="docker.io", DOCKER_HOST="")
    assert not machine.called("apt-get")


def test_neither_root_nor_sudo(machine: Machine) -> None:
    machine.user()
    done = machine.run("matrix", MISSING="gcc")
    assert done.returncode == CANNOT_RUN
    assert "have an administrator run: apt-get install --no-install-recommends gcc" in done.stderr
    assert not machine.called("apt-get")


def test_sudo_that_would_ask_without_a_terminal(machine: Machine) -> None:
    machine.user()
    machine.stub("sudo", "exit 1")
    assert "root or sudo" in machine.run("matrix", MISSING="gcc").stderr


def test_through_sudo(machine: Machine) -> None:
    machine.user()
    machine.stub("sudo", '[ "$1" = -n ] || "$@"')
    assert machine.run("matrix", MISSING="gcc").returncode == 0
    assert machine.called("sudo env DEBIAN_FRONTEND=noninteractive apt-get")


def test_an_engine_that_refuses(machine: Machine) -> None:
    machine.user()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(machine.bin / "docker.sock"))
        (machine.bin / "docker.sock").chmod(0)
        address = f"unix://{machine.bin}/docker.sock"
        done = machine.run("matrix", DOCKER_HOST=address)
        assert done.returncode == CANNOT_RUN
        assert "usermod -aG docker joe" in done.stderr
        machine.stub("sudo", '[ "$1" = -n ] || { while [[ "$1" == -* ]]; do shift; done; "$@"; }')
        done = machine.run("matrix", DOCKER_HOST=address)
        assert (done.returncode, done.stdout) == (0, "conformance matrix\n")


def test_an_engine_that_refuses_is_no_matter_where_another_is_chosen(machine: Machine) -> None:
    machine.user()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(machine.checkout.parent / "docker.sock"))
        (machine.checkout.parent / "docker.sock").chmod(0)
        assert machine.run("matrix", DOCKER_HOST="", DOCKER_CONTEXT="default").returncode == CANNOT_RUN
        elsewhere = ({"DOCKER_HOST": "ssh://host"}, {"DOCKER_HOST": "", "DOCKER_CONTEXT": "elsewhere"})
        for chosen in elsewhere:
            done = machine.run("matrix", **chosen)
            assert (done.returncode, done.stdout) == (0, "conformance matrix\n")


def test_ssh_is_installed_for_an_engine_behind_it(machine: Machine) -> None:
    machine.run("matrix", MISSING="openssh-client", DOCKER_HOST="ssh://host")
    assert machine.called("install openssh-client")
    machine.run("matrix", MISSING="openssh-client")
    assert not machine.called("apt-get")


def test_an_ssh_server_is_installed_for_the_tests_and_kept_from_running_before_that(machine: Machine) -> None:
    forbidden = machine.checkout.parent / "ssh" / "sshd_not_to_be_run"
    machine.stub("apt-get", f'case "$*" in *--simulate*) ;; *) cat {forbidden} ;; esac')
    done = machine.run("test", MISSING="openssh-server")
    assert machine.called("install openssh-server")
    assert "Remove this file" in done.stderr
    forbidden.unlink()
    for others in (("matrix",), ("test", "-e", "unit")):
        machine.run(*others, MISSING="openssh-server")
        assert not machine.called("apt-get")
    machine.run("matrix", MISSING="gcc")
    assert not forbidden.exists()


def test_not_debian(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    done = machine.run("matrix")
    assert done.returncode == CANNOT_RUN
    assert "This is not Debian" in done.stderr


def test_a_full_disk(machine: Machine) -> None:
    machine.stub("df", "echo Avail; echo 1048576")
    done = machine.run("matrix")
    assert done.returncode == CANNOT_RUN
    assert "Only 1024 MB are free" in done.stderr
    assert "CONFORMANCE_CACHE" in done.stderr


def test_python_too_old(machine: Machine) -> None:
    machine.stub("python3", 'case "$1" in -c) exit 1;; *) echo Python 3.9.2;; esac')
    done = machine.run("matrix")
    assert done.returncode == CANNOT_RUN
    assert "Python 3.9.2 is too old" in done.stderr


@pytest.mark.parametrize(("arguments", "status"), [([], 4), (["metrix"], 4), (["--help"], 0), (["-h"], 0)])
def test_usage(machine: Machine, arguments: list[str], status: int) -> None:
    done = machine.run(*arguments)
    assert done.returncode == status
    assert "./run matrix" in (done.stderr if status else done.stdout)
    assert not machine.calls.read_text()


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_an_interruption_is_2(machine: Machine, name: str) -> None:
    machine.stub("apt-get", f'[[ "$*" == *--simulate* ]] || kill -{name} $PPID')
    done = machine.run("matrix", MISSING="gcc")
    assert done.returncode == 2
    assert "interrupted" in done.stderr
    assert not machine.called("pip")


@pytest.mark.parametrize("words", [["matrix"], ["doctor"], ["lab"], ["lab", "up"], ["tables"], ["diff"]])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_needs_no_packages(machine: Machine, words: list[str], option: str) -> None:
    done = machine.run(*words, option)
    assert (done.returncode, done.stderr) == (0, "")
    section = f"## conformance {' '.join(words)}\n\n```text\n{done.stdout}```\n"
    assert section in (paths.DOCS / "commands.md").read_text()
    assert not machine.calls.read_text()


def test_help_of_the_projects_own_tests_is_that_of_run(machine: Machine) -> None:
    done = machine.run("test", "--help")
    assert (done.returncode, done.stdout.splitlines()[0].split()[:3]) == (0, ["Usage:", "./run", "test"])
    assert not machine.calls.read_text()
    assert machine.run("test", "-e", "unit", "--", "--help").stdout.endswith("-e unit -- --help\n")
    assert machine.run("packages", "--help").stdout == machine.run("--help").stdout


def test_the_version_needs_no_packages(machine: Machine) -> None:
    shutil.copy(paths.PROJECT / "pyproject.toml", machine.checkout)
    done = machine.run("--version")
    assert (done.returncode, done.stdout) == (0, f"conformance {version('libvirt-conformance')}\n")
    assert not machine.calls.read_text()


def test_its_own_help_fits_a_screen(machine: Machine) -> None:
    lines = machine.run("--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 40


def test_no_colour_without_a_terminal(machine: Machine) -> None:
    assert "\x1b" not in machine.run("matrix", MISSING="gcc").stderr


# ------------------------------------------------------------------------------------------------------- with a lab

LAB_PACKAGES = (
    "qemu-system-x86", "qemu-utils", "seabios", "e2fsprogs", "openssh-client", "meson", "ninja-build", "patch",
    "xz-utils", "libglib2.0-dev", "libslirp-dev", "libpixman-1-dev", "libfdt-dev",
)  # fmt: skip

ON_LAB = [
    ["matrix", "--host", "lab"],
    ["smoke", "--host", "lab"],
    ["matrix", "-m", "kvm", "--host=lab:debian-12"],
    ["lab", "up"],
]


@pytest.mark.parametrize("words", [*ON_LAB, ["test"], ["bench"]])
def test_a_labs_packages_are_installed(machine: Machine, words: list[str]) -> None:
    machine.stub("dpkg-query")  # nothing is installed
    assert machine.run(*words).returncode == 0
    installed = machine.called("apt-get")[-1].split()
    assert set(LAB_PACKAGES) <= set(installed)
    assert not {"fakeroot", "uidmap"} & set(installed)
    assert (installed.count("gcc"), installed.count("mmdebstrap")) == (1, 1)


@pytest.mark.parametrize("words", [["matrix"], ["matrix", "-m", "lab"], ["test", "-e", "unit,lint"]])
def test_without_a_lab_nothing_of_it_is(machine: Machine, words: list[str]) -> None:
    machine.stub("dpkg-query")
    machine.run(*words)
    assert machine.called("apt-get")
    assert not machine.called("qemu")
    assert not machine.called("meson")


def test_a_package_that_two_need_is_not_missing(machine: Machine) -> None:
    assert machine.run("matrix", "--host", "lab").returncode == 0
    assert not machine.called("apt-get")


@pytest.mark.parametrize("package", ["fakeroot", "uidmap"])
def test_a_lab_of_a_user_who_is_not_root_has_files_of_every_owner(machine: Machine, package: str) -> None:
    machine.user()
    done = machine.run("matrix", "--host", "lab", MISSING=package)
    assert f"apt-get install --no-install-recommends {package}" in done.stderr


@pytest.mark.parametrize("words", ON_LAB)
def test_a_lab_needs_no_engine_of_this_machine(machine: Machine, words: list[str]) -> None:
    machine.user()
    (machine.bin / "dockerd").unlink()
    done = machine.run(*words, MISSING="docker.io", DOCKER_HOST="")
    assert (done.returncode, done.stdout) == (0, f"conformance {' '.join(words)}\n")


def test_a_lab_needs_no_engine_that_may_not_be_opened(machine: Machine) -> None:
    machine.user()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(machine.bin / "docker.sock"))
        (machine.bin / "docker.sock").chmod(0)
        done = machine.run("matrix", "--host", "lab", DOCKER_HOST=f"unix://{machine.bin}/docker.sock")
    assert (done.returncode, done.stderr.count("docker")) == (0, 0)


BOTH = [["matrix", "--host", "lab", "--host", "here"], ["matrix", "--host=here", "--host=lab:debian-12", "-m", "kvm"]]


@pytest.mark.parametrize("words", BOTH)
def test_a_lab_and_this_machine_need_the_packages_of_both(machine: Machine, words: list[str]) -> None:
    machine.stub("dpkg-query")
    (machine.bin / "dockerd").unlink()
    assert machine.run(*words, DOCKER_HOST="").returncode == 0
    assert {"docker.io", *LAB_PACKAGES} <= set(machine.called("apt-get")[-1].split())


@pytest.mark.parametrize("words", BOTH)
def test_this_machine_beside_a_lab_needs_an_engine(machine: Machine, words: list[str]) -> None:
    machine.user()
    (machine.bin / "dockerd").unlink()
    done = machine.run(*words, MISSING="docker.io", DOCKER_HOST="")
    assert done.returncode == CANNOT_RUN
    assert "docker.io" in done.stderr


def test_root_has_an_engine_for_the_labs_image(machine: Machine) -> None:
    (machine.bin / "dockerd").unlink()
    assert machine.run("matrix", "--host", "lab", MISSING="docker.io", DOCKER_HOST="").returncode == 0
    assert machine.called("install docker.io")


def test_a_lab_takes_more_room(machine: Machine) -> None:
    machine.stub("df", f"echo Avail; echo {6 << 20}")
    assert machine.run("matrix").returncode == 0
    done = machine.run("lab", "up")
    assert done.returncode == CANNOT_RUN
    assert "Only 6144 MB are free" in done.stderr


@pytest.mark.parametrize("words", [["doctor", "--json"], ["jobs", "--check"], ["tables"], ["modes", "privileged"]])
def test_reading_commands_need_no_engine_and_no_disk_space(machine: Machine, words: list[str]) -> None:
    (machine.bin / "dockerd").unlink()
    machine.stub("df", "echo Avail; echo 1")
    done = machine.run(*words, MISSING="mmdebstrap", DOCKER_HOST="")
    assert (done.returncode, done.stdout) == (0, f"conformance {' '.join(words)}\n"), done.stderr
    assert not machine.called("apt-get")


@pytest.mark.parametrize("identity", ["ID=ubuntu", 'ID="ubuntu"\nID_LIKE=debian'])
def test_ubuntu_has_debians_keys_and_no_browser_that_tests_can_use(machine: Machine, identity: str) -> None:
    machine.stub("dpkg-query")
    assert "chromium" in machine.run("packages", "test").stdout.split()
    assert "debian-archive-keyring" not in machine.run("packages", "test").stdout.split()
    machine.os_release.write_text(f'PRETTY_NAME="Ubuntu 24.04.3 LTS"\n{identity}\n')
    wanted = machine.run("packages", "test").stdout.split()
    assert "chromium" not in wanted
    assert "debian-archive-keyring" in wanted


def test_ubuntu_may_lack_the_repository_of_a_package(machine: Machine) -> None:
    machine.os_release.write_text("ID=ubuntu\n")
    machine.stub("apt-get", "exit 100")
    done = machine.run("matrix", MISSING="gcc")
    assert done.returncode == CANNOT_RUN
    assert "universe" in done.stderr


def test_packages_are_listed_and_not_installed(machine: Machine) -> None:
    done = machine.run("packages", "matrix", MISSING="mmdebstrap")
    assert (done.returncode, done.stdout) == (0, "mmdebstrap\n")
    assert machine.run("packages", "lab", MISSING="qemu-utils").stdout == "qemu-utils\n"
    assert machine.run("packages", "doctor", MISSING="mmdebstrap").stdout == ""
    assert not machine.called("apt-get")
    assert machine.run("packages").returncode == 4
    (machine.bin / "dpkg-query").unlink()
    assert machine.run("packages", "matrix").returncode == CANNOT_RUN
