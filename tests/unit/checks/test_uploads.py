import os
import signal
from pathlib import Path

import pytest

from conformance.checks import uploads

PATH = "/var/lib/libvirt/images/a.raw"


@pytest.mark.parametrize(
    ("client", "died"),
    [
        ("print('begun', flush=True); import time; time.sleep(60)", True),
        ("print('begun', flush=True)", False),
        ("raise SystemExit(1)", False),
    ],
    ids=["in the middle", "it was done before", "it never began"],
)
def test_only_a_client_that_uploads_dies_in_the_middle(client: str, died: bool) -> None:
    assert uploads.die("test:///default", PATH, client=client, seconds=0.3) is died


def test_a_client_that_the_daemon_never_lets_begin_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(uploads, "BEGIN_SECONDS", 0.5)
    number = tmp_path / "pid"
    client = f"import os, time; open({str(number)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    assert not uploads.die("test:///default", PATH, client=client)

    if number.exists():
        with pytest.raises(ProcessLookupError):
            os.kill(int(number.read_text()), signal.SIGCONT)
