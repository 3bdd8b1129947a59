"""When the image is built, on which base, and what is said when it cannot be."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import APIError, ImageNotFound

from conformance.engine import base_image, image, labels
from conformance.engine.client import Engine
from conformance.errors import EngineError, HarnessError


class FakeDocker:
    """The few calls of docker-py that a build makes."""

    def __init__(self) -> None:
        self.tags: dict[str, SimpleNamespace] = {}
        self.calls: list[str] = []
        self.dockerfile = ""
        self.context: dict[str, tuple[str, int]] = {}
        self.pulls: list[dict[str, Any]] | Exception = [{"error": "no such host"}]
        self.builds: list[dict[str, Any]] = [{"stream": "Step 1/1 : FROM base\n"}]
        self.images = self.api = self

    def get(self, tag: str) -> SimpleNamespace:
        if tag not in self.tags:
            raise ImageNotFound(tag)
        return self.tags[tag]

    def add(self, tag: str, **labels: str) -> None:
        self.tags[tag] = SimpleNamespace(id=f"sha256:{len(self.calls):064}", labels=labels)

    def remove(self, wanted: str, noprune: bool, force: bool = False) -> None:
        self.calls.append("remove")
        self.tags.pop(wanted, None)

    def pull(self, repository: str, tag: str, **_: Any) -> Iterator[dict[str, Any]]:
        self.calls.append(f"pull {repository}:{tag}")
        if isinstance(self.pulls, Exception):
            raise self.pulls
        if not any("error" in event for event in self.pulls):
            self.add(f"{repository}:{tag}")
        return iter(self.pulls)

    def build(
        self, *, path: str, tag: str, buildargs: dict[str, str], labels: dict[str, str], **_: Any
    ) -> Iterator[dict[str, Any]]:
        self.calls.append(f"build on {buildargs.get('BASE_IMAGE', 'another')}")
        self.dockerfile = Path(path, "Dockerfile").read_text()
        self.context = {
            str(one.relative_to(path)): (one.read_text(), one.stat().st_mode & 0o777)
            for one in Path(path).rglob("*")
            if one.is_file() and one.name != "Dockerfile"
        }
        if not any("error" in event for event in self.builds):
            self.tags[tag] = SimpleNamespace(id=f"sha256:{len(self.calls):064}", labels=labels)
        return iter(self.builds)

    def import_image_from_file(self, path: str, *, repository: str, tag: str, changes: list[str]) -> str:
        self.calls.append(f"import {Path(path).read_text()}")
        name, value = changes[0].removeprefix("LABEL ").split("=", 1)
        self.add(f"{repository}:{tag}", **{name: value.strip('"')})
        return ""


@pytest.fixture
def docker() -> FakeDocker:
    return FakeDocker()


@pytest.fixture
def ensure(docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls ensure_image with a fake engine, a context of two files and a mmdebstrap that writes ``tar``."""
    folder = tmp_path / "image"
    folder.mkdir()
    (folder / "Dockerfile").write_text("FROM x\n")
    (folder / "entrypoint").write_text("#!/bin/sh\n")
    tools = tmp_path / "bin"
    tools.mkdir()
    mmdebstrap = tools / "mmdebstrap"
    mmdebstrap.write_text('#!/bin/sh\ncase $1 in --version) echo mmdebstrap 1.0;; *) echo tar >"$4";; esac\n')
    mmdebstrap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path / "cache"))
    engine = Engine(docker, "unix:///x", {}, "docker 1")  # type: ignore[arg-type]

    def ensure(**options: Any) -> image.ImageInfo:
        return image.ensure_image(engine, lambda line: None, folder=folder, **options)

    return ensure


def test_nothing_unchanged_is_built_again(docker: FakeDocker, ensure: Any, tmp_path: Path) -> None:
    docker.add(base_image.BASE)
    first = ensure()
    assert first.tag == image.TAG
    assert first.base.startswith(f"{base_image.BASE} (0000")
    assert ensure() == first
    assert docker.calls == [f"build on {base_image.BASE}"]


@pytest.mark.parametrize("change", ["content", "mode", "name", "argument", "base"])
def test_what_changed_is_built_again(docker: FakeDocker, ensure: Any, tmp_path: Path, change: str) -> None:
    docker.add(base_image.BASE)
    first = ensure()
    entrypoint = tmp_path / "image" / "entrypoint"
    options = {}
    match change:
        case "content":
            entrypoint.write_text("#!/bin/bash\n")
        case "mode":
            entrypoint.chmod(0o755)
        case "name":
            entrypoint.rename(entrypoint.with_name("other"))
        case "argument":
            options = {"buildargs": {"TCP_PORT": "16510"}}
        case "base":
            docker.add(base_image.BASE)
    second = ensure(**options)
    assert second.inputs_hash != first.inputs_hash
    # The same folder on another base is the same source: what was recorded of one build holds for the next.
    assert (second.source == first.source) == (change == "base")
    assert docker.calls == [f"build on {base_image.BASE}", f"build on {base_image.BASE}", "remove"]


def test_a_base_is_pulled(docker: FakeDocker, ensure: Any) -> None:
    docker.pulls = [{"status": "Downloading"}]
    ensure()
    assert docker.calls == [f"pull {base_image.BASE}", f"build on {base_image.BASE}"]


@pytest.mark.parametrize("how", ["answer", "refusal"])
def test_a_base_is_made_where_none_can_be_pulled(docker: FakeDocker, ensure: Any, how: str) -> None:
    if how == "refusal":
        docker.pulls = APIError("500 Server Error", explanation="no such host")
    info = ensure()
    assert docker.calls == [f"pull {base_image.BASE}", "import tar\n", f"build on {base_image.MADE_BASE}"]
    assert info.base == f"{base_image.MADE_BASE} (mmdebstrap 1.0 --variant=minbase --format=tar trixie)"
    docker.calls.clear()
    assert ensure() == info
    assert docker.calls == []


def test_a_base_that_was_asked_for_is_not_replaced(docker: FakeDocker, ensure: Any) -> None:
    with pytest.raises(EngineError, match=r"my/base:1 cannot be pulled \(no such host\)"):
        ensure(base="my/base:1")


def test_no_mmdebstrap(ensure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(HarnessError, match="mmdebstrap is not installed") as caught:
        ensure()
    assert "apt-get install mmdebstrap" in caught.value.remedy


def test_mmdebstrap_fails(docker: FakeDocker, ensure: Any, tmp_path: Path) -> None:
    (tmp_path / "bin" / "mmdebstrap").write_text("#!/bin/sh\necho E: no mirror >&2\nexit 25\n")
    with pytest.raises(HarnessError, match=r"status 25:\n    E: no mirror") as caught:
        ensure()
    assert "user namespaces" in caught.value.remedy
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_build_that_fails_shows_its_last_lines(docker: FakeDocker, ensure: Any, tmp_path: Path) -> None:
    docker.add(base_image.BASE)
    docker.builds = [
        {"stream": "Step 1/2 : RUN apt-get update\n"},
        {"stream": "\x1b[91mErr: Could not "},
        {"stream": "resolve\n\x1b[0m"},
        {"error": "returned a non-zero code: 100"},
    ]
    with pytest.raises(HarnessError) as caught:
        ensure(log=tmp_path / "log")
    assert "    Err: Could not resolve\n    failed: returned a non-zero code: 100" in caught.value.message
    assert "DNS" in caught.value.remedy
    assert (tmp_path / "log").read_text().splitlines()[1] == "Err: Could not resolve"


def test_an_engine_that_falls_silent(docker: FakeDocker, ensure: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.add(base_image.BASE)
    monkeypatch.setattr(image, "BUILD_SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(docker, "build", lambda **_: iter(lambda: threading.Event().wait(5), None))
    with pytest.raises(EngineError, match=r"sent nothing for 0\.2 s"):
        ensure()


def test_no_dockerfile(docker: FakeDocker, ensure: Any, tmp_path: Path) -> None:
    docker.add(base_image.BASE)
    (tmp_path / "image" / "Dockerfile").unlink()
    with pytest.raises(HarnessError, match="no Dockerfile"):
        ensure()


@pytest.fixture
def layer(docker: FakeDocker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a layer over an image that the engine has."""
    monkeypatch.setenv("CONFORMANCE_CACHE", str(tmp_path))
    docker.tags["sha256:under"] = SimpleNamespace(id="sha256:under", labels={}, tags=["libvirt:1"])
    engine = Engine(docker, "unix:///x", {}, "docker 1")  # type: ignore[arg-type]
    return lambda **files: image.layer(
        engine, lambda line: None, "sha256:under", "RUN rm x", "20260101T000000Z-a-1", **files
    )


def test_a_layer_lasts_as_long_as_somebody_asks_about_it(docker: FakeDocker, layer: Any) -> None:
    with layer() as made:
        (tag,) = [tag for tag, one in docker.tags.items() if one.id == made]
        assert docker.tags[tag].labels == {labels.RUN: "20260101T000000Z-a-1"}
        assert docker.dockerfile == "FROM sha256:under\nRUN rm x\n"
    assert list(docker.tags) == ["sha256:under"]

    with pytest.raises(KeyboardInterrupt), layer():
        raise KeyboardInterrupt
    assert list(docker.tags) == ["sha256:under"]


def test_a_layer_puts_files_in_place_before_its_instructions(docker: FakeDocker, layer: Any) -> None:
    with layer(files={"/usr/local/bin/entrypoint": ("#!/bin/bash\n", 0o755)}):
        assert docker.dockerfile == "FROM sha256:under\nCOPY tree/ /\nRUN rm x\n"
        assert docker.context == {"tree/usr/local/bin/entrypoint": ("#!/bin/bash\n", 0o755)}


def test_a_layer_that_cannot_be_built_says_why(docker: FakeDocker, layer: Any) -> None:
    docker.builds = [{"stream": "Step 2/2 : RUN rm x\n"}, {"error": "returned a non-zero code: 1"}]
    with pytest.raises(HarnessError, match="non-zero code: 1"), layer():
        pass
