"""Twenty CAs, two hosts over one storage, every request delivered four times: nothing is planted, steps fall as they do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest

from shared.domain.words import CertificateKind, KeyCustody
from shared.errors import Deferred
from shared.workflows.authorities.records import AuthorityDefinition
from tests.world.authority_auditor import audit
from tests.world.authority_world import ROOT, AuthorityWorld
from tests.world.conductor import Conductor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.world.authority_worker import Worker

AUTHORITIES, DELIVERIES = 20, 4


class Scattered(Conductor):
    """Each call of a service takes its time, on the way there and on the way back."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random

    @asynccontextmanager
    async def step(self, label: str, service: str = "") -> AsyncIterator[None]:
        del label, service
        await self._while()
        yield
        await self._while()

    async def _while(self) -> None:
        for _ in range(self._random.randrange(8)):
            await asyncio.sleep(0)


def definition(number: int) -> AuthorityDefinition:
    custody = KeyCustody.WRAPPED if number % 3 == 0 else KeyCustody.VAULT
    return AuthorityDefinition(
        name=f"ca-{number}", kind=CertificateKind.INTERMEDIATE, parent="root", path_length=0, custody=custody
    )


async def deliver(host: Worker, number: int) -> int:
    """Deliver a request until it is done; gives how often it was put off."""
    for put_off in range(10_000):
        try:
            await host.creation.ensure(definition(number), cause=f"r{number}")
        except Deferred:
            await asyncio.sleep(0)
        else:
            return put_off
    raise AssertionError(f"{definition(number).name} is never made")


async def delivered(world: AuthorityWorld) -> list[int]:
    """Have each CA made, by deliveries to two hosts at once; gives how often each delivery was put off."""
    await world.worker().creation.ensure(ROOT, cause="r0")
    hosts = (world.worker(), world.worker())
    return await asyncio.gather(
        *(deliver(hosts[each % 2], number) for number in range(AUTHORITIES) for each in range(DELIVERIES))
    )


@pytest.mark.parametrize("seed", range(3))
async def test_each_of_twenty_cas_that_are_asked_for_four_times_is_signed_once(seed: int) -> None:
    """By two hosts at once: the ledger, the vault, the events and the lists agree about every one."""
    world = AuthorityWorld(conductor=Scattered(Random(seed)))  # noqa: S311 - the order of steps, by a seed
    assert any(await delivered(world))  # they did meet
    world.now += timedelta(minutes=5)
    assert await world.worker().converger.sweep() == 0
    assert await audit(world) == []
    made = [serial for serial, record in world.rows().items() if record.subject.startswith("ca-")]
    assert len(made) == AUTHORITIES


async def test_without_versions_of_rows_the_hosts_would_undo_each_others_work() -> None:
    """A table that takes no notice of ETags: the auditor names what does not agree any more."""
    world = AuthorityWorld(conductor=Scattered(Random(0)), careless=True)  # noqa: S311 - the order of steps, by a seed
    await delivered(world)
    assert len(await audit(world)) > 1


@pytest.mark.parametrize("seed", range(3))
async def test_sixty_revocations_by_two_hosts_make_few_lists(seed: int) -> None:
    """All are on the newest list, numbers grow, and a list covers whatever has changed while the one before was made."""
    world = AuthorityWorld(conductor=Scattered(Random(seed)))  # noqa: S311 - the order of steps, by a seed
    await world.worker().creation.ensure(ROOT, cause="r0")
    hosts = (world.worker(), world.worker())

    async def revoked(serial: int) -> None:
        await world.enter("root", serial)
        while True:
            try:
                await hosts[serial % 2].lists.publish("root")
            except Deferred:
                continue
            return

    await asyncio.gather(*(revoked(serial) for serial in range(1, 61)))
    assert await audit(world) == []
    assert len(world.blobs.lists) <= 4  # the first one, and one for whatever has changed by then
