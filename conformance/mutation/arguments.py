"""Mutants of the programs that libvirt starts: each of their arguments dropped or weakened."""

import json
import re
from collections.abc import Iterator
from typing import Any

from conformance.mutation import values, wrapper
from conformance.mutation.mutant import Mutant
from conformance.mutation.observation import Observation

WIRING = frozenset(
    "id bus addr node-name chardev netdev drive tpmdev port chassis qom-type fd vhostfd file filename backing path"
    " driver multifunction type mode-id serial data format iv keyid secret".split()
)
"""Properties that connect parts with each other: without them QEMU does not start, which tells nothing."""

WIRING_OPTIONS = ("-S", "-name", "-object", "-chardev", "-mon", "-drive", "-fsdev", "-tpmdev")
"""Options that connect QEMU with libvirt, or that others refer to."""

ADDED_LINES = {
    "no-resolv": "dnsmasq knows no server beyond its own names",
    "port=0": "dnsmasq answers no DNS queries",
    "dhcp-ignore=tag:!known": "dnsmasq gives leases to known guests only",
    "filter-AAAA": "dnsmasq hides IPv6 addresses",
    "dhcp-option=3": "dnsmasq names no router to guests",
    "dhcp-option=6": "dnsmasq names no DNS server to guests",
    "user=root": "dnsmasq runs as root",
    "server=192.0.2.1": "dnsmasq sends queries to a server that does not exist",
}
"""Lines that weaken dnsmasq, and their effect."""


PROCESS = {
    "umask 0;": "files that QEMU makes are open to everybody",
    "setpriority(0, 0, 19);": "QEMU has the lowest priority",
    "if (open(my $score, '>', '/proc/self/oom_score_adj')) { print $score 1000; close $score; }": (
        "the kernel ends QEMU first when memory runs out"
    ),
    "chdir '/tmp';": "QEMU runs in another folder",
}
"""Perl that changes QEMU's process, and the effect."""


def processes() -> Iterator[Mutant]:
    """Change the process in which QEMU runs."""
    program = "qemu-system-x86_64"
    for perl, effect in PROCESS.items():
        yield Mutant("process", program, perl.split("(")[0], "added", effect, programs=_programs(program, perl))


def arguments(observed: Observation) -> Iterator[Mutant]:
    """Change each observed argument."""
    for option, value in observed.calls.get("qemu-system-x86_64", ()):
        yield from _qemu(option, value)
    yield from _half_of_the_memory()
    for option, value in observed.calls.get("qemu-img", ()):
        yield from _volume(option, value)
    for program in ("swtpm", "swtpm_setup"):
        for option, value in observed.calls.get(program, ()):
            if option.startswith("-"):
                yield from _flags(program, option, value)
    for option, _ in observed.calls.get("dnsmasq", ()):
        if option.startswith("--") and option != "--conf-file":
            yield _mutant("dnsmasq", option, "dropped", f"has no {option}", wrapper.without_word(option))
    yield from _dnsmasq_lines(observed)


def _dnsmasq_lines(observed: Observation) -> Iterator[Mutant]:
    names = dict.fromkeys(name for name, _ in observed.calls.get("dnsmasq.conf", ()) if re.match(r"[a-z]", name))
    for name in names:
        edit = f"@lines = grep {{ !/^{re.escape(name)}(=|$)/ }} @lines;"
        body = wrapper.edited_file("--conf-file=", edit)
        yield _mutant("dnsmasq", f"conf: {name}", "dropped", f"has no line {name} in its configuration", body)
    if names:
        for line, effect in ADDED_LINES.items():
            body = wrapper.edited_file("--conf-file=", f"push @lines, {wrapper.quoted(line)} . chr(10);")
            yield Mutant("argument", "dnsmasq", "conf", f"{line} added", effect, programs=_programs("dnsmasq", body))


def _volume(option: str, value: str) -> Iterator[Mutant]:
    """Change what qemu-img makes: the size and the features of a volume."""
    if option == "-o":
        yield _mutant("qemu-img", option, "dropped", f"has no {option} {value}", wrapper.without_option(option))
    if option == "create":
        body = "$words[-1] =~ s{^(\\d+)K$}{int($1 / 2) . 'K'}e if $words[0] eq 'create';"
        yield _mutant("qemu-img", "create", "halved", "makes volumes with half of their capacity", body)


def _flags(program: str, option: str, value: str) -> Iterator[Mutant]:
    yield _mutant(program, option, "dropped", f"has no {option}", wrapper.without_option(option, valued=bool(value)))
    for name, old in (one.partition("=")[::2] for one in value.split(",") if "=" in one):
        if name == "mode" and old.isdecimal():
            body = wrapper.replaced(option, "", f"mode={old}", "mode=0666")
            yield _mutant(program, f"{option} mode", "to 0666", f"has mode 0666 in {option}", body)


def _qemu(option: str, value: str) -> Iterator[Mutant]:
    if option in WIRING_OPTIONS:
        return
    if value.startswith("{"):
        yield from _json_value(option, json.loads(value))
    elif not value:
        yield _mutant(
            "qemu-system-x86_64", option, "dropped", f"has no {option}", wrapper.without_option(option, valued=False)
        )
    else:
        yield from _list_value(option, value)


def _half_of_the_memory() -> Iterator[Mutant]:
    """Give the guest half of its memory: in both places, which have to agree."""
    body = (
        "for (@words) { s{^size=(\\d+)k$}{'size=' . int($1 / 2) . 'k'}e;"
        ' s{("id":"pc.ram","size":)(\\d+)}{$1 . int($2 / 2)}e }'
    )
    yield _mutant("qemu-system-x86_64", "-m and its object", "halved", "has half of the memory", body)


def _json_value(option: str, value: dict[str, Any]) -> Iterator[Mutant]:
    driver = str(value.get("driver") or value.get("type") or "")
    select = f'"(driver|type)":"{re.escape(driver)}"'
    for name, old in value.items():
        if name in WIRING or isinstance(old, dict | list):
            continue
        text = json.dumps(old)
        pattern = f'"{name}":' + ('"[^"]*"' if isinstance(old, str) else r"[\w.-]+")
        place = f"{option} {driver} {name}"
        body = wrapper.replaced(option, select, f"({pattern},|,{pattern})", "")
        yield _mutant("qemu-system-x86_64", place, "dropped", f"has no {name} in {option} {driver}", body)
        other = values.changed(text.strip('"'))
        if other is not None:
            new = f'"{name}":"{other}"' if isinstance(old, str) else f'"{name}":{other}'
            sentence = f"has {name}={other} in {option} {driver}, not {text}"
            yield _mutant(
                "qemu-system-x86_64", place, f"to {other}", sentence, wrapper.replaced(option, select, pattern, new)
            )


def _list_value(option: str, value: str) -> Iterator[Mutant]:
    program = "qemu-system-x86_64"
    first, *rest = value.split(",")
    if option not in ("-netdev", "-device"):
        yield _mutant(program, option, "dropped", f"has no {option}", wrapper.without_option(option))
    named = [one.partition("=")[::2] for one in (rest if "=" not in first else [first, *rest])]
    if "=" not in first and (other := _other_first(option, first)):
        body = wrapper.replaced(option, "", f"^{re.escape(first)}", other)
        yield _mutant(program, option, f"to {other}", f"has {option} {other}, not {first}", body)
    for name, old in named:
        if name in WIRING or not old:
            continue
        place = f"{option} {name}"
        if f"{name}={old}" != first:
            body = wrapper.replaced(option, "", f",{re.escape(name)}=[^,]*", "")
            yield _mutant(program, place, "dropped", f"has no {name} in {option}", body)
        unit = old[-1] if old[-1] in "kKMG" and old[:-1].isdecimal() else ""
        other = values.changed(old.removesuffix(unit) if unit else old)
        if other is not None:
            body = wrapper.replaced(option, "", f"(?<![a-z-]){re.escape(name)}=[^,]*", f"{name}={other}{unit}")
            yield _mutant(program, place, f"to {other}{unit}", f"has {name}={other}{unit} in {option}, not {old}", body)


def _other_first(option: str, first: str) -> str | None:
    """Return another value for the first, unnamed part of an option."""
    if option == "-cpu":
        return "486"
    if option == "-machine":
        return "pc"
    return values.changed(first)


def _mutant(program: str, place: str, change: str, sentence: str, body: str) -> Mutant:
    return Mutant("argument", program, place, change, f"{program} {sentence}", programs=_programs(program, body))


def _programs(program: str, body: str) -> dict[str, str]:
    return {wrapper.path(program): wrapper.script(program, body)}
