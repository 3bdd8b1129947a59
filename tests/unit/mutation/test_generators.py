"""The generators of mutants: pure functions of the image's files and of an observation."""

import subprocess
from pathlib import Path

import pytest

from conformance.errors import ContractError
from conformance.mutation import (
    arguments,
    catalogue,
    default_objects,
    dockerfile,
    firewall,
    image_source,
    inspection,
    settings,
    shell,
    values,
    wrapper,
)
from conformance.mutation.mutant import Mutant
from conformance.mutation.observation import Observation, digest

SCRIPT = """#!/bin/bash
own() {
    local why
    # a comment
    if [[ -e $1 ]]; then chown a b 2>/dev/null; fi
    ((tries > 3)) || warn 'no'
    sleep 5
    timeout 5 virsh list | grep x
}
"""


def changes(mutants: list[Mutant]) -> set[tuple[str, str]]:
    return {(one.place, one.change) for one in mutants}


def test_each_command_is_deleted_each_condition_negated_and_each_number_changed() -> None:
    found = list(shell.shell({"entrypoint": SCRIPT}))
    assert changes(found) == {
        ("own: [[ -e $1 ]]", "negated"),
        ("own: chown a b 2>/dev/null", "deleted"),
        ("own: ((tries > 3))", "negated"),
        ("own: 3", "to 0"),
        ("own: warn 'no'", "deleted"),
        ("own: sleep 5", "deleted"),
        ("own: timeout 5 virsh list | grep x", "deleted"),
        ("own: grep x", "deleted"),
    }
    deleted = next(one for one in found if one.place == "own: chown a b 2>/dev/null")
    assert "if [[ -e $1 ]]; then :; fi" in deleted.files["entrypoint"]
    assert deleted.lines == (5, 5)
    negated = next(one for one in found if one.place == "own: ((tries > 3))")
    assert "! ((tries > 3)) || warn" in negated.files["entrypoint"]


def test_a_change_that_bash_cannot_parse_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "_changes", lambda _node: [("deleted", 0, 11, b"if")])
    assert list(shell.shell({"entrypoint": SCRIPT})) == []


def test_a_mutant_keeps_its_id_when_other_lines_come() -> None:
    before = {one.id for one in shell.shell({"entrypoint": SCRIPT})}
    later = {one.id for one in shell.shell({"entrypoint": SCRIPT.replace("    local why", "    local why\n    date")})}
    assert before < later
    assert len(later - before) == 1


def test_the_digest_is_one_of_the_whole_change() -> None:
    one = Mutant("shell", "entrypoint", "p", "c", "s", {"entrypoint": "a"})
    assert one.digest == Mutant("shell", "entrypoint", "p", "c", "other words", {"entrypoint": "a"}).digest
    assert one.digest != Mutant("shell", "entrypoint", "p", "c", "s", {"entrypoint": "b"}).digest
    assert one.digest != Mutant("shell", "entrypoint", "p", "c", "s", {"entrypoint": "a"}, {"/bin/x": ""}).digest


def test_a_setting_is_removed_and_turned() -> None:
    found = list(settings.settings({"config/qemu.conf": '# a\nuser = "libvirt"\ngroup = "libvirt"\n'}))
    assert changes(found) == {
        ("user", "removed"),
        ("user", '"libvirt" to "root"'),
        ("group", "removed"),
        ("group", '"libvirt" to "root"'),
    }
    assert found[0].files == {"config/qemu.conf": '# a\ngroup = "libvirt"\n'}
    assert found[1].files == {"config/qemu.conf": '# a\nuser = "root"\ngroup = "libvirt"\n'}


def test_each_element_and_attribute_is_dropped_or_changed() -> None:
    text = "<pool type='dir'><name>default</name><target><path>/var/lib/libvirt/images</path></target></pool>"
    assert changes(list(default_objects.objects({"defaults/pool.xml": text}))) == {
        ("name", "dropped"),
        ("name", "to other"),
        ("target", "dropped"),
        ("path", "dropped"),
        ("path", "to /var/lib/libvirt/other"),
        ("pool type", "dropped"),
        ("pool type", "to fs"),
    }


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ("on", "off"),
        ("0", "1"),
        ("512", "256"),
        ("192.168.122.1", "192.168.123.1"),
        ("255.255.255.0", "255.255.255.128"),
        ("52:54:00:12:34:56", "52:54:00:00:00:01"),
        ("name", None),
    ],
)
def test_another_value_is_of_the_same_type(value: str, other: str | None) -> None:
    assert values.changed(value) == other


def test_only_packages_that_no_other_one_needs_are_left_out() -> None:
    files = {"Dockerfile": "RUN apt-get update \\\n && apt-get install --yes \\\n   swtpm swtpm-tools \\\n && rm x\n"}
    found = list(dockerfile.left_out(files, {"swtpm": ("swtpm-tools",)}))
    assert [one.place for one in found] == ["swtpm-tools"]


def test_each_variable_of_the_environment_is_emptied_and_changed() -> None:
    found = list(dockerfile.environment({"Dockerfile": "ENV A=on \\\n    B=30\nLABEL x\n"}))
    assert [one.instructions for one in found][:4] == ["ENV A=", "ENV A=off", "ENV B=", "ENV B=15"]


RULE = "-w --table nat --insert LIBVIRT_PRT --source 192.168.122.0/24 {}--jump MASQUERADE"
RULES = Observation(calls={"iptables": ((RULE.format("-p udp "), ""), (RULE.format(""), ""))})


def ran(mutant: Mutant, tmp_path: Path, words: list[str]) -> str:
    """Run a mutant's wrapper in front of a program that prints its arguments."""
    (text,) = mutant.programs.values()
    real = wrapper.REAL[mutant.file]
    file = tmp_path / "wrapper"
    file.write_text(text.replace(real, "/bin/echo"))
    return subprocess.run(["perl", str(file), *words], capture_output=True, text=True, check=True).stdout.strip()


def test_a_rule_is_left_out_for_any_network(tmp_path: Path) -> None:
    found = {one.change: one for one in firewall.firewall(RULES) if "-p udp" in one.place or "not for" in one.change}
    udp = RULE.format("-p udp ").replace("122", "100").split()
    every = RULE.format("").split()
    assert ran(found["left out"], tmp_path, udp) == ""
    assert ran(found["left out"], tmp_path, every) == " ".join(every)
    assert ran(found["not for udp"], tmp_path, udp) == ""
    assert ran(found["not for udp"], tmp_path, every).endswith("! --protocol udp --jump MASQUERADE")
    assert ran(found["not for icmp"], tmp_path, udp) == " ".join(udp)


QEMU = Observation(
    calls={
        "qemu-system-x86_64": (
            ("-no-user-config", ""),
            ("-sandbox", "on,spawn=deny"),
            ("-m", "size=524288k"),
            ("-blockdev", '{"driver":"file","filename":"/x","discard":"unmap","read-only":true}'),
        )
    }
)


def test_arguments_of_qemu_are_dropped_and_weakened(tmp_path: Path) -> None:
    found = {(one.place, one.change): one for one in arguments.arguments(QEMU)}
    call = ["-no-user-config", "-sandbox", "on,spawn=deny", "-m", "size=524288k"]
    disk = '{"driver":"file","filename":"/x","discard":"unmap","read-only":true}'

    def changed(place: str, change: str) -> str:
        return ran(found[place, change], tmp_path, [*call, "-blockdev", disk])

    assert "-no-user-config" not in changed("-no-user-config", "dropped")
    assert "-sandbox" not in changed("-sandbox", "dropped")
    assert "-sandbox on,spawn=allow" in changed("-sandbox spawn", "to allow")
    assert "-m size=262144k" in changed("-m size", "to 262144k")
    assert '"filename":"/x","read-only":true' in changed("-blockdev file discard", "dropped")
    assert '"discard":"ignore"' in changed("-blockdev file discard", "to ignore")
    assert '"read-only":false' in changed("-blockdev file read-only", "to false")
    assert ("-blockdev file filename", "dropped") not in found


def test_a_volume_gets_half_of_its_capacity_and_a_guest_half_of_its_memory(tmp_path: Path) -> None:
    observed = Observation(calls={"qemu-img": (("create", ""), ("-o", "compat=1.1"))})
    found = {(one.place, one.change): one for one in arguments.arguments(observed)}
    call = ["create", "-f", "qcow2", "-o", "compat=1.1", "/x.qcow2", "65536K"]
    assert ran(found["create", "halved"], tmp_path, call).endswith("/x.qcow2 32768K")
    assert ran(found["-o", "dropped"], tmp_path, call) == "create -f qcow2 /x.qcow2 65536K"
    guest = ["-m", "size=1024k", "-object", '{"id":"pc.ram","size":1048576}']
    assert ran(found["-m and its object", "halved"], tmp_path, guest) == (
        '-m size=512k -object {"id":"pc.ram","size":524288}'
    )


def test_the_process_of_qemu_is_changed(tmp_path: Path) -> None:
    for one in arguments.processes():
        assert ran(one, tmp_path, ["-version"]) == "-version", one.sentence


def test_owners_and_modes_are_changed() -> None:
    text = "#!/bin/bash\nchmod 775 /a\nchown libvirt:libvirt /a\ninstall --owner=libvirt --mode=755 /a\n"
    assert {change for _, change in changes(list(shell.shell({"x": text})))} == {
        "deleted",
        "to 700",
        "to root:root",
        "to --owner=root",
        "to --mode=700",
    }


def test_lines_of_dnsmasq_are_dropped_and_added(tmp_path: Path) -> None:
    observed = Observation(calls={"dnsmasq.conf": (("strict-order", ""), ("interface", "virbr0"))})
    found = {(one.place, one.change): one for one in arguments.arguments(observed)}
    config = tmp_path / "default.conf"
    for key, left in (
        (("conf: interface", "dropped"), "strict-order\n"),
        (("conf", "no-resolv added"), "strict-order\ninterface=virbr0\nno-resolv\n"),
    ):
        config.write_text("strict-order\ninterface=virbr0\n")
        assert ran(found[key], tmp_path, [f"--conf-file={config}"]) == f"--conf-file={config}"
        assert config.read_text() == left


def test_an_observation_has_each_shape_of_an_option_once() -> None:
    calls = [
        ["qemu-system-x86_64", "-name", "guest=probe-1234abcd", "-m", "size=1k"],
        ["qemu-system-x86_64", "-name", "guest=probe-5678abcd", "-m", "size=2k"],
        ["qemu-system-x86_64", "-version"],
        ["iptables", "-w", "--insert", "X", "-i", "virbr0"],
        ["iptables", "-w", "--insert", "X", "-i", "virbr1"],
        ["iptables", "-w", "--delete", "X"],
    ]
    found = inspection.shapes(calls)
    assert found["qemu-system-x86_64"] == (("-name", "guest=probe-1234abcd"), ("-m", "size=1k"))
    assert found["iptables"] == (("-w --insert X -i virbr0", ""),)


def test_a_line_is_missed_only_if_that_is_known_of_this_text() -> None:
    observed = Observation(reached={"least": {"entrypoint": (1, 5)}}, sources={"entrypoint": digest(SCRIPT)})
    assert observed.missed("least", "entrypoint", SCRIPT, (2, 4))
    assert not observed.missed("least", "entrypoint", SCRIPT, (4, 6))
    assert not observed.missed("least", "entrypoint", SCRIPT + "#", (2, 4))
    assert not observed.missed("unprivileged", "entrypoint", SCRIPT, (2, 4))


def test_files_go_where_the_dockerfile_copies_them() -> None:
    files = image_source.read()
    assert image_source.destinations(files, "config/qemu.conf") == (
        "/etc/libvirt/qemu.conf",
        "/usr/local/lib/libvirt-container/defaults/qemu.conf",
    )
    assert image_source.destinations(files, "create-user") == ()


def test_the_selection_names_what_it_does_not_know() -> None:
    known = [Mutant("shell", "entrypoint", str(number), "deleted", "s") for number in range(3)]
    known.append(Mutant("setting", "config/qemu.conf", "user", "removed", "s"))
    assert catalogue.chosen(known, kinds=["setting"]) == [known[3]]
    assert {one.id for one in catalogue.chosen(known, before=[known[0].id])} == {one.id for one in known[1:]}
    assert {one.kind for one in catalogue.chosen(known)[:2]} == {"shell", "setting"}
    with pytest.raises(ContractError, match="no mutant has the kind 'sugar'"):
        catalogue.chosen(known, kinds=["sugar"])
