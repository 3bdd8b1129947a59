from typing import Any

import pytest

from conformance.checks import hugepages
from conformance.errors import Unsupported
from conformance.model import mode
from conformance.model.contract import Contract

STATE = "HugePages_Total:     128\nHugePages_Free:      {free}\nHugepagesize:       2048 kB\n"


class Container:
    """A container on a host with huge pages."""

    def __init__(self, contract: Contract, mode_id: str, text: str) -> None:
        self.mode = mode.from_contract(contract, mode_id)
        self.text = text

    def run(self, *_command: str) -> Any:
        return self


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (STATE.format(free=128), "no hugetlbfs at /dev/hugepages"),
        (STATE.format(free=127) + "Mounted: 1\n", r"127 free huge pages of 2048 KiB.*nr_hugepages=128"),
    ],
    ids=["none mounted", "too few"],
)
@pytest.mark.parametrize("mode_id", ["least-tuned", "privileged-passthrough"])
def test_a_host_without_enough_huge_pages_cannot_be_tested(
    contract: Contract, mode_id: str, text: str, complaint: str
) -> None:
    container: Any = Container(contract, mode_id, text)
    with pytest.raises(Unsupported, match=complaint):
        hugepages.require(container, 256)


def test_enough_huge_pages_are_enough(contract: Contract) -> None:
    container: Any = Container(contract, "least-tuned", STATE.format(free=128) + "Mounted: 1\n")
    hugepages.require(container, 256)


def test_where_the_mode_exposes_none_the_hosts_do_not_matter(contract: Contract) -> None:
    container: Any = Container(contract, "least", STATE.format(free=0))
    hugepages.require(container, 256)
