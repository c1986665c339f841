"""What can be asked for of a device, and the states that it can be asked for in."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.acting import acting
from shared.contracts.groups import IndividualEnrollmentDefinition
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.callers import Actor, CallerKind
from shared.domain.words import RegisterBy
from shared.rules.etags import ANY_VERSION
from shared.workflows.reconciliation.budget import Budget
from tests.world.kept import kept
from tests.world.services import HUB, OTHER
from tests.world.world import DEVICE, GROUP, World, csr_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    type Body = dict[str, Any]
    type Call = Callable[[World], Coroutine[None, None, None]]


def _revocation(request_id: str, **fields: str) -> Body:
    named = fields if "serialNumber" in fields else {"registrationId": DEVICE, **fields}
    return {"requestId": request_id, **named}


MESSAGES: Mapping[str, tuple[Queue, Body]] = {
    "order": (Queue.DEVICE_REGISTRATIONS, {"orderId": "o1", "line": 0}),
    "order again": (Queue.DEVICE_REGISTRATIONS, {"orderId": "o2", "line": 0}),
    "renew": (Queue.RENEWAL_REQUESTS, {"requestId": "r1", "registrationId": DEVICE, "csr": csr_of("r1")}),
    "renew again": (Queue.RENEWAL_REQUESTS, {"requestId": "r2", "registrationId": DEVICE, "csr": csr_of("r2")}),
    "revoke": (Queue.REVOCATION_REQUESTS, _revocation("v1", reason="keyCompromise")),
    "hold": (Queue.REVOCATION_REQUESTS, _revocation("h1", reason="certificateHold")),
    "reinstate": (Queue.REVOCATION_REQUESTS, _revocation("i1", action="reinstate")),
    "delete": (Queue.REVOCATION_REQUESTS, _revocation("d1", action="delete")),
}
"""Acts that come by a queue: they are delivered until they are done."""

_FURTHER: Mapping[str, tuple[Queue, Body]] = {
    "revoke again": (Queue.REVOCATION_REQUESTS, _revocation("v2", reason="privilegeWithdrawn")),
    "hold again": (Queue.REVOCATION_REQUESTS, _revocation("h2", reason="certificateHold")),
    "reinstate again": (Queue.REVOCATION_REQUESTS, _revocation("i2", action="reinstate")),
    "delete again": (Queue.REVOCATION_REQUESTS, _revocation("d2", action="delete")),
}
"""The same acts by other requests."""

FORMER = "revoke the former"
"""The act that revokes the certificate that a device had before, for a reason that concerns nobody else."""


REPLACING = {"replace": "s1", "replace again": "s2"}
"""Acts that the app asks for itself, by their requests: the certificate that the device uses gets a successor, once."""


def message(world: World, name: str) -> tuple[Queue, Body] | None:
    """Give what a message of a name asks for in a world; ``None`` if there is nothing that it could be about."""
    if name in REPLACING:
        record = world.record()
        if record is None or record.certificate is None:
            return None
        body = {"requestId": REPLACING[name], "registrationId": DEVICE, "replaces": record.certificate.serial_number}
        return Queue.RENEWAL_REQUESTS, body
    if name != FORMER:
        return {**MESSAGES, **_FURTHER}[name]
    former = world.former()
    return (Queue.REVOCATION_REQUESTS, _revocation("f1", serialNumber=former, reason="superseded")) if former else None


async def _expire(world: World) -> None:
    """A year goes by, and the sweep runs on two days."""
    world.now += timedelta(days=370)
    with acting(Actor(kind=CallerKind.TIMER, id="expiry_sweep")):  # as its function says of itself
        await world.services.lifetimes.expiry_sweep.run()
        await world.services.lifetimes.expiry_sweep.run()


async def _hand_out(world: World) -> None:
    await world.services.devices.hand_out(DEVICE, wanted="pem", caller="installer")
    await world.services.devices.confirm(DEVICE, caller="installer")


async def _replay(world: World) -> None:
    for rejection in world.rejections():
        await world.services.rejected_messages.replay(rejection.rejection_id)


async def _sweep(world: World) -> None:
    await world.services.converger.sweep(older_than=timedelta())


async def _keep(world: World) -> None:
    await world.services.directory_upkeep.run()


def _switch(*, enabled: bool) -> Call:
    async def switch(world: World) -> None:
        await world.services.identities.switch(DEVICE, enabled=enabled, reason="by an operator")

    return switch


def _put_entry(**wanted: Any) -> Call:
    async def put(world: World) -> None:
        definition = parse(IndividualEnrollmentDefinition, wanted)
        await world.services.individual_enrollments.put(DEVICE, definition)

    return put


async def _disable_entry(world: World) -> None:
    await world.services.individual_enrollments.disable(DEVICE)


async def _delete_entry(world: World) -> None:
    await world.services.individual_enrollments.delete(DEVICE)


CALLS: Mapping[str, Call] = {
    "disable": _switch(enabled=False),
    "enable": _switch(enabled=True),
    "boot": World.boot,
    "expire": _expire,
    "hand out": _hand_out,
    "put the entry": _put_entry(iotEdge=True, provisioningStatus="enabled"),
    "disable the entry": _disable_entry,
    "delete the entry": _delete_entry,
    "replay": _replay,
    "sweep": _sweep,
    "keep the directory": _keep,
}
"""Acts that somebody waits for: if they are broken off, nobody repeats them."""

ACTS = (*MESSAGES, FORMER, *CALLS)

KEEP_TOO = "keep the directory too"
"""The same, for two that keep it at once: each worker has a keeper of its own."""

PUT_OTHERWISE = "put the entry otherwise"
"""Another operator wants other settings of it."""


async def _change_entry(world: World) -> None:
    """Somebody changes the entry in the portal."""
    entry = world.provisioning.enrollments.get(DEVICE)
    if entry is not None:
        await world.provisioning.put_enrollment({**entry, "provisioningStatus": "disabled"}, etag=ANY_VERSION)


STRANGER = "disable the entry in the portal"

ALONG = "bring the entry along"
"""A pass of reconciliation finds that the device's own entry has other settings than its group has now."""


async def _bring_along(world: World) -> None:
    await world.services.converger.bring_along(DEVICE)


LOOK = "look at it in a pass"
"""A pass of reconciliation looks at the device alone."""


async def _look_at(world: World) -> None:
    await world.services.reconciler.walk.look.differences(DEVICE, Budget())


CHANGE_GROUP = "change the group"
"""DPS follows another policy of the device's group, and the ledger has entered that."""

WITH_ID = "put the entry with a device id"
"""An operator wants the device to have another id in its hub, and leaves the rest to its group."""


async def _change_group(world: World) -> None:
    known = await world.groups.get(GROUP)
    if known is not None:
        others = {"allocationPolicy": "geoLatency", "iotHubs": [HUB]}
        if known.record.entry_settings != others:
            await world.groups.replace(known, known.record.changed(entry_settings=others))


ALL_CALLS: Mapping[str, Call] = {
    **CALLS,
    KEEP_TOO: _keep,
    PUT_OTHERWISE: _put_entry(allocationPolicy="geoLatency", deviceId="another"),
    STRANGER: _change_entry,
    ALONG: _bring_along,
    LOOK: _look_at,
    CHANGE_GROUP: _change_group,
    WITH_ID: _put_entry(deviceId="another"),
}


@kept
async def ordered(*, csr: bool = False, register_by: RegisterBy = RegisterBy.SERVICE) -> World:
    """Two orders are accepted, and nothing was done for them."""
    world = await World().prepare()
    await world.line("o1", csr=csr_of("o1") if csr else None, register_by=register_by)
    await world.line("o2", csr=csr_of("o2") if csr else None, register_by=register_by)
    return world


async def _after(world: World, *acts: str) -> World:
    for name in acts:
        if name in CALLS:
            await CALLS[name](world)
            continue
        queue, body = MESSAGES[name]
        if name not in world.asked:
            world.ask(name, queue, body)
        await world.deliver(name)
    if world.bugs or world.rejections():
        raise AssertionError(f"{acts} were not carried out: {world.bugs}, {world.rejections()}")
    for lying in world.queues.queues.values():
        lying[:] = [each for each in lying if lying is world.queues.queues.get(Queue.PROVISIONING_EVENTS)]
    world.asked.clear()
    return world


@kept
async def registered() -> World:
    return await _after(await ordered(), "order")


@kept
async def waiting() -> World:
    """The device has its certificate, and has not booted."""
    return await _after(await ordered(csr=True), "order")


@kept
async def renewing() -> World:
    return await _after(await registered(), "renew")


@kept
async def come() -> World:
    """The device has come with its next certificate, and nobody has looked since."""
    return await _after(await registered(), "renew", "boot")


@kept
async def renewed() -> World:
    return await _after(await registered(), "renew", "boot", "renew")


@kept
async def held() -> World:
    return await _after(await registered(), "hold")


@kept
async def revoked() -> World:
    return await _after(await registered(), "revoke")


@kept
async def deleted() -> World:
    return await _after(await registered(), "delete")


@kept
async def refused() -> World:
    """A hold was refused, since there was no device; now there is, and the hold can be replayed."""
    world = await ordered()
    world.ask("hold", *MESSAGES["hold"])
    await world.deliver("hold")
    world.ask("order", *MESSAGES["order"])
    await world.deliver("order")
    del world.asked["order"]
    return world


async def copied() -> World:
    """Somebody has copied the device's identity to another hub that is linked to the DPS."""
    world = await _of_two_hubs()
    own = world.hubs.identities[HUB, DEVICE]
    world.hubs.enter(OTHER, DEVICE, *own.thumbprints)
    return world


async def moving() -> World:
    """DPS assigns another hub to the device when it registers next, and leaves its identity behind."""
    world = await _of_two_hubs()
    world.registrar.hub = OTHER
    return world


async def _of_two_hubs() -> World:
    world = await registered()
    world.linked = (HUB, OTHER)
    return world.copy()


TWO_HUBS: Mapping[str, Callable[[], Awaitable[World]]] = {"copied": copied, "moving": moving}
"""Scenes with another hub, which asks for steps of its own."""

SCENES: Mapping[str, Callable[[], Awaitable[World]]] = {
    "ordered": ordered,
    "waiting": waiting,
    "registered": registered,
    "renewing": renewing,
    "renewed": renewed,
    "held": held,
    "revoked": revoked,
    "deleted": deleted,
    "refused": refused,
}
