"""A helper process of a measurement: ``python -m conformance.mutation.worker FOLDER TAG DEADLINE ID...``.

FOLDER is the folder of the outcomes, TAG the image (empty for the project's own), DEADLINE the time after which no
mutant begins (empty for none), and each ID a mutant.
"""

import sys
from pathlib import Path

from conformance.errors import HarnessError
from conformance.mutation import catalogue, image_source, observation
from conformance.mutation.command import mutate
from conformance.util import logs, signals
from conformance.util.progress import Progress


def main(folder: str, tag: str, deadline: str, *ids: str) -> int:
    """Test mutants that no other process is testing, and return an exit status; SIGTERM ends it as ctrl-C does."""
    end = logs.begin()
    with signals.as_ctrl_c():
        try:
            mutate(
                catalogue.chosen(catalogue.mutants(image_source.read(), observation.load()), ids=ids),
                Progress(),
                folder=Path(folder),
                tag=tag or None,
                deadline=float(deadline) if deadline else None,
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
