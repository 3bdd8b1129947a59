"""Texts by which an engine refuses to start a container."""

import re

CANNOT_GRANT = re.compile(
    r"unable to apply caps: operation not permitted|error setting rlimit type \d+: operation not permitted",
    re.IGNORECASE,
)
"""Docker before 23 refuses --privileged where its own root lacks a capability, and any Docker refuses to lift a limit
where its root lacks SYS_RESOURCE."""

NO_DEVICE = re.compile(r'gathering device information while adding custom device "(?P<path>[^"]+)": no such file')


def ungranted(refusal: str) -> str:
    """Return in one line that an engine's refusal is about privileges that it lacks itself; empty for any other."""
    if not CANNOT_GRANT.search(refusal):
        return ""
    return f"the engine cannot grant the mode's privileges: its own root lacks a capability ({refusal.strip()})"
