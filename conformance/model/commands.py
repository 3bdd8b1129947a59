"""Commands for people: a mode as a ``docker run`` command and as a Compose file."""

import itertools
import shlex
from typing import Any

import yaml

from conformance.model.mode import RULE, STOP_TIMEOUT, Mode

RESTART = "unless-stopped"
"""The restart policy of users' containers: after an end and after a reboot, but not after ``docker stop``."""

BINDING = (
    "PCI=${PCI:?the address of a spare PCI device, as lspci -D has it}",
    "modprobe vfio-pci",
    'echo vfio-pci >"/sys/bus/pci/devices/$PCI/driver_override"',
    '[ ! -e "/sys/bus/pci/devices/$PCI/driver" ] || echo "$PCI" >"/sys/bus/pci/devices/$PCI/driver/unbind"',
    'echo "$PCI" >/sys/bus/pci/drivers_probe',
    'VFIO_GROUP=$(basename "$(readlink "/sys/bus/pci/devices/$PCI/iommu_group")")',
)
"""Shell commands for root that bind a PCI device to vfio-pci and look up its IOMMU group (the kernel's documentation,
"VFIO" and sysfs-bus-pci)."""


CONTINUED = " \\"
"""The end of a line that the next one continues."""


def script(mode: Mode, image: str) -> str:
    """Render the container as shell commands: ``docker run``, after the commands that prepare the host."""
    return "\n".join([*preparation(mode), shell(docker_run(mode, image))])


def preparation(mode: Mode, folder: str = "image") -> list[str]:
    """Return the shell commands that prepare the host for a mode.

    Args:
        mode: the container's mode.
        folder: the folder of the image's sources.
    """
    before = [f"grep -qw {driver} /proc/devices || modprobe {driver}" for driver in mode.drivers]
    before += BINDING if mode.vfio else ()
    before += [f"apparmor_parser --replace {folder}/apparmor/{mode.profile}"] if mode.profile else []
    return before


def docker_run(mode: Mode, image: str, name: str = "libvirt", *, restart: bool = True) -> list[str]:
    """Render the container as the words of a ``docker run`` command, for :func:`shell`.

    Args:
        mode: the container's mode.
        image: the image's tag or id.
        name: the container's name.
        restart: whether to set a restart policy, if the mode allows one.
    """
    words = ["docker", "run", "--detach", f"--name={name}", f"--stop-timeout={STOP_TIMEOUT}"]
    if restart and mode.restarts:
        words.append(f"--restart={RESTART}")
    if mode.privileged:
        words.append("--privileged")
    words += [f"--device={path}" for path in mode.devices]
    words += ["--device=/dev/vfio/${VFIO_GROUP:?}"] if mode.vfio else []
    words += [f"--device-cgroup-rule={RULE.format(major=_looked_up(driver))}" for driver in mode.drivers]
    words += [f"--ulimit={limit}=-1" for limit in mode.unlimited]
    words += [f"--volume={mount.source}:{mount.target}:{mount.access}" for mount in mode.mounts]
    if not mode.default_capabilities:
        words.append("--cap-drop=ALL")
    words += [f"--cap-add={capability}" for capability in mode.capabilities]
    words += [f"--security-opt={option}" for option in mode.security_options]
    if mode.cgroup_namespace:
        words.append(f"--cgroupns={mode.cgroup_namespace}")
    if mode.host_network:
        words.append("--network=host")
    else:
        words.append(f"--publish=127.0.0.1:{mode.port}:{mode.port}")
    words += [f"--env={key}={value}" for key, value in mode.environment.items()]
    words += [f"--volume={volume}:{path}" for volume, path in mode.volumes.items()]
    return [*words, image, *mode.image.command]


def compose(mode: Mode, image: str, name: str = "libvirt") -> str:
    """Render the container as a Compose file; looked-up values are variables, whose names Compose reports if unset."""
    groups = ["/dev/vfio/${VFIO_GROUP:?the IOMMU group of the PCI device}"] if mode.vfio else []
    service: dict[str, Any] = {
        "image": image,
        "command": list(mode.image.command),
        "container_name": name,
        "stop_grace_period": f"{STOP_TIMEOUT}s",
        "restart": RESTART if mode.restarts else None,
        "privileged": mode.privileged or None,
        "devices": [f"{path}:{path}" for path in (*mode.devices, *groups)],
        "device_cgroup_rules": [
            RULE.format(major=f"${{{driver.upper()}_MAJOR:?the number of {driver} in /proc/devices}}")
            for driver in mode.drivers
        ],
        "ulimits": dict.fromkeys(mode.unlimited, -1),
        "cap_drop": None if mode.default_capabilities else ["ALL"],
        "cap_add": mode.capabilities,
        "security_opt": mode.security_options,
        "cgroup": mode.cgroup_namespace or None,
        "network_mode": "host" if mode.host_network else None,
        "ports": [] if mode.host_network else [f"127.0.0.1:{mode.port}:{mode.port}"],
        "environment": dict(mode.environment),
        "volumes": [f"{mount.source}:{mount.target}:{mount.access}" for mount in mode.mounts]
        + [f"{volume}:{path}" for volume, path in mode.volumes.items()],
    }
    document: dict[str, Any] = {"services": {name: {key: value for key, value in service.items() if value}}}
    if mode.volumes:
        document["volumes"] = {volume: {"name": volume} for volume in mode.volumes}
    return yaml.safe_dump(document, sort_keys=False, width=200)


def shell(words: list[str]) -> str:
    """Join a command's words, one option a line, quoted for a shell except for variables and command substitutions."""
    options = list(itertools.takewhile(lambda word: word.startswith("--"), words[2:]))
    image = words[2 + len(options) :]
    return " \\\n  ".join([" ".join(words[:2]), *map(_quoted, options), shlex.join(image)])


def paragraph(words: list[str], width: int) -> str:
    """Join a command's words, as many on a line as fit into a width, quoted as by :func:`shell`."""
    lines = [words[0]]
    for word in map(_quoted, words[1:]):
        longer = f"{lines[-1]} {word}"
        if len(longer) + len(CONTINUED) <= width:
            lines[-1] = longer
        else:
            lines.append(f"  {word}")
    return f"{CONTINUED}\n".join(lines)


def _looked_up(driver: str) -> str:
    """Return the command substitution for a driver's number."""
    return f"$(awk '$2 == \"{driver}\" {{ print $1 }}' /proc/devices)"


def _quoted(word: str) -> str:
    return f'"{word}"' if "$" in word else shlex.quote(word)
