"""Which certificates of a device its hub takes, and which are written there."""

from __future__ import annotations

import pytest

from shared.domain.own_certificates import Own
from shared.ports.hubs import HubIdentity

USED, NEXT, USED_SHA1, NEXT_SHA1 = "A" * 64, "B" * 64, "A" * 40, "B" * 40
RENEWING = Own(in_use=frozenset({USED, USED_SHA1, NEXT, NEXT_SHA1}), waiting=frozenset({NEXT, NEXT_SHA1}))


def identity(*thumbprints: str) -> HubIdentity:
    return HubIdentity("press", enabled=True, thumbprints=frozenset(thumbprints), connected=False, authentication="x")


@pytest.mark.parametrize("seen", [None, identity(), identity(USED), identity("C" * 64)])
def test_the_certificate_that_a_device_has_not_come_with_is_not_given_to_its_hub(seen: HubIdentity | None) -> None:
    assert RENEWING.taken_by(seen) == {USED, USED_SHA1}
    assert RENEWING.written_to(seen) == [USED]


@pytest.mark.parametrize("seen", [identity(NEXT), identity(NEXT_SHA1), identity("C" * 64, NEXT)])
def test_the_certificate_that_a_device_has_come_with_stays_in_its_hub(seen: HubIdentity) -> None:
    """Whichever hash of it the hub shows."""
    assert RENEWING.taken_by(seen) == RENEWING.in_use
    assert RENEWING.written_to(seen) == [USED, NEXT]


def test_what_is_known_by_sha_1_alone_is_written_so() -> None:
    assert Own(in_use=frozenset({USED_SHA1})).written_to(None) == [USED_SHA1]


def test_what_the_hub_alone_has_told_is_written_as_it_was_told() -> None:
    """One certificate by SHA-1, another one by SHA-256: the ledger can't work out the other hash of either."""
    own = Own(in_use=frozenset({USED_SHA1, "C" * 64}), unseen=frozenset({USED_SHA1, "C" * 64}))
    assert own.written_to(None) == [USED_SHA1, "C" * 64]


def test_what_a_device_has_come_with_has_a_place_in_its_identity() -> None:
    """An identity has two."""
    told = frozenset({USED, "C" * 64})
    own = Own(in_use=told | {NEXT, NEXT_SHA1}, waiting=frozenset({NEXT, NEXT_SHA1}), unseen=told)
    assert own.written_to(identity(NEXT)) == [USED, NEXT]
