"""Texts by which an engine refuses to start a container."""

import re

CANNOT_GRANT = re.compile(
    r"unable to apply caps: operation not permitted|error setting rlimit type \d+: operation not permitted",
    re.IGNORECASE,
)
"""Docker before 23 refuses --privileged where its own root lacks a capability, and any Docker refuses to lift a limit
where its root lacks SYS_RESOURCE."""

NO_DEVICE = re.compile(r'gathering device information while adding custom device "(?P<path>[^"]+)": no such file')
