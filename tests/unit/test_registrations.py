"""A device that registers itself is waited for, whatever happens to its group meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from shared.contracts import DeviceRegistration, DeviceState, RegisterBy
from shared.errors import Deferred
from shared.ledger.devices import DeviceRecord, Devices
from shared.ledger.groups import GroupRecord, Groups, GroupState
from shared.ledger.orders import OrderLine, Orders
from shared.workflows.events import Outbox
from shared.workflows.registrations import Registrations
from tests.unit.fakes import FakeQueues, FakeTable

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


class NeverRegistered:
    async def get_registration(self, _registration_id: str) -> None:
        return None


class StoredBundle:
    async def stored(self, _name: str) -> Any:
        return SimpleNamespace(credentials=None, bundle=SimpleNamespace(summary=SimpleNamespace(serial_number="1")))


async def waiting_device(group: GroupState, *, waited: timedelta) -> tuple[Registrations, Orders]:
    """Set the scene: a device that has its certificate since a while, and has not registered."""
    orders, devices, groups = Orders(FakeTable(), FakeTable()), Devices(FakeTable()), Groups(FakeTable())
    await orders.insert_lines(
        [
            OrderLine(
                order_id="o",
                line=0,
                state=DeviceState.ISSUED,
                requested_id="a",
                registration_id="a",
                enrollment_group="g",
                register_by=RegisterBy.DEVICE,
                accepted_at=NOW - waited,
            )
        ]
    )
    await devices.insert(
        DeviceRecord(registration_id="a", state=DeviceState.ISSUED, order_id="o", updated_at=NOW, bundle="a/o.json")
    )
    await groups.insert(GroupRecord(enrollment_group="g", state=group, issuer="ca", updated_at=NOW, last_request="r"))
    anything: Any = None
    queues: Any = FakeQueues()
    certificates: Any = StoredBundle()
    provisioning: Any = NeverRegistered()
    return Registrations(
        orders=orders,
        devices=devices,
        groups=groups,
        device_certificates=certificates,
        registrar=anything,
        provisioning=provisioning,
        hubs=anything,
        outbox=Outbox(queues, lambda: NOW),
        settings=anything,
        clock=lambda: NOW,
    ), orders


@pytest.mark.parametrize("group", [GroupState.ENABLED, GroupState.DISABLED])
async def test_a_disabled_group_does_not_end_the_wait_for_a_device(group: GroupState) -> None:
    """While its group is disabled DPS refuses the device; its order goes on waiting, for the group may come back."""
    registrations, orders = await waiting_device(group, waited=timedelta(minutes=1))
    with pytest.raises(Deferred, match="'a' has not registered with its certificate yet"):
        await registrations.register(DeviceRegistration(order_id="o", line=0))
    line = await orders.get_line("o", 0)
    assert line is not None
    assert line.record.state is DeviceState.ISSUED


async def test_an_order_shows_a_certificate_that_is_there_though_a_service_fails() -> None:
    """Whatever keeps a device from its hub: its line says issued, as the device does, with the serial number."""
    registrations, orders = await waiting_device(GroupState.ENABLED, waited=timedelta())
    known = await orders.get_line("o", 0)
    assert known is not None
    await orders.replace_line(known, known.record.changed(state=DeviceState.ORDERED))

    async def failing(_registration_id: str) -> None:
        raise ConnectionError("no route")

    registrations.provisioning.get_registration = failing  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError):
        await registrations.register(DeviceRegistration(order_id="o", line=0))
    line = await orders.get_line("o", 0)
    assert line is not None
    assert (line.record.state, line.record.serial_number) == (DeviceState.ISSUED, "1")


@pytest.mark.parametrize(
    ("waited", "pause"),
    [(timedelta(), 2), (timedelta(minutes=1), 7.5), (timedelta(hours=1), 450), (timedelta(days=9), 600)],
)
async def test_the_longer_a_device_is_waited_for_the_rarer_it_is_asked_for(waited: timedelta, pause: float) -> None:
    """The pause grows with the wait, from two seconds to ten minutes."""
    registrations, _ = await waiting_device(GroupState.ENABLED, waited=waited)
    with pytest.raises(Deferred) as caught:
        await registrations.register(DeviceRegistration(order_id="o", line=0))
    assert caught.value.retry_after == timedelta(seconds=pause)
