"""A ledger that is lost: CAs come back from vault and DPS, devices from DPS and hubs, and what can't be known is said."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from shared import restoration
from shared.commands import FAILED
from shared.contracts.authorities import AuthorityAct
from shared.contracts.devices import RenewalRequest, RevocationAction, RevocationRequest, revocation_request
from shared.contracts.groups import EnrollmentGroupRequest, GroupAction
from shared.domain.attestations import individual_enrollment
from shared.domain.authorities import AuthorityAction, AuthorityState, ProofOfPossession
from shared.domain.authority_acts import check_signs
from shared.domain.certificates import CertificateState
from shared.domain.public_keys import PublicKeyRecord
from shared.domain.restores import RestorationRecord
from shared.domain.treatments import FindingKind, Policy
from shared.domain.words import DeviceState, RevocationReason
from shared.errors import AwaitsDevice, Conflict, LedgerBehind, LogDamaged, Rejected, UnderWay
from shared.ledger.authorities import Authorities
from shared.ledger.public_keys import PublicKeys
from shared.pki import names
from shared.pki.public_keys import fingerprint
from shared.restoration import DONE, OLDER, read_folder, restore
from shared.workflows.devices.bundles import BUNDLES
from shared.workflows.evidence.storage import LOG, LOG_HEAD
from shared.workflows.reconciliation.budget import Budget
from shared.workflows.reconciliation.found_authorities import Brought
from shared.workflows.status.revocation_lists import CRLS
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.adopting import GROUP, ISSUER, Deployment
from tests.unit.fakes import FakeProvisioning, Killed, Trap
from tests.world.world import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from shared.services import Services
    from shared.settings import Settings
    from shared.workflows.reconciliation.passes import Reconciler

LOST = Brought(lists_are_lost=True)


def about(lines: Sequence[str], subject: str) -> list[str]:
    return [line for line in lines if line.startswith(f"{subject}: ")]


def listed(crl: bytes) -> dict[str, str]:
    """Give the serial numbers on a list, with their reasons."""
    return {
        names.serial_text(each.serial_number): each.extensions.get_extension_for_class(
            x509.CRLReason
        ).value.reason.value
        for each in x509.load_der_x509_crl(crl)
    }


def number(crl: bytes) -> int:
    return x509.load_der_x509_crl(crl).extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


async def said(subject: Deployment, certificate: x509.Certificate) -> ocsp.OCSPResponse:
    """Ask OCSP about a certificate."""
    issuer = (await subject.app.authorities.load(ISSUER)).certificate
    asked = ocsp.OCSPRequestBuilder().add_certificate(certificate, issuer, hashes.SHA256()).build()
    answer = await subject.app.status_answers.answer(ISSUER, asked.public_bytes(Encoding.DER))
    return ocsp.load_der_ocsp_response(answer)


async def certificate_of(subject: Deployment, device: str) -> x509.Certificate:
    """Read the certificate that a device uses out of the ledger, before that is lost."""
    summary = (await subject.device(device)).certificate
    assert summary is not None
    known = await subject.app.converger.books.certificates.get(summary.serial_number)
    assert known is not None
    assert known.record.pem is not None
    return x509.load_pem_x509_certificate(known.record.pem.encode())


async def test_cas_and_a_group_are_taken_over_and_sign_again() -> None:
    """Root and issuing CA have their keys in the vault, and DPS has their certificates: as before, they sign."""
    subject = await Deployment().begin("press")
    before = {name: await subject.authority(name) for name in ("dpsCa", ISSUER)}
    subject.lose(BUNDLES)
    lines = await subject.adopt()
    for name, was in before.items():
        now = await subject.authority(name)
        same = ("certificate", "key_id", "parent", "kind", "fingerprint", "proof_of_possession", "enrollment_group")
        assert {each: getattr(now, each) for each in same} == {each: getattr(was, each) for each in same}
        assert now.state is AuthorityState.ACTIVE
        assert (now.wanted is None) == (name == "dpsCa"), "whoever may have a copy of the root's key is not known"
        check_signs(now)
    assert before["dpsCa"].proof_of_possession is ProofOfPossession.VERIFIED
    group = await subject.group()
    assert group is not None
    assert (group.issuer, group.state, group.generation) == (ISSUER, "enabled", 1)
    assert f"{GROUP}: the enrollment group is taken over, with {ISSUER}" in lines
    await subject.order("drill")
    assert (await subject.device("drill")).state is DeviceState.REGISTERED


async def test_a_group_that_is_disabled_in_dps_is_taken_over_as_disabled() -> None:
    """Its devices stay out until somebody asks for it to be enabled."""
    subject = await Deployment().begin("press")
    disable = EnrollmentGroupRequest(request_id="d", enrollment_group=GROUP, action=GroupAction.DISABLE)
    await subject.app.groups.requests.carry_out(disable)
    subject.lose(BUNDLES)
    await subject.adopt()
    group = await subject.group()
    assert group is not None
    assert group.state == "disabled"
    assert await reconciler_of(subject).walk.groups.differences(GROUP, Budget()) == []


async def test_the_next_list_has_a_later_number_and_what_was_revoked() -> None:
    """The last list is a blob: what it names is on the next one, whose number has jumped."""
    subject = await Deployment().begin("press")
    leaf = await certificate_of(subject, "press")
    await subject.revoke("press")
    before = subject.crl(ISSUER)
    subject.lose(BUNDLES)
    await subject.adopt()
    serial = names.serial_text(leaf.serial_number)
    assert listed(subject.crl(ISSUER)) == {serial: "keyCompromise"}
    assert number(subject.crl(ISSUER)) > number(before) + 1000
    device = await subject.device("press")
    assert (device.state, device.revoked) == (DeviceState.REVOKED, RevocationReason.KEY_COMPROMISE)
    assert (await said(subject, leaf)).certificate_status is ocsp.OCSPCertStatus.REVOKED


async def test_a_ca_that_was_revoked_comes_back_revoked() -> None:
    """Its issuer's list names it: so it signs nothing more, and OCSP and its groups follow."""
    subject = await Deployment().begin("press")
    act = AuthorityAct(request_id="a", name=ISSUER, action=AuthorityAction.REVOKE, reason="keyCompromise", devices=1)
    await subject.app.authority_workflows.acts.carry_out(act)
    await subject.app.revocation_lists.publish("dpsCa")
    serial = (await subject.authority(ISSUER)).serial_number
    subject.queues.sent.clear()
    subject.lose(BUNDLES)
    lines = await subject.adopt()
    assert f"{ISSUER}: the CA is revoked again (keyCompromise); its groups and its devices follow" in lines
    record = await subject.authority(ISSUER)
    assert (record.state, record.revocation_reason, record.change) == ("revoked", "keyCompromise", None)
    known = await subject.app.converger.books.certificates.get(serial or "")
    assert known is not None
    assert (known.record.state, known.record.revocation_reason) == ("revoked", "keyCompromise")
    asked = [body["data"] for queue, body, _ in subject.queues.sent if queue == "enrollment-group-requests"]
    assert [(each["enrollmentGroup"], each["action"]) for each in asked] == [(GROUP, "disable")]
    [wanted] = [body["data"] for queue, body, _ in subject.queues.sent if queue == "revocation-requests"]
    with pytest.raises(UnderWay):
        await subject.app.revocations.carry_out(revocation_request(wanted))
    shut = [body["data"] for queue, body, _ in subject.queues.sent if queue == "revocation-requests"][1:]
    assert [each["registrationId"] for each in shut] == ["press"], "its certificate may be of that CA"
    again = await subject.adopt()
    assert [line for line in again if "revoked again" in line] == []


async def test_without_the_last_lists_nothing_is_taken_over_unless_it_is_said_that_they_are_lost() -> None:
    """A list that lacks who was revoked would call them good. The refusal comes before anything is entered."""
    subject = await Deployment().begin("press")
    subject.lose(BUNDLES, CRLS)
    with pytest.raises(Rejected, match=r"the last CRL of 'dpsCa', 'line-ca1' is neither in the container 'crls'"):
        await subject.adopt()
    assert [each async for each in subject.app.authorities.list()] == []
    lines = await subject.adopt(LOST)
    assert f"not known: which certificates of {ISSUER!r} were revoked, beside those that DPS keeps out" in lines


async def test_a_list_that_somebody_has_kept_is_taken_and_has_to_be_ours() -> None:
    """Given as a file, it does what the lost blob would have done; one that another CA has signed is none."""
    subject = await Deployment().begin("press")
    leaf = await certificate_of(subject, "press")
    await subject.revoke("press")
    kept, foreign = tuple(subject.crl(each) for each in ("dpsCa", ISSUER)), await Deployment().begin()
    subject.lose(BUNDLES, CRLS)
    with pytest.raises(Rejected):
        await subject.adopt(Brought(lists=tuple(foreign.crl(each) for each in ("dpsCa", ISSUER))))
    await subject.adopt(Brought(lists=kept))
    assert listed(subject.crl(ISSUER)) == {names.serial_text(leaf.serial_number): "keyCompromise"}
    assert number(subject.crl(ISSUER)) > number(kept[1]) + 1000


async def test_if_the_lists_are_lost_their_numbers_go_beyond_what_can_have_been_published() -> None:
    """Nobody has published one a second since the CA was made."""
    subject = await Deployment().begin()
    subject.now += timedelta(days=200)
    before = number(subject.crl(ISSUER))
    subject.lose(BUNDLES, CRLS)
    await subject.adopt(LOST)
    assert number(subject.crl(ISSUER)) > max(before, 200 * 24 * 3600)


async def test_a_device_whose_certificate_nobody_has_is_known_by_its_thumbprint() -> None:
    """It is in its hub, it is named as not known, reconciliation finds nothing, and OCSP does not call it good."""
    subject = await Deployment().begin("press")
    leaf = await certificate_of(subject, "press")
    subject.lose(BUNDLES)
    lines = await subject.adopt()
    thumbprint = names.sha256_thumbprint(leaf)
    assert about(lines, "press") == [
        f"press: taken over from 'line' and hub-1; not known: its certificate, of thumbprint {thumbprint}"
    ]
    device = await subject.device("press")
    assert (device.state, device.assigned_hub, device.enrollment_group) == (DeviceState.REGISTERED, "hub-1", GROUP)
    assert (device.certificate, device.unseen, device.sha256_thumbprints) == (None, True, (thumbprint,))
    assert await subject.app.reconciler.walk.look.differences("press", Budget()) == []
    assert (await said(subject, leaf)).certificate_status is ocsp.OCSPCertStatus.UNKNOWN
    explained = await subject.app.explaining.of_device("press")
    assert explained.as_it_should_be
    assert [(each.door, each.state) for each in explained.doors] == [("dps", "unknown"), ("hub", "open")]


async def test_a_device_whose_hub_has_no_identity_for_it_is_taken_over_without_any_thumbprint() -> None:
    """Its record says so as well: the line is gone when somebody looks at the device."""
    subject = await Deployment().begin("press")
    subject.hubs.identities.clear()
    subject.lose(BUNDLES)
    assert about(await subject.adopt(), "press") == [
        "press: taken over from 'line' and hub-1; not known: its certificate, of thumbprint unknown: the hub has no "
        "identity for it"
    ]
    device = await subject.device("press")
    assert (device.state, device.unseen, device.sha256_thumbprints) == (DeviceState.REGISTERED, True, ())
    assert device.history[-1].note == (
        "taken over from the services after the ledger was lost: its certificate was not seen, its thumbprint is unknown"
    )


async def test_a_device_whose_certificate_nobody_has_is_shut_out_and_let_in_again() -> None:
    """Its entry in DPS has a certificate that nobody can present, and is disabled; the hub's identity is, too."""
    subject = await Deployment().begin("press")
    leaf = await certificate_of(subject, "press")
    subject.lose(BUNDLES)
    await subject.adopt()
    await subject.revoke("press", RevocationReason.CERTIFICATE_HOLD)
    assert not subject.provisioning.admits("press", leaf)
    assert not subject.hubs.identities["hub-1", "press"].enabled
    assert {each.door for each in (await subject.device("press")).closed} == {"dps", "hub"}
    explained = await subject.app.explaining.of_device("press")
    assert [(each.door, each.state) for each in explained.doors] == [("dps", "shut"), ("hub", "shut")]
    back = RevocationRequest(request_id="back", registration_id="press", action=RevocationAction.REINSTATE)
    await subject.app.revocations.carry_out(back)
    assert (await subject.device("press")).state is DeviceState.REGISTERED
    assert subject.provisioning.admits("press", leaf)
    assert subject.hubs.identities["hub-1", "press"].enabled


async def test_a_device_whose_certificate_nobody_has_is_known_whole_when_it_is_renewed() -> None:
    subject = await Deployment().begin("press")
    subject.lose(BUNDLES)
    await subject.adopt()
    await renewed(subject, "press")
    device = await subject.device("press")
    assert (device.state, device.unseen) == (DeviceState.REGISTERED, False)
    assert device.certificate is not None
    assert [each.state for each in device.held] == [CertificateState.ACTIVE]


async def test_what_dps_keeps_out_is_on_hold_where_no_list_tells_why() -> None:
    """Its entry has the certificate: so the list names it, and whoever knows better reinstates or revokes it."""
    subject = await Deployment().begin("press", "drill")
    leaf = await certificate_of(subject, "press")
    await subject.revoke("press")
    subject.lose(BUNDLES, CRLS)
    lines = await subject.adopt(LOST)
    serial = names.serial_text(leaf.serial_number)
    assert about(lines, "press") == [
        f"press: known again, with certificate {serial}, in hub-1",
        "press: it is on hold, since it is disabled in DPS; not known: whether it was revoked. Reinstate it, or "
        "revoke it",
    ]
    assert listed(subject.crl(ISSUER)) == {serial: "certificateHold"}
    assert (await said(subject, leaf)).certificate_status is ocsp.OCSPCertStatus.REVOKED
    assert (await subject.device("drill")).state is DeviceState.REGISTERED


async def test_a_device_that_was_revoked_for_good_since_is_not_put_on_hold_by_the_next_run() -> None:
    """A final revocation can't become a hold, so the run would break off there, each time."""
    subject = await Deployment().begin("press", "drill")
    subject.lose(BUNDLES)
    await subject.adopt()
    await subject.revoke("press")
    before = await subject.device("press")
    lines = await subject.adopt()
    assert about(lines, "press") == []
    assert await subject.device("press") == before
    assert (before.revoked, before.settled) == (RevocationReason.KEY_COMPROMISE, True)


async def test_a_device_that_dps_has_assigned_to_no_hub_is_named() -> None:
    """Its registration has failed, or is not over: there is no place where it could be let in or shut out."""
    subject = await Deployment().begin("press")
    subject.provisioning.registrations["saw"] = {
        "registrationId": "saw",
        "enrollmentGroupId": GROUP,
        "status": "failed",
        "etag": '"1"',
    }
    subject.lose(BUNDLES)
    lines = await subject.adopt()
    assert "not known: device 'saw' of 'line', which DPS has assigned to no hub (failed)" in lines
    assert await subject.app.converger.devices.get("saw") is None
    assert (await subject.device("press")).assigned_hub == "hub-1"


async def test_files_make_no_device_of_a_certificate_that_is_not_ours_or_whose_device_is_known() -> None:
    """A file may have anything; and what a device is renewed with since must not be taken for what it uses."""
    subject = await Deployment().begin("press")
    leaf = await certificate_of(subject, "press")
    subject.lose()
    await subject.adopt(Brought(certificates=(leaf,)))
    before = await subject.device("press")
    foreign = hierarchy().device("saw")
    subject.hubs.enter("hub-1", "saw", names.sha256_thumbprint(foreign))
    subject.provisioning.registrations["saw"] = {
        **subject.provisioning.registrations["press"],
        "registrationId": "saw",
        "deviceId": "saw",
        "enrollmentGroupId": "another",
    }
    lines = await subject.adopt(Brought(certificates=(leaf, foreign)))
    assert (about(lines, "press"), about(lines, "saw")) == ([], [])
    assert await subject.device("press") == before
    assert await subject.app.converger.devices.get("saw") is None


async def test_the_plan_of_a_cas_revocation_counts_devices_whose_certificates_nobody_knows() -> None:
    """They are revoked with it, since it may have signed for them. So their number is to be repeated as well."""
    subject = await Deployment().begin("press", "drill", "lathe")
    leaf = await certificate_of(subject, "press")
    subject.lose(BUNDLES)
    await subject.adopt(Brought(certificates=(leaf,)))
    acts = subject.app.authority_workflows.acts
    for name in (ISSUER, "dpsCa"):
        found = await acts.preview(name, AuthorityAction.REVOKE)
        assert (found.devices, found.unknown_certificates, found.more_devices) == (3, 2, False)
        assert "3 devices are revoked: DPS and their hubs let them in no more" in found.effects
        assert (
            "of 2 devices among them nobody knows the certificate: one of another CA would be revoked as well"
            in found.effects
        )
    plan = await subject.app.revocations.foresee_authorities([ISSUER])
    assert plan.devices == 2, "and those that the directory lists, which is late by a while"
    few = replace(acts, settings=replace(subject.app.settings, unrepeated_devices=2))
    act = AuthorityAct(request_id="a", name=ISSUER, action=AuthorityAction.REVOKE, reason="keyCompromise", devices=1)
    with pytest.raises(Conflict, match=f"the CA '{ISSUER}' has 3 devices, which are all revoked with it"):
        await few.foresee(act)
    await few.foresee(act.model_copy(update={"devices": 3}))


async def test_a_stand_in_that_was_lost_again_stays_out() -> None:
    """A device that was shut out without its certificate, and a ledger that is lost twice: its door stays shut."""
    subject = await Deployment().begin("press")
    leaf = await certificate_of(subject, "press")
    subject.lose(BUNDLES)
    await subject.adopt()
    await subject.revoke("press")
    subject.lose()
    await subject.adopt()
    device = await subject.device("press")
    assert (device.unseen, device.on_hold) == (True, True)
    assert not subject.provisioning.admits("press", leaf)


async def of_its_own(subject: Deployment, device: str) -> None:
    """Have DPS let a device in by an individual enrollment alone: an earlier certificate of it is revoked."""
    earlier = await certificate_of(subject, device)
    subject.now += timedelta(days=1)
    await renewed(subject, device)
    serial = names.serial_text(earlier.serial_number)
    request = RevocationRequest(request_id=serial, serial_number=serial, reason=RevocationReason.KEY_COMPROMISE)
    await subject.app.revocations.carry_out(request)
    subject.registrar.boot(device, await certificate_of(subject, device))


async def test_a_device_with_an_individual_enrollment_is_taken_over_by_that_and_its_registration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DPS shows no more than ``info`` of its certificate: the issuer's name there tells its group; a pass is content."""
    monkeypatch.setattr(FakeProvisioning, "shows_certificates", False)
    subject = await Deployment().begin("press")
    issuer = (await subject.app.authorities.load(ISSUER)).certificate
    await of_its_own(subject, "press")
    leaf = await certificate_of(subject, "press")
    subject.provisioning.registrations["press"].pop("enrollmentGroupId", None)
    subject.provisioning.enrollments["press"]["capabilities"] = {"iotEdge": True}
    subject.lose(BUNDLES)
    lines = await subject.adopt(Brought(certificates=(issuer,)))
    thumbprint = names.sha256_thumbprint(leaf)
    assert about(lines, "press") == [
        "press: taken over from its individual enrollment, which is enabled, in hub-1; not known: its certificate, of "
        f"thumbprint {thumbprint}"
    ]
    device = await subject.device("press")
    assert (device.state, device.assigned_hub, device.device_id) == (DeviceState.REGISTERED, "hub-1", "press")
    assert (device.enrollment_group, device.unseen, device.sha256_thumbprints) == (GROUP, True, (thumbprint,))
    assert device.own_entry
    assert device.entry_settings is not None
    assert device.entry_settings["capabilities"] == {"iotEdge": True}
    assert await subject.app.reconciler.walk.look.differences("press", Budget()) == []
    await subject.revoke("press")
    assert not subject.provisioning.admits("press", leaf)
    assert not subject.hubs.identities["hub-1", "press"].enabled


def reconciler_of(subject: Deployment) -> Reconciler:
    """Give what makes passes; its pauses, until it has its share of the quotas again, take no time."""

    async def pause(seconds: float) -> None:
        subject.now += timedelta(seconds=seconds)

    return replace(subject.app.reconciler, pause=pause)


async def test_an_individual_enrollment_that_keeps_a_revoked_certificate_out_is_made_again_in_another_dps() -> None:
    """The group would let in both certificates. That the earlier one is the device's, the ledger does not know."""
    subject = await Deployment().begin("press", "drill")
    earlier = await certificate_of(subject, "press")
    await of_its_own(subject, "press")
    leaf = await certificate_of(subject, "press")
    subject.lose(BUNDLES)
    await subject.adopt()
    assert (await subject.device("press")).own_entry
    assert not (await subject.device("drill")).own_entry
    subject.provisioning.enrollments.clear()
    subject.provisioning.registrations.clear()
    assert subject.provisioning.admits("press", earlier)
    reconciler = reconciler_of(subject)
    begun = await reconciler.begin()
    await reconciler.carry_on(begun.reconciliation_id, until=subject.now + timedelta(hours=1))
    [found], _ = await reconciler.findings.page({"kind": "enrollmentMissing"}, size=9, continuation=None)
    await reconciler.act(found.finding_id, Policy.MEND)
    assert subject.provisioning.admits("press", leaf)
    assert not subject.provisioning.admits("press", earlier)


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("registered", [True, False])
async def test_who_was_shut_out_is_shut_out_by_the_ledger_and_of_another_dps(
    monkeypatch: pytest.MonkeyPatch, *, shown: bool, registered: bool
) -> None:
    """Revoked on a list: revoked. Otherwise on hold. A DPS that has nothing of the one before gets these doors shut."""
    monkeypatch.setattr(FakeProvisioning, "shows_certificates", shown)
    subject = await Deployment().begin("press", "drill", "lathe")
    leaves = {name: await certificate_of(subject, name) for name in ("press", "drill", "lathe")}
    issuer = (await subject.app.authorities.load(ISSUER)).certificate
    await subject.revoke("press")
    await subject.revoke("drill", RevocationReason.CERTIFICATE_HOLD)
    entry = individual_enrollment("lathe", None, "disabled", leaves["lathe"])
    await subject.provisioning.put_enrollment(entry, etag=None)  # by somebody else
    if not registered:
        subject.provisioning.registrations.clear()
    for name in leaves:
        identity = subject.hubs.identities["hub-1", name]
        subject.hubs.enter("hub-1", name, *identity.thumbprints)  # enabled by whoever
    subject.lose(BUNDLES)
    lines = await subject.adopt(Brought(certificates=(issuer,)))
    press, drill, lathe = [await subject.device(each) for each in leaves]
    assert (press.phase, press.revoked) == ("revoked", RevocationReason.KEY_COMPROMISE)
    assert (drill.phase, lathe.phase) == ("onHold", "onHold")
    assert about(lines, "lathe")[-1] == (
        "lathe: it is on hold, since it is disabled in DPS; not known: whether it was revoked. Reinstate it, or "
        "revoke it"
    )
    assert {each.enrollment_group for each in (press, drill, lathe)} == {GROUP}
    assert [subject.hubs.identities["hub-1", each].enabled for each in leaves] == [False, False, False]
    assert listed(subject.crl(ISSUER))[names.serial_text(leaves["press"].serial_number)] == "keyCompromise"

    subject.provisioning.enrollments.clear()
    subject.provisioning.registrations.clear()
    assert [subject.provisioning.admits(name, leaf) for name, leaf in leaves.items()] == [True, True, True]
    for name in leaves:
        found = await subject.app.reconciler.walk.look.differences(name, Budget())
        assert [(each.kind, each.where) for each in found] == [(FindingKind.DOOR_OPEN, "DPS")]
    reconciler = reconciler_of(subject)
    begun = await reconciler.begin()
    await reconciler.carry_on(begun.reconciliation_id, until=subject.now + timedelta(hours=1))
    assert [subject.provisioning.admits(name, leaf) for name, leaf in leaves.items()] == [False, False, False]


async def test_who_is_shut_out_and_belongs_to_no_group_is_shut_out_all_the_same() -> None:
    """Nobody knows whose certificate its entry has: the device is known, on hold, and named."""
    subject = await Deployment().begin("press")
    foreign = await Deployment().begin("other")
    leaf = await certificate_of(foreign, "other")
    await subject.provisioning.put_enrollment(individual_enrollment("other", None, "disabled", leaf), etag=None)
    await subject.provisioning.put_enrollment(individual_enrollment("else", None, "enabled", leaf), etag=None)
    subject.lose()
    lines = await subject.adopt()
    shown = names.sha256_thumbprint(leaf)
    assert about(lines, "other") == [
        "other: taken over from its individual enrollment, which is disabled, in no hub; not known: its group, and its "
        f"certificate, of thumbprint {shown}",
        "other: it is on hold, since it is disabled in DPS; not known: whether it was revoked. Reinstate it, or "
        "revoke it",
    ]
    device = await subject.device("other")
    assert (device.phase, device.enrollment_group, device.settled) == ("onHold", None, True)
    assert (
        "not known: whose device 'else' is. Its individual enrollment in DPS is enabled, and accepts a certificate that "
        f"no CA of the ledger has signed; it is in no hub, with thumbprint {shown}. If nobody needs it, delete its "
        "enrollment in DPS, and its identity" in lines
    )


async def test_each_identity_that_dps_has_nothing_of_is_named() -> None:
    """Its registration is gone, and so may its group be: the hub lets it in all the same."""
    subject = await Deployment().begin("press", "drill", "lathe")
    shown = names.sha256_thumbprint(await certificate_of(subject, "press"))
    for name in ("press", "drill"):
        del subject.provisioning.registrations[name]
    subject.hubs.enter("hub-1", "drill", enabled=False)
    subject.lose(BUNDLES)
    lines = await subject.adopt()
    what = (
        "If it is yours, put its certificate into the folder, and run adopt again with --accept. Otherwise disable it "
        "in the hub"
    )
    assert [line for line in lines if "whose identity" in line] == [
        "not known: whose identity 'drill' in hub-1 is. It is disabled, without a certificate of its own, and DPS has "
        f"nothing of it. {what}",
        "not known: whose identity 'press' in hub-1 is. It is enabled, with the certificate of thumbprint "
        f"{shown}, and DPS has nothing of it. {what}",
    ]
    assert subject.hubs.identities["hub-1", "press"].enabled


async def test_an_identity_whose_certificate_somebody_has_is_taken_in() -> None:
    """It is a file's, which one of our CAs has signed: then it can be revoked. A second run takes what the first named."""
    subject = await Deployment().begin("press", "drill")
    leaf = await certificate_of(subject, "press")
    subject.provisioning.registrations.clear()
    subject.lose(BUNDLES)
    await subject.adopt()
    lines = await subject.adopt(Brought(certificates=(leaf,)))
    serial = names.serial_text(leaf.serial_number)
    assert about(lines, "press") == [f"press: known again, with certificate {serial}, in hub-1"]
    assert [line for line in lines if "whose identity 'press'" in line] == []
    device = await subject.device("press")
    assert (device.state, device.enrollment_group, device.unseen) == (DeviceState.REGISTERED, GROUP, False)
    await subject.revoke("press")
    assert not subject.hubs.identities["hub-1", "press"].enabled


async def test_an_identity_whose_certificate_is_on_a_list_is_taken_in_shut() -> None:
    """Its entry and its registration are gone. The first run knew no more of it than what the list has."""
    subject = await Deployment().begin("press")
    leaf = await certificate_of(subject, "press")
    await subject.revoke("press")
    subject.provisioning.registrations.clear()
    subject.provisioning.enrollments.clear()
    subject.hubs.enter("hub-1", "press", names.sha256_thumbprint(leaf))
    subject.lose(BUNDLES)
    await subject.adopt()
    lines = await subject.adopt(Brought(certificates=(leaf,)))
    assert about(lines, "press") == ["press: taken over from hub-1, revoked (keyCompromise, 2026-03-01 12:00 UTC)"]
    device = await subject.device("press")
    assert (device.state, device.enrollment_group) == (DeviceState.REVOKED, GROUP)
    assert not subject.hubs.identities["hub-1", "press"].enabled
    assert not subject.provisioning.admits("press", leaf)
    assert listed(subject.crl(ISSUER)) == {names.serial_text(leaf.serial_number): "keyCompromise"}


async def test_a_device_of_a_bundle_is_in_the_hub_that_has_its_identity() -> None:
    """DPS does not say any more where it is. An identity of that id with another certificate is not its own."""
    subject = await Deployment().begin("press", "drill")
    subject.provisioning.registrations.clear()
    subject.hubs.enter("hub-1", "drill", "F" * 64)
    subject.lose()
    lines = await subject.adopt()
    assert about(lines, "press")[-1] == (
        "press: it is in hub-1, which has its identity; DPS does not have its registration"
    )
    press, drill = await subject.device("press"), await subject.device("drill")
    assert (press.state, press.assigned_hub, press.device_id) == (DeviceState.REGISTERED, "hub-1", "press")
    assert (drill.state, drill.assigned_hub) == (DeviceState.ISSUED, None)
    [named] = [line for line in lines if "whose identity 'drill'" in line]
    assert "and the device is in no hub" in named


async def test_bundles_that_are_there_make_devices_whole() -> None:
    """Where the tables alone are lost nothing of a device is unknown, also of one that was renewed."""
    subject = await Deployment().begin("press")
    first = await certificate_of(subject, "press")
    subject.now += timedelta(days=1)
    await renewed(subject, "press")
    before = await subject.device("press")
    subject.lose()
    await subject.adopt()
    device = await subject.device("press")
    assert before.certificate is not None
    assert (device.certificate, device.unseen) == (before.certificate, False)
    states = {each.serial_number: each.state for each in device.held}
    assert states == {
        names.serial_text(first.serial_number): CertificateState.SUPERSEDED,
        before.certificate.serial_number: CertificateState.ACTIVE,
    }


async def test_a_key_without_a_certificate_and_a_group_of_another_ca_are_named() -> None:
    subject = await Deployment().begin()
    foreign = await Deployment().begin()
    entry = foreign.provisioning.groups[GROUP]
    subject.provisioning.groups["foreign"] = {**entry, "enrollmentGroupId": "foreign"}
    await subject.vault.get_or_create("spare", "EC-P256")
    subject.lose()
    lines = await subject.adopt()
    assert (
        "not known: the certificate of the CA whose key is 'spare'. Give it in a file, or ask for the CA again under "
        "this name" in lines
    )
    [named] = [line for line in lines if line.startswith("not known: the enrollment group 'foreign'")]
    assert "has a CA that was not taken over" in named
    assert "not known: orders, requests, rejections, approvals, findings, and the audit log" in lines


async def test_a_ca_whose_key_is_in_the_vault_twice_is_taken_over_once() -> None:
    """Under the name that it had: each name would have a list with half of the truth. It is the same in the next run."""
    subject = await Deployment().begin("press")
    root = (await subject.authority("dpsCa")).certificate
    await subject.vault.import_key("a-copy", subject.vault.keys["dpsca"])
    subject.lose(BUNDLES)
    for _ in range(2):
        lines = await subject.adopt()
        assert (
            "not known: why the vault has the key of the CA 'dpsCa' as 'a-copy', too. It is not taken over under that name"
        ) in lines
        assert [each.name async for each in subject.app.authorities.list()] == ["dpsCa", ISSUER]
    assert (await subject.authority("dpsCa")).certificate == root
    assert {name for (_, name), _ in subject.blobs.blobs.items() if "a-copy" in name} == set()
    assert "a-copy" not in str(subject.table("expiry").rows)


async def test_a_ca_that_was_entered_by_a_run_that_broke_off_is_claimed_by_the_next() -> None:
    """Else it could be imported at the same time under two names."""
    subject = await Deployment().begin()
    subject.lose(BUNDLES)
    claims = subject.worker().authority_workflows.converger.records
    with pytest.MonkeyPatch.context() as patched:

        async def killed(*_: Any) -> str:
            raise Killed

        patched.setattr(Authorities, "claim_identity", killed)
        with pytest.raises(Killed):
            await subject.adopt()
    assert [each.name async for each in subject.app.authorities.list()] == ["dpsCa"]
    await subject.adopt()
    identity = (await subject.authority("dpsCa")).identity or ""
    assert {row for part, row in subject.table("issuers").rows if part == "identity"} >= {identity}
    assert await claims.claim_identity(identity, "other") == "dpsCa"


async def test_a_ca_whose_key_is_a_devices_by_now_leaves_nothing() -> None:
    """The others are taken over all the same."""
    subject = await Deployment().begin("press")
    key = fingerprint(subject.vault.keys[ISSUER].public_key())
    subject.lose(BUNDLES)
    keys = PublicKeys(subject.table("publickeys"))
    await keys.claim(PublicKeyRecord(fingerprint=key, registration_id="drill", recorded_at=subject.now))
    lines = await subject.adopt()
    assert (
        f"not known: the CA whose key is {ISSUER!r}, which is not taken over: name: its public key (SHA-256 {key}) is "
        "that of device 'drill'; a CA needs a key of its own"
    ) in lines
    assert [each.name async for each in subject.app.authorities.list()] == ["dpsCa"]
    assert ISSUER not in str(subject.table("expiry").rows)


async def test_a_ca_whose_chain_has_a_gap_waits_for_the_file() -> None:
    """DPS does not have the certificate of the root: the CA below it is not taken over until somebody gives it."""
    subject = await Deployment().begin()
    root = subject.places.places.pop("dpsCa").certificate
    subject.lose()
    lines = await subject.adopt(LOST)
    assert about(lines, ISSUER) == []
    assert [line for line in lines if line.startswith(f"not known: the chain of the CA {ISSUER!r}: ")]
    lines = await subject.adopt(Brought(certificates=(root,), lists_are_lost=True))
    assert len(about(lines, ISSUER)) == 1
    assert (await subject.authority("dpsCa")).proof_of_possession is ProofOfPossession.PENDING


async def test_what_dps_shows_no_more_than_info_of_comes_from_bundles_or_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources differ on whether DPS shows the certificates of entries; a bundle has the chain, and so has a device."""
    monkeypatch.setattr(FakeProvisioning, "shows_certificates", False)
    subject = await Deployment().begin("press")
    leaf = await certificate_of(subject, "press")
    issuer = (await subject.app.authorities.load(ISSUER)).certificate
    lost = subject.kept()
    subject.lose()
    await subject.adopt()
    assert (await subject.device("press")).certificate is not None

    subject.as_kept(lost)
    subject.lose(BUNDLES)
    lines = await subject.adopt()
    assert [line for line in lines if line.startswith(f"not known: the certificate of the CA whose key is {ISSUER!r}")]
    assert await subject.group() is None

    subject.as_kept(lost)
    subject.lose(BUNDLES)
    lines = await subject.adopt(Brought(certificates=(leaf, issuer)))
    serial = names.serial_text(leaf.serial_number)
    assert about(lines, "press") == [f"press: known again, with certificate {serial}, in hub-1"]


async def test_a_certificate_of_a_file_that_its_hub_does_not_let_in_is_not_the_devices() -> None:
    """It has been renewed since: then the device is known by its thumbprint."""
    subject = await Deployment().begin("press")
    leaf = await certificate_of(subject, "press")
    await renewed(subject, "press")
    subject.lose(BUNDLES)
    await subject.adopt(Brought(certificates=(leaf,)))
    assert (await subject.device("press")).unseen


async def test_a_folder_has_certificates_and_lists_in_either_form(tmp_path: Path) -> None:
    """Several certificates in one PEM, DER beside it, and a CRL in PEM; another file is left."""
    subject = await Deployment().begin("press")
    leaf, crl = await certificate_of(subject, "press"), subject.crl(ISSUER)
    chain = (await subject.app.authorities.load(ISSUER)).chain
    (tmp_path / "chain.pem").write_text("".join(map(names.pem, chain)))
    (tmp_path / "leaf.cer").write_bytes(leaf.public_bytes(Encoding.DER))
    (tmp_path / "one.crl").write_bytes(crl)
    (tmp_path / "two.crl").write_bytes(x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM))
    (tmp_path / "notes.txt").write_text("mine")
    found = read_folder(tmp_path, lists_are_lost=False)
    assert found == Brought(certificates=(*chain, leaf), lists=(crl, crl))


@pytest.mark.parametrize(
    ("name", "said"), [("a.pem", "is not a certificate in PEM or DER"), ("a.crl", "is not a CRL in PEM or DER")]
)
@pytest.mark.parametrize("content", [b"", b"mine", b"-----BEGIN CERTIFICATE-----\n", b"\x30\x03\x02\x01\x01"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, said: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        read_folder(tmp_path, lists_are_lost=True)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert read_folder(None, lists_are_lost=True) == LOST
    with pytest.raises(ValueError, match=r"the folder '.*none' does not exist"):
        read_folder(tmp_path / "none", lists_are_lost=False)


# --- the log ---


async def test_storage_that_is_lost_with_the_log_needs_another_log(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The vault remembers how long it was. Nothing is entered and nothing signed until the log has another name."""
    subject = await Deployment(origin="plant/log").begin("press")
    upkeep = subject.app.evidence.upkeep
    assert upkeep is not None
    _, size, _ = await upkeep.run()
    await subject.app.epochs.advance()
    assert subject.vault.tagged[subject.app.epochs.mark]["logEntries"] == str(size)
    subject.lose(LOG, LOG_HEAD)
    command = Command(subject)
    monkeypatch.setattr(restoration, "build", command.build)
    assert await command.run(brought=Brought()) == 2
    told = f"the log 'plant/log' had {size} entries, as the vault remembers it, and has 0: it was lost, or an older"
    assert capsys.readouterr().err.startswith(told)
    assert [each async for each in subject.app.authorities.list()] == []
    reader = subject.app.evidence.reader
    assert reader is not None
    with pytest.raises(LogDamaged, match="with another EVIDENCE_ORIGIN and empty containers"):
        await reader.check()

    subject.origin = "plant/log-2"
    assert await command.run(brought=Brought()) == 0
    assert "press: known again, with certificate " in capsys.readouterr().out, "a new log does not know of its bundle"
    subject.app = subject.worker()
    await subject.order("drill")
    assert (await subject.device("drill")).state is DeviceState.REGISTERED


# --- the command ---


@dataclass
class Command:
    """The command for a deployment, and what it has printed."""

    subject: Deployment
    closed: int = 0

    async def run(self, *, look: bool = False, accept: bool = False, brought: Brought | None = None) -> int:
        return await restore(SETTINGS, look=look, accept=accept, brought=brought)

    def build(self, _settings: Settings) -> Any:
        """Wire a worker, as the command does for the settings that it was given."""

        async def close() -> None:
            self.closed += 1

        return Stood(self.subject.worker(), close=close)


class Stood:
    """Services that are closed otherwise."""

    def __init__(self, services: Services, *, close: Callable[[], Awaitable[None]]) -> None:
        self._services, self.close = services, close

    def __getattr__(self, name: str) -> Any:
        return getattr(self._services, name)


async def commanded(monkeypatch: pytest.MonkeyPatch) -> Command:
    made = Command(await Deployment().begin("press"))
    monkeypatch.setattr(restoration, "build", made.build)
    return made


async def test_a_ledger_that_is_not_older_is_left_unless_it_is_accepted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A good ledger must not have its numbers jump because somebody has run the command."""
    command = await commanded(monkeypatch)
    not_older = "the ledger is not older than it was, as far as vault and CRLs tell\n"
    before = command.subject.copied(), command.subject.kept()
    for look in (True, False):
        assert await command.run(look=look) == 0
        assert capsys.readouterr().out == not_older
    assert (command.subject.copied(), command.subject.kept()) == before
    assert await command.run(accept=True) == 0
    out = capsys.readouterr().out
    assert out.startswith(not_older)
    assert "the ledger's epoch is 2 now: certificates are signed again\n" in out
    assert command.closed == 3


async def test_a_ledger_that_is_older_is_looked_at_and_taken_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = await commanded(monkeypatch)
    copy = command.subject.copied()
    await command.subject.app.epochs.advance()
    await command.subject.revoke("press")
    command.subject.put_back(copy)
    assert await command.run(look=True) == 1
    said = capsys.readouterr().out
    assert said.startswith(
        "the ledger is older than it was: it is at epoch 1, of 2026-03-01 12:00:00 UTC, and the vault "
    )
    assert (await command.subject.device("press")).state is DeviceState.REGISTERED, "it was only looked at"
    assert await command.run() == 0
    assert "press: revoked again (keyCompromise, " in capsys.readouterr().out
    assert (await command.subject.device("press")).state is DeviceState.REVOKED


async def test_a_list_that_is_ahead_of_its_ledger_tells_that_the_ledger_is_older(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the copy and what followed are of one epoch, the vault has nothing to tell."""
    command = await commanded(monkeypatch)
    copy = command.subject.copied()
    await command.subject.revoke("press")
    command.subject.put_back(copy)
    assert await command.run(look=True) == 1
    said = capsys.readouterr().out
    assert said == f"the published CRL of {ISSUER!r} has a number that the ledger has not given yet\n"
    assert await command.run() == 0
    assert (await command.subject.device("press")).state is DeviceState.REVOKED


async def test_what_the_command_refuses_is_said_and_ends_with_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = await commanded(monkeypatch)
    command.subject.lose(BUNDLES, CRLS)
    assert await command.run(brought=Brought()) == 2
    assert "is neither in the container 'crls' nor among the files" in capsys.readouterr().err
    assert command.closed == 1


@pytest.mark.parametrize("look", [True, False])
async def test_a_vault_that_does_not_answer_is_not_taken_for_an_older_ledger(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, look: bool
) -> None:
    """Whoever goes by the exit status would restore a ledger that is well."""
    command = await commanded(monkeypatch)
    command.subject.vault.conductor.down = {""}
    before = command.subject.copied()
    assert await command.run(look=look, accept=not look) == FAILED
    assert capsys.readouterr() == (
        "",
        "whether the ledger is older could not be looked at:\n- a service fails, or does not let this identity in: "
        "can't be reached\n",
    )
    assert command.subject.copied() == before
    command.subject.vault.conductor.down = set()
    assert await command.run(look=True) == DONE


async def test_a_dps_that_does_not_answer_breaks_it_off_in_words_and_the_next_run_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it has said before stands in the ledger: so the next run brings it about."""
    command = await commanded(monkeypatch)
    subject = command.subject
    copy = subject.copied()
    await subject.app.epochs.advance()
    await subject.revoke("press")
    subject.put_back(copy)
    subject.provisioning.down = True
    assert await command.run() == FAILED
    out, err = capsys.readouterr()
    assert "press: revoked again (keyCompromise, " in out
    assert err == (
        "it broke off. What was done so far stays: run the same command again:\n"
        "- a service fails, or does not let this identity in: dps can't be reached\n"
    )
    subject.provisioning.down = False
    assert await command.run(look=True) == OLDER
    assert "python -m shared.restoration was begun at " in capsys.readouterr().out
    assert await command.run() == DONE
    assert list(listed(subject.crl(ISSUER)).values()) == ["keyCompromise"]
    assert await command.run(look=True) == DONE


async def test_an_accepted_restoration_in_a_copy_does_not_count_for_what_is_made_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It had still to follow when the tables were copied; the ledger that is put back has forgotten a revocation."""
    command = await commanded(monkeypatch)
    rows = command.subject.app.epochs.rows
    assert await rows.try_put_restoration(None, RestorationRecord(begun_at=NOW, is_lost=False, accepted=True))
    copy = command.subject.copied()
    await command.subject.app.epochs.advance()
    await command.subject.revoke("press")
    command.subject.put_back(copy)
    assert await command.run() == DONE
    assert (await command.subject.device("press")).state is DeviceState.REVOKED
    assert await rows.restoration() is None


async def test_lists_that_can_not_be_published_are_said_and_published_by_the_next_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The ledger is accepted by then. It is not older, and the command is not done."""
    command = await commanded(monkeypatch)
    subject = command.subject
    last = number(subject.crl(ISSUER))
    put_back = subject.blobs.replace

    async def refused(*_args: Any, **_named: Any) -> bool:
        raise ServiceRequestError("blobs can't be reached")

    monkeypatch.setattr(subject.blobs, "replace", refused)
    assert await command.run(accept=True) == FAILED
    assert capsys.readouterr().err == (
        "it broke off. What was done so far stays: run the same command again:\n"
        "- the CRL of 'dpsCa' was not published: blobs can't be reached\n"
        f"- the CRL of {ISSUER!r} was not published: blobs can't be reached\n"
    )
    monkeypatch.setattr(subject.blobs, "replace", put_back)
    assert await command.run() == DONE
    assert number(subject.crl(ISSUER)) > last + 1000


async def test_what_nobody_has_thought_of_does_not_end_as_an_older_ledger_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told with where it comes from."""
    command = await commanded(monkeypatch)
    monkeypatch.setattr(restoration, "restoration_of", None)
    assert await command.run(accept=True) == FAILED
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)")
    assert err.endswith("run the same command again:\n- 'NoneType' object is not callable\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--files", "there"], "--files and --lists-are-lost belong to adopt"),
        (["--lists-are-lost"], "--files and --lists-are-lost belong to adopt"),
        (["take"], "invalid choice: 'take'"),
    ],
)
def test_arguments_that_would_be_left_out_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    """Whoever gives files, and forgets to say that they are to be adopted, is told."""
    monkeypatch.setattr(sys, "argv", ["restoration", *arguments])
    with pytest.raises(SystemExit) as ended:
        restoration.main()
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_settings_that_are_missing_are_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["restoration"])
    monkeypatch.setattr(os, "environ", {})
    assert restoration.main() == 2
    assert "STORAGE" in capsys.readouterr().err.upper()


async def test_it_can_be_run_again_and_changes_nothing() -> None:
    subject = await Deployment().begin("press", "drill")
    await subject.revoke("drill")
    subject.lose(BUNDLES)
    await subject.adopt()
    before = {name: await subject.device(name) for name in ("press", "drill")}
    group, issuer = await subject.group(), await subject.authority(ISSUER)
    again = await subject.adopt()
    assert [line for line in again if "taken over" in line or "known again" in line] == []
    assert {name: await subject.device(name) for name in ("press", "drill")} == before
    assert await subject.group() == group
    assert (await subject.authority(ISSUER)).certificate == issuer.certificate


async def test_a_ledger_that_is_empty_takes_nothing_back_and_what_does_is_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It would sign again with nothing of what it knew, and adopt would find a ledger that is not older."""
    subject = await Deployment().begin("press")
    subject.lose(BUNDLES)
    for accept in (False, True):
        assert await subject.command(accept=accept) == FAILED
        out, err = capsys.readouterr()
        assert (out, err.startswith("the ledger is empty, so nothing can be taken back into it. Restore a copy")) == (
            "",
            True,
        )
        assert "take over what the services have: python -m shared.restoration adopt (docs/recover.md)" in err
    assert {name: table.rows for name, table in subject.tables.items() if table.rows} == {}
    assert await subject.command(look=True) == OLDER
    assert "python -m shared.restoration adopt has taken over what the services have" in capsys.readouterr().out
    assert await subject.command(adopt=True) == DONE
    assert (await subject.device("press")).state is DeviceState.REGISTERED
    assert await subject.command(adopt=True) == DONE
    assert capsys.readouterr().out.endswith("the ledger is not older than it was, as far as vault and CRLs tell\n")


@pytest.mark.parametrize("is_marked", [True, False])
async def test_an_adoption_that_broke_off_keeps_the_ledger_from_signing_and_goes_on_when_it_is_run_again(
    capsys: pytest.CaptureFixture[str], *, is_marked: bool
) -> None:
    """CAs are there, some devices are, and the vault's epoch may be lost as well: the ledger says what was begun."""
    subject = await Deployment().begin("press", "drill", "mill")
    subject.lose(BUNDLES)
    if not is_marked:
        subject.vault.tagged.clear()
    devices = subject.table("identities")
    devices.step = Trap(after=3).step
    with pytest.raises(Killed):
        await subject.command(adopt=True)
    devices.step = lambda: None
    found = [each for each in ("press", "drill", "mill") if await subject.app.converger.devices.get(each)]
    assert found, "the CAs are there, and some of the devices"
    assert (await subject.authority(ISSUER)).state is AuthorityState.ACTIVE
    halfway = subject.worker()
    with pytest.raises(LedgerBehind, match="adopt was begun at 2026-03-01 12:00:00 UTC and has not ended"):
        await halfway.epochs.check()
    for accept in (False, True):
        assert await subject.command(accept=accept) == FAILED
        assert "run it again with the same options" in capsys.readouterr().err
    assert await subject.command(look=True) == OLDER
    assert await subject.command(adopt=True) == DONE
    assert {(await subject.device(each)).state for each in ("press", "drill", "mill")} == {DeviceState.REGISTERED}
    await subject.app.epochs.check_now()
    assert await subject.app.epochs.rows.restoration() is None


@pytest.mark.long
async def test_killed_at_any_write_it_goes_on() -> None:
    """Whatever the write was that it was killed after, its command ends as one that was never killed."""
    ends = set[tuple[Any, ...]]()
    subject = await Deployment().begin("press", "drill")
    leaf = await certificate_of(subject, "drill")
    await subject.revoke("drill")
    last = number(subject.crl(ISSUER))
    subject.lose(BUNDLES)
    lost = subject.kept()
    for after in range(1, 100):
        subject.as_kept(lost)
        subject.trap.after, subject.trap.steps = after, 0
        try:
            await subject.adopt()
        except Killed:
            subject.trap.after = None
            halfway = subject.worker()
            if await halfway.epochs.fault() is not None:  # no list is made of what is half there
                with suppress(ExceptionGroup):
                    await halfway.revocation_lists.publish_all()
                assert number(subject.crl(ISSUER)) == last
            assert await subject.command(adopt=True) == DONE
        else:
            assert after > 20
            break
        press, drill = await subject.device("press"), await subject.device("drill")
        group, root = await subject.group(), await subject.authority("dpsCa")
        assert group is not None
        assert number(subject.crl(ISSUER)) > last + 1000
        assert listed(subject.crl(ISSUER)) == {names.serial_text(leaf.serial_number): "keyCompromise"}
        ends.add((press.state, press.unseen, drill.state, drill.settled, group.issuer, group.state, root.state))
    else:
        pytest.fail("it never ended")
    assert ends == {("registered", True, "revoked", True, ISSUER, "enabled", "active")}


async def renewed(subject: Deployment, device: str) -> None:
    """Renew a device, which then registers with its next certificate."""
    request = RenewalRequest(request_id=f"renew-{device}", registration_id=device)
    with pytest.raises(AwaitsDevice):
        await subject.app.renewals.carry_out(request)
    following = (await subject.device(device)).next_certificate
    assert following is not None
    known = await subject.app.converger.books.certificates.get(following.serial_number)
    assert known is not None
    subject.registrar.boot(device, x509.load_pem_x509_certificate((known.record.pem or "").encode()))
    await subject.app.renewals.carry_out(request)
