"""Checks at rest: what must be true of a device, whatever was asked for and whatever broke."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cryptography import x509

from shared.domain.audit import Observed, faults
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.devices import OUT_OF_SERVICE
from shared.domain.words import DeviceState
from tests.world.services import sha256
from tests.world.world import DEVICE

if TYPE_CHECKING:
    from shared.domain.devices import DeviceRecord
    from tests.world.world import World


async def audit(world: World) -> list[str]:
    """Give everything that is wrong; nothing if all is well."""
    known = await world.devices.get(DEVICE)
    certificates = _certificates(world)
    if known is None:
        return [f"{each.serial_number} belongs to no device" for each in certificates.values()]
    record, found = known.record, list(world.reopened)
    found += faults(record, _observed(world, certificates), world.now)
    found += _signatures(world, certificates)
    found += _events(world)
    found += _messages(world, record)
    found += await _lines(world)
    if world.tables["unsettled"].rows:
        found.append(f"notes are left: {list(world.tables['unsettled'].rows)}")
    return found


def _certificates(world: World) -> dict[str, CertificateRecord]:
    rows = world.tables["identities"].rows
    found = [CertificateRecord.from_columns(row.values) for (_, key), row in rows.items() if key.startswith("c:")]
    return {each.serial_number: each for each in found}


def _observed(world: World, certificates: dict[str, CertificateRecord]) -> Observed:
    identity = world.hubs.identities.get(DEVICE)
    return Observed(
        certificates=certificates,
        thumbprints={
            each.serial_number: sha256(x509.load_pem_x509_certificate(each.pem.encode()))
            for each in certificates.values()
            if each.pem
        },
        entry=world.provisioning.let_in_by_entry(DEVICE),
        identity=identity.enabled if identity else None,
        listed=frozenset(world.lists.listed),
    )


def _signatures(world: World, certificates: dict[str, CertificateRecord]) -> list[str]:
    found = [f"{serial} was signed {count} times" for serial, count in world.authorities.signed.items() if count > 1]
    found += [f"{serial} was signed and is not recorded" for serial in world.authorities.signed.keys() - certificates]
    active = {each.serial_number for each in certificates.values() if each.state is CertificateState.ACTIVE}
    in_force = {key for _, key in world.tables["inforce"].rows}
    if not active <= in_force:
        found.append(f"in force and not in the index: {sorted(active - in_force)}")
    return found


def _events(world: World) -> list[str]:
    said: dict[str, str] = {}
    faults = []
    for event in world.events():
        meaning = json.dumps(event["data"], sort_keys=True)
        if said.setdefault(event["id"], meaning) != meaning:
            faults.append(f"event {event['id']} says two things: {said[event['id']]} and {meaning}")
    return faults


def _told(world: World) -> set[tuple[str, str]]:
    return {(event["type"].rpartition(".")[2], event["correlationid"]) for event in world.events()}


_EVENT_OF = {
    "revoke": ("DeviceRevoked", "v1"),
    "hold": ("DeviceRevoked", "h1"),
    "reinstate": ("DeviceReinstated", "i1"),
    "renew": ("CertificateRenewed", "r1"),
    "renew again": ("CertificateRenewed", "r2"),
}


def _messages(world: World, record: DeviceRecord) -> list[str]:
    """No message is lost, and what one asked for was told."""
    faults, told = [], _told(world)
    for message in world.messages.values():
        if not message.done and message.deferred is None:
            faults.append(f"{message.name} was not carried out, and waits for nothing")
        expected = _EVENT_OF.get(message.name)
        if expected and message.done and not message.rejected and expected not in told:
            overtaken = "renew" in message.name and f"renewal {expected[1]}" in record.acts
            if not overtaken:
                faults.append(f"{message.name} was carried out, and nobody was told")
    ordered_anew = any(entry.state is DeviceState.DELETED for entry in record.history)
    revoked = "revoke" in world.messages and not world.messages["revoke"].rejected
    if revoked and not ordered_anew and not _final(record):
        faults.append(f"the device was revoked for good, and is {record.state} ({record.reason})")
    return faults


def _final(record: DeviceRecord) -> bool:
    return record.state in OUT_OF_SERVICE and not record.on_hold


async def _lines(world: World) -> list[str]:
    """A line of an order that is done says what became of its device, and so does an event."""
    faults, told = [], _told(world)
    for order_id, name in (("o1", "order"), ("o2", "order again")):
        line = await world.orders.get_line(order_id, 0)
        message = world.messages.get(name)
        if line is None or message is None or not message.done:
            continue
        state = line.record.state
        expected = {DeviceState.REGISTERED: "DeviceRegistered", DeviceState.FAILED: "RequestRejected"}.get(state)
        if expected is None:
            faults.append(f"{name} is done, and its line is {state}")
        elif (expected, order_id) not in told:
            faults.append(f"the line of {name} is {state}, and nobody was told")
        elif state is DeviceState.REGISTERED and ("CertificateIssued", order_id) not in told:
            faults.append(f"the certificate of {name} was issued, and nobody was told")
    return faults
