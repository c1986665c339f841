"""What an older ledger takes back: revocations first, then certificates, and nothing that our CAs have not signed."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import ServiceRequestError
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from shared.contracts.authorities import AuthorityAct
from shared.domain.audit_entries import AuditEntry, AuditOutcome, SubjectKind
from shared.domain.authorities import AuthorityAction, AuthorityChange, AuthorityState, ListMaking
from shared.domain.callers import Actor, CallerKind
from shared.domain.certificates import CertificateState
from shared.domain.devices import Doors
from shared.domain.entry_changes import decided, wish_of
from shared.domain.entry_wishes import EntryChange
from shared.domain.groups import STATUS, Change, ChangeAction, GroupState
from shared.domain.lost_certificates import LostCertificate
from shared.domain.restores import RestorationRecord
from shared.domain.words import DeviceState, RevocationReason
from shared.errors import Deferred
from shared.evidence.leaves import CertificateLeaf, act_entry, certificate_entry
from shared.evidence.tiles import WIDTH
from shared.ledger.audit_log import AuditTable
from shared.ledger.lost_certificates import LostCertificates
from shared.pki import names
from shared.pki.list_checks import listed_serial_numbers
from shared.pki.revocation_lists import RevokedCertificate, build_crl, encode_entry
from shared.ports.blobs import StoredBlob
from shared.restoration import restoration_of
from shared.workflows.authorities.changes import change
from shared.workflows.devices.changes import unsettled
from shared.workflows.reconciliation.restored_following import RestoredFollowing
from shared.workflows.reconciliation.restored_revocations import RestoredRevocations
from shared.workflows.reconciliation.restoring import Restoration
from shared.workflows.reconciliation.taking_in import TakingIn
from tests.pki.hierarchy import NOW, hierarchy
from tests.unit.adopting import ISSUER as LINE_CA
from tests.unit.adopting import Deployment
from tests.unit.devices import COMPROMISE, HOLD, HUB, ISSUER, DeviceScene
from tests.unit.fakes import FakeBlobs, Killed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from datetime import datetime

    from shared.domain.authorities import AuthorityRecord


HOUR = timedelta(hours=1)


@dataclass
class Records:
    """The row of the one CA."""

    record: Any = field(
        default_factory=lambda: SimpleNamespace(
            name=ISSUER, certificate="there", crl_number=4, changed=None, change=None, list_making=None
        )
    )
    written: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.record.changed = lambda **changes: changes

    async def get(self, _name: str) -> Any:
        return SimpleNamespace(record=self.record)

    async def replace(self, _known: Any, changes: dict[str, Any]) -> None:
        self.written.append(changes)


class Authorities:
    """One CA, and its row; and further ones, which are no more than rows."""

    def __init__(self) -> None:
        self.records, self.further = Records(), list[Any]()

    async def list(self) -> AsyncIterator[Any]:
        for each in (*self.further, self.records.record):
            yield each

    async def load(self, name: str) -> Any:
        if name != ISSUER:
            raise Deferred(f"{name!r} is about to be made", retry_after=timedelta(minutes=1))
        return hierarchy().issuing


class Epochs:
    """Remembers when the ledger was accepted.

    Attributes:
        raised_at: when the copy was begun, as the ledger has it; ``None`` if it has no epoch.
    """

    def __init__(self, scene: DeviceScene, raised_at: datetime | None) -> None:
        self.scene, self.raised_at, self.states = scene, raised_at, dict[str, DeviceState]()
        self.doors = dict[str, Any]()

    async def restoration(self) -> None:
        """Read what was begun before."""

    async def begin(self, *, is_lost: bool) -> RestorationRecord:
        return RestorationRecord(begun_at=NOW, is_lost=is_lost, since=self.raised_at)

    async def accept(self) -> int:
        for name in ("press", "drill"):
            if (known := await self.scene.devices.get(name)) is not None:
                self.states[name] = known.record.state
                self.doors[name] = (self.scene.entry(name), self.scene.identity(name))
        return 58


class BundlesAndLists:
    """The scene's blobs, in which lists are not bundles."""

    def __init__(self, scene: DeviceScene) -> None:
        self.scene = scene

    async def names(self, _container: str, prefix: str) -> list[str]:
        names = sorted(name for _, name in self.scene.blobs.blobs if name.endswith(".json"))
        return [each for each in names if each.startswith(prefix)]

    async def get(self, container: str, name: str) -> StoredBlob | None:
        return await self.scene.blobs.get(container, name)


class Lists:
    """Publishes nothing."""

    async def publish_all(self) -> int:
        return 1


@dataclass
class LogOfTheTime:
    """The log, which outlives the ledger.

    Attributes:
        read: the places from which entries were read.
    """

    entered: list[bytes] = field(default_factory=list)
    read: list[int] = field(default_factory=list)

    async def backwards(self) -> AsyncIterator[list[bytes]]:
        last = len(self.entered)
        while last > 0:
            first = max(0, last - WIDTH)
            self.read.append(first)
            yield self.entered[first:last]
            last = first

    def certificate(self, serial: str, subject: str, *, cause: str, kind: str = "device", at: datetime = NOW) -> None:
        """Log a certificate."""
        leaf = CertificateLeaf(
            serialNumber=serial, tbs="", issuer=ISSUER, kind=kind, subject=subject, cause=cause, chain="", actor=None
        )
        self.entered.append(certificate_entry(at, leaf))

    def act(
        self,
        action: str,
        subject: str,
        kind: str = "device",
        *,
        at: datetime = NOW,
        ends: str | None = "done",
        **has: str,
    ) -> AuditEntry:
        """Log an act, as the app does: when it is begun, and when it ends; give its last entry."""
        begun = AuditEntry(
            entry_id=has.get("entry_id", f"{action}-{subject}-{len(self.entered)}"),
            at=at,
            actor=Actor(kind=CallerKind.USER, id="5f", name="Ada"),
            action=action,
            subject_kind=SubjectKind(kind),
            subject=subject,
            outcome=AuditOutcome.BEGUN,
            request_id=has.get("request_id"),
            reason=has.get("reason"),
        )
        last = begun.changed(outcome=AuditOutcome(ends), reason=has.get("why", begun.reason)) if ends else begun
        for each in (begun, last) if ends else (begun,):
            fields = each.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"at"})
            self.entered.append(act_entry(at, fields))
        return last


@dataclass
class Disaster:
    """A scene whose ledger can be put back.

    Attributes:
        log: ``None`` where none is kept.
        raised_at: when the ledger's epoch was raised for the copy; ``None`` if it has none.
        authorities: the CAs.
        accepted: the states of devices when the ledger was accepted in the last run; none if it was not.
        orders_under_way: how many there are.
    """

    scene: DeviceScene
    copy: dict[str, Any] = field(default_factory=dict)
    log: LogOfTheTime | None = None
    raised_at: datetime | None = None
    authorities: Authorities = field(default_factory=Authorities)
    accepted: dict[str, DeviceState] = field(default_factory=dict)
    orders_under_way: int = 0

    @property
    def lost(self) -> LostCertificates:
        """The certificates that are named as lost."""
        return LostCertificates.of(self.scene.table)

    async def send_again(self) -> int:
        """Send the messages of orders under way; it is asked for when the ledger is accepted."""
        return self.orders_under_way if self.accepted else 0

    def copied(self) -> None:
        """Copy the ledger."""
        self.copy = {name: deepcopy(table.rows) for name, table in self.scene.tables.items()}

    def put_back(self) -> None:
        """Have the ledger as it was copied."""
        for name, table in self.scene.tables.items():
            table.rows = deepcopy(self.copy.get(name, {}))

    def publish(self, *serials: str, number: int = 9, reason: str = "keyCompromise") -> None:
        """Publish a list of the CA."""
        entries = [encode_entry(RevokedCertificate(int(each, 16), NOW, RevocationReason(reason))) for each in serials]
        made = build_crl(
            entries, issuer=hierarchy().issuing, crl_number=number, now=NOW, next_update=NOW + timedelta(days=7)
        )
        self.scene.blobs.blobs["crls", f"{ISSUER}.crl"] = StoredBlob(made, {}, "1")

    async def taken_back(self, since: datetime | None = None) -> tuple[list[str], Epochs, Records]:
        """Run it; give its lines, and what was done in the end."""
        authorities, epochs = self.authorities, Epochs(self.scene, self.raised_at)
        self.accepted = epochs.states
        given: dict[str, Any] = {
            "records": authorities.records,
            "authorities": authorities,
            "blobs": BundlesAndLists(self.scene),
            "epochs": epochs,
            "lists": Lists(),
            "lost": self.lost,
            "audit": AuditTable(self.scene.table("audit")),
            "send_again": self.send_again,
        }
        common: dict[str, Any] = {
            "certificates": self.scene.certificates,
            "devices": self.scene.devices,
            "groups": self.scene.groups,
            "provisioning": self.scene.provisioning,
            "hubs": self.scene.hubs,
            "clock": self.scene.clock,
        }
        taking_in = TakingIn(expiry=self.scene.expiry, settings=self.scene.settings, **common)
        given["authority_converger"] = None  # of the scene's one CA nothing is revoked
        log: Any = self.log
        subject = Restoration(
            converger=self.scene.converger,
            log=log,
            taking_in=taking_in,
            since=since,
            **common,
            **given,
        )
        return [line async for line in subject.run()], epochs, authorities.records


async def disaster(*devices: str) -> Disaster:
    scene = await DeviceScene().set_up()
    for each in devices:
        await scene.order(f"order-{each}", each)
    return Disaster(scene)


def about(lines: Sequence[str], what: str) -> list[str]:
    return [line for line in lines if line.startswith(f"{what}: ")]


async def test_a_revocation_is_taken_back_before_anything_is_signed() -> None:
    """The device's record says so before the epoch is accepted, and then its doors are shut."""
    subject = await disaster("press", "drill")
    (serial,) = await subject.scene.serials("press")
    subject.copied()
    await subject.scene.revoke()
    subject.put_back()
    subject.publish(serial)
    assert await subject.scene.state() is DeviceState.REGISTERED
    lines, epochs, records = await subject.taken_back()
    assert about(lines, "press") == ["press: revoked again (keyCompromise, 2026-03-01 12:00 UTC)"]
    assert epochs.states == {"press": DeviceState.REVOKED, "drill": DeviceState.REGISTERED}
    assert (subject.scene.entry(), subject.scene.identity()) == ("disabled", False)
    assert records.written == [{"crl_number": 1009, "list_making": None}]
    assert "the next CRL of 'line-1-ca1' has number 1010; the last one was 9" in lines
    assert "the ledger's epoch is 58 now: certificates are signed again" in lines
    again, _, _ = await subject.taken_back()
    assert about(again, "press") == []


async def test_a_device_that_was_made_meanwhile_is_known_again() -> None:
    """Its bundle has its certificate, DPS its place; it can be revoked as before, and its order sent again."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    (serial,) = await subject.scene.serials("drill")
    subject.put_back()
    lines, _, _ = await subject.taken_back()
    assert about(lines, "drill") == [f"drill: known again, with certificate {serial}, in {HUB}"]
    record = await subject.scene.record("drill")
    assert (record.state, record.enrollment_group, record.assigned_hub) == (DeviceState.REGISTERED, "line", HUB)
    await subject.scene.revoke(registration_id="drill")
    assert subject.scene.identity("drill") is False


async def test_a_device_that_was_made_and_revoked_meanwhile_comes_back_revoked() -> None:
    subject = await disaster("press")
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    (serial,) = await subject.scene.serials("drill")
    await subject.scene.revoke(registration_id="drill")
    subject.put_back()
    subject.publish(serial)
    _, epochs, _ = await subject.taken_back()
    assert epochs.states["drill"] is DeviceState.REVOKED


async def test_a_certificate_that_a_device_was_renewed_with_is_known_again() -> None:
    """Its hub lets it in with the new one alone, so that is the one it uses."""
    subject = await disaster("press")
    (before,) = await subject.scene.serials()
    subject.copied()
    await subject.scene.renewing()
    after = (await subject.scene.record()).next_certificate
    assert after is not None
    subject.scene.hubs.enter(HUB, "press", names.sha256_thumbprint(await subject.scene.certificate(0)))
    subject.put_back()
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == [
        f"press: certificate {after.serial_number}, with which it was renewed, is known again"
    ]
    assert await subject.scene.serials() == [before, after.serial_number]
    assert [each.value for each in await subject.scene.states()] == ["superseded", "active"]


async def test_what_a_run_that_broke_off_has_found_is_brought_about_by_the_next() -> None:
    """DPS is down when the device is known to be revoked: the next run finds that so, and shuts and lists it."""
    subject = await disaster("press", "drill")
    (serial,) = await subject.scene.serials("press")
    subject.copied()
    await subject.scene.revoke()
    subject.put_back()
    subject.publish(serial)
    subject.scene.provisioning.down = True
    with pytest.raises(ServiceRequestError):
        await subject.taken_back()
    assert (await subject.scene.state(), await subject.scene.listed()) == (DeviceState.REVOKED, [])
    subject.scene.provisioning.down = False
    await subject.taken_back()
    assert (await subject.scene.state(), await subject.scene.listed()) == (DeviceState.REVOKED, [serial])
    assert (subject.scene.entry(), subject.scene.identity()) == ("disabled", False)


async def test_a_door_that_cant_be_shut_keeps_the_ledger_from_signing() -> None:
    """Its hub is down: nothing is accepted before it has shut the device out. The other doors are shut meanwhile."""
    subject = await disaster("press")
    (serial,) = await subject.scene.serials("press")
    subject.copied()
    await subject.scene.revoke()
    subject.put_back()
    subject.publish(serial)
    subject.scene.provisioning.enrollments.clear()
    subject.scene.hubs.enter(HUB, "press")
    subject.scene.hubs.down = {HUB}
    with pytest.raises(ExceptionGroup, match="1 devices are not shut out yet"):
        await subject.taken_back()
    assert not subject.accepted
    assert (subject.scene.entry(), subject.scene.identity()) == ("disabled", True)


async def test_what_a_hub_keeps_out_stays_out() -> None:
    """No list names it, so why is not known: it is disabled, which an operator can undo."""
    subject = await disaster("press", "drill")
    subject.scene.hubs.enter(HUB, "press", enabled=False)
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == [
        "press: it is disabled in hub-1, and no list names it: it is kept out; enable it, or revoke it"
    ]
    assert (await subject.scene.record("press")).disabled
    assert not (await subject.scene.record("drill")).disabled


async def test_what_an_operator_keeps_out_of_dps_is_not_shut_out_of_its_hub() -> None:
    """The ledger knows that its individual enrollment is disabled: it goes on in its hub, as before."""
    subject = await disaster("press")
    await subject.scene.enrollments.disable("press")
    before = await subject.scene.record()
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == []
    assert await subject.scene.record() == before
    assert (subject.scene.entry(), subject.scene.identity()) == ("disabled", True)


async def test_what_an_operator_enables_again_stays_enabled() -> None:
    """Its entry was disabled after the copy. Enabled in its hub, it is let in there when the ledger is put back again."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.enrollments.disable("press")
    subject.put_back()
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == [
        "press: it is disabled in DPS, and no list names it: it is kept out; enable it, and its individual enrollment, "
        "or revoke it"
    ]
    assert (subject.scene.entry(), subject.scene.identity()) == ("disabled", False)
    await subject.scene.identities.switch("press", enabled=True, reason="it is well")
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == []
    assert (subject.scene.entry(), subject.scene.identity()) == ("disabled", True)
    await subject.scene.enroll(provisioningStatus="enabled")
    assert (subject.scene.entry(), (await subject.scene.record()).entry_disabled) == ("enabled", False)


async def test_what_was_found_disabled_in_dps_stays_so_through_a_hold_and_its_end() -> None:
    """Nobody has asked for its entry to be enabled: when the hold ends, it is as it was found."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.enrollments.disable("press")
    subject.put_back()
    await subject.taken_back()
    await subject.scene.revoke(HOLD)
    await subject.scene.reinstate()
    assert (subject.scene.entry(), subject.scene.identity()) == ("disabled", False)


async def test_an_entry_that_an_operator_enables_at_this_moment_shuts_nobody_out() -> None:
    """The copy has the change, which DPS does not have yet: that the entry is disabled is nothing new."""
    subject = await disaster("press")
    await subject.scene.enrollments.disable("press")
    known, entry = await subject.scene.known(), subject.scene.provisioning.enrollments["press"]
    wish = wish_of(known.record).changed(entry_disabled=False)
    asked_for = decided(known.record, EntryChange(by="audited", etag=entry["etag"], status="enabled"), wish)
    await subject.scene.devices.enter_unsettled(unsettled(asked_for, subject.scene.now))
    await subject.scene.devices.replace(known, asked_for)
    await subject.taken_back()
    assert not (await subject.scene.record()).disabled
    assert (subject.scene.entry(), subject.scene.identity()) == ("enabled", True)


async def test_a_hold_that_was_undone_meanwhile_is_one_again_and_every_door_is_shut() -> None:
    """The ledger has the hold: no door stays open until the next pass. Whoever knows better reinstates the device."""
    subject = await disaster("press", "drill")
    await subject.scene.revoke(COMPROMISE, registration_id="drill")
    await subject.scene.revoke(HOLD)
    subject.copied()
    await subject.scene.reinstate()
    subject.put_back()
    assert (subject.scene.entry(), subject.scene.identity()) == (None, True)
    subject.publish(*await subject.scene.serials("drill"))
    drill = await subject.scene.record("drill")
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == [
        "press: hub-1 lets it in; it is on hold in the ledger, and is shut out again; reinstate it if its hold was "
        "undone meanwhile"
    ]
    assert (subject.scene.entry(), subject.scene.identity()) == ("disabled", False)
    assert (about(lines, "drill"), await subject.scene.record("drill")) == ([], drill)
    again, _, _ = await subject.taken_back()
    assert about(again, "press") == []
    await subject.scene.reinstate()
    assert (subject.scene.entry(), subject.scene.identity()) == (None, True)


async def test_a_hold_whose_device_was_in_no_hub_is_one_again_at_dps() -> None:
    subject = await disaster("press")
    await subject.scene.revoke(HOLD)
    subject.copied()
    await subject.scene.reinstate()
    subject.put_back()
    subject.scene.hubs.identities.clear()
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == [
        "press: DPS lets it in; it is on hold in the ledger, and is shut out again; reinstate it if its hold was "
        "undone meanwhile"
    ]
    assert subject.scene.entry() == "disabled"


async def test_what_the_ledger_has_as_disabled_is_disabled_again() -> None:
    """One in its hub, the other by its individual enrollment: an operator has let them in after the copy."""
    subject = await disaster("press", "drill")
    await subject.scene.identities.switch("press", enabled=False, reason="it leaks")
    await subject.scene.enrollments.disable("drill")
    subject.copied()
    await subject.scene.identities.switch("press", enabled=True, reason="it is tight")
    await subject.scene.enroll("drill", provisioningStatus="enabled")
    subject.put_back()
    lines, epochs, _ = await subject.taken_back()
    assert about(lines, "press") == [
        "press: hub-1 lets it in; it is disabled in the ledger, and is shut out again; enable it if that was done "
        "meanwhile"
    ]
    assert about(lines, "drill") == [
        "drill: DPS lets it in; the ledger keeps it out there, or one of its certificates, and it is shut out again"
    ]
    assert (subject.scene.entry(), subject.scene.identity()) == (None, False)
    assert (subject.scene.entry("drill"), subject.scene.identity("drill")) == ("disabled", True)
    assert epochs.doors == {"press": (None, False), "drill": ("disabled", True)}, "before anything is signed"


async def test_a_revoked_certificate_that_a_device_has_left_is_kept_out_again() -> None:
    """Its individual enrollment was deleted after the copy: by its group DPS would let the certificate in."""
    subject = await disaster("press")
    await subject.scene.renewing()
    subject.scene.boot(await subject.scene.certificate(2))
    await subject.scene.renew()
    (former, _) = await subject.scene.serials()
    await subject.scene.revoke(serial_number=former)
    assert await subject.scene.admitted() == [2]
    kept, _, _ = await subject.taken_back()
    assert about(kept, "press") == [], "its entry takes the other one alone"
    subject.scene.provisioning.enrollments.clear()
    assert await subject.scene.admitted() == [1, 2]
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == [
        "press: DPS lets it in; the ledger keeps it out there, or one of its certificates, and it is shut out again"
    ]
    assert await subject.scene.admitted() == [2]


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (GroupState.ENABLED, None),
        (
            GroupState.DISABLED,
            "the enrollment group 'line' is disabled in the ledger, and enabled in DPS, which goes on letting its "
            "devices in: enable it, or disable it again",
        ),
        (
            GroupState.DELETED,
            "the enrollment group 'line' is in DPS, and deleted in the ledger: delete it there",
        ),
    ],
)
async def test_a_group_that_dps_lets_in_and_the_ledger_does_not_is_named(state: GroupState, said: str | None) -> None:
    """Whole lines of devices depend on it, so nobody shuts it without being asked."""
    subject = await disaster("press")
    subject.scene.provisioning.groups["line"] = {
        "enrollmentGroupId": "line",
        "provisioningStatus": "enabled",
        "attestation": {"type": "x509"},
        "etag": "1",
    }
    await subject.scene.group(state)
    lines, _, _ = await subject.taken_back()
    assert [line for line in lines if "group" in line] == ([said] if said else [])
    subject.scene.provisioning.groups["line"]["provisioningStatus"] = "disabled"
    lines, _, _ = await subject.taken_back()
    assert [line for line in lines if "disabled in the ledger" in line] == []


@pytest.mark.parametrize(
    ("action", "status", "is_dropped"),
    [
        (ChangeAction.ENABLE, "disabled", True),
        (ChangeAction.ENABLE, "enabled", False),
        (ChangeAction.DISABLE, "disabled", False),
        (ChangeAction.UPDATE, "disabled", False),
    ],
)
async def test_a_change_of_the_copy_that_would_enable_a_group_that_was_disabled_since_is_dropped(
    action: ChangeAction, status: str, *, is_dropped: bool
) -> None:
    """It was under way when the copy was taken; what was asked for after it, the ledger does not know any more."""
    subject = await disaster("press")
    subject.scene.provisioning.groups["line"] = {
        "enrollmentGroupId": "line",
        "provisioningStatus": status,
        "attestation": {"type": "x509"},
        "etag": "1",
    }
    state = GroupState.DISABLED if action is ChangeAction.DISABLE else GroupState.ENABLED
    await subject.scene.group(GroupState.DISABLED)
    known = await subject.scene.groups.get("line")
    assert known is not None
    wanted: dict[str, Any] = {"request": "r", "issuer": known.record.issuer, "decided_at": subject.scene.now}
    asked = {} if action is ChangeAction.UPDATE else {STATUS: subject.scene.now}
    change = Change(action=action, state=state, asked=asked, **wanted)
    await subject.scene.groups.replace(known, known.record.changed(change=change))
    lines, _, _ = await subject.taken_back()
    known = await subject.scene.groups.get("line")
    assert known is not None
    assert (known.record.change is None, known.record.state) == (is_dropped, GroupState.DISABLED)
    said = (
        "the enrollment group 'line' is disabled in DPS: its enable, which was under way when the ledger was copied, "
    )
    assert any(line.startswith(said) for line in lines) == is_dropped


async def test_what_was_made_and_disabled_meanwhile_stays_out() -> None:
    """It is looked at when every device is known again: else its hub would be opened to it."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    subject.scene.hubs.enter(HUB, "drill", enabled=False)
    subject.put_back()
    await subject.taken_back()
    assert (await subject.scene.record("drill")).disabled
    assert subject.scene.identity("drill") is False


async def test_a_bundle_that_our_cas_have_not_signed_makes_no_device() -> None:
    """Who may write blobs must not make devices."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    (serial,) = await subject.scene.serials("drill")
    subject.put_back()
    name = f"drill/{serial}.json"
    stored = subject.scene.blobs.blobs["bundles", name]
    certificate = x509.load_pem_x509_certificate(json.loads(stored.content)["pem"].encode())
    forged = bytearray(certificate.public_bytes(Encoding.DER))
    forged[-1] ^= 1
    subject.scene.blobs.blobs["bundles", name] = StoredBlob(
        stored.content.replace(_body(certificate), _body(x509.load_der_x509_certificate(bytes(forged)))), {}, "2"
    )
    lines, _, _ = await subject.taken_back()
    assert about(lines, "drill") == [
        f"drill: its bundle has certificate {serial}, which no CA of the ledger has signed"
    ]
    assert await subject.scene.devices.get("drill") is None


async def test_what_is_no_bundle_is_told_and_the_rest_is_taken_back() -> None:
    """A stray file in the container must not keep a ledger from signing again."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    subject.put_back()
    for name, content in {"readme.json": b"[]", f"drill/{'4a' * 20}.json": b'{"pem": "", "pfx": null}'}.items():
        subject.scene.blobs.blobs["bundles", name] = StoredBlob(content, {}, "1")
    lines, _, _ = await subject.taken_back()
    assert [line for line in lines if line.startswith("the blob")] == [
        f"the blob 'drill/{'4a' * 20}.json' in 'bundles' is not a bundle: nothing was taken back from it",
        "the blob 'readme.json' in 'bundles' is not a bundle: nothing was taken back from it",
    ]
    assert await subject.scene.state("drill") is DeviceState.REGISTERED


async def test_a_revocation_of_a_certificate_that_nobody_knows_stays_on_the_list() -> None:
    subject = await disaster("press")
    unknown = "4a" * 20
    subject.publish(unknown)
    lines, _, _ = await subject.taken_back()
    assert any(line.startswith(f"certificate {unknown} of 'line-1-ca1' is revoked (keyCompromise)") for line in lines)
    revoked = [each.serial_number async for each in subject.scene.certificates.revoked_by(ISSUER)]
    assert revoked == [unknown]
    row = await subject.scene.certificates.get(unknown)
    assert row is not None, "OCSP answers by it"
    assert (row.record.state, row.record.revocation_reason) == ("revoked", "keyCompromise")
    assert await subject.taken_back()
    crl = subject.scene.blobs.blobs["crls", f"{ISSUER}.crl"].content
    assert listed_serial_numbers(crl, hierarchy().issuing) == {int(unknown, 16)}


async def test_what_was_logged_since_the_copy_is_taken_back_with_its_order() -> None:
    """The log knows what a certificate was made for, which its bundle does not; what was logged before is not read."""
    subject = await disaster("press")
    log = subject.log = LogOfTheTime()
    for number in range(1000):
        log.certificate(f"{number:040x}", "before", cause="order-before", at=NOW - timedelta(days=1))
    subject.raised_at = NOW
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    (serial,) = await subject.scene.serials("drill")
    log.certificate(serial, "drill", cause="order-drill", at=NOW - timedelta(minutes=9))  # clocks differ
    await subject.scene.order("order-saw", "saw")
    subject.put_back()
    lines, _, _ = await subject.taken_back()
    assert about(lines, "drill") == [f"drill: known again, with certificate {serial}, in {HUB}"]
    assert (await subject.scene.record("drill")).order_id == "order-drill"
    assert await subject.scene.devices.get("saw") is None, "its bundle is there, and nothing was logged of it"
    assert log.read == [745], "a tile's width of entries tells that what is before is older"
    assert [line for line in lines if "before" in line] == []
    (name,) = (each for _, each in subject.scene.blobs.blobs if each.startswith("saw/"))
    log.certificate(name.removeprefix("saw/").removesuffix(".json"), "saw", cause="order-saw", at=NOW - HOUR)
    lines, _, _ = await subject.taken_back(since=NOW - HOUR)
    assert len(about(lines, "saw")) == 1, "more was missing than the epoch tells"


async def test_of_a_ledger_without_an_epoch_the_whole_log_is_read_in_its_order() -> None:
    """A renewal comes after the certificate that it renews, also where a tile of the log ends between the two."""
    subject = await disaster()
    log = subject.log = LogOfTheTime()
    subject.copied()
    await subject.scene.order()
    await subject.scene.renewing()
    first, second = await subject.scene.serials()
    log.certificate(first, "press", cause="order")
    for number in range(600):
        log.certificate(f"{number:040x}", "root-1", cause="x", kind="root")
    log.certificate(second, "press", cause="renewal")
    subject.put_back()
    lines, _, _ = await subject.taken_back()
    assert log.read == [346, 90, 0]
    assert about(lines, "press") == [
        f"press: known again, with certificate {first}, in {HUB}",
        f"press: certificate {second}, with which it was renewed, is known again",
    ]
    record = await subject.scene.record()
    assert (record.state, record.renewal) == (DeviceState.RENEWING, "renewal"), "its hub lets it in with the first one"
    assert record.certificate is not None
    assert record.next_certificate is not None
    assert (record.certificate.serial_number, record.next_certificate.serial_number) == (first, second)
    assert [each.value for each in await subject.scene.states()] == ["active", "active"]


async def test_what_was_logged_and_can_not_be_had_again_is_named() -> None:
    """A certificate without a bundle, such as a CA's, and what was done: whoever repairs is to know of both."""
    subject = await disaster("press")
    log = subject.log = LogOfTheTime()
    subject.copied()
    log.certificate("4a" * 20, "line-2-ca1", cause="roll-7", kind="intermediate")
    log.certificate("4b" * 20, "saw", cause="order-saw")
    log.act("disable", "press")
    (kept,) = await subject.scene.serials()
    log.certificate(kept, "press", cause="order-press")
    lines, _, _ = await subject.taken_back()
    gone = "was logged, and can't be had again: OCSP says that it is unknown"
    assert [line for line in lines if "logged" in line] == [
        f"certificate {'4a' * 20} (intermediate 'line-2-ca1', by 'line-1-ca1', for 'roll-7') {gone}",
        f"certificate {'4b' * 20} (device 'saw', by 'line-1-ca1', for 'order-saw') {gone}",
    ]
    assert [line for line in lines if "not in the copy" in line] == [
        "not in the copy: disable of the device 'press', asked for by 'Ada' on 2026-03-01 12:00:00 UTC, done: do it again"
    ]
    assert await subject.scene.devices.get("saw") is None


async def test_what_can_not_be_had_again_is_written_down_as_lost_until_it_turns_up() -> None:
    """Of any kind, and since it was named first; OCSP goes on to call it unknown. What the ledger has is not lost."""
    subject = await disaster("press")
    log = subject.log = LogOfTheTime()
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    (serial,) = await subject.scene.serials("drill")
    (kept,) = await subject.scene.serials()
    log.certificate("4a" * 20, "line-2-ca1", cause="roll-7", kind="intermediate")
    log.certificate(serial, "drill", cause="order-drill")
    log.certificate(kept, "press", cause="order-press")
    log.act("disable", "press")
    bundles = dict(subject.scene.blobs.blobs)
    subject.scene.blobs.blobs.clear()
    subject.put_back()
    await subject.taken_back()
    ca = LostCertificate(
        serial_number="4a" * 20, kind="intermediate", subject="line-2-ca1", issuer=ISSUER, named_at=NOW
    )
    device = ca.changed(serial_number=serial, kind="device", subject="drill")
    named = await subject.lost.all()
    assert {each.serial_number: each for each in named} == {"4a" * 20: ca, serial: device}
    assert await subject.scene.certificates.get(serial) is None, "OCSP answers by it"
    subject.scene.now += HOUR
    await subject.taken_back()
    assert await subject.lost.all() == named
    subject.scene.blobs.blobs.update(bundles)
    lines, _, _ = await subject.taken_back()
    assert len(about(lines, "drill")) == 1
    assert await subject.lost.all() == [ca]


async def forgotten(subject: Disaster) -> list[str]:
    """Give what is said to be done again, without who asked for it and when."""
    lines, _, _ = await subject.taken_back()
    found = [line.removeprefix("not in the copy: ") for line in lines if line.startswith("not in the copy: ")]
    return [re.sub(r", asked for by 'Ada' on [0-9: -]+ UTC", "", line) for line in found]


async def with_log(*devices: str) -> tuple[Disaster, LogOfTheTime]:
    subject = await disaster(*devices)
    log = subject.log = LogOfTheTime()
    subject.raised_at = NOW
    return subject, log


async def test_each_act_that_changes_what_is_wanted_is_named_once_with_what_to_do() -> None:
    """It was logged when it was begun and when it was done; what changes nothing, or was refused, is not done again."""
    subject, log = await with_log("press")
    subject.copied()
    for name in ("reconcile", "mend", "handOutBundle", "confirmBundle", "close", "approve"):
        log.act(name, "press", "finding")
    log.act("update", "line", "enrollmentGroup")
    log.act("create", "line-9", "enrollmentGroup")
    log.act("order", "order-9", "order")
    log.act("delete", "line-8", "enrollmentGroup", ends="refused")
    log.act("enable", "line-8", "enrollmentGroup", ends="denied")
    log.act("delete", "line-7", "enrollmentGroup", ends="failed")
    log.act("roll", "line-7", "enrollmentGroup", ends=None)
    subject.put_back()
    made = "delete it in DPS, make it again, and take back its devices (docs/recover.md)"
    ended = "no end of it was logged. If it is not so, "
    assert await forgotten(subject) == [
        "update of the enrollment group 'line', done: do it again",
        f"create of the enrollment group 'line-9', done: {made}",
        "order of the order 'order-9', done: send it again: devices of it that are known again stay as they are",
        f"delete of the enrollment group 'line-7'; {ended}do it again",
        f"roll of the enrollment group 'line-7'; {ended}delete it in DPS, make it again as it was before, and roll it "
        "(docs/recover.md)",
    ]


async def test_acts_that_the_copy_has_are_not_named() -> None:
    """Clocks differ, so the log is read from ten minutes before the copy: the ledger tells what of that it has."""
    subject, log = await with_log("press")
    audit = AuditTable(subject.scene.table("audit"))
    before, begun = NOW - timedelta(minutes=9, microseconds=400), NOW - timedelta(hours=3)
    await audit.append(log.act("putEnrollment", "press", at=before))
    entry = log.act("update", "line", "enrollmentGroup", at=begun, ends=None, entry_id="waiting")
    await audit.append(entry)
    for number in range(300):
        log.certificate(f"{number:040x}", "later", cause="x", kind="root", at=NOW + HOUR)
    subject.copied()
    log.act("deleteEnrollment", "press", at=before)
    log.act("update", "line", "enrollmentGroup", at=begun, entry_id="waiting")
    subject.put_back()
    assert await forgotten(subject) == [
        "update of the enrollment group 'line', done: do it again",
        "deleteEnrollment of the device 'press', done: do it again",
    ], "one that was asked for before the copy and done after it is not in the copy"


async def test_acts_that_were_taken_back_are_not_named() -> None:
    """Their lists, bundles and doors told of them."""
    subject, log = await with_log("press", "drill")
    (revoked,) = await subject.scene.serials("press")
    subject.copied()
    await subject.scene.order("order-saw", "saw")
    (made,) = await subject.scene.serials("saw")
    log.certificate(made, "saw", cause="order-saw")
    log.act("issue", "saw", request_id="order-saw")
    log.act("revoke", "press")
    log.act("revoke", revoked, "certificate")
    log.act("revoke", "drill")
    log.act("renew", "drill", request_id="renew-drill")
    subject.put_back()
    subject.publish(revoked)
    assert await forgotten(subject) == [
        "revoke of the device 'drill', done: do it again",
        "renew of the device 'drill', done: do it again",
    ]


async def test_of_acts_that_undo_each_other_the_last_one_counts() -> None:
    subject, log = await with_log("press", "drill")
    subject.copied()
    log.act("disable", "press")
    log.act("enable", "press")
    log.act("enable", "drill")
    log.act("disable", "drill")
    subject.put_back()
    assert await forgotten(subject) == ["disable of the device 'drill', done: do it again"]


async def test_a_hold_is_undone_by_a_reinstatement_and_is_no_final_revocation() -> None:
    """The log has it as a revocation with that reason; of one that failed, the last entry has another reason."""
    subject, log = await with_log("press", "drill", "saw")
    (held,) = await subject.scene.serials("drill")
    subject.copied()
    log.act("revoke", "press", reason="certificateHold")
    log.act("reinstate", "press")
    log.act("revoke", "drill", reason="certificateHold")
    log.act("revoke", "saw", reason="certificateHold", ends="failed", why="ConnectionError")
    subject.put_back()
    subject.publish(held, reason="certificateHold")
    assert await forgotten(subject) == [
        "hold of the device 'saw'; no end of it was logged. If it is not so, do it again"
    ], "'press' is let in, and 'drill' is on hold again"


async def test_what_was_done_to_a_device_before_it_was_ordered_anew_is_not_done_again() -> None:
    """It would shut out the new one. One that ended after the certificate was logged is named, and one without an end."""
    subject, log = await with_log("press", "drill", "saw")
    subject.copied()
    for device in ("press", "drill", "saw"):
        await subject.scene.renewing(f"again-{device}", device)
    made = {device: (await subject.scene.serials(device))[1] for device in ("press", "drill", "saw")}
    log.act("delete", "press")
    log.certificate(made["press"], "press", cause="order-again")
    log.act("delete", "drill", ends=None, entry_id="of-drill")
    log.certificate(made["drill"], "drill", cause="order-again")
    log.act("delete", "drill", entry_id="of-drill")
    log.act("delete", "saw", ends=None)
    log.certificate(made["saw"], "saw", cause="order-again")
    subject.put_back()
    assert await forgotten(subject) == [
        "delete of the device 'drill', done: do it again",
        "delete of the device 'saw'; no end of it was logged. If it is not so, do it again",
    ]


async def test_a_device_that_has_come_with_its_next_certificate_since_is_not_revoked_with_the_former_one() -> None:
    """The copy has it waiting. Its hub lets it in with the next one alone, which is on no list."""
    for listed, state, words in (
        (1, DeviceState.REGISTERED, "certificate {}, which it does not use any more, is revoked again"),
        (2, DeviceState.REVOKED, "revoked again"),
    ):
        subject = await disaster("press")
        scene = subject.scene
        await scene.renewing()
        subject.copied()
        scene.boot(await scene.certificate(2))
        await scene.renew()
        serials = await scene.serials()
        subject.put_back()
        assert (await scene.record()).state is DeviceState.RENEWING
        subject.publish(*serials[:listed])
        lines, _, _ = await subject.taken_back()
        assert any(words.format(serials[0]) in line for line in about(lines, "press"))
        record = await scene.record()
        assert (record.state, record.certificate.serial_number if record.certificate else None) == (state, serials[1])


@pytest.mark.parametrize(
    ("comes_with", "state", "uses", "states"),
    [
        ((2,), "renewing", (2, 3), ["superseded", "active", "active"]),
        ((2, 3), "registered", (3,), ["superseded", "superseded", "active"]),
        ((3,), "registered", (3,), ["superseded", "revoked", "active"]),
        ((), "renewing", (1, 3), ["active", "revoked", "active"]),
    ],
)
async def test_a_device_that_was_renewed_again_after_the_copy_uses_what_it_has_come_with(
    comes_with: tuple[int, ...], state: str, uses: tuple[int, ...], states: list[str]
) -> None:
    """The copy has it waiting for its second certificate; the third was made after it."""
    subject = await disaster("press")
    scene = subject.scene
    await scene.renewing("first")
    subject.copied()
    if 2 in comes_with:
        scene.boot(await scene.certificate(2))
        await scene.renew("first")
    await scene.renewing("second")
    serials = await scene.serials()
    if 3 in comes_with:
        scene.boot(await scene.certificate(3))
        await scene.renew("second")
    before = [each.value for each in await scene.states()]
    assert before == states
    subject.publish(*[each for each, is_ in zip(serials, states, strict=True) if is_ == "revoked"], reason="superseded")
    subject.put_back()
    await subject.taken_back()
    record = await scene.record()
    assert (record.state, record.in_use) == (state, tuple(serials[n - 1] for n in uses))
    assert {each.serial_number: each.state.value for each in record.held} == dict(zip(serials, states, strict=True))
    assert [each.value for each in await scene.states()] == states


async def test_a_certificate_that_waited_in_the_copy_and_has_a_successor_is_not_in_force_beside_it() -> None:
    """Others have deleted the identity meanwhile: nobody can tell what the device uses."""
    subject = await disaster("press")
    scene = subject.scene
    await scene.renewing("first")
    subject.copied()
    scene.boot(await scene.certificate(2))
    await scene.renew("first")
    await scene.renewing("second")
    del scene.hubs.identities[HUB, "press"]
    subject.put_back()
    await subject.taken_back()
    assert [each.value for each in await scene.states()] == ["active", "superseded", "active"]
    record = await scene.record()
    assert [each.state.value for each in record.held] == ["active", "superseded", "active"]


async def test_the_messages_of_orders_under_way_are_sent_again_when_the_ledger_has_everything() -> None:
    """They were carried out after the copy, and are gone: the ledger waits for them."""
    subject = await disaster("press")
    subject.copied()
    lines, _, _ = await subject.taken_back()
    assert [line for line in lines if "under way" in line] == []
    subject.put_back()
    subject.orders_under_way = 3
    lines, _, _ = await subject.taken_back()
    assert [line for line in lines if "under way" in line] == [
        "3 orders are under way, and the messages of their devices were sent again"
    ]


async def test_an_act_that_was_asked_for_long_ago_does_not_end_the_reading_of_the_log() -> None:
    """It has the time at which it was asked for, and what was logged before it may be newer."""
    subject, log = await with_log()
    subject.copied()
    await subject.scene.order()
    (serial,) = await subject.scene.serials()
    log.certificate(serial, "press", cause="order")
    for number in range(300):
        log.certificate(f"{number:040x}", "root-1", cause="x", kind="root")
    log.act("update", "line", "enrollmentGroup", at=NOW - timedelta(days=3))
    subject.put_back()
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == [f"press: known again, with certificate {serial}, in {HUB}"]
    assert log.read == [47, 0]


async def test_a_list_that_our_ca_has_not_signed_revokes_nothing() -> None:
    """Who may write blobs must not revoke devices, nor make the numbers of lists jump."""
    subject = await disaster("press")
    (serial,) = await subject.scene.serials()
    subject.publish(serial)
    stored = subject.scene.blobs.blobs["crls", f"{ISSUER}.crl"]
    forged = stored.content[:-1] + bytes([stored.content[-1] ^ 1])
    subject.scene.blobs.blobs["crls", f"{ISSUER}.crl"] = StoredBlob(forged, {}, "2")
    lines, _, records = await subject.taken_back()
    assert about(lines, "press") == []
    assert await subject.scene.state() is DeviceState.REGISTERED
    assert records.written == []


async def test_a_ca_that_was_being_made_does_not_keep_the_others_from_being_taken_back() -> None:
    subject = await disaster("press")
    (serial,) = await subject.scene.serials()
    subject.publish(serial)
    subject.authorities.further.append(
        SimpleNamespace(name="line-2-ca1", certificate=None, change=None, list_making=None)
    )
    await subject.taken_back()
    assert await subject.scene.state() is DeviceState.REVOKED


async def test_what_dps_lets_in_goes_on_and_what_it_keeps_out_of_nobody_is_left() -> None:
    """An entry of its own says nothing against a device; a disabled one that is of no device makes none."""
    subject = await disaster("press")
    subject.scene.provisioning.enrollments |= {
        "press": {"registrationId": "press", "provisioningStatus": "enabled"},
        "stranger": {"registrationId": "stranger", "provisioningStatus": "disabled"},
    }
    before = await subject.scene.record()
    lines, _, _ = await subject.taken_back()
    assert (about(lines, "press"), about(lines, "stranger")) == ([], [])
    assert await subject.scene.record() == before
    assert await subject.scene.devices.get("stranger") is None


async def test_all_revocations_of_certificates_that_nobody_knows_stay_on_the_list_and_are_told_once() -> None:
    subject = await disaster("press")
    unknown = ["4a" * 20, "4b" * 20]
    subject.publish(*unknown)
    lines, _, _ = await subject.taken_back()
    assert [line.split()[1] for line in lines if "whose it is can't be known" in line] == unknown
    assert await subject.scene.listed() == unknown


async def test_a_certificate_that_a_device_has_left_is_revoked_again_and_the_device_goes_on() -> None:
    """Its list names the certificate before: the device uses the next one, which nobody has revoked."""
    subject = await disaster("press")
    await subject.scene.renewing()
    subject.scene.boot(await subject.scene.certificate(2))
    await subject.scene.renew()
    first, second = await subject.scene.serials()
    subject.copied()
    await subject.scene.revoke(serial_number=first)
    subject.put_back()
    subject.publish(first)
    lines, _, _ = await subject.taken_back()
    said = (
        f"certificate {first}, which it does not use any more, is revoked again (keyCompromise, 2026-03-01 12:00 UTC)"
    )
    assert about(lines, "press") == [f"press: {said}"]
    assert [each.value for each in await subject.scene.states()] == ["revoked", "active"]
    assert await subject.scene.listed() == [first]
    assert (await subject.scene.state(), subject.scene.identity()) == (DeviceState.REGISTERED, True)
    assert second != first


async def renewed_meanwhile() -> tuple[Disaster, str, str]:
    """Give a ledger that does not know of a renewal yet, and the certificates before and after it."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.renewing()
    subject.scene.boot(await subject.scene.certificate(2))
    await subject.scene.renew()
    first, second = await subject.scene.serials()
    return subject, first, second


async def test_a_certificate_that_a_device_has_left_meanwhile_does_not_shut_it_out() -> None:
    """It was renewed after the copy, and its former certificate revoked: for the ledger that was the one in use."""
    subject, first, second = await renewed_meanwhile()
    await subject.scene.revoke(serial_number=first)
    leaf = await subject.scene.certificate(2)
    subject.put_back()
    subject.publish(first)
    lines, _, _ = await subject.taken_back()
    said = f"certificate {first}, which it does not use any more, is revoked again"
    assert about(lines, "press") == [
        f"press: certificate {second}, with which it was renewed, is known again",
        f"press: {said} (keyCompromise, 2026-03-01 12:00 UTC)",
    ]
    assert [each.value for each in await subject.scene.states()] == ["revoked", "active"]
    assert (await subject.scene.state(), subject.scene.identity()) == (DeviceState.REGISTERED, True)
    assert subject.scene.provisioning.admits("press", leaf)
    assert not subject.scene.provisioning.admits("press", await subject.scene.certificate(1))


async def test_a_device_that_was_deleted_and_ordered_anew_meanwhile_is_in_service() -> None:
    """Its list names the certificate that it had before it was deleted."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.delete()
    await subject.scene.order("order-2")
    first, _ = await subject.scene.serials()
    leaf = await subject.scene.certificate(2)
    subject.put_back()
    subject.publish(first, reason="cessationOfOperation")
    await subject.taken_back()
    assert [each.value for each in await subject.scene.states()] == ["revoked", "active"]
    assert (await subject.scene.state(), subject.scene.identity()) == (DeviceState.REGISTERED, True)
    assert subject.scene.provisioning.admits("press", leaf)


async def test_each_certificate_is_revoked_with_the_reason_that_its_list_gives_and_told_by_an_event_of_its_own() -> (
    None
):
    """An id that was seen is thrown away by whoever takes the events, and so would the revocation of the second be."""
    subject, first, second = await renewed_meanwhile()
    subject.put_back()
    subject.publish(second, first)
    await subject.taken_back()
    assert await subject.scene.state() is DeviceState.REVOKED
    told = [body for queue, body, _ in subject.scene.queues.sent if queue == "provisioning-events"]
    about_it = [each for each in told if each["correlationid"] == "restoration"]
    assert [(each["id"], each["data"]["serialNumber"]) for each in about_it] == [
        (f"DeviceRevoked/press/restoration/{serial}-keyCompromise-20260301T120000Z", serial)
        for serial in (first, second)
    ]


async def test_a_deleted_device_that_was_ordered_anew_meanwhile_is_in_service_again() -> None:
    """Were it deleted still, a reconciliation would take a good device out of its hub."""
    subject = await disaster("press")
    await subject.scene.delete()
    subject.copied()
    subject.scene.now += timedelta(hours=1)
    await subject.scene.order("order-2")
    first, second = await subject.scene.serials()
    leaf = await subject.scene.certificate(2)
    subject.put_back()
    assert await subject.scene.state() is DeviceState.DELETED
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == [f"press: known again, with certificate {second}, in {HUB}"]
    record = await subject.scene.record()
    assert (record.state, record.revoked, record.assigned_hub) == (DeviceState.REGISTERED, None, HUB)
    assert [each.value for each in await subject.scene.states()] == ["revoked", "active"]
    assert [each.note for each in record.history][-2:] == [
        "deleted",
        f"taken back after the ledger was put back: certificate {second}",
    ]
    await subject.scene.converger.sweep(older_than=timedelta())
    record = await subject.scene.record()
    assert (record.settled, record.doors) == (True, Doors.OPEN), "as it is at the services, and not as it was then"
    assert (subject.scene.identity(), subject.scene.provisioning.admits("press", leaf)) == (True, True)
    assert await subject.scene.listed() == [first]


async def test_a_deleted_device_that_was_ordered_anew_and_put_on_hold_meanwhile_is_on_hold() -> None:
    """A hold of a deleted device is refused: so its certificate would be good again."""
    subject = await disaster("press")
    await subject.scene.delete()
    subject.copied()
    subject.scene.now += timedelta(hours=1)
    await subject.scene.order("order-2")
    first, second = await subject.scene.serials()
    await subject.scene.revoke(RevocationReason.CERTIFICATE_HOLD)
    subject.put_back()
    subject.publish(second, reason="certificateHold")
    await subject.taken_back()
    assert (await subject.scene.record()).on_hold
    assert await subject.scene.listed() == sorted([first, second])
    assert (subject.scene.entry(), subject.scene.identity()) == ("disabled", False)


async def test_a_hold_on_the_list_of_a_device_that_was_on_hold_before_changes_nothing() -> None:
    subject = await disaster("press")
    (serial,) = await subject.scene.serials()
    await subject.scene.revoke(RevocationReason.CERTIFICATE_HOLD)
    before = await subject.scene.record()
    subject.publish(serial, reason="certificateHold")
    lines, _, _ = await subject.taken_back()
    assert about(lines, "press") == []
    assert await subject.scene.record() == before


@dataclass
class CopyingBlobs(FakeBlobs):
    """Blobs that tell when a bundle is about to be stored."""

    about_to_store: Callable[[], None] = field(default=lambda: None)

    async def create(
        self, container: str, name: str, content: bytes, *, content_type: str, metadata: Mapping[str, str]
    ) -> bool:
        self.about_to_store()
        return await super().create(container, name, content, content_type=content_type, metadata=metadata)


async def test_a_certificate_that_was_being_made_is_carried_on_by_its_order() -> None:
    """The copy has its serial number, and its bundle was stored afterwards."""
    subject = await disaster("press")
    subject.scene.blobs = CopyingBlobs(blobs=subject.scene.blobs.blobs, about_to_store=subject.copied)
    await subject.scene.order("order-drill", "drill")
    (serial,) = await subject.scene.serials("drill")
    subject.put_back()
    assert await subject.scene.state("drill") is DeviceState.ORDERED
    lines, _, _ = await subject.taken_back()
    assert about(lines, "drill") == [f"drill: certificate {serial} was being made, and is carried on"]
    await subject.scene.deliver("order-drill")
    assert (await subject.scene.serials("drill"), await subject.scene.state("drill")) == ([serial], "registered")


async def test_a_device_that_its_order_got_in_a_second_attempt_does_not_get_another_certificate() -> None:
    """The copy has the serial number of the first attempt. A hub lets a device in with the one that it has."""
    subject = await disaster("press")

    def crash() -> None:
        subject.copied()
        raise Killed

    subject.scene.blobs = CopyingBlobs(blobs=subject.scene.blobs.blobs, about_to_store=crash)
    with pytest.raises(Killed):
        await subject.scene.order("order-drill", "drill")
    subject.scene.blobs = FakeBlobs(blobs=subject.scene.blobs.blobs)
    await subject.scene.deliver("order-drill")
    first, second = await subject.scene.serials("drill")
    subject.put_back()
    assert await subject.scene.serials("drill") == [first]
    lines, _, _ = await subject.taken_back()
    assert about(lines, "drill") == [f"drill: known again, with certificate {second}, in {HUB}"]
    await subject.scene.deliver("order-drill")
    assert await subject.scene.serials("drill") == [first, second]
    assert [each.value for each in await subject.scene.states("drill")] == ["abandoned", "active"]
    record = await subject.scene.record("drill")
    assert (record.state, record.order_id) == (DeviceState.REGISTERED, "order-drill")
    assert record.certificate is not None
    assert record.certificate.serial_number == second


async def test_a_bundle_that_comes_back_makes_no_device_of_a_revoked_certificate() -> None:
    """Its revocation was entered when nobody knew whose it is."""
    subject = await disaster("press")
    subject.copied()
    await subject.scene.order("order-drill", "drill")
    (serial,) = await subject.scene.serials("drill")
    subject.put_back()
    subject.publish(serial)
    bundle = subject.scene.blobs.blobs.pop(("bundles", f"drill/{serial}.json"))
    await subject.taken_back()
    subject.scene.blobs.blobs["bundles", f"drill/{serial}.json"] = bundle
    lines, _, _ = await subject.taken_back()
    assert about(lines, "drill") == [f"drill: certificate {serial} is revoked, and was not known to be its own"]
    assert await subject.scene.devices.get("drill") is None
    assert await subject.scene.listed() == [serial]


async def test_a_revocation_whose_device_is_gone_stays_on_the_list() -> None:
    """The next list has what the last one had, whatever is amiss with the ledger."""
    subject = await disaster("press")
    (serial,) = await subject.scene.serials()
    rows = subject.scene.rows.rows
    del rows[next(each for each in rows if each[1] == "d:press")]
    subject.publish(serial)
    lines, _, _ = await subject.taken_back()
    assert [line for line in lines if serial in line] == [
        f"certificate {serial} of 'press' stays on the list of 'line-1-ca1', and nothing else is done about it: "
        "registrationId: the device 'press' does not exist"
    ]
    assert await subject.scene.listed() == [serial]


# --- CAs ---


async def ca_revoked(*, with_change: AuthorityChange | None = None) -> Deployment:
    """Give a deployment whose issuing CA was revoked after the copy that is now the ledger."""
    subject = await Deployment().begin("press")
    if with_change is not None:
        await change(subject.app.authorities.records, LINE_CA, lambda record: record.changed(change=with_change))
    copy = subject.copied()
    if with_change is not None:
        await change(subject.app.authorities.records, LINE_CA, lambda record: record.changed(change=None))
    act = AuthorityAct(request_id="a", name=LINE_CA, action=AuthorityAction.REVOKE, reason="keyCompromise", devices=1)
    await subject.app.authority_workflows.acts.carry_out(act)
    await subject.app.revocation_lists.publish("dpsCa")
    subject.put_back(copy)
    assert (await subject.authority(LINE_CA)).state is AuthorityState.ACTIVE
    return subject


def to_state(record: AuthorityRecord, state: AuthorityState) -> AuthorityRecord:
    return record.changed(state=state)


async def on_the_list(subject: Deployment, serial: str) -> bool:
    """Tell whether the last list of the root names a certificate."""
    root = await subject.app.authorities.load("dpsCa")
    return int(serial, 16) in listed_serial_numbers(subject.crl("dpsCa"), root)


async def test_a_ca_that_was_revoked_after_the_copy_is_revoked_again() -> None:
    subject = await ca_revoked()
    lines = await subject.take_back()
    assert about(lines, LINE_CA) == [
        f"{LINE_CA}: the CA is revoked again (keyCompromise); its groups and its devices follow"
    ]
    record = await subject.authority(LINE_CA)
    assert (record.state, record.change) == (AuthorityState.REVOKED, None)
    assert await on_the_list(subject, record.serial_number or "")
    assert about(await subject.take_back(), LINE_CA) == []


async def test_the_certificate_of_a_revoked_ca_is_revoked_though_somebody_else_writes_its_row_meanwhile() -> None:
    """Nobody would come again to it when the ledger signs again, and OCSP answers by that row."""
    subject = await ca_revoked()
    serial = (await subject.authority(LINE_CA)).serial_number or ""
    table, others = subject.table("identities"), ["opened"]
    replace = table.replace

    async def overtaken(values: Mapping[str, Any], etag: str) -> str | None:
        if values["RowKey"] == f"c:{serial}" and others:
            row = await table.get(values["PartitionKey"], values["RowKey"])
            assert row is not None
            await replace({**row.values, "cause": others.pop()}, row.etag)
        return await replace(values, etag)

    table.replace = overtaken  # type: ignore[method-assign]
    subject.app = subject.worker()
    every = restoration_of(subject.app)
    revocations = RestoredRevocations(
        authorities=every.authorities,
        records=every.records,
        certificates=every.certificates,
        devices=every.devices,
        blobs=every.blobs,
        taking_in=every.taking_in,
        is_lost=False,
        clock=every.clock,
    )
    revoked = await revocations.find()
    async for _ in revocations.take_back(revoked, may_wait=False):
        pass
    known = await every.certificates.get(serial)
    assert known is not None
    assert (others, known.record.state, known.record.cause) == ([], CertificateState.REVOKED, "opened")


async def test_the_turn_of_whoever_broke_off_is_ended_though_somebody_else_writes_the_row_meanwhile() -> None:
    """Whoever makes the next list would wait for it."""
    subject = await Deployment().begin("press")
    making = ListMaking(number=7, token="t", until=NOW + timedelta(minutes=1))
    await change(subject.app.authorities.records, LINE_CA, lambda record: record.changed(list_making=making))
    table, others = subject.table("issuers"), ["told"]
    replace = table.replace

    async def overtaken(values: Mapping[str, Any], etag: str) -> str | None:
        if values["RowKey"] == LINE_CA.lower() and others:
            row = await table.get(values["PartitionKey"], values["RowKey"])
            assert row is not None
            await replace({**row.values, "problem": others.pop()}, row.etag)
        return await replace(values, etag)

    table.replace = overtaken  # type: ignore[method-assign]
    every = restoration_of(subject.worker())
    following = RestoredFollowing(
        authorities=every.authorities,
        records=every.records,
        devices=every.devices,
        converger=every.converger,
        authority_converger=every.authority_converger,
        clock=every.clock,
    )
    await following.end_turns()
    record = await subject.authority(LINE_CA)
    assert (others, record.list_making, record.problem) == ([], None, "told")


async def test_a_list_that_is_lost_with_what_came_after_the_copy_is_named_and_numbers_jump_all_the_same() -> None:
    """Nobody knows how far they had come. Whoever has the list puts it back, and the next run takes it back."""
    subject = await Deployment().begin("press")
    copy = subject.copied()
    await subject.revoke("press")
    last = subject.blobs.blobs.pop(("crls", f"{LINE_CA}.crl"))
    subject.put_back(copy)
    before = (await subject.authority(LINE_CA)).crl_number
    lines = await subject.take_back()
    named = f"not known: which certificates of {LINE_CA!r} were revoked after the copy: its last CRL is not in the "
    assert len([line for line in lines if line.startswith(named)]) == 1
    assert not [line for line in lines if line.startswith("not known: which certificates of 'dpsCa'")]
    assert (await subject.authority(LINE_CA)).crl_number == before + 1001
    assert (await subject.device("press")).state is DeviceState.REGISTERED
    subject.blobs.blobs["crls", f"{LINE_CA}.crl"] = last
    again = await subject.take_back()
    assert [line for line in again if line.startswith(named)] == []
    assert (await subject.device("press")).state is DeviceState.REVOKED
    assert (await subject.authority(LINE_CA)).crl_number > before + 1001


async def test_a_ca_that_another_act_was_done_to_is_revoked_by_the_next_run() -> None:
    """Its certificate stays on the list; it does not count as revoked while the CA can sign."""
    disabling = AuthorityChange(request="d", action=AuthorityAction.DISABLE, decided_at=NOW)
    subject = await ca_revoked(with_change=disabling)
    lines = await subject.take_back()
    assert about(lines, LINE_CA) == [
        f"{LINE_CA}: the CA is not revoked again yet: another act on '{LINE_CA}' is being carried out: disable; run "
        "this again when that is done"
    ]
    serial = (await subject.authority(LINE_CA)).serial_number or ""
    assert await on_the_list(subject, serial)
    await subject.app.authority_workflows.converger.converge(LINE_CA)
    await subject.take_back()
    assert (await subject.authority(LINE_CA)).state is AuthorityState.REVOKED
    assert await on_the_list(subject, serial)


async def test_a_certificate_that_a_ca_has_left_is_kept_on_the_list_and_the_ca_signs_on() -> None:
    """The list names one that the CA of the copy does not sign with: what was done to it then is not known."""
    subject = await ca_revoked()
    serial = (await subject.authority(LINE_CA)).serial_number or ""
    await change(subject.app.authorities.records, LINE_CA, lambda record: record.changed(serial_number="4a" * 20))
    lines = await subject.take_back()
    assert [line for line in lines if serial in line] == [
        f"certificate {serial} (intermediate '{LINE_CA}') is on the list of 'dpsCa' again: what was done to the CA "
        "after the copy is to be done again"
    ]
    assert (await subject.authority(LINE_CA)).state is AuthorityState.ACTIVE
    assert await on_the_list(subject, serial)


async def test_a_ca_that_was_deleted_is_not_revoked_again_and_its_certificate_stays_on_the_list() -> None:
    subject = await ca_revoked()
    for state in (AuthorityState.RETIRED, AuthorityState.DELETED):
        record = await change(subject.app.authorities.records, LINE_CA, partial(to_state, state=state))
    lines = await subject.take_back()
    assert about(lines, LINE_CA) == [
        f"{LINE_CA}: the CA's certificate is on the list of 'dpsCa': name: the certificate authority '{LINE_CA}' is "
        "deleted, so it can't be revoked: that is final: have another CA made, under another name"
    ]
    assert await on_the_list(subject, record.serial_number or "")


def _body(certificate: x509.Certificate) -> bytes:
    """Give a certificate as it stands in a bundle's JSON."""
    return names.pem(certificate).replace("\n", "\\n").encode()


async def test_what_is_revoked_is_on_the_list_though_its_row_there_was_lost() -> None:
    """A certificate's own row says that it is revoked, and the list is made of another one: no list loses it."""
    subject = await disaster("press", "drill", "mill")
    serials = {name: (await subject.scene.serials(name))[0] for name in ("press", "drill", "mill")}
    await subject.scene.revoke(registration_id="press")
    await subject.scene.revoke(RevocationReason.CERTIFICATE_HOLD, registration_id="drill")
    subject.scene.tables["revocations"].rows.clear()
    subject.publish(serials["press"])
    lines, _, _ = await subject.taken_back()
    said = "is revoked, and was not on the ledger's list: it is on it again"
    assert sorted(line for line in lines if line.endswith(said)) == sorted(
        f"certificate {serials[name]} of '{ISSUER}' ('{name}') {said}" for name in ("press", "drill")
    )
    entered = {each.serial_number: each.reason async for each in subject.scene.certificates.revoked_by(ISSUER)}
    assert entered == {serials["press"]: "keyCompromise", serials["drill"]: "certificateHold"}
    changed = {each.revocation.serial_number for each in await subject.scene.certificates.changes(ISSUER)}
    assert changed == {serials["press"], serials["drill"]}, "the next list is made of them"
    again, _, _ = await subject.taken_back()
    assert not [line for line in again if line.endswith(said)]
    await subject.scene.reinstate(registration_id="drill")
    assert [each.serial_number async for each in subject.scene.certificates.revoked_by(ISSUER)] == [serials["press"]]


async def test_what_only_a_row_of_the_list_knows_is_revoked_again() -> None:
    """It was revoked while the ledger was copied: its list was not published, or its CA may sign none."""
    subject = await disaster("press")
    (serial,) = await subject.scene.serials("press")
    subject.copied()
    await subject.scene.revoke()
    rows = subject.scene.tables["revocations"].rows
    subject.put_back()
    subject.scene.tables["revocations"].rows = rows
    lines, epochs, _ = await subject.taken_back()
    assert about(lines, "press") == ["press: revoked again (keyCompromise, 2026-03-01 12:00 UTC)"]
    assert epochs.states["press"] is DeviceState.REVOKED
    assert [each.serial_number async for each in subject.scene.certificates.revoked_by(ISSUER)] == [serial]


async def test_what_nobody_knows_but_a_row_of_the_list_is_revoked_for_ocsp_as_well() -> None:
    """It was issued and revoked while the ledger was copied, which reads certificates first."""
    subject = await disaster("press")
    (serial,) = await subject.scene.serials("press")
    await subject.scene.revoke()
    rows = subject.scene.tables["identities"].rows
    for key in [key for key in rows if key[1] in {f"c:{serial}", "d:press"}]:
        del rows[key]
    subject.scene.blobs.blobs.clear()
    await subject.taken_back()
    row = await subject.scene.certificates.get(serial)
    assert row is not None
    assert (row.record.state, row.record.revocation_reason) == ("revoked", "keyCompromise")
