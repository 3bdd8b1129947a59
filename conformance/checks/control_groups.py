"""Whose control groups a process is in, by proc(5)'s ``/proc/PID/cgroup``: a line for each hierarchy."""

LIMITED = "memory"
"""The controller that decides: every engine limits it, and makes a group for each container."""


def of_memory(groups: str) -> str:
    """Return the path of the group that limits a process's memory; empty where there is none.

    Args:
        groups: the text of ``/proc/PID/cgroup``. Only hierarchies of version 1 name controllers.
    """
    paths: dict[str, str] = {}
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)
    return paths.get(LIMITED, paths.get("", ""))


def own(groups: str, container: str) -> str:
    """Return the path of a container's own group, as its processes see it.

    Args:
        groups: those of the container's first process, which may be in a group below the container's.
        container: the container's ID, which engines name its group after. In a cgroup namespace of its own the
            container does not see that name, and its group is the root.
    """
    path = of_memory(groups)
    before, found, after = path.partition(container)
    return before + found + after.partition("/")[0] if found else "/"


def below(groups: str, group: str) -> bool:
    """Say whether a process is in a group, or below it; what is outside of a cgroup namespace begins with ``/..``."""
    path = of_memory(groups)
    return path.startswith("/") and not path.startswith("/..") and f"{path}/".startswith(f"{group.rstrip('/')}/")
