"""A helper process of a selfcheck: ``python -m conformance.selfcheck.worker FOLDER TAG SECONDS ID...``.

FOLDER is where outcomes are recorded, TAG is the image, or empty for ours, SECONDS is how long libvirt may take to
answer, and each ID is a change's.
"""

import sys
from pathlib import Path

from conformance.errors import HarnessError
from conformance.selfcheck import change
from conformance.selfcheck.command import selfcheck
from conformance.util import logs, signals
from conformance.util.progress import Progress


def main(folder: str, tag: str, seconds: str, *ids: str) -> int:
    """Ask what nobody else is asking, and return an exit status; SIGTERM ends it as ctrl-C would."""
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
            return 130
        finally:
            end()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
