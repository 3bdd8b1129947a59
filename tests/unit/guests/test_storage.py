"""The storage pool of the guests."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import libvirt
import pytest

from conformance.guests import storage
from conformance.guests.storage import StoragePool


def test_what_was_not_uploaded_whole_is_uploaded_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    connection = libvirt.open("test:///default")
    connection.storagePoolCreateXML(
        "<pool type='dir'><name>conformance</name><target><path>/images/conformance</path></target></pool>", 0
    )
    image = SimpleNamespace(images="/images")
    container: Any = SimpleNamespace(connection=connection, mode=SimpleNamespace(image=image))
    pool = StoragePool(container)
    medium = tmp_path / "medium.iso"
    medium.write_bytes(b"medium")
    sent: list[int] = []

    def send(_volume: object, _source: object, length: int) -> None:
        sent.append(length)
        if len(sent) == 1:
            raise libvirt.libvirtError("the connection broke off")

    monkeypatch.setattr(storage, "_send", send)
    with pytest.raises(libvirt.libvirtError):
        pool.upload("medium.iso", medium)
    path = pool.upload("medium.iso", medium)
    assert path == pool.upload("medium.iso", medium) == "/images/conformance/medium.iso"
    assert sent == [6, 6]  # once in vain, once whole, and not again


@pytest.mark.parametrize(
    ("header", "layout"),
    [
        (b"QFI\xfb" + bytes(20) + (16 * 2**20).to_bytes(8, "big"), ("qcow2", 16 * 2**20)),
        (bytes(32), ("raw", 4096)),
    ],
)
def test_a_volumes_own_bytes_state_its_format(
    monkeypatch: pytest.MonkeyPatch, header: bytes, layout: tuple[str, int]
) -> None:
    monkeypatch.setattr(StoragePool, "read", lambda _self, _volume, offset, length: header[offset : offset + length])
    monkeypatch.setattr(StoragePool, "_lookup", lambda _self, _volume: SimpleNamespace(info=lambda: (0, 4096, 0)))
    container: Any = SimpleNamespace()
    assert StoragePool(container).layout("disk") == layout
