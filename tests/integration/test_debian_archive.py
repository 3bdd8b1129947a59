"""Debian's packages on a machine whose apt has neither Debian's archive nor its keys, such as Ubuntu."""

import subprocess
from pathlib import Path

import pytest

from conformance.engine.base_image import SUITE
from conformance.util import apt

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def ubuntu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An apt without Debian's archive and keys."""
    (tmp_path / "lists" / "partial").mkdir(parents=True)
    (tmp_path / "keys").mkdir()
    config = tmp_path / "apt.conf"
    config.write_text(
        f'Dir::State::lists "{tmp_path}/lists";\n'
        'Dir::Etc::sourcelist "/dev/null";\nDir::Etc::sourceparts "/dev/null";\n'
        f'Dir::Etc::trusted "/dev/null";\nDir::Etc::trustedparts "{tmp_path}/keys";\n'
    )
    monkeypatch.setenv("APT_CONFIG", str(config))
    monkeypatch.delenv(apt.MIRROR_VARIABLE, raising=False)
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: {"ID": "ubuntu"})


def mmdebstrap(folder: Path, lines: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *("mmdebstrap", "--variant=extract", "--include=base-files", "--format=tar"),
            *(SUITE, str(folder / "base.tar"), *lines),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_its_packages_are_verified_with_debians_keys(tmp_path: Path) -> None:
    assert apt.mirrors() == [*apt.DEBIAN]
    made = mmdebstrap(tmp_path, apt.sources(SUITE))
    assert made.returncode == 0, made.stderr
    refused = mmdebstrap(tmp_path, [one.line(SUITE) for one in apt.mirrors()])
    assert refused.returncode != 0
    assert "NO_PUBKEY" in refused.stderr
