"""A session within a run: the tests that are wanted, in the order of their places."""

from types import SimpleNamespace
from typing import Any

from conformance.plugin.state import CHECK
from conformance.workers.sessions import _SharedRunPlugin


class Item:
    """A collected test with its check."""

    def __init__(self, name: str) -> None:
        self.stash: dict[Any, Any] = {CHECK: SimpleNamespace(check=name)}


def test_places_decide_about_the_order_after_the_plugins_own() -> None:
    places = {"a": 2.0, "b": 1.0, "c": -5.0}
    plugin = _SharedRunPlugin(
        SimpleNamespace(),  # type: ignore[arg-type]
        lambda check, _item: check.check != "b",
        lambda *_: None,
        lambda check: places[check.check],
    )
    items: Any = [Item("a"), Item("b")]
    hook = plugin.pytest_collection_modifyitems(items)
    next(hook)
    items.append(Item("c"))  # attached and ordered by the plugin meanwhile
    assert next(hook, None) is None
    assert [one.stash[CHECK].check for one in items] == ["c", "a"]
