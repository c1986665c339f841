"""An individual enrollment that nobody has asked for is found in one pass, and whether a CA's key has signed elsewhere.

Whoever may write to the DPS can let a device in by one, and no group lists the registration of its device.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from shared.domain.attestations import individual_enrollment
from shared.domain.findings import FindingState
from shared.domain.treatments import FindingKind, Policy
from shared.pki import names
from shared.workflows.reconciliation.answers import shown_finding
from shared.workflows.reconciliation.budget import Budget
from tests.pki.hierarchy import Hierarchy, hierarchy
from tests.world.drift import (
    CA,
    OTHERS,
    STRANGER,
    enroll,
    entry_of,
    fleet_of,
    register,
    signed_here,
)
from tests.world.groups_world import authority
from tests.world.services import HUB, with_info
from tests.world.world import DEVICE, GROUP

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from tests.world.drift import Fleet


@pytest.mark.parametrize("shown", [True, False])
async def test_a_certificate_that_a_cas_key_has_signed_elsewhere_is_found_by_its_individual_enrollment(
    *, shown: bool
) -> None:
    """With the device, the group, the CA, and what shuts them. DPS may show no more of a certificate than its info."""
    fleet, rogue = await fleet_of(), signed_here()
    enroll(fleet, rogue, shown=shown)
    register(fleet, rogue)
    [found] = await fleet.look()
    assert (found.kind, found.subject, found.where) == (FindingKind.ROGUE_CERTIFICATE, STRANGER, "DPS")
    assert (found.severity, found.enrollment_group, found.certificate_authority) == ("critical", GROUP, CA)
    assert found.ledger == "no such device was ever ordered, and the certificate was never issued here"
    assert found.service == (
        f"its individual enrollment is enabled, and accepts the certificate {names.serial_text(rogue.serial_number)} of "
        f"the CA 'line-ca1' (SHA-256 {names.sha256_thumbprint(rogue)}); the device is in {HUB}"
    )
    assert [each.path.rpartition("/api/")[2] for each in shown_finding(found).acts] == [
        f"findings/{found.finding_id}/mend",
        f"enrollment-groups/{GROUP}/disable",
        f"certificate-authorities/{CA}/revoke",
    ]


async def test_the_same_of_a_device_that_the_ledger_knows_is_the_same() -> None:
    """Its own entry accepts a certificate that the CA has signed, and that was never issued here."""
    fleet = await fleet_of()
    entry_of(fleet, "enabled", signed_here(DEVICE))
    [found] = await fleet.look()
    assert (found.kind, found.subject, found.where) == (FindingKind.ROGUE_CERTIFICATE, DEVICE, "DPS")
    assert (found.enrollment_group, found.certificate_authority) == (GROUP, CA)


async def test_an_enrollment_with_a_certificate_of_others_is_named_as_such_and_left() -> None:
    fleet = await fleet_of()
    enroll(fleet, hierarchy().root.certificate)
    before = fleet.world.provisioning.writes
    [found] = await fleet.look()
    assert (found.kind, found.subject, found.certificate_authority) == (FindingKind.ENROLLMENT_UNKNOWN, STRANGER, None)
    assert found.service == (
        f"its individual enrollment is enabled, and accepts the certificate {OTHERS} of dpsCa; the device is in no hub"
    )
    assert fleet.world.provisioning.writes == before


async def test_one_with_a_symmetric_key_or_a_tpm_likewise() -> None:
    fleet = await fleet_of()
    enroll(fleet, hierarchy().root.certificate, attestation={"type": "tpm", "tpm": {"endorsementKey": "k"}})
    [found] = await fleet.look()
    assert found.kind is FindingKind.ENROLLMENT_UNKNOWN
    assert "accepts a TPM" in found.service


async def test_one_with_a_certificate_that_was_issued_here_is_not_a_rogue_one() -> None:
    """It is another device's, and DPS lets nobody in by it but that device's key."""
    fleet = await fleet_of()
    record = fleet.world.record()
    assert record is not None
    known = await fleet.world.certificates.get(record.in_use[0])
    assert known is not None
    assert known.record.pem is not None
    enroll(fleet, hierarchy().root.certificate)
    entry = fleet.world.provisioning.enrollments[STRANGER]
    held = {"primary": {"certificate": known.record.pem}}
    attested = with_info({**entry, "attestation": {"type": "x509", "x509": {"clientCertificates": held}}}, None)
    fleet.world.provisioning.enrollments[STRANGER] = attested
    assert [each.kind for each in await fleet.look()] == [FindingKind.ENROLLMENT_UNKNOWN]


async def test_another_certificate_with_a_serial_number_of_ours_is_a_rogue_one() -> None:
    fleet, rogue = await fleet_of(), signed_here()
    record = fleet.world.record()
    assert record is not None
    enroll(fleet, rogue, shown=False)
    held = fleet.world.provisioning.enrollments[STRANGER]["attestation"]["x509"]["clientCertificates"]
    held["primary"]["info"]["serialNumber"] = record.in_use[0].lstrip("0").upper()
    assert [each.kind for each in await fleet.look()] == [FindingKind.ROGUE_CERTIFICATE]


@pytest.mark.parametrize("kind", [FindingKind.ROGUE_CERTIFICATE, FindingKind.ENROLLMENT_UNKNOWN])
async def test_mended_the_entry_keeps_the_device_out_and_its_identity_is_gone(kind: FindingKind) -> None:
    """Deleted, the entry would leave a device of a CA of ours to its group."""
    fleet = await fleet_of(**{kind.value: Policy.MEND})
    certificate = signed_here() if kind is FindingKind.ROGUE_CERTIFICATE else hierarchy().root.certificate
    enroll(fleet, certificate)
    register(fleet, certificate)
    assert await fleet.look() == []
    assert (await fleet.finding(kind)).state is FindingState.MENDED
    assert fleet.world.provisioning.enrollments[STRANGER]["provisioningStatus"] == "disabled"
    assert STRANGER not in fleet.world.provisioning.registrations
    assert (HUB, STRANGER) not in fleet.world.hubs.identities
    assert await fleet.look() == []


async def test_mended_it_takes_no_identity_of_a_device_of_ours_along() -> None:
    """The entry names the device id of another device, and DPS has given that identity its certificate."""
    fleet, rogue = await fleet_of(rogueCertificate=Policy.MEND), signed_here()
    enroll(fleet, rogue, deviceId=DEVICE)
    register(fleet, rogue, device_id=DEVICE)
    await fleet.look()
    own = fleet.world.hubs.identities[HUB, DEVICE]
    assert names.sha256_thumbprint(rogue) not in own.thumbprints
    assert await fleet.look() == []


async def test_an_enrollment_that_is_disabled_or_gone_is_no_finding_any_more() -> None:
    fleet = await fleet_of()
    enroll(fleet, hierarchy().root.certificate)
    await fleet.look()
    del fleet.world.provisioning.enrollments[STRANGER]
    assert await fleet.look() == []
    assert (await fleet.finding(FindingKind.ENROLLMENT_UNKNOWN)).state is FindingState.GONE
    enroll(fleet, signed_here(), provisioningStatus="disabled")
    assert await fleet.look() == []


async def test_the_entry_of_a_device_that_was_taken_over_from_the_services_is_not_foreign() -> None:
    """Its certificate is known by the thumbprint that its hub lets in, and the ledger has no other word for it."""
    fleet = await fleet_of()
    entry_of(fleet, "enabled", hierarchy().root.certificate)
    fleet.world.hubs.enter(HUB, DEVICE, OTHERS)
    known = await fleet.world.devices.get(DEVICE)
    assert known is not None
    unseen = {"unseen": True, "sha256_thumbprints": (OTHERS,), "held": (), "certificate": None}
    await fleet.world.devices.replace(known, known.record.changed(**unseen))
    assert await fleet.reconciler.walk.look.differences(DEVICE, Budget()) == []


async def operations(strangers: int, *, of: Callable[[str], x509.Certificate]) -> Counter[str]:
    """Count what a pass asks the services for beside so many entries of others that were found before."""
    fleet, certificate = await fleet_of(), of(STRANGER)
    for number in range(strangers):
        name = f"zz-{number:05d}"
        entry = with_info(individual_enrollment(name, None, "enabled", certificate), None)
        fleet.world.provisioning.enrollments[name] = {**entry, "etag": '"theirs"'}
    assert len(await fleet.look()) == min(strangers, 100), "findings of a page"
    conductor = fleet.world.conductor
    conductor.start("pass", _one_more(fleet))
    await conductor.advance("pass")
    assert conductor.outcome("pass") is None
    return Counter(conductor.steps["pass"])


async def _one_more(fleet: Fleet) -> None:
    await fleet.look()


def of_others(_name: str) -> x509.Certificate:
    return hierarchy().root.certificate


@pytest.mark.parametrize("of", [of_others, signed_here])
async def test_for_an_entry_of_others_that_was_found_before_a_pass_asks_dps_nothing_and_reads_nothing_twice(
    of: Callable[[str], x509.Certificate],
) -> None:
    """Each of them is looked at alone once a day. All CAs, and all groups, are read once for a step."""
    few, many = await operations(10, of=of), await operations(210, of=of)
    more = {label: count - few[label] for label, count in many.items() if count > few[label]}
    steps = 1 + more.pop("dps.page_of_enrollments", 0)
    assert steps < 3
    for listed in ("issuers.query", "groups.query"):
        assert more.pop(listed, 0) < steps, "once for a step"
    of_this_hour = more.pop("dps.get_enrollment")
    assert (0 < of_this_hour < 20, more.pop("dps.get_registration")) == (True, of_this_hour), "200 of 24 hours"
    assert more.pop("identities.get") <= 2 * (200 + of_this_hour + 64 * (steps - 1)), "device, and its id's owner"
    assert more.pop("findings.get") <= 2 * 200
    assert more.pop("findings.replace") <= 200
    assert more == {}
    assert sum(many.values()) < 210 * 6


async def test_an_entry_of_others_is_looked_at_anew_when_it_accepts_something_else_and_once_a_day_in_any_case() -> None:
    """Then it is said where its device is by now."""
    fleet = await fleet_of()
    enroll(fleet, hierarchy().root.certificate)
    [first] = await fleet.look()
    assert first.service.endswith(f"accepts the certificate {OTHERS} of dpsCa; the device is in no hub")
    register(fleet, hierarchy().root.certificate)
    said = [(await fleet.look())[0].service.rpartition("; ")[2] for _ in range(24)]
    assert (said[-1], said.count("the device is in no hub") < 24) == (f"the device is in {HUB}", True)
    enroll(fleet, Hierarchy(hierarchy().root, authority("theirs")).device(STRANGER))
    [changed] = await fleet.look()
    assert (changed.finding_id, OTHERS in changed.service) == (first.finding_id, False)
