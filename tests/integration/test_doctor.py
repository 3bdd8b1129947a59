"""The doctor on a real engine: what she says is what a container gets, and nothing is left of her."""

import os

import pytest

from conformance.doctor import examination
from conformance.doctor.finding import Finding
from conformance.engine import client as engine
from conformance.engine import image, labels
from conformance.engine.host_shell import HostShell
from conformance.errors import EngineError
from conformance.model import contract

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    image.ensure_image(engine.connect(), lambda _text: None)
    return {one.id: one for one in examination.examine(contract.load(), lambda _text: None).findings}


def test_the_engine_is_looked_at(findings: dict[str, Finding]) -> None:
    where = engine.connect()
    assert findings["engine"].seen.startswith(where.name)
    assert findings["base"].seen == "the engine has libvirt-conformance:latest"
    # Tried in a container, and so known either way.
    for name in ("privileged", "tun", "bridge", "macvtap", "iommu"):
        assert findings[name].state in ("OK", "MISSING"), findings[name]


def test_privileged_is_what_the_engine_does(findings: dict[str, Finding]) -> None:
    client = engine.connect().client
    try:
        HostShell(client, image.TAG, labels.new_run()).output(["true"], privileged=True)
    except EngineError:
        assert findings["privileged"].state == "MISSING"
    else:
        assert findings["privileged"].means in ("", "it gives less than the mode declares")


def test_nothing_is_left(findings: dict[str, Finding]) -> None:
    client = engine.connect().client
    assert findings
    there = client.containers.list(all=True, filters={"label": labels.RUN})
    assert not [one for one in there if one.labels[labels.RUN].endswith(f"-{os.getpid()}")]
