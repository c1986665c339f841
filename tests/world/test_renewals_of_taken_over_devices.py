"""A device that was taken over from the services keeps what its hub takes, until it has come with another certificate.

The ledger has never seen what it uses, and knows it by the thumbprints that its hub had.
"""

from __future__ import annotations

import pytest

from shared.domain.findings import FindingState
from shared.domain.treatments import FindingKind, Policy
from shared.domain.words import DeviceState
from shared.pki import names
from tests.world import acts
from tests.world.drift import OTHERS, Fleet, fleet_of, newest
from tests.world.services import HUB
from tests.world.world import DEVICE

SECOND, SHA1 = "E" * 64, "D" * 40
"""Hubs take either hash, and two certificates."""

BEFORE = [(OTHERS,), (OTHERS, SECOND), (SHA1,), (SHA1, SECOND)]
RENEWALS = [(), ("renew",), ("renew", "renew again")]


async def taken_over(*thumbprints: str, renewals: tuple[str, ...]) -> Fleet:
    """Take over a device whose hub takes some certificates, and have it renewed; it has not come since."""
    fleet = await fleet_of()
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    nothing = {"certificate": None, "held": (), "unseen": True, "sha256_thumbprints": tuple(sorted(thumbprints))}
    await fleet.world.devices.replace(known, known.record.changed(**nothing))
    fleet.world.hubs.enter(HUB, DEVICE, *thumbprints)
    for each in renewals:
        fleet.world.ask(each, *acts.MESSAGES[each])
        await fleet.world.deliver(each)
    return fleet


@pytest.mark.parametrize("thumbprints", BEFORE)
@pytest.mark.parametrize("renewals", RENEWALS)
async def test_what_it_uses_is_not_foreign_while_it_is_renewed(
    thumbprints: tuple[str, ...], renewals: tuple[str, ...]
) -> None:
    fleet = await taken_over(*thumbprints, renewals=renewals)
    assert await fleet.look() == []


@pytest.mark.parametrize("thumbprints", BEFORE)
@pytest.mark.parametrize("renewals", RENEWALS)
async def test_its_identity_is_mended_with_what_it_uses(
    thumbprints: tuple[str, ...], renewals: tuple[str, ...]
) -> None:
    fleet = await taken_over(*thumbprints, renewals=renewals)
    fleet.world.hubs.enter(HUB, DEVICE, authentication="sas")
    [found] = await fleet.look()
    assert found.kind is FindingKind.IDENTITY_AUTHENTICATION
    assert (await fleet.reconciler.act(found.finding_id, Policy.MEND)).state is FindingState.MENDED
    assert fleet.world.hubs.identities[HUB, DEVICE].thumbprints == {*thumbprints}


@pytest.mark.parametrize("thumbprints", BEFORE)
async def test_it_is_as_any_other_when_it_has_come_with_its_next_certificate(thumbprints: tuple[str, ...]) -> None:
    fleet = await taken_over(*thumbprints, renewals=("renew", "renew again"))
    await fleet.world.boot()
    await fleet.world.done()
    record, own = fleet.world.record(), names.sha256_thumbprint(await newest(fleet))
    assert record is not None
    assert (record.state, record.unseen) == (DeviceState.REGISTERED, False)
    fleet.world.hubs.enter(HUB, DEVICE, *thumbprints)
    [found] = await fleet.look()
    await fleet.reconciler.act(found.finding_id, Policy.MEND)
    assert fleet.world.hubs.identities[HUB, DEVICE].thumbprints == {own}
