"""A helper process of a selfcheck: ``python -m conformance.selfcheck.worker FOLDER TAG SECONDS ID...``.

FOLDER is the folder of the outcomes, TAG the image (empty for the project's own), SECONDS the deadline for libvirt
after a start, and each ID a change.
"""

import sys
from pathlib import Path

from conformance.errors import HarnessError
from conformance.selfcheck import change
from conformance.selfcheck.command import selfcheck
from conformance.util import logs, signals
from conformance.util.progress import Progress


def main(folder: str, tag: str, seconds: str, *ids: str) -> int:
    """Test changes that no other process is testing, and return an exit status; SIGTERM ends it as ctrl-C does."""
    end = logs.begin()
    with signals.as_ctrl_c():
        try:
            selfcheck(
                change.chosen(change.load(), ids),
                Progress(),
                folder=Path(folder),
                tag=tag or None,
                ready_seconds=float(seconds),
            )
        except HarnessError as error:
            print(f"error: {error}{logs.footer()}", file=sys.stderr)  # noqa: T201
            return 1
        except KeyboardInterrupt:
            return 2
        finally:
            end()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
