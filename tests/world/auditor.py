"""Checks at rest: what must be true of a device, whatever was asked for and whatever broke."""

from __future__ import annotations

import json
from collections import Counter
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from cryptography import x509

from shared.contracts.messages import Queue
from shared.domain.audit import Observed, faults
from shared.domain.audit_entries import AuditOutcome
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.devices import OUT_OF_SERVICE
from shared.domain.doors import Door
from shared.domain.entries import own_settings, settings_apart
from shared.domain.given_settings import given
from shared.domain.groups import GroupRecord
from shared.domain.listing import NOTE_STAYS, listing_of, under_way
from shared.domain.orders import COMPLETED, LineState, OrderLine, OrderState
from shared.domain.rejections import RejectionKind
from shared.domain.requests import RequestRecord, RequestState
from shared.domain.wanted import wanted
from shared.domain.words import CertificateKind, DeviceState
from shared.ledger.audit_log import AuditRow
from shared.ledger.changes import ChangeNote
from shared.pki import names
from shared.workflows.devices.bundles import BUNDLES
from shared.workflows.devices.hub_doors import own_place
from tests.world.services import HUB
from tests.world.world import DEVICE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.domain.devices import DeviceRecord
    from shared.domain.listing import Listing
    from tests.world.storage import Row
    from tests.world.world import Asked, World


async def audit(world: World) -> list[str]:
    """Give everything that is wrong; nothing if all is well."""
    records, certificates, found = world.records(), _certificates(world), list(world.reopened)
    for serial, each in certificates.items():
        if each.subject not in records:
            found.append(f"{serial} belongs to no device")
    for registration_id, record in records.items():
        own = {serial: each for serial, each in certificates.items() if each.subject == registration_id}
        found += faults(record, _observed(world, registration_id, own), world.now)
        found += _doors(world, record)
    if DEVICE in records:
        found += _revoked(world, records[DEVICE])
    found += _signatures(world, certificates)
    found += _logged(world, certificates)
    found += _replaced(world, certificates)
    found += _events(world)
    found += await _messages(world, records.get(DEVICE))
    found += await _lines(world)
    found += _keys(world, certificates)
    found += _directory(world, records)
    found += [fault for record in records.values() for fault in _entry(world, record)]
    found += _written_down(world)
    if world.storage.table("unsettled").rows:
        found.append(f"notes are left: {list(world.storage.table('unsettled').rows)}")
    return found


def _certificates(world: World) -> dict[str, CertificateRecord]:
    """Give the certificates of devices; those of CAs have an auditor of their own."""
    rows = world.storage.table("identities").rows
    found = [row.read(CertificateRecord) for (_, key), row in rows.items() if key.startswith("c:")]
    return {each.serial_number: each for each in found if each.kind is CertificateKind.DEVICE}


def _observed(world: World, registration_id: str, certificates: dict[str, CertificateRecord]) -> Observed:
    record = world.records()[registration_id]
    own = own_place(record) or (HUB, registration_id)
    ids = {registration_id, record.device_id}
    identity = world.hubs.identities.get(own)
    elsewhere = {
        f"{device_id!r} in {hub}": each.enabled
        for (hub, device_id), each in world.hubs.identities.items()
        if device_id in ids and (hub, device_id) != own
    }
    return Observed(
        certificates=certificates,
        thumbprints={each.serial_number: thumbprint_of(each.pem) for each in certificates.values() if each.pem},
        entry=world.provisioning.let_in_by_entry(registration_id),
        identity=identity,
        listed=frozenset(serial for serial in world.lists.listed if serial in certificates),
        elsewhere=elsewhere,
    )


def _doors(world: World, record: DeviceRecord) -> list[str]:
    """Of a device that is shut out each linked hub is told as closed, and no door of one that is let in."""
    told = {each.where for each in record.closed if each.door is Door.HUB}
    if not record.shut_out:
        return [f"{sorted(told)} are told as closed, and the device is let in"] if told else []
    return [f"{hub} is not told as closed" for hub in world.linked if record.settled and hub not in told]


def _logged(world: World, certificates: dict[str, CertificateRecord]) -> list[str]:
    """The log and the ledger say the same of certificates: those in the ledger are in the log, and the other way round."""
    logged = world.log.certificates()
    found = [f"{serial} was signed before it was logged" for serial in world.authorities.unlogged]
    found += [f"{serial} was logged and is not recorded" for serial in logged.keys() - certificates]
    for serial, each in certificates.items():
        if each.pem and tbs_hash_of(each.pem) != logged.get(serial):
            found.append(f"what was logged of {serial} is not the certificate")
    return found


def _signatures(world: World, certificates: dict[str, CertificateRecord]) -> list[str]:
    found = [f"{serial} was signed {count} times" for serial, count in world.authorities.signed.items() if count > 1]
    found += [f"{serial} was signed and is not recorded" for serial in world.authorities.signed.keys() - certificates]
    active = {each.serial_number for each in certificates.values() if each.state is CertificateState.ACTIVE}
    in_force = {key for _, key in world.storage.table("inforce").rows}
    if not active <= in_force:
        found.append(f"in force and not in the index: {sorted(active - in_force)}")
    return found


def _events(world: World) -> list[str]:
    said: dict[str, str] = {}
    found = []
    for event_id, meaning in world.told():
        if said.setdefault(event_id, meaning) != meaning:
            found.append(f"event {event_id} says two things: {said[event_id]} and {meaning}")
    return found


def told_by(world: World) -> set[tuple[str, str]]:
    """Give the events of a world, by their type and correlation."""
    return {(event["type"].rpartition(".")[2], event["correlationid"]) for event in world.events()}


def _event_of(asked: Asked) -> tuple[str, str] | None:
    """Give the event that what was asked for ends with, and its correlation; ``None`` if that depends."""
    body = asked.body
    if asked.queue is Queue.RENEWAL_REQUESTS:
        return None if "enrollmentGroup" in body else ("CertificateRenewed", body["requestId"])
    if asked.queue is Queue.DEVICE_ORDERS:
        return None if body.get("action") == "retry" else ("OrderCompleted", body["orderId"])
    if asked.queue is not Queue.REVOCATION_REQUESTS or body.get("action") == "delete":
        return None
    return ("DeviceReinstated" if body.get("action") == "reinstate" else "DeviceRevoked"), body["requestId"]


def _is_last(record: DeviceRecord | None, serial_number: str) -> bool:
    return record is not None and (record.in_use or ("",))[-1] == serial_number


def _replaced(world: World, certificates: dict[str, CertificateRecord]) -> list[str]:
    """Requests to replace one certificate bring one successor."""
    unused = {CertificateState.RESERVED, CertificateState.ABANDONED}
    asked = {each.body["requestId"]: each.body["replaces"] for each in world.asked.values() if "replaces" in each.body}
    brought = Counter(
        asked[each.cause] for each in certificates.values() if each.cause in asked and each.state not in unused
    )
    return [f"{serial} was replaced {count} times" for serial, count in brought.items() if count > 1]


async def _messages(world: World, record: DeviceRecord | None) -> list[str]:
    """No message is lost or poison, and what one asked for was told."""
    found, told = [f"poison: {text}" for text in world.poison()], told_by(world)
    found += await _open_lines(world)
    found += [f"set aside: {each.body!r}" for each in world.rejections() if each.kind is RejectionKind.POISON]
    for asked in world.asked.values():
        if world.lying(asked) or world.rejected(asked):
            continue
        if not await _is_done(world, asked):
            found.append(f"{asked.name} is lost")
        expected = _event_of(asked)
        if expected and expected not in told:
            renewal = asked.queue is Queue.RENEWAL_REQUESTS
            overtaken = renewal and record and f"renewal {expected[1]}" in record.acts
            replaced = asked.body.get("replaces")
            if not overtaken and (replaced is None or _is_last(record, replaced)):
                found.append(f"{asked.name} was carried out, and nobody was told")
    return found


async def _open_lines(world: World) -> list[str]:
    """A line that is not done has a message that sees to it, and its order has another."""
    found = []
    for row in world.storage.table("orderlines").rows.values():
        line = row.read(OrderLine)
        orders = [each for each in world.asked.values() if "action" not in each.body]
        asked = [each for each in orders if each.body.get("orderId") == line.order_id]
        if not line.is_open or not asked:
            continue
        expected = 2 if asked[0].queue is Queue.DEVICE_ORDERS else 1
        if len(world.lying_of_order(line.order_id)) < expected:
            found.append(f"line {line.line} of {line.order_id} is {line.state}, and nobody sees to it")
    return found


async def _is_done(world: World, asked: Asked) -> bool:
    """Tell whether what was asked for is remembered as carried out."""
    if asked.queue is Queue.DEVICE_REGISTRATIONS:
        line = await world.orders.get_line(asked.body["orderId"], asked.body["line"])
        return line is not None and not line.record.is_open
    if asked.queue is Queue.DEVICE_ORDERS and "action" not in asked.body:
        order = await world.orders.get(asked.body["orderId"])
        return order is not None and order.record.state in {*COMPLETED, OrderState.CANCELLED}
    known = await world.requests.get(asked.queue, asked.body["requestId"])
    return known is not None and known.record.state is RequestState.DONE


def _revoked(world: World, record: DeviceRecord) -> list[str]:
    """A device that was revoked for good is so, unless it was deleted and ordered anew."""
    if _final(record) or any(entry.state is DeviceState.DELETED for entry in record.history):
        return []
    for asked in world.asked.values():
        final = "registrationId" in asked.body and asked.body.get("reason") not in {None, "certificateHold"}
        if final and not world.lying(asked) and not world.rejected(asked):
            return [f"the device was revoked for good by {asked.name}, and is {record.state} ({record.reason})"]
    return []


def _keys(world: World, certificates: dict[str, CertificateRecord]) -> list[str]:
    """No key is left of a bundle that was handed out for good, and no bundle of a certificate that nobody uses."""
    found = []
    for (container, name), blob in world.blobs.blobs.items():
        if container != BUNDLES:
            continue
        serial = name.rpartition("/")[2].removesuffix(".json")
        if serial not in certificates:
            found.append(f"{name} is the bundle of a certificate that is not recorded")
            continue  # whatever is in it
        body = json.loads(blob.content)
        if body["handedOut"] and (body["pfx"] or "PRIVATE KEY" in body["pem"]):
            found.append(f"{name} was handed out, and its key is there")
    return found


def _directory(world: World, records: dict[str, DeviceRecord]) -> list[str]:
    """The directory says what the records say, and nothing else."""
    rows = world.storage.table("directory").rows
    listings = [listing_of(record) for record in records.values()]
    expected: dict[tuple[str, str], Mapping[str, Any]] = {
        place: each.columns for each in listings for place in (("id", each.registration_id), *each.places)
    }
    expected |= {
        ("thumbprint", name): {"registrationId": each.registration_id} for each in listings for name in each.thumbprints
    }
    found = []
    for place in expected.keys() | {key for key in rows if key[1] != "!" and key[0] not in {"!changes", "thumbprint"}}:
        row, wanted = rows.get(place), expected.get(place)
        if row is None or wanted is None:
            found.append(f"the directory {'does not have' if row is None else 'still has'} {place}")
        elif any(row.values.get(name) != value for name, value in wanted.items()):
            found.append(f"the directory is late at {place}: {dict(row.values)}, and not {dict(wanted)}")
    groups = {partition for partition, _ in rows if partition.startswith("group|")}
    counted = {"id": listings} | {
        group: [each for each in listings if (group, each.registration_id) in each.places] for group in groups
    }
    wrong = [each for partition, some in counted.items() for each in _counts(rows, partition, some)]
    return [*found, *wrong, *_answered_notes(rows, records, world.now)]


def _counts(rows: Mapping[tuple[str, str], Row], partition: str, listings: list[Listing]) -> list[str]:
    guard = rows.get((partition, "!"))
    told = {} if guard is None else guard.values
    true = {
        "states": Counter(each.state for each in listings),
        "months": Counter(each.month for each in listings if each.month),
        "revocable": Counter(each.columns.get("assignedHub", "") for each in listings if each.columns["revocable"]),
    }
    return [
        f"the directory counts {told.get(name)} as {name} of {partition}, and there are {counts}"
        for name, counts in true.items()
        if json.loads(str(told.get(name) or "{}")) != counts
    ]


def _answered_notes(rows: Mapping[tuple[str, str], Row], records: dict[str, DeviceRecord], now: datetime) -> list[str]:
    notes = [row.read(ChangeNote) for (partition, _), row in rows.items() if partition == "!changes"]
    return [
        f"the note {each.row} is answered, and is left"
        for each in notes
        if (record := records.get(each.registration_id))
        and each.answered(record)
        and not under_way(record, now, within=NOTE_STAYS)
    ]


def _final(record: DeviceRecord) -> bool:
    return record.state in OUT_OF_SERVICE and not record.on_hold


async def _lines(world: World) -> list[str]:
    """A line of an order that is done says what became of its device, and so does an event."""
    found, told = [], told_by(world)
    for asked in world.asked.values():
        if asked.queue not in {Queue.DEVICE_ORDERS, Queue.DEVICE_REGISTRATIONS} or world.lying(asked):
            continue
        if "action" in asked.body:
            continue
        order_id = asked.body["orderId"]
        line = await world.orders.get_line(order_id, 0)
        if line is None:
            continue
        state = line.record.state
        expected = {LineState.REGISTERED: "DeviceRegistered", LineState.FAILED: "RequestRejected"}.get(state)
        if expected is None:
            found += [] if asked.queue is Queue.DEVICE_ORDERS else [f"{asked.name} is done, and its line is {state}"]
        elif (expected, order_id) not in told:
            found.append(f"the line of {asked.name} is {state}, and nobody was told")
        elif state is LineState.REGISTERED and ("CertificateIssued", order_id) not in told:
            found.append(f"the certificate of {asked.name} was issued, and nobody was told")
    return found


def _entry(world: World, record: DeviceRecord) -> list[str]:
    """DPS has the individual enrollment that an operator wants, as it is wanted, and no other one."""
    if record.entry_asked_at is not None:
        return ["nobody sees to it that DPS has the individual enrollment that was asked for"]
    entry = world.provisioning.enrollments.get(record.registration_id)
    if record.shut_out or not record.in_use:
        return []
    if entry is None:
        return ["DPS does not have the individual enrollment that is wanted"] if record.own_entry else []
    if not wanted(record, world.now).own_entry:
        # One that kept out a revoked certificate until that expired stays until the device is changed the next time.
        revoked = any(
            each.state is CertificateState.REVOKED and each.serial_number not in record.in_use for each in record.held
        )
        return [] if revoked else [f"DPS has an individual enrollment that nobody wants: {entry}"]
    status = "disabled" if record.entry_disabled else "enabled"
    found = [] if entry["provisioningStatus"] == status else [f"the individual enrollment is to be {status}: {entry}"]
    group = world.storage.table("groups").rows.get(("group", record.enrollment_group or ""))
    wants = given(record, group.read(GroupRecord) if group else None)
    if wants.follows and record.entry_follows != wants.digest:
        return [*found, "the individual enrollment has other settings than its group"]
    apart = settings_apart(wants.settings or {}, own_settings(entry)) if record.own_entry or wants.follows else None
    return [*found, *([f"of the individual enrollment {apart[0]}, and {apart[1]}"] if apart else [])]


@lru_cache(4096)
def tbs_hash_of(pem: str) -> str:
    return sha256(x509.load_pem_x509_certificate(pem.encode()).tbs_certificate_bytes).hexdigest()


@lru_cache(4096)
def thumbprint_of(pem: str) -> str:
    """Give the SHA-256 thumbprint of a certificate."""
    return names.sha256_thumbprint(x509.load_pem_x509_certificate(pem.encode()))


def _written_down(world: World) -> list[str]:
    """Hold the audit log against the requests: each that has ended is there once, with what came of it."""
    rows = world.storage.table("audit").rows
    log = Counter(row.read(AuditRow).entry_id for (place, _), row in rows.items() if place == "log")
    found = [f"{name} is in the audit log {count} times" for name, count in log.items() if count > 1]
    places = Counter(key for (place, key) in rows if not place.startswith(("log", "end|")))
    found += [f"{key} is not found by its actor" for (place, key) in rows if place == "log" and not places[key]]
    ends = {key for (place, key) in rows if place.startswith("end|")}
    wanted = {RequestState.DONE: AuditOutcome.DONE, RequestState.REJECTED: AuditOutcome.REFUSED}
    kept = [row for name in ("requests", "actrequests") for row in world.storage.table(name).rows.items()]
    for (place, _), row in kept:
        if len(place) != _PARTITION_DIGITS:
            continue
        request = row.read(RequestRecord)
        name = f"{request.key}|{request.nonce[:8]}"
        if name in log and request.state in wanted and f"{name}|{wanted[request.state]}" not in ends:
            found.append(f"request {request.key} is {request.state}, and the audit log does not say so")
        if name not in log and request.state is RequestState.DONE:
            found.append(f"request {request.key} is done, and is not in the audit log")
    return found


_PARTITION_DIGITS = 2
"""Of the partitions of requests; what else is in their table has longer ones."""
