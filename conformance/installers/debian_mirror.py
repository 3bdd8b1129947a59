"""The Debian mirror that guests install from."""

from conformance.errors import HarnessError
from conformance.guests.peer_network import PeerNetwork
from conformance.util import apt

NAME_ANOTHER = "name a Debian mirror that containers reach by HTTP: --install-mirror=URL"

SECONDS = 60


def mirror_url(option: str | None) -> str:
    """Return the URL of the mirror to install from: that of the option, else the one that this machine's apt uses.

    Without a slash at its end.

    Raises:
        HarnessError: there is none, or it is not one that Debian's installer can use.
    """
    if option is not None:
        if not option.startswith("http://"):
            raise HarnessError(f"--install-mirror {option!r} is no URL that begins with http://", NAME_ANOTHER)
        return option.rstrip("/")
    # HTTP is enough: the installer verifies the archive's signatures with its own keys.
    known = [one.url for one in apt.mirrors() if not one.security and one.url.startswith("http://")]
    if not known:
        raise HarnessError("this machine's apt names no Debian archive by HTTP", NAME_ANOTHER)
    return known[0].rstrip("/")


def require(mirror: str, suite: str, peer_network: PeerNetwork) -> None:
    """Require a mirror with a suite that containers reach: a failure without it would not be the image's.

    Raises:
        HarnessError: they do not reach it, or it lacks the suite.
        EngineError: the engine could not try it.
    """
    release = f"{mirror}/dists/{suite}/Release"
    answer = peer_network.output('wget -T 30 -O - "$1" 2>&1', release, seconds=SECONDS)
    if f"Codename: {suite}" not in answer.splitlines():
        last = (answer.strip().splitlines() or ["nothing"])[-1]
        raise HarnessError(f"containers of this engine do not get {release}: {last}", NAME_ANOTHER)
