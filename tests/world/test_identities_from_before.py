"""A device that is ordered anew, and has not come yet: by what its hub has from before, nobody else comes as it.

Nor does the app take it for one that has come: what changes the thumbprints of its identity next is that.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from shared.contracts.messages import Queue
from shared.domain import issuance
from shared.domain.hub_authentication import nobodys
from shared.domain.words import DeviceState, RegisterBy
from shared.pki import names
from shared.pki.readable import load_certificates
from shared.workflows.devices.changes import change
from tests.world import acts
from tests.world.drift import OTHERS
from tests.world.services import HUB
from tests.world.world import DEVICE, World, csr_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.domain.devices import DeviceRecord
    from shared.ports.hubs import HubIdentity


async def issued(*, boots: bool) -> World:
    """Have a device ordered that registers by itself, twice; the first order is carried out."""
    world = await World().prepare()
    for order in ("o1", "o2"):
        await world.line(order, csr=csr_of(order), register_by=RegisterBy.DEVICE)
    world.ask("order", *acts.MESSAGES["order"])
    await world.deliver("order")
    if boots:
        await world.boot()
    return world


def device(world: World) -> DeviceRecord:
    record = world.record()
    assert record is not None
    return record


def identity(world: World) -> HubIdentity:
    return world.hubs.identities[HUB, DEVICE]


async def own(world: World) -> str:
    """Give the thumbprint of the certificate that the device is to come with."""
    known = await world.certificates.get(device(world).in_use[-1])
    assert known is not None
    assert known.record.pem is not None
    return names.sha256_thumbprint(load_certificates(known.record.pem.encode())[0])


async def fail_and_order_again(world: World, meanwhile: Callable[[World], None] | None = None) -> None:
    """Give the first order up, which revokes what it has brought, and carry out the second one."""
    failed = partial(issuance.failed, ordered=device(world), reason="given up", at=world.now)
    await change(world.devices, DEVICE, failed, at=world.now)
    await world.services.converger.converge(DEVICE)
    if meanwhile is not None:
        meanwhile(world)
    world.queues.queues[Queue.DEVICE_REGISTRATIONS].clear()
    world.ask("order again", *acts.MESSAGES["order again"])
    await world.deliver("order again")


def nothing(_world: World) -> None:
    """Its identity takes the certificate that is revoked by now."""


def enter_others(world: World) -> None:
    world.hubs.enter(HUB, DEVICE, OTHERS, enabled=False)


def give_keys(world: World) -> None:
    world.hubs.enter(HUB, DEVICE, enabled=False, authentication="sas")


@pytest.mark.parametrize("meanwhile", [nothing, enter_others, give_keys])
async def test_nobody_comes_in_by_an_identity_from_before(meanwhile: Callable[[World], None]) -> None:
    world = await issued(boots=True)
    await fail_and_order_again(world, meanwhile)
    await world.deliver("order again")
    assert device(world).state is DeviceState.ISSUED
    seen = identity(world)
    assert (seen.enabled, seen.authentication) == (True, "selfSigned")
    assert seen.thumbprints == {nobodys(DEVICE)}
    await world.boot()
    await world.deliver("order again")
    assert device(world).state is DeviceState.REGISTERED
    assert identity(world).enabled
    assert identity(world).thumbprints == {await own(world)}


@pytest.mark.parametrize("boots", [True, False])
async def test_a_hold_that_ends_lets_in_who_had_come_and_was_not_seen(*, boots: bool) -> None:
    """Its own certificate stays: it does not register a second time."""
    world = await issued(boots=boots)
    for act in ("hold", "reinstate"):
        world.ask(act, *acts.MESSAGES[act])
        await world.deliver(act)
    assert device(world).state is DeviceState.ISSUED
    if boots:
        assert identity(world).enabled
        assert identity(world).thumbprints == {await own(world)}
    await world.boot()
    await world.deliver("order")
    assert device(world).state is DeviceState.REGISTERED
