"""Other values for a value: its opposite, or one that is as valid and differs."""

import re

_OPPOSITES = {
    "on": "off", "yes": "no", "true": "false", "allow": "deny", "unmap": "ignore", "utc": "localtime",
    "writeback": "unsafe", "nat": "route", "dir": "fs",
}  # fmt: skip
OPPOSITES = _OPPOSITES | {new: old for old, new in _OPPOSITES.items() if old not in ("nat", "dir", "writeback")}
"""Words with an opposite."""

_UUID = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_MAC = re.compile(r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
_ADDRESS = re.compile(r"^(\d+)\.(\d+)\.(\d+)\.(\d+)$")


def changed(value: str) -> str | None:
    """Return another value of the same type; none where only the value's omission is a sensible change."""
    if value in OPPOSITES:
        return OPPOSITES[value]
    if _UUID.match(value):
        return "00000000-0000-4000-8000-000000000001"
    if _MAC.match(value):
        return "52:54:00:00:00:01"
    if parts := _ADDRESS.match(value):
        return _address(*map(int, parts.groups()))
    if value.isdecimal():
        return _number(value)
    return None


def _number(value: str) -> str:
    """Return half of a large number, another small one, and 0 for 1."""
    number = int(value)
    if number > 3:
        return str(number // 2)
    return {0: "1", 1: "0"}.get(number, "1")


def _address(*parts: int) -> str:
    """Return a wider mask for a mask, else the address in the next network."""
    first, second, third, last = parts
    if first == 255:
        return "255.255.255.128" if last == 0 else "255.255.255.0"
    return f"{first}.{second}.{(third + 1) % 256}.{last}"
