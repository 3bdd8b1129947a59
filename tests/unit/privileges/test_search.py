"""The search on simulated images whose needs are known."""

from collections.abc import Callable, Iterable, Mapping

import pytest

from conformance.privileges.search import Findings, Search, starts_apart

Kept = frozenset[str]
Works = Callable[[Kept], bool]

PARTS = ["ADMIN", "PTRACE", "groups", "filter", "tun", "kvm", "CHOWN", "SETUID", "MKNOD", "CHROOT", "namespaces"]


def needs(*parts: str) -> Works:
    return lambda kept: kept >= {*parts}


class Image:
    """Knows what each of its features needs, and remembers what it was asked."""

    def __init__(self, features: Mapping[str, Works], parts: Iterable[str] = PARTS, trades: Iterable[str] = ()) -> None:
        self.features = features
        self.parts = list(parts)
        self.trades = frozenset(trades)
        self.starts: list[tuple[frozenset[str], frozenset[str]]] = []

    def search(self, believed: Iterable[str] = ()) -> Search:
        return Search(self.parts, self.trades, list(self.features), frozenset(believed))

    def answer(self, search: Search, *, most: int = 10_000) -> Findings:
        """Answer what the search wants to know, until it has nothing to ask or has asked often enough."""
        while (want := search.wants()) and len(self.starts) < most:
            kept = frozenset(self.parts) - want.without
            self.starts.append((want.without, want.features))
            search.learn(want.without, {one: self.features[one](kept) for one in want.features})
        return search.findings()

    def check(self, findings: Findings) -> None:
        """Compare smallest sets with the truth: enough, and nothing more can go."""
        sets = dict(findings.least_for)
        for feature, kept in sets.items():
            assert self.features[feature](kept)
            assert not any(self.features[feature](kept - {part}) for part in kept)
        least = findings.least
        if least is not None:
            working = set(self.features) - findings.broken
            assert all(self.features[one](least) for one in working)
            assert not any(all(self.features[one](least - {part}) for one in working) for part in least)


LIKE_LIBVIRT = {
    "api": needs("CHOWN"),
    "volumes": needs("CHOWN", "SETUID"),
    "kvm": needs("CHOWN", "SETUID", "kvm"),
    "nat": needs("CHOWN", "SETUID", "tun"),
    "disk": needs("CHOWN", "SETUID"),
}


def test_what_each_feature_needs_is_found() -> None:
    image = Image(LIKE_LIBVIRT)
    found = image.answer(image.search())

    assert found.complete
    assert found.needs["nat"] == {"CHOWN", "SETUID", "tun"}
    assert found.least == frozenset({"CHOWN", "SETUID", "tun", "kvm"})
    assert found.least_for["kvm"] == {"CHOWN", "SETUID", "kvm"}
    assert found.least_for["api"] == {"CHOWN"}
    image.check(found)


def test_every_removal_that_breaks_is_shown_twice_and_mended_by_putting_it_back() -> None:
    image = Image(LIKE_LIBVIRT)
    found = image.answer(image.search())

    assert found.confirmed
    assert all(found.confirmed.values())
    assert [without for without, _ in image.starts].count(frozenset()) == 2


@pytest.mark.parametrize(
    ("answers", "needed"), [((False, True, True), False), ((False, True, False), True), ((False, False), True)]
)
def test_of_answers_that_differ_a_third_one_decides(answers: tuple[bool, ...], needed: bool) -> None:
    image = Image(LIKE_LIBVIRT)
    search = image.search()
    said = iter(answers)

    def flaky(kept: Kept) -> bool:
        return "MKNOD" in kept or next(said, True)

    image.features = {**LIKE_LIBVIRT, "disk": flaky}
    found = image.answer(search)

    assert ("MKNOD" in found.needs["disk"]) == needed
    assert found.confirmed.get(("disk", "MKNOD"), False) == needed
    assert next(said, None) is None, "each answer was asked for"
    assert found.confirmed["api", "CHOWN"] is True


def test_a_guest_that_once_did_not_boot_in_time_changes_nothing() -> None:
    whole = Image(LIKE_LIBVIRT)
    wanted = whole.answer(whole.search())
    for late in range(2, len(whole.starts) + 1):
        image = Image(LIKE_LIBVIRT)
        works = LIKE_LIBVIRT["disk"]
        image.features = {**LIKE_LIBVIRT, "disk": lambda kept: len(image.starts) != late and works(kept)}  # noqa: B023
        found = image.answer(image.search())
        assert (found.least, found.least_for, found.needs) == (wanted.least, wanted.least_for, wanted.needs), late


def test_a_configuration_is_started_once_for_all_features_but_to_confirm() -> None:
    image = Image(LIKE_LIBVIRT)
    image.answer(image.search())
    asked = [(without, feature) for without, features in image.starts for feature in features]

    singles = {frozenset(), *(frozenset({part}) for part in PARTS)}
    assert all(asked.count(one) == 1 for one in asked if one[0] not in singles)
    assert all(asked.count(one) <= 2 for one in asked)


def test_what_features_share_is_started_once() -> None:
    image = Image(LIKE_LIBVIRT)
    search = image.search()
    found = image.answer(search)
    apart = 0
    for feature, works in LIKE_LIBVIRT.items():
        alone = Image({feature: works})
        alone.answer(alone.search())
        apart += len(alone.starts)

    assert starts_apart(search, found) == apart
    assert 2 * found.starts < apart


def test_features_that_need_the_same_are_started_together() -> None:
    one = Image(LIKE_LIBVIRT)
    one.answer(one.search())
    several = Image(LIKE_LIBVIRT | {f"disk {number}": LIKE_LIBVIRT["disk"] for number in range(9)})
    several.answer(several.search())

    assert len(several.starts) == len(one.starts)


def test_what_a_guess_lacks_is_found_by_bisection() -> None:
    """A search that took parts away one by one would need a start for each of them once more."""
    parts = [f"part {number}" for number in range(64)]
    image = Image({"nat": lambda kept: bool(kept & {"part 20", "part 40"})}, parts)
    found = image.answer(image.search())

    assert found.least == frozenset({"part 40"})
    singles = 1 + len(parts)
    assert len(image.starts) - singles <= 12
    image.check(found)


# A device serves only where the host's control groups do not filter devices, or where the one that makes it is there.
TRADED = {"volumes": needs("CHOWN"), "nat": lambda kept: kept >= {"tun", "groups", "ADMIN"} or kept >= {"tun", "MKNOD"}}


def test_a_search_begins_with_what_is_believed_to_be_enough() -> None:
    plain, told = Image(TRADED), Image(TRADED)
    found, sooner = plain.answer(plain.search()), told.answer(told.search({"CHOWN", "tun", "MKNOD"}))

    assert sooner.least == frozenset({"CHOWN", "tun", "MKNOD"})
    assert found.needs == sooner.needs
    assert len(told.starts) < len(plain.starts)
    plain.check(found)
    told.check(sooner)


def test_what_is_believed_and_not_needed_is_left_out() -> None:
    image = Image(TRADED)
    found = image.answer(image.search({"CHOWN", "tun", "MKNOD", "filter", "kvm"}))

    assert found.least == frozenset({"CHOWN", "tun", "MKNOD"})
    image.check(found)


def test_what_is_wrongly_believed_to_be_enough_costs_one_start() -> None:
    plain, told = Image(TRADED), Image(TRADED)
    found, misled = plain.answer(plain.search()), told.answer(told.search({"CHOWN", "kvm"}))

    assert (misled.needs, misled.least, misled.least_for) == (found.needs, found.least, found.least_for)
    assert len(told.starts) == len(plain.starts) + 1


def test_a_trade_frees_of_what_it_takes() -> None:
    """A domain's namespaces take two capabilities; without them neither is needed."""
    image = Image(
        {"volumes": lambda kept: "CHOWN" in kept and ("namespaces" not in kept or kept >= {"ADMIN", "PTRACE"})},
        trades=["namespaces"],
    )
    found = image.answer(image.search())

    assert found.needs["volumes"] == {"CHOWN", "ADMIN", "PTRACE"}
    assert found.least == frozenset({"CHOWN"})
    image.check(found)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_one_of_several_is_needed(size: int) -> None:
    """None of them is missed when it goes alone."""
    either = PARTS[:size]
    image = Image({"kvm": lambda kept: bool(kept & {*either}) and "CHOWN" in kept, "api": needs("CHOWN")})
    found = image.answer(image.search())

    assert found.needs["kvm"] == {"CHOWN"}
    assert found.least is not None
    assert len(found.least & {*either}) == 1
    image.check(found)


def test_what_stands_in_for_another_is_confirmed_too() -> None:
    image = Image({"kvm": lambda kept: bool(kept & {"ADMIN", "PTRACE"})})
    found = image.answer(image.search())

    assert found.least == frozenset({"PTRACE"})
    nothing = frozenset(PARTS)
    assert [without for without, _ in image.starts].count(nothing) == 2
    assert image.starts[-1][0] == nothing - {"PTRACE"}


def test_a_part_that_breaks_a_feature_is_left_out() -> None:
    """A read-only view of the control groups is worse than none."""
    image = Image({"disk": lambda kept: "groups" not in kept or "ADMIN" in kept, "api": needs()})
    found = image.answer(image.search())

    assert found.needs["disk"] == {"ADMIN"}
    assert found.least == frozenset()
    image.check(found)


def test_a_feature_that_the_whole_mode_breaks_is_named_and_keeps_nobody_waiting() -> None:
    image = Image({**LIKE_LIBVIRT, "macvlan": lambda kept: "kvm" not in kept})
    found = image.answer(image.search())

    assert found.broken == {"macvlan"}
    assert "macvlan" not in found.least_for
    assert found.least == frozenset({"CHOWN", "SETUID", "tun", "kvm"})


def test_what_cannot_be_asked_without_a_part_is_not_broken_and_keeps_it() -> None:
    """Without KVM, a host that is emulated itself cannot be asked whether guests run: only that KVM does not."""
    image = Image({"kvm": needs("kvm"), "disk": needs("CHOWN"), "api": needs()})
    search = image.search()
    while want := search.wants():
        kept = frozenset(PARTS) - want.without
        unknown = {"disk"} if "kvm" not in kept else set()
        image.starts.append((want.without, want.features))
        search.learn(
            want.without, {one: None if one in unknown else image.features[one](kept) for one in want.features}
        )
    found = search.findings()

    assert found.complete
    assert found.needs == {"kvm": {"kvm"}, "disk": {"CHOWN"}, "api": frozenset()}
    assert found.least_for["disk"] == {"kvm", "CHOWN"}
    assert found.least_for["api"] == frozenset()


def test_a_mode_in_which_nothing_works_is_asked_once() -> None:
    image = Image({"api": lambda _kept: False})
    found = image.answer(image.search())

    assert found.complete
    assert found.broken == {"api"}
    assert found.least is None
    assert len(image.starts) == 1


def test_an_interrupted_search_goes_on_from_its_answers() -> None:
    whole = Image(LIKE_LIBVIRT)
    wanted = whole.answer(whole.search())
    for most in range(1, len(whole.starts)):
        image = Image(LIKE_LIBVIRT)
        search = image.search()
        half = image.answer(search, most=most)
        assert not half.complete

        again = image.search()
        for without, features in image.starts:
            kept = frozenset(image.parts) - without
            again.learn(without, {one: image.features[one](kept) for one in features})
        assert image.answer(again) == wanted
        assert len(image.starts) == len(whole.starts)


def test_a_removal_that_is_asked_late_is_mended_by_putting_it_back_after_it() -> None:
    """As where its first answer was withdrawn."""
    whole = Image(LIKE_LIBVIRT)
    wanted = whole.answer(whole.search())
    image = Image(LIKE_LIBVIRT)
    search = image.search()
    for without, features in whole.starts:
        if without != frozenset({"tun"}):
            kept = frozenset(PARTS) - without
            search.learn(without, {one: LIKE_LIBVIRT[one](kept) for one in features})
    found = image.answer(search)

    assert all(found.confirmed.values())
    assert (found.needs, found.least, found.least_for) == (wanted.needs, wanted.least, wanted.least_for)
    assert [without for without, _ in image.starts] == [{"tun"}, {"tun"}, frozenset()]


@pytest.mark.parametrize("believed", ["", "CHOWN SETUID tun kvm", "CHOWN SETUID tun kvm MKNOD filter", "CHOWN SETUID"])
@pytest.mark.parametrize("several", [0, 9])
def test_what_is_left_is_never_more_than_was_said(several: int, believed: str) -> None:
    features = LIKE_LIBVIRT | {f"disk {number}": LIKE_LIBVIRT["disk"] for number in range(several)}
    image = Image(features, trades=["namespaces"])
    search = image.search(believed.split())
    said: list[tuple[int, int]] = []
    while want := search.wants():
        said.append((want.left_in_step, want.left))
        kept = frozenset(image.parts) - want.without
        search.learn(want.without, {one: image.features[one](kept) for one in want.features})

    for place, (left_in_step, left) in enumerate(said):
        assert left_in_step >= 1
        assert left >= len(said) - place


def test_what_is_likely_to_break_is_asked_before_what_takes_long() -> None:
    image = Image(LIKE_LIBVIRT)
    image.answer(image.search())

    least = frozenset({"CHOWN", "SETUID", "tun", "kvm"})
    asked = [features for without, features in image.starts if without == frozenset(PARTS) - least | {"tun"}]
    assert asked == [{"nat"}, {"kvm"}], "the second one as the smallest set of another feature"


def test_what_another_part_stands_in_for_is_asked_of_every_feature_after_all() -> None:
    """In the whole mode the disk needs it, and without the trade only the network does."""
    image = Image(
        {
            "disk": lambda kept: "namespaces" not in kept or "ADMIN" in kept,
            "nat": lambda kept: bool(kept & {"ADMIN", "tun"}),
            "api": needs(),
        },
        trades=["namespaces"],
    )
    found = image.answer(image.search())

    nothing = frozenset(PARTS)
    assert [features for without, features in image.starts if without == nothing][:2] == [{"disk"}, {"nat", "api"}]
    assert found.least == frozenset({"ADMIN"})
    image.check(found)
