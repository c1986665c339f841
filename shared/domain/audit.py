"""What must be true of a device, and of a group, at rest, whatever was asked for and whatever broke.

Pure: it compares the record with what was read of the services. The in-memory world of the tests uses it after each of
its runs, and ``python -m devstack audit`` on real storage, DPS and hubs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.domain.attestations import references, signers
from shared.domain.certificates import CertificateState
from shared.domain.devices import IN_SERVICE
from shared.domain.groups import STATUS, GroupState
from shared.domain.hub_authentication import SELF_SIGNED, lets_in, nobodys
from shared.domain.words import DeviceState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from shared.domain.attestations import Entry
    from shared.domain.certificates import CertificateRecord
    from shared.domain.devices import DeviceRecord
    from shared.domain.groups import GroupRecord
    from shared.ports.hubs import HubIdentity


@dataclass(frozen=True, slots=True)
class Observed:
    """What was read of one device.

    Attributes:
        certificates: every certificate with its name, by serial number.
        thumbprints: SHA-256 of those that were signed, by serial number.
        entry: thumbprints (SHA-256) that its individual enrollment lets in; empty if that is disabled; ``None`` if it
            has no enrollment, so that its group decides.
        identity: as its hub has it; ``None`` if the hub has none for it.
        listed: serial numbers on the lists of the CAs.
        elsewhere: of a device that is shut out, its identities at other places, and whether each lets it in.
        entry_otherwise: what its individual enrollment lets in beside its own certificates, in words, if it is enabled.
    """

    certificates: Mapping[str, CertificateRecord]
    thumbprints: Mapping[str, str]
    entry: frozenset[str] | None
    identity: HubIdentity | None
    listed: frozenset[str] = field(default_factory=frozenset)
    elsewhere: Mapping[str, bool] = field(default_factory=dict)
    entry_otherwise: str | None = None


def faults(record: DeviceRecord, observed: Observed, now: datetime) -> Iterator[str]:
    """Give everything that is wrong; nothing if all is well."""
    if not record.settled:
        yield f"the services do not follow the record: {record.converged} of {record.generation}"
    yield from _books(record, observed, now)
    yield from _dps(record, observed, now)
    yield from _hub(record, observed)
    yield from _other_hubs(record, observed)


def _books(record: DeviceRecord, observed: Observed, now: datetime) -> Iterator[str]:
    active = {serial for serial, each in observed.certificates.items() if each.state is CertificateState.ACTIVE}
    used = {serial for serial in record.in_use if _lives(observed.certificates.get(serial), now)}
    expected = used if record.state in IN_SERVICE else set()
    if active != expected:
        yield f"in force are {sorted(active)}, and the device, {record.state}, uses {sorted(expected)}"
    for each in record.held:
        row = observed.certificates.get(each.serial_number)
        if row is None:
            yield f"{each.serial_number} is held, and not recorded"
        elif (row.state, row.revocation_reason) != (each.state, each.reason):
            yield f"{each.serial_number} is {row.state}, and {each.state} for its device"
    # One that has expired leaves its list (RFC 5280 section 3.3).
    alive = {serial for serial, each in observed.certificates.items() if _lives(each, now)}
    revoked = {serial for serial in alive if observed.certificates[serial].state is CertificateState.REVOKED}
    if observed.listed & alive != revoked:
        yield f"revoked are {sorted(revoked)}, and listed {sorted(observed.listed & alive)}"


def _lives(certificate: CertificateRecord | None, now: datetime) -> bool:
    return certificate is not None and certificate.not_after is not None and certificate.not_after >= now


def _dps(record: DeviceRecord, observed: Observed, now: datetime) -> Iterator[str]:
    if observed.entry_otherwise is not None:
        yield f"DPS lets in whoever comes with {observed.entry_otherwise}; the device is {record.state}"
    for serial, thumbprint in observed.thumbprints.items():
        each = observed.certificates[serial]
        if not _lives(each, now):
            continue
        admitted = observed.entry is None or thumbprint in observed.entry
        shut = record.shut_out or each.state is CertificateState.REVOKED
        if admitted and shut:
            yield f"DPS lets in {serial}, which is {each.state}; the device is {record.state}"
        uses = serial in record.in_use and record.state in IN_SERVICE
        if uses and not admitted and not shut and not record.entry_disabled:
            yield f"DPS does not let in {serial}, which the device uses"


def _hub(record: DeviceRecord, observed: Observed) -> Iterator[str]:
    if observed.identity is None:
        return
    if record.state is DeviceState.DELETED:
        yield "the device is deleted, and its identity is there"
    if observed.identity.enabled and (record.shut_out or record.disabled):
        yield f"the hub lets in a device that is {record.state}, disabled: {record.disabled}"
    if record.state in IN_SERVICE and not record.disabled:
        if not observed.identity.enabled:
            yield f"the hub does not let in a device that is {record.state}"
        yield from _let_in_as(record, observed.identity, observed)


def _let_in_as(record: DeviceRecord, identity: HubIdentity, observed: Observed) -> Iterator[str]:
    """Give what is wrong with whom a hub lets in as a device."""
    if identity.authentication != SELF_SIGNED:
        yield f"the identity is {identity.authentication!r}: the hub lets in {lets_in(identity.authentication)}"
        return
    known = {each.thumbprint for each in observed.certificates.values()} | {*observed.thumbprints.values()}
    if record.unseen:  # the hub's own word is all that is known of the certificate
        known |= {*record.sha256_thumbprints}
    if record.state is DeviceState.ISSUED:
        known.add(nobodys(record.registration_id))
    for thumbprint in sorted(identity.thumbprints - known):
        yield f"the hub lets in a certificate that was never issued to the device: {thumbprint}"
    for serial, each in observed.certificates.items():
        own = {each.thumbprint, observed.thumbprints.get(serial)}
        if each.state is CertificateState.REVOKED and identity.thumbprints & own:
            yield f"the hub lets in {serial}, which is revoked; the device is {record.state}"


def _other_hubs(record: DeviceRecord, observed: Observed) -> Iterator[str]:
    for where, enabled in observed.elsewhere.items():
        if enabled and record.shut_out:
            yield f"{where} lets in a device that is {record.state}"
        elif record.state is DeviceState.DELETED:
            yield f"the device is deleted, and its identity is there: {where}"


def group_faults(record: GroupRecord, entry: Entry | None, thumbprints: Mapping[str, str]) -> Iterator[str]:
    """Give everything that is wrong with a group; nothing if all is well.

    Args:
        record: as the ledger has it.
        entry: as DPS has it; ``None`` if it does not.
        thumbprints: SHA-256 of the group's CAs, by their names.
    """
    if not record.settled:
        yield f"DPS does not follow the group {record.enrollment_group!r}: {record.change or record.rollover}"
    if record.state is GroupState.DELETED:
        if entry is not None:
            yield f"the group {record.enrollment_group!r} is deleted, and DPS has it"
        return
    if entry is None:
        yield f"the group {record.enrollment_group!r} is {record.state}, and DPS does not have it"
        return
    if entry.get(STATUS) != record.state:
        yield f"the group {record.enrollment_group!r} is {record.state}, and {entry.get(STATUS)} in DPS"
    if record.ca_references is not None:
        expected = record.ca_references.model_dump(exclude_none=True)
        if references(entry) != expected:
            yield f"the group {record.enrollment_group!r} refers to {expected}, and in DPS to {references(entry)}"
        return
    wanted = tuple(thumbprints.get(each, each) for each in (record.previous_issuer, record.issuer) if each)
    held = tuple(each for each in signers(entry) if each is not None)
    if held != wanted:
        yield f"the group {record.enrollment_group!r} has CAs {wanted}, and in DPS {held}"
