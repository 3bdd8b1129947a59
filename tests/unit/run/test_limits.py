"""Modes that a host cannot run, by its facts and by trial containers."""

from collections.abc import Callable
from typing import Any

import docker.errors
import pytest

from conformance.errors import EngineError, EngineGone, Unsupported
from conformance.model import mode as modes
from conformance.model.contract import Contract
from conformance.model.fingerprint import HostFingerprint
from conformance.run import limits

APPARMOR = ("apparmor",)
CAPS = "OCI runtime create failed: unable to apply caps: operation not permitted"


class Refusing:
    """A shell whose engine refuses some privileges, or breaks."""

    def __init__(
        self,
        error: Exception | None = None,
        refuses: Callable[[dict[str, Any]], bool] = lambda options: "privileged" in options,
    ) -> None:
        self.tried: list[dict[str, Any]] = []
        self._error = error
        self._refuses = refuses

    def output(self, _command: object, **options: Any) -> str:
        self.tried.append(options)
        if self._error and self._refuses(options):
            raise self._error
        return ""

    def run(self, *_: object, **__: object) -> str:
        return "234 macvtap\n"


def refusal(text: str) -> EngineError:
    error = EngineError("the engine refused", "read the log")
    error.__cause__ = docker.errors.APIError("500", explanation=text)
    return error


class NoIommu:
    @property
    def devices(self) -> list[object]:
        raise Unsupported("the host has no IOMMU")


def found(contract: Contract, shell: Any, *names: str, security: tuple[str, ...] = APPARMOR) -> dict[str, str]:
    fingerprint = HostFingerprint("6.1", 2, security, "docker 26.1", "Debian", "x86_64", "CPU", 2)
    chosen = [modes.from_contract(contract, name) for name in names]
    return limits.unsupported(contract, fingerprint, shell, NoIommu(), chosen)  # type: ignore[arg-type]


def test_a_mode_that_equals_another_without_a_module_needs_no_trial(contract: Contract) -> None:
    shell = Refusing()
    reasons = found(contract, shell, "least-apparmor", security=())
    assert reasons == {"least-apparmor": "same as least on hosts without AppArmor"}
    assert not shell.tried


def test_privileges_that_the_engine_refuses_are_recorded_as_for_a_container(contract: Contract) -> None:
    reasons = found(contract, Refusing(refusal(CAPS)), "privileged", "least")
    assert reasons == {
        "privileged": f"the engine cannot grant the mode's privileges: its own root lacks a capability ({CAPS})"
    }


def test_modes_share_trials_of_their_privileges(contract: Contract) -> None:
    shell = Refusing()
    assert not found(contract, shell, "unprivileged", "unprivileged-unconfined", "least", "least-tuned")
    assert [sorted(options) for options in shell.tried] == [["cap_add", "cap_drop"], ["ulimits"]]


def test_a_capability_that_the_engine_lacks_rules_out_only_modes_with_it(contract: Contract) -> None:
    shell = Refusing(refusal(CAPS), lambda options: "SYS_MODULE" in options.get("cap_add", ()))
    assert list(found(contract, shell, "unprivileged", "least")) == ["unprivileged"]


def test_a_limit_that_the_engine_cannot_lift_rules_out_only_modes_without_it(contract: Contract) -> None:
    shell = Refusing(refusal("error setting rlimit type 8: operation not permitted"), lambda one: "ulimits" in one)
    assert list(found(contract, shell, "least", "least-tuned")) == ["least-tuned"]


def test_another_refusal_is_left_to_the_modes_container(contract: Contract) -> None:
    assert not found(contract, Refusing(refusal('exec: "true": executable file not found')), "privileged")


def test_an_engine_that_is_gone_ends_the_search(contract: Contract) -> None:
    with pytest.raises(EngineGone):
        found(contract, Refusing(EngineGone("gone", "start it")), "privileged")


def test_devices_that_the_host_lacks_rule_a_mode_out(contract: Contract) -> None:
    assert found(contract, Refusing(), "unprivileged-passthrough") == {
        "unprivileged-passthrough": "the host has no IOMMU"
    }


def test_drivers_that_the_host_lacks_rule_a_mode_out(contract: Contract) -> None:
    shell = Refusing()
    shell.run = lambda *_, **__: ""  # type: ignore[method-assign]
    assert "no driver macvtap" in found(contract, shell, "unprivileged-macvtap")["unprivileged-macvtap"]
