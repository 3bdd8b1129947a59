"""Mutants of the firewall: each rule that libvirt adds left out, at all or for one protocol."""

import re
from collections.abc import Iterator

from conformance.mutation import wrapper
from conformance.mutation.mutant import Mutant
from conformance.mutation.observation import Observation

PROTOCOLS = ("tcp", "udp", "icmp")
"""The protocols of guests; a rule without a protocol holds for each of them."""

_CHANGING = re.compile(r"^(?:virbr\d+|192\.168\.\d+\.\d+/\d+)$")
_BUILT_IN = ("INPUT", "OUTPUT", "FORWARD", "POSTROUTING")


def firewall(observed: Observation) -> Iterator[Mutant]:
    """Leave out each rule; take each protocol from the rules that hold for all of them."""
    for program in ("iptables", "ip6tables"):
        calls = [call for call, _ in observed.calls.get(program, ())]
        for call in calls:
            rule = _rule(call)
            yield _mutant(
                program, rule, "left out", f"the rule `{rule}` is missing", wrapper.skipped_call(_pattern(call))
            )
        yield from _protocols(program, calls)


def _protocols(program: str, calls: list[str]) -> Iterator[Mutant]:
    """Take one protocol from all rules of a chain that have the same target."""
    groups: dict[tuple[str, str], list[str]] = {}
    for call in calls:
        chain, target = _after(call, "--insert", "--append"), _after(call, "--jump")
        if chain not in _BUILT_IN and "--destination-port" not in call:
            groups.setdefault((chain, target), []).append(call)
    for (chain, target), rules in groups.items():
        for protocol in PROTOCOLS:
            lines = []
            for call in rules:
                named = _after(call, "--protocol", "-p")
                if named == protocol:
                    lines.append(wrapper.skipped_call(_pattern(call)))
                elif not named:
                    lines.append(wrapper.added_words(_pattern(call), "--jump", "!", "--protocol", protocol))
            if lines:
                yield _mutant(
                    program,
                    f"{chain} {target}",
                    f"not for {protocol}",
                    f"no rule of {chain} with the target {target} holds for {protocol.upper()}",
                    "\n".join(lines),
                )


def _mutant(program: str, place: str, change: str, sentence: str, body: str) -> Mutant:
    programs = {wrapper.path(program): wrapper.script(program, body)}
    return Mutant("firewall", program, place, change, f"{program}: {sentence}", programs=programs)


def _after(call: str, *options: str) -> str:
    words = call.split()
    return next((words[words.index(one) + 1] for one in options if one in words), "")


def _rule(call: str) -> str:
    """Return a call without the words that every call has."""
    words = call.removeprefix("-w ").replace("--table ", "").split()
    return " ".join(one for one in words if one not in ("--insert", "--append"))


def _pattern(call: str) -> str:
    """Return a pattern that matches a call for any network."""
    return "^" + " ".join(r"\S+" if _CHANGING.match(word) else re.escape(word) for word in call.split()) + "$"
