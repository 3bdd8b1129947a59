"""What AppArmor refused, as the kernel logged it."""

from typing import Any

import pytest

from conformance.engine.host_shell import HostShell
from conformance.host import lsm_denials

NOBODY: Any = None
SHELL = HostShell(NOBODY, "image", "run")

HEAD = '[ 60.7] audit: type=1400 audit({}): apparmor="DENIED" operation="{}" profile="{}" name="{}" comm="x" {}'
AVC = (
    '[ 60.8] audit: type=1400 audit({}): avc:  denied  {{ {} }} for  pid=7 comm="x" {}'
    "scontext=system_u:system_r:{} tcontext=system_u:object_r:sysctl_t:s0 tclass={} permissive=0"
)
SYSCTL = "/proc/sys/net/ipv6/conf/virbr{}/disable_ipv6"
WRITE = 'requested_mask="wc" denied_mask="wc" fsuid=0'
MOUNT = 'info="failed perms check" flags="rw, rslave"'
LOG = "\n".join(
    [
        '[ 60.1] audit: type=1400 audit(1795529222.9:104): apparmor="STATUS" name="docker-default"',
        HEAD.format("1795529800.000:105", "mount", "docker-default", "/early/", ""),
        HEAD.format("1795529886.171:106", "open", "docker-default", SYSCTL.format(0), WRITE),
        HEAD.format("1795529886.379:107", "mount", "docker-default", "/", MOUNT),
        HEAD.format("1795529886.607:108", "open", "docker-default", SYSCTL.format(1), WRITE),
        HEAD.format("1795529886.700:109", "open", "rsyslogd", "/x", WRITE),
        AVC.format("1795529886.800:110", "chown", "capability=0 ", "container_t:s0:c70,c512", "capability"),
        AVC.format("1795529886.801:111", "mounton", 'path="/proc/sys" ', "container_t:s0:c70,c512", "dir"),
        AVC.format("1795529886.802:112", "read", 'name="x" ', "spc_t:s0", "file"),
    ]
)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A kernel with a log; each container that asks it is noted."""
    containers: list[dict[str, Any]] = []

    def output(_shell: HostShell, command: list[str], **options: Any) -> str:
        containers.append({"command": command, **options})
        return LOG

    monkeypatch.setattr(HostShell, "output", output)
    return containers


def test_what_was_refused_to_a_profile_since_then_is_told_once(asked: list[dict[str, Any]]) -> None:
    found = lsm_denials.since(SHELL, "2026-11-24T14:17:00.123456789Z", "docker-default")
    assert found == [
        "docker-default refuses open /proc/sys/net/ipv6/conf/virbrN/disable_ipv6 (wc)",
        "docker-default refuses mount / (rw, rslave)",
    ]
    assert asked[0]["cap_add"] == ["SYSLOG"]


@pytest.mark.usefixtures("asked")
def test_before_the_first_question_everything_counts() -> None:
    found = lsm_denials.since(SHELL, "", "docker-default")
    assert found[0] == "docker-default refuses mount /early/"


@pytest.mark.usefixtures("asked")
def test_another_profiles_refusals_say_nothing_of_the_container() -> None:
    assert lsm_denials.since(SHELL, "2026-11-24T14:30:00Z", "docker-default") == []
    assert lsm_denials.since(SHELL, "", "libvirt-container") == []


@pytest.mark.usefixtures("asked")
def test_selinux_is_heard_as_well() -> None:
    assert lsm_denials.since(SHELL, "", "container_t") == [
        "container_t refuses chown (capability)",
        "container_t refuses mounton /proc/sys (dir)",
    ]
