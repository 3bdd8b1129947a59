from pathlib import Path

import pytest

from conformance.checks.host_access import POWERS
from conformance.errors import ContractError
from conformance.model import contract as contracts
from conformance.model.contract import Contract
from conformance.util import paths

MINIMAL = """
schema = 1
parameters = []
volumes = []
[image]
port = 16509
path = "/system"
[[features]]
id = "api"
title = "API"
claim = "answers"
[[exposures]]
id = "SYS_ADMIN"
kind = "capability"
function = "much"
documented = "required"
[[modes]]
id = "plain"
summary = "a mode"
exposures = ["SYS_ADMIN"]
[[causes]]
id = "refused"
pattern = "connection refused"
explanation = "nobody listens"
"""


def load(tmp_path: Path, text: str) -> Contract:
    file = tmp_path / "contract.toml"
    file.write_text(text)
    return contracts.load(file)


def test_a_minimal_contract_is_read(tmp_path: Path) -> None:
    read = load(tmp_path, MINIMAL)
    assert read.feature("api").marker == "api"
    assert [exposure.id for exposure in read.exposures_of(read.mode("plain"))] == ["SYS_ADMIN"]


@pytest.mark.parametrize(
    ("addition", "complaint"),
    [
        ('[[known-failures]]\nfeature="usb"\nmodes=["plain"]\ncause="refused"\nsource="x"', "the feature 'usb'"),
        ('[[known-failures]]\nfeature="api"\nmodes=["fast"]\ncause="refused"\nsource="x"', "the mode 'fast'"),
        ('[[known-failures]]\nfeature="api"\nmodes=["plain"]\ncause="moon"\nsource="x"', "the cause 'moon'"),
        ('[[modes]]\nid="odd"\nsummary="x"\nexposures=["SYS_MAGIC"]', "the exposure 'SYS_MAGIC'"),
        ('[[modes]]\nid="plain"\nsummary="x"\nexposures=[]', "defined twice"),
        ('[[causes]]\nid="bad"\npattern="("\nexplanation="x"', "not a regular expression"),
        ('[[volumes]]\npath="/x"\nname="x"\npermission="9"\ndescription="x"', "permission"),
        ("[[exposures]]\nid='x'\nkind='wish'\nfunction='x'\ndocumented='required'", "wish"),
        ("surprise = 1", "surprise"),
        ("[[", "not TOML"),
    ],
)
def test_unknown_references_are_errors(tmp_path: Path, addition: str, complaint: str) -> None:
    text = MINIMAL.replace("volumes = []\n", "") if "[[volumes]]" in addition else MINIMAL
    text = f"{addition}\n{text}" if addition == "surprise = 1" else f"{text}\n{addition}\n"
    with pytest.raises(ContractError, match=complaint.replace("(", r"\(")):
        load(tmp_path, text)


def test_a_missing_contract_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="cannot read"):
        contracts.load(tmp_path / "none.toml")


def test_an_unknown_name_lists_the_known_ones(contract: Contract) -> None:
    with pytest.raises(ContractError, match="unprivileged-hostnet"):
        contract.mode("root")


def test_each_feature_has_a_suite_or_a_reason(contract: Contract) -> None:
    for feature in contract.features:
        suite = paths.PROJECT / "suites" / f"test_{feature.marker}.py"
        assert suite.exists() != bool(feature.pending), feature.id


def test_known_failures_name_tests_that_exist(contract: Contract) -> None:
    for failure in contract.known_failures:
        suite = paths.PROJECT / "suites" / f"test_{contract.feature(failure.feature).marker}.py"
        for check in failure.checks:
            assert f"def {check.partition('[')[0]}(" in suite.read_text(), check


def test_a_known_failure_may_be_of_some_checks_only(tmp_path: Path) -> None:
    read = load(
        tmp_path,
        MINIMAL
        + '[[known-failures]]\nfeature="api"\nmodes=["plain"]\ncause="refused"\nsource="x"\nchecks=["test_one"]\n',
    )
    assert read.known_failure("api", "plain", "test_one")
    assert read.known_failure("api", "plain", "test_one[with a parameter]")
    assert read.known_failure("api", "plain", "test_two") is None
    assert read.known_failure("api", "other", "test_one") is None


def test_the_macvlan_cause_is_recognised_in_libvirts_own_words(contract: Contract) -> None:
    words = "internal error: cannot open macvtap tap device /dev/tap13: No such file or directory"
    assert contract.cause("macvtap-node-missing").explains(words)
    assert not contract.cause("macvtap-node-missing").explains(
        "cannot open macvtap tap device /dev/tap13: Permission denied"
    )


def test_every_power_over_the_host_is_tried(contract: Contract) -> None:
    assert {one.id for one in contract.powers} == {*POWERS}
    with pytest.raises(ContractError, match="no power is called 'flight'"):
        contract.power("flight")


def test_a_cause_needs_its_security_module(contract: Contract) -> None:
    words = (
        "the container ended before libvirt answered\n"
        "libvirtd: Failed to change ownership of '/run/libvirt/libvirt-sock' to 0:101: Operation not permitted"
    )
    without, confined = contract.recognise(words, "seccomp"), contract.recognise(words, "cgroupns, seccomp, selinux")
    assert without is contract.cause("owner-not-changed")
    assert confined is contract.cause("selinux-capabilities")


# ------------------------------------------------------------------------------------- another image's

THEIRS = """
schema = 1
extends = true
promises = ["api", "macvlan"]
[image]
port = 16000
path = "/system"
command = ["start"]
images = "/srv/guests"
"""


def test_another_images_contract_extends_the_projects_own(tmp_path: Path) -> None:
    theirs, ours = load(tmp_path, THEIRS), contracts.load()
    assert [feature.id for feature in theirs.features] == ["api", "macvlan"]
    assert {*theirs.features, *theirs.unpromised} == {*ours.features}
    assert (theirs.modes, theirs.exposures, theirs.volumes) == (ours.modes, ours.exposures, ours.volumes)
    assert (theirs.image.images, theirs.image.logs) == ("/srv/guests", "/var/log/libvirt/qemu")
    assert theirs.image.port_variable == "", "what is ours alone is not taken for theirs"
    assert {failure.feature for failure in theirs.known_failures} == {"macvlan"}


def test_another_images_modes_have_no_recommendations_of_ours(tmp_path: Path) -> None:
    own = """
powers = []
known-failures = []
[[modes]]
id = "own"
summary = "theirs"
exposures = ["privileged"]
"""
    head, image = THEIRS.split("[image]")
    top, _, modes = own.partition("[[modes]]")
    theirs = load(tmp_path, f"{head}{top}[image]{image}[[modes]]{modes}")
    assert [mode.id for mode in theirs.modes] == ["own"]
    assert theirs.recommendations == ()
    assert load(tmp_path, THEIRS).recommendations == contracts.load().recommendations


def test_a_recommended_mode_exists(tmp_path: Path) -> None:
    text = paths.CONTRACT.read_text().replace('mode = "least-apparmor"', 'mode = "least-armoured"')
    with pytest.raises(ContractError, match=r"recommendation .*least-armoured"):
        load(tmp_path, text)


def test_only_known_features_can_be_promised(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match=r"no feature is called 'usb'\n.*choose from: api, "):
        load(tmp_path, THEIRS.replace('"macvlan"', '"usb"'))


@pytest.mark.parametrize("change", ['port = "x"', "auth = 'kerberos'", "surprise = 1"])
def test_a_claim_about_an_image_is_checked(tmp_path: Path, change: str) -> None:
    with pytest.raises(ContractError, match="image"):
        load(tmp_path, THEIRS.replace("port = 16000", f"port = 16000\n{change}" if "port" not in change else change))


def test_foreseen_exposures_follow_from_known_failures(contract: Contract) -> None:
    assert contract.foreseen("required-only") == {"/dev/kvm", "/sys/fs/cgroup", "NET_ADMIN"}
    assert contract.foreseen("unprivileged") == frozenset(), "that macvtap's node is missing shows only when it is used"
