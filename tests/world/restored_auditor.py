"""Checks at rest, after a ledger was put back: what must be true whatever was asked for meanwhile."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.audit import group_faults
from shared.domain.authorities import AuthorityRecord
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.pki import names
from shared.workflows.epochs import HOLDS
from tests.world.auditor import audit, thumbprint_of
from tests.world.restored_world import ISSUER, RESTORE, list_of
from tests.world.services import HUB
from tests.world.world import DEVICE, GROUP

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.world.restored_world import RestoredWorld


OPENING = frozenset(
    {"enable", "reinstate", "put the entry", "delete the entry", "order again", "put", "enable the group", "adopt"}
)
"""Acts by which somebody says that what was shut may be open."""

_OF_ENTRY = (
    "DPS does not have the individual enrollment",
    "DPS does not let in",
    "DPS has an individual enrollment",
    "of the individual enrollment",
    "the individual enrollment",
)
_OF_GROUP = "the group "


async def audit_restored(world: RestoredWorld) -> list[str]:
    """Give everything that is wrong; nothing if all is well."""
    found = [*await audit(world), *_group(world)]
    if any(each.startswith((*_OF_ENTRY, _OF_GROUP)) for each in found):  # then a comparison says so
        about = await _findings(world)
        found = [each for each in found if not _is_told(each, about)]
    found += _lists(world)
    found += _revoked(world)
    found += _opened(world)
    found += _unsaid(world)
    found += _refused(world)
    found += world.too_early
    await world.ask_ocsp()
    found += world.said_good
    if world.is_behind:
        found.append("the ledger is an older one")
    return found


async def _findings(world: RestoredWorld) -> set[str]:
    """Give whom open findings are about, after a comparison."""
    world.now += 2 * HOLDS  # a worker that found the ledger older believes so for a while
    reconciler = world.services.reconciler
    await reconciler.begin_at_once(enrollment_group=None, registration_id=None, lasting=timedelta(seconds=20))
    found, _ = await reconciler.findings.page({"state": "open"}, size=100, continuation=None)
    return {each.subject for each in found}


def _is_told(fault: str, about: set[str]) -> bool:
    return (fault.startswith(_OF_ENTRY) and DEVICE in about) or (fault.startswith(_OF_GROUP) and GROUP in about)


def _opened(world: RestoredWorld) -> Iterator[str]:
    """What was shut when the ledger was lost is shut, unless somebody has said otherwise since."""
    truth, present = world.truth, world.state()
    if world.meanwhile & OPENING:
        return
    if truth.identity and not truth.identity[0] and present.identity and present.identity[0]:
        yield "the hub lets in a device that it kept out when the ledger was lost"
    if truth.entry and truth.entry[0] == "disabled" and (present.entry is None or present.entry[0] != "disabled"):
        yield "DPS lets in a device that it kept out when the ledger was lost"
    if truth.dps_group == "disabled" and present.dps_group != "disabled":
        yield "DPS lets in a group that it kept out when the ledger was lost"


def _refused(world: RestoredWorld) -> Iterator[str]:
    """Nobody is told that there is no device to shut out, when there is one."""
    if world.truth.device is None or world.truth.device[0] not in {"registered", "renewing"}:
        return
    for name in ("revoke", "delete"):
        if name in world.asked and world.rejected(world.asked[name]):
            yield f"{name} was refused, and the device is {world.state().device}"


def _unsaid(world: RestoredWorld) -> Iterator[str]:
    """The command names whoever is not as it was when the ledger was lost."""
    truth, present = world.truth, world.state()
    if world.meanwhile - {RESTORE}:
        return
    if truth.device != present.device and not any(each.startswith(f"{DEVICE}: ") for each in world.lines):
        yield f"the device was {truth.device}, is {present.device}, and nothing was said"
    if truth.group != present.group and not any(f"{GROUP!r}" in each for each in world.lines):
        yield f"the group was {truth.group}, is {present.group}, and nothing was said"


def _lists(world: RestoredWorld) -> Iterator[str]:
    """Numbers of lists grow (RFC 5280 section 5.2.3), and who was revoked for good stays on the list (5.3.1)."""
    before: dict[str, int] = {}
    for name, content in world.blobs.lists:
        number = list_of(content).number
        if number <= before.get(name, 0):
            yield f"{name} of number {number} follows {before[name]}"
        before[name] = number
    final = set[str]()
    for name, content in world.blobs.lists:
        if name != f"{ISSUER}.crl":
            continue
        listed = list_of(content)
        named = {serial for serial, why in listed.reasons.items() if why != "certificateHold"}
        if final - named:
            yield f"number {listed.number} lacks, or has as a hold, {sorted(final - named)}"
        final |= named


def _revoked(world: RestoredWorld) -> Iterator[str]:
    """Nobody who was ever revoked for good is let in, and the ledger knows that."""
    rows = world.storage.table("identities").rows
    records = [row.read(CertificateRecord) for (_, key), row in rows.items() if key.startswith("c:")]
    known = {each.serial_number: each for each in records}
    identity = dict.get(world.hubs.identities, (HUB, DEVICE))
    for serial in world.revoked_for_good():
        row, certificate = known.get(serial), world.made[serial]
        if certificate.not_valid_after_utc < world.now:
            continue
        if row is None or row.state is not CertificateState.REVOKED:
            yield f"{serial} was revoked for good, and is {row.state if row else 'not known'}"
        if world.provisioning.admits(DEVICE, certificate):
            yield f"DPS lets in {serial}, which was revoked for good"
        if identity is not None and identity.enabled and names.sha256_thumbprint(certificate) in identity.thumbprints:
            yield f"the hub lets in {serial}, which was revoked for good"


def _group(world: RestoredWorld) -> Iterator[str]:
    record, entry = world.group(), dict.get(world.provisioning.groups, GROUP)
    if record is None:
        yield "the ledger does not know the group"
        return
    rows = world.storage.table("issuers").rows.items()
    known = [row.read(AuthorityRecord) for (place, _), row in rows if place == "issuer"]
    thumbprints = {each.name: thumbprint_of(each.certificate) for each in known if each.certificate is not None}
    yield from group_faults(record, entry, thumbprints)
