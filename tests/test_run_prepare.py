"""Getting ready: whatever ends it, what it made is removed."""

from pathlib import Path
from typing import Any

import pytest

from conformance import cleanup, engine, image, media, run, throwaway
from conformance.contract import Contract
from conformance.errors import EngineGone, MediaError


@pytest.fixture
def removed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of the runs whose things were removed."""
    ids: list[str] = []
    monkeypatch.setattr(engine, "connect", lambda: type("Engine", (), {"client": None})())
    monkeypatch.setattr(cleanup, "sweep", lambda _client: [])
    monkeypatch.setattr(cleanup, "remove", lambda _client, one: ids.append(one))
    monkeypatch.setattr(image, "ensure_image", lambda *_: image.ImageInfo("libvirt:1", "sha256:0", "debian", ""))
    monkeypatch.setattr(throwaway, "output", lambda *_, **__: "libvirtd (libvirt) 11.3.0")
    return ids


def prepare(contract: Contract, results: Path) -> Any:
    return run.prepare(contract, lambda _: None, tag=None, choice="auto", results=results, host_name="host")


@pytest.mark.parametrize("end", [KeyboardInterrupt(), MediaError("no mirror"), ZeroDivisionError()])
def test_what_was_made_is_removed(
    contract: Contract, removed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: BaseException
) -> None:
    def stop(_progress: object) -> None:
        raise end

    monkeypatch.setattr(media, "probe", stop)
    with pytest.raises(type(end)):
        prepare(contract, tmp_path)
    assert len(removed) == 1
    assert not list(tmp_path.iterdir())


def test_a_clean_up_that_fails_does_not_hide_what_went_wrong(
    contract: Contract, removed: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(_progress: object) -> None:
        raise MediaError("no mirror")

    def gone(_client: object, _run: str) -> None:
        raise EngineGone("the engine went away")

    monkeypatch.setattr(media, "probe", stop)
    monkeypatch.setattr(cleanup, "remove", gone)
    with pytest.raises(MediaError):
        prepare(contract, tmp_path)
