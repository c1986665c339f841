"""Rollover: whatever breaks off, DPS accepts each CA whose certificates are in use, and the work is carried on."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.groups import EnrollmentGroupRequest, GroupAction
from shared.domain.authorities import AuthorityState
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.groups import STATUS, Change, ChangeAction, GroupRecord, GroupState
from shared.domain.words import CertificateKind, KeyCustody, RevocationReason
from shared.errors import Conflict, PreconditionFailed, Rejected
from shared.ledger.certificates import Certificates
from shared.ledger.groups import Groups
from shared.ledger.requests import Requests
from shared.pki import names
from shared.pki.profiles import issuing_profile
from shared.pki.signing_keys import KeyAlgorithm
from shared.rules.etags import ANY_VERSION
from shared.workflows.groups.authorities import GroupAuthorities
from shared.workflows.groups.checks import GroupChecks
from shared.workflows.groups.composing import GroupEntries
from shared.workflows.groups.convergence import GroupConverger
from shared.workflows.groups.requests import EnrollmentGroups
from shared.workflows.groups.rollovers import SETTLING, Rollovers
from shared.workflows.intake.outbox import Outbox
from tests.pki.hierarchy import NOW, certificate_authority, hierarchy
from tests.unit.fakes import FakeProvisioning, FakeQueues, FakeTable, Killed, Trap
from tests.world.certificates import overwrite

if TYPE_CHECKING:
    from cryptography import x509

    from shared.pki.issuers import Issuer


@pytest.fixture(autouse=True, params=[True, False], ids=["certificate", "info"])
def _shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """DPS shows the certificates of its entries, or info of them alone: sources conflict, and both must do."""
    monkeypatch.setattr(FakeProvisioning, "shows_certificates", request.param)


@cache
def authority(name: str) -> Issuer:
    return certificate_authority(name, hierarchy().root, KeyAlgorithm.EC_P256, issuing_profile())


def thumbprint(name: str) -> str:
    return names.sha256_thumbprint(authority(name).certificate)


@dataclass
class FakeAuthorities:
    made: set[str] = field(default_factory=lambda: {"g-ca1", "shared-ca"})
    ended: dict[str, AuthorityState] = field(default_factory=dict)
    step: Any = None

    async def ensure(self, definition: Any, *, cause: str) -> None:
        del cause
        self.made.add(definition.name)
        self.step()

    async def get(self, name: str) -> Any:
        return SimpleNamespace(
            name=name,
            kind=CertificateKind.INTERMEDIATE,
            path_length=0,
            custody=KeyCustody.VAULT,
            state=self.ended.get(name, AuthorityState.ACTIVE),
        )

    async def above(self, _name: str) -> str:
        return "dpsCa"

    async def check_ledger(self) -> None:
        return

    async def check_definition(self, _definition: Any) -> None:
        return

    async def check_proved(self, _name: str) -> None:
        return

    async def load(self, name: str) -> Issuer:
        assert name in self.made, f"{name} is used before it is made"
        return authority(name)

    async def certificate(self, name: str) -> x509.Certificate:
        return (await self.load(name)).certificate


@dataclass
class Scene:
    """A group whose CA has one certificate in use; the clock is set by hand."""

    trap: Trap = field(default_factory=Trap)
    now: datetime = NOW
    table: FakeTable = field(default_factory=FakeTable)
    in_force: FakeTable = field(default_factory=FakeTable)
    queues: FakeQueues = field(default_factory=FakeQueues)
    provisioning: FakeProvisioning = field(default_factory=FakeProvisioning)
    authorities: FakeAuthorities = field(default_factory=FakeAuthorities)

    def __post_init__(self) -> None:
        for each in (self.table, self.queues, self.provisioning, self.authorities):
            each.step = self.step
        self.requests = Requests(FakeTable())
        self.certificates = Certificates(certificates=FakeTable(), revocations=FakeTable(), in_force=self.in_force)
        self.groups = Groups(self.table)

    def step(self) -> None:
        self.check_no_device_is_cut_off()
        self.trap.step()

    def clock(self) -> datetime:
        return self.now

    @property
    def converger(self) -> GroupConverger:
        queues: Any = self.queues
        authorities: Any = self.authorities
        provisioning: Any = self.provisioning
        return GroupConverger(
            groups=self.groups,
            authorities=authorities,
            entries=GroupEntries(groups=self.groups, authorities=authorities, creation=authorities),
            provisioning=provisioning,
            outbox=Outbox(queues=queues, clock=self.clock),
            clock=self.clock,
        )

    @property
    def rollovers(self) -> Rollovers:
        authorities: Any = self.authorities
        provisioning: Any = self.provisioning
        return Rollovers(
            groups=self.groups,
            certificates=self.certificates,
            authorities=authorities,
            provisioning=provisioning,
            converger=self.converger,
            clock=self.clock,
        )

    async def set_up(self) -> Scene:
        trap, self.trap = self.trap, Trap()
        await self.groups.insert(
            GroupRecord(
                enrollment_group="g", state=GroupState.ENABLED, issuer="g-ca1", updated_at=NOW, last_request="made"
            )
        )
        await self.provisioning.put_group(entry(authority("g-ca1").certificate), etag=None)
        await self.issue("1")
        self.trap = trap
        return self

    async def issue(self, serial: str, issuer: str = "g-ca1", **fields: Any) -> CertificateRecord:
        record = CertificateRecord(
            serial_number=serial.zfill(40),
            kind=CertificateKind.DEVICE,
            state=CertificateState.ACTIVE,
            subject=f"device-{serial}",
            issuer=issuer,
            cause="order",
            recorded_at=self.now,
            not_after=NOW + timedelta(days=365),
        ).changed(**fields)
        await self.certificates.enter_in_force(record, until=NOW + timedelta(days=366))
        await self.certificates.try_add(record)
        return record

    async def sweep(self) -> dict[str, int]:
        return {state.value: count for state, count in (await self.rollovers.sweep()).items()}

    async def roll(self, request_id: str = "roll", **fields: Any) -> None:
        settings: Any = SimpleNamespace(root_authority="dpsCa", issuing_custody="vault")
        authorities: Any = self.authorities
        provisioning: Any = self.provisioning
        checks = GroupChecks(
            groups=self.groups,
            authorities=authorities,
            group_authorities=GroupAuthorities(
                groups=self.groups,
                authorities=authorities,
                creation=authorities,
                possession=authorities,
                resource=None,
                settings=settings,
            ),
            provisioning=provisioning,
            resource=None,
        )
        groups = EnrollmentGroups(
            groups=self.groups,
            requests=self.requests,
            checks=checks,
            converger=self.converger,
            check_ledger=self.converger.authorities.check_ledger,
            clock=self.clock,
        )
        await groups.carry_out(
            EnrollmentGroupRequest(request_id=request_id, enrollment_group="g", action=GroupAction.ROLL, **fields)
        )

    async def record(self) -> GroupRecord:
        known = await self.groups.get("g")
        assert known is not None
        return known.record

    def accepted(self) -> list[str]:
        held = self.provisioning.groups["g"]["attestation"]["x509"]["signingCertificates"]
        return [held[place]["info"]["sha256Thumbprint"] for place in ("primary", "secondary") if place in held]

    def check_no_device_is_cut_off(self) -> None:
        """DPS accepts the CA that new certificates come from, and the one that those in use come from.

        Nothing comes from one that is revoked.
        """
        row = self.table.rows.get(("group", "g"))
        if row is None or "g" not in self.provisioning.groups:
            return
        if row.values["issuer"] not in self.authorities.ended:
            assert thumbprint(row.values["issuer"]) in self.accepted()
        if "previousIssuer" in row.values and self.in_force.rows:
            assert thumbprint(row.values["previousIssuer"]) in self.accepted()

    def events(self) -> list[tuple[str, str]]:
        return [(body["id"], body["data"]["action"]) for _, body, _ in self.queues.sent]


def entry(primary: x509.Certificate) -> dict[str, Any]:
    return {
        "enrollmentGroupId": "g",
        "attestation": {
            "type": "x509",
            "x509": {"signingCertificates": {"primary": {"certificate": names.pem(primary)}}},
        },
    }


async def test_the_next_ca_is_accepted_before_it_signs() -> None:
    """After a roll the old CA is primary, the new one secondary, and new certificates come from the new one."""
    scene = await Scene().set_up()
    await scene.roll()
    record = await scene.record()
    assert (record.issuer, record.previous_issuer, record.generation) == ("g-ca2", "g-ca1", 2)
    assert scene.accepted() == [thumbprint("g-ca1"), thumbprint("g-ca2")]
    described = await scene.rollovers.describe(record)
    assert described is not None
    assert described.shown() == {
        "from": "g-ca1",
        "to": "g-ca2",
        "state": "rolling",
        "startedAt": NOW,
        "retiredAt": None,
        "problem": None,
        "certificatesLeft": 1,
        "moreLeft": False,
    }


async def test_a_roll_that_is_killed_after_any_step_is_carried_on_by_its_message() -> None:
    """Killed after each step in turn and delivered again, a roll ends the same, with one new CA and one event."""
    for after in range(1, 100):
        scene = await Scene(Trap(after)).set_up()
        with suppress(Killed):
            await scene.roll()
        scene.check_no_device_is_cut_off()
        if scene.trap.steps < after:
            break
        await scene.roll()
        record = await scene.record()
        assert (record.issuer, record.previous_issuer) == ("g-ca2", "g-ca1")
        assert scene.accepted() == [thumbprint("g-ca1"), thumbprint("g-ca2")]
        assert scene.authorities.made == {"g-ca1", "shared-ca", "g-ca2"}
        assert set(scene.events()) == {("EnrollmentGroupChanged/g/roll", "roll")}
    assert after == 7, "intent, CA, entry in DPS, take-over, event, ledger: six steps, and then none is left"


async def test_a_roll_whose_message_is_lost_is_carried_on_by_the_sweep() -> None:
    """Killed after each step in turn, a roll is finished by the next sweep."""
    for after in range(1, 5):
        scene = await Scene(Trap(after)).set_up()
        with suppress(Killed):
            await scene.roll()
        await scene.rollovers.sweep()
        assert (await scene.record()).issuer == "g-ca2"
        assert scene.accepted() == [thumbprint("g-ca1"), thumbprint("g-ca2")]


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (CertificateState.SUPERSEDED, None),
        (CertificateState.REVOKED, RevocationReason.KEY_COMPROMISE),
        (CertificateState.EXPIRED, None),
    ],
)
async def test_the_old_ca_is_retired_when_its_last_certificate_has_ended(
    state: CertificateState, reason: RevocationReason | None
) -> None:
    """While one certificate may be in use the old CA stays; then the new one becomes primary, and secondary is free."""
    scene = await Scene().set_up()
    last = await scene.issue("2")
    await scene.roll()
    scene.now += SETTLING
    await overwrite(scene.certificates, (await scene.issue("3")).changed(state=state, revocation_reason=reason))
    assert (await scene.sweep())["rolling"] == 1
    for ended in (await scene.issue("1a"), last):
        await overwrite(scene.certificates, ended.changed(state=state, revocation_reason=reason))
        assert (await scene.sweep())["rolling"] == 1
    first = await scene.certificates.get("1".zfill(40))
    assert first is not None
    await overwrite(scene.certificates, first.record.changed(state=state, revocation_reason=reason))
    assert (await scene.sweep())["retired"] == 1
    assert scene.accepted() == [thumbprint("g-ca2")]
    record = await scene.record()
    assert (record.issuer, record.previous_issuer) == ("g-ca2", None)
    assert record.rollover is not None
    assert (record.rollover.state, record.rollover.retired_at) == ("retired", scene.now)
    assert scene.events()[-1] == ("EnrollmentGroupChanged/g/roll/retired", "retire")


async def test_a_retirement_that_is_killed_after_any_step_is_carried_on() -> None:
    """Killed after each step in turn, the next sweep ends it the same, with one event."""
    for after in range(1, 100):
        scene = await Scene().set_up()
        await scene.roll()
        scene.now = NOW + timedelta(days=366)
        scene.trap = Trap(after)
        with suppress(Killed):
            await scene.rollovers.sweep()
        if scene.trap.steps < after:
            break
        await scene.rollovers.sweep()
        await scene.rollovers.sweep()
        record = await scene.record()
        assert record.rollover is not None
        assert record.rollover.state == "retired"
        assert scene.accepted() == [thumbprint("g-ca2")]
        assert set(scene.events()) == {
            ("EnrollmentGroupChanged/g/roll", "roll"),
            ("EnrollmentGroupChanged/g/roll/retired", "retire"),
        }
    assert after == 6, "decision, entry in DPS, ledger, event, that it was told: five steps, and then none is left"


async def test_a_retirement_does_not_displace_a_change() -> None:
    """A request that was entered just before it comes first; the next sweep looks again."""
    scene = await Scene().set_up()
    await scene.roll()
    scene.now = NOW + timedelta(days=366)
    known = await scene.groups.get("g")
    assert known is not None
    change = Change(
        request="r",
        action=ChangeAction.DISABLE,
        state=GroupState.DISABLED,
        issuer="g-ca2",
        decided_at=NOW,
        asked={STATUS: NOW},
    )
    await scene.groups.replace(known, known.record.changed(change=change))
    idle: Any = Idle()
    assert await replace(scene.rollovers, converger=idle).sweep() == {"preparing": 0, "rolling": 1, "retired": 0}
    assert (await scene.record()).change == change


class Idle:
    """A converger that was called a moment too early."""

    async def settle(self, _group_id: str) -> None:
        return

    async def prepare(self, _group_id: str) -> None:
        return


async def test_a_device_on_hold_keeps_the_old_ca() -> None:
    """A certificate on hold may be reinstated, so it counts; a final revocation does not."""
    scene = await Scene().set_up()
    await scene.roll()
    scene.now += SETTLING
    known = await scene.certificates.get("1".zfill(40))
    assert known is not None
    on_hold = known.record.changed(state=CertificateState.REVOKED, revocation_reason=RevocationReason.CERTIFICATE_HOLD)
    await overwrite(scene.certificates, on_hold)
    assert (await scene.sweep())["rolling"] == 1
    await overwrite(scene.certificates, on_hold.changed(revocation_reason=RevocationReason.KEY_COMPROMISE))
    assert (await scene.sweep())["retired"] == 1


async def test_a_serial_number_that_was_never_signed_does_not_keep_the_old_ca_for_ever() -> None:
    """A reservation counts for a day, in which its attempt may still sign; then it is taken out of the index."""
    scene = await Scene().set_up()
    known = await scene.certificates.get("1".zfill(40))
    assert known is not None
    await overwrite(
        scene.certificates, known.record.model_copy(update={"state": CertificateState.RESERVED, "not_after": None})
    )
    await scene.roll()
    scene.now += SETTLING
    assert (await scene.sweep())["rolling"] == 1
    scene.now += timedelta(days=1)
    assert (await scene.sweep())["retired"] == 1


async def test_the_old_ca_is_not_retired_while_it_may_still_sign() -> None:
    """Nothing is in use, and yet the sweep waits: a worker may have looked up the old CA just before the roll."""
    scene = await Scene().set_up()
    known = await scene.certificates.get("1".zfill(40))
    assert known is not None
    await overwrite(scene.certificates, known.record.changed(state=CertificateState.SUPERSEDED))
    await scene.roll()
    scene.now += SETTLING - timedelta(seconds=1)
    assert (await scene.sweep())["rolling"] == 1
    scene.now += timedelta(seconds=1)
    assert (await scene.sweep())["retired"] == 1


async def test_a_second_roll_is_refused_until_the_old_ca_is_retired() -> None:
    """While one is under way another is refused and told why; after the retirement it is carried out."""
    scene = await Scene().set_up()
    await scene.roll()
    with pytest.raises(Conflict) as refused:
        await scene.roll("again")
    assert str(refused.value) == (
        "action: a rollover of 'g' from 'g-ca1' to 'g-ca2' is under way since 2026-03-01 12:00 UTC, and DPS holds two "
        "issuing CAs of a group at a time; roll again when 'g-ca1' is retired, after its last certificate has expired "
        "or was superseded or revoked"
    )
    scene.now = NOW + timedelta(days=366)
    await scene.rollovers.sweep()
    await scene.roll("third")
    record = await scene.record()
    assert (record.issuer, record.previous_issuer) == ("g-ca3", "g-ca2")
    assert scene.accepted() == [thumbprint("g-ca2"), thumbprint("g-ca3")]


async def rolling_to_a_revoked_ca(trap: Trap | None = None) -> Scene:
    """A group in which another CA has taken over, and was revoked while the old one has a certificate in use."""
    scene = await Scene().set_up()
    await scene.roll()
    scene.authorities.ended["g-ca2"] = AuthorityState.REVOKED
    scene.trap = trap or Trap()
    return scene


async def test_a_group_whose_new_ca_is_revoked_is_rolled_to_another_before_the_old_one_retires() -> None:
    """The revoked CA leaves DPS, the old one stays for its devices, and retires as it would have."""
    scene = await rolling_to_a_revoked_ca()
    await scene.roll("again")
    record = await scene.record()
    assert (record.issuer, record.previous_issuer, record.state) == ("g-ca3", "g-ca1", GroupState.ENABLED)
    assert scene.accepted() == [thumbprint("g-ca1"), thumbprint("g-ca3")]
    assert record.authorities == {"g-ca1", "g-ca3"}
    assert record.rollover is not None
    assert (record.rollover.source, record.rollover.target, record.rollover.replaces) == ("g-ca1", "g-ca3", None)
    scene.now = NOW + timedelta(days=366)
    assert (await scene.sweep())["retired"] == 1
    assert scene.accepted() == [thumbprint("g-ca3")]


async def test_a_revoked_ca_that_somebody_took_out_of_dps_does_not_hinder_its_replacement() -> None:
    """The place that it had is free."""
    scene = await rolling_to_a_revoked_ca()
    del scene.provisioning.groups["g"]["attestation"]["x509"]["signingCertificates"]["secondary"]
    await scene.roll("again")
    assert scene.accepted() == [thumbprint("g-ca1"), thumbprint("g-ca3")]


async def test_the_replacement_of_a_revoked_ca_that_is_killed_after_any_step_is_carried_on() -> None:
    """By its message, or by the sweep: it ends the same, with one event."""
    for after in range(1, 100):
        scene = await rolling_to_a_revoked_ca(Trap(after))
        with suppress(Killed):
            await scene.roll("again")
        if scene.trap.steps < after:
            break
        await (scene.roll("again") if after % 2 else scene.rollovers.sweep())
        record = await scene.record()
        if record.rollover is not None and record.rollover.request == "roll":
            assert after == 1, "nothing was entered yet, and a sweep can't know of it"
            continue
        assert (record.issuer, record.previous_issuer) == ("g-ca3", "g-ca1")
        assert scene.accepted() == [thumbprint("g-ca1"), thumbprint("g-ca3")]
        assert len(set(scene.events())) == 2
    assert after == 7, "intent, CA, entry in DPS, take-over, event, ledger: six steps, and then none is left"


async def test_a_replacement_of_a_revoked_ca_that_dps_refuses_leaves_the_rollover_as_it_was() -> None:
    """The old CA still retires by it, and another roll is taken."""
    scene = await rolling_to_a_revoked_ca()
    before, put_group = (await scene.record()).rollover, scene.provisioning.put_group

    async def refusing(_group: Any, *, etag: str | None = None) -> None:
        del etag
        raise Rejected.because("DPS takes no such certificate")

    scene.provisioning.put_group = refusing  # type: ignore[method-assign, assignment]
    with pytest.raises(Rejected, match="DPS takes no such certificate"):
        await scene.roll("again")
    assert before is not None
    assert (await scene.record()).rollover == before
    scene.provisioning.put_group = put_group  # type: ignore[method-assign]
    await scene.roll("third")
    assert scene.accepted() == [thumbprint("g-ca1"), thumbprint("g-ca4")]


@pytest.mark.parametrize("state", [AuthorityState.RETIRED, AuthorityState.DISABLED])
async def test_a_new_ca_whose_devices_are_still_let_in_is_not_replaced(state: AuthorityState) -> None:
    """Retired or disabled it only signs nothing: DPS has two places, and each has devices."""
    scene = await rolling_to_a_revoked_ca()
    scene.authorities.ended["g-ca2"] = state
    with pytest.raises(Conflict, match=r"^action: a rollover of 'g' from 'g-ca1' to 'g-ca2' is under way since "):
        await scene.roll("again")


async def test_a_group_is_not_rolled_back_to_the_ca_that_is_leaving() -> None:
    """DPS has it already, in the other place."""
    scene = await rolling_to_a_revoked_ca()
    with pytest.raises(Conflict) as refused:
        await scene.roll("back", issuer="g-ca1")
    assert str(refused.value) == "issuer: 'g-ca1' is leaving the group 'g'; name another, or none to have one made"
    assert scene.accepted() == [thumbprint("g-ca1"), thumbprint("g-ca2")]


async def test_what_somebody_else_put_beside_a_revoked_ca_is_not_replaced() -> None:
    """A primary that the app did not put there may have devices."""
    scene = await rolling_to_a_revoked_ca()
    held = scene.provisioning.groups["g"]["attestation"]["x509"]["signingCertificates"]
    held["primary"] = {"info": {"sha256Thumbprint": "AB"}}
    scene.table.step = scene.queues.step = lambda: None
    with pytest.raises(Conflict, match="has other signing certificates than this app put there"):
        await scene.roll("again")
    assert "g-ca3" not in scene.authorities.made


async def test_what_somebody_else_put_into_dps_is_not_replaced() -> None:
    """A group whose secondary place is taken by hand is not rolled, before anything is made."""
    scene = await Scene().set_up()
    held = scene.provisioning.groups["g"]["attestation"]["x509"]["signingCertificates"]
    held["secondary"] = {"info": {"sha256Thumbprint": "AB"}}
    with pytest.raises(Conflict) as refused:
        await scene.roll()
    assert str(refused.value) == (
        "action: in the DPS the enrollment group 'g' has other signing certificates than this app put there (SHA-256 "
        f"of the primary {thumbprint('g-ca1')}, of the secondary AB); replacing them could cut devices off: put them "
        "right in the DPS first"
    )
    assert (await scene.record()).rollover is None
    assert scene.authorities.made == {"g-ca1", "shared-ca"}


async def test_a_retirement_that_finds_dps_changed_says_so_and_leaves_it() -> None:
    """The sweep does not touch what somebody else put into DPS; the rollover shows the problem."""
    scene = await Scene().set_up()
    await scene.roll()
    held = scene.provisioning.groups["g"]["attestation"]["x509"]["signingCertificates"]
    held["primary"] = {"info": {"sha256Thumbprint": "AB"}}
    scene.table.step = scene.queues.step = lambda: None
    scene.now = NOW + timedelta(days=366)
    await scene.rollovers.sweep()
    record = await scene.record()
    assert record.rollover is not None
    assert record.rollover.state == "rolling"
    assert (record.rollover.problem or "").startswith("action: in the DPS the enrollment group 'g' has other signing")


async def test_a_long_problem_is_noted_once() -> None:
    """A problem that does not fit is cut, and a sweep that meets it again does not write the group again."""
    scene = await Scene().set_up()
    await scene.roll()
    held = scene.provisioning.groups["g"]["attestation"]["x509"]["signingCertificates"]
    held["primary"] = {"info": {"sha256Thumbprint": "AB" * 600}}
    scene.table.step = scene.queues.step = lambda: None
    scene.now = NOW + timedelta(days=366)
    await scene.rollovers.sweep()
    noted = await scene.groups.get("g")
    assert noted is not None
    assert noted.record.rollover is not None
    assert len(noted.record.rollover.problem or "") == 1000
    await scene.rollovers.sweep()
    assert await scene.groups.get("g") == noted


async def test_a_roll_that_dps_refuses_makes_room_for_another() -> None:
    """What can never succeed is withdrawn, so that the next roll is taken; that one makes a CA of another name."""
    scene = await Scene().set_up()
    put_group = scene.provisioning.put_group

    async def refusing(_group: Any, *, etag: str | None = None) -> None:
        del etag
        raise Rejected.because("DPS takes no such certificate")

    scene.provisioning.put_group = refusing  # type: ignore[method-assign, assignment]
    with pytest.raises(Rejected, match="DPS takes no such certificate"):
        await scene.roll()
    record = await scene.record()
    assert (record.issuer, record.rollover) == ("g-ca1", None)
    scene.provisioning.put_group = put_group  # type: ignore[method-assign]
    await scene.roll("again")
    assert (await scene.record()).issuer == "g-ca3"


async def test_a_roll_based_on_what_has_changed_is_refused() -> None:
    """With the ETag that was read before somebody else's change, nothing is begun."""
    scene = await Scene().set_up()
    stale = scene.provisioning.groups["g"]["etag"]
    await scene.provisioning.put_group(entry(authority("g-ca1").certificate), etag=ANY_VERSION)
    with pytest.raises(PreconditionFailed, match="the enrollment group 'g' was changed since it was read"):
        await scene.roll(if_match=stale)
    assert (await scene.record()).rollover is None


async def test_a_named_ca_takes_over_and_the_present_one_does_not() -> None:
    """A roll can name an issuing CA that exists; naming the one in use is refused."""
    scene = await Scene().set_up()
    with pytest.raises(Conflict, match="issuer: 'g-ca1' is the group's issuing CA already; name another"):
        await scene.roll("same", issuer="g-ca1")
    await scene.roll("named", issuer="shared-ca")
    assert (await scene.record()).issuer == "shared-ca"
    assert scene.accepted() == [thumbprint("g-ca1"), thumbprint("shared-ca")]


async def test_one_failing_group_does_not_stop_the_others() -> None:
    """A service that fails for one group is reported after the others were looked at."""
    scene = await Scene().set_up()
    await scene.roll()
    record = await scene.record()
    await scene.groups.insert(record.changed(enrollment_group="a-lost"))
    scene.now = NOW + timedelta(days=366)

    get_group = scene.provisioning.get_group

    async def failing(group_id: str) -> dict[str, Any] | None:
        if group_id == "a-lost":
            raise ConnectionError("no route")
        return await get_group(group_id)

    scene.provisioning.get_group = failing  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup, match="rollovers could not go on"):
        await scene.rollovers.sweep()
    assert scene.accepted() == [thumbprint("g-ca2")]


async def test_a_rollover_of_a_group_that_was_deleted_meanwhile_is_left_as_it_is() -> None:
    """Nothing of it is counted, and DPS is not asked for a group that is gone."""
    scene = await Scene().set_up()
    await scene.roll()
    known = await scene.groups.get("g")
    assert known is not None
    assert known.record.rollover is not None
    assert known.record.rollover.under_way
    await scene.groups.replace(known, known.record.model_copy(update={"state": GroupState.DELETED}))
    scene.now = NOW + timedelta(days=366)
    before = (await scene.record()).rollover
    assert await scene.rollovers.sweep() == {"preparing": 0, "rolling": 0, "retired": 0}
    assert (await scene.record()).rollover == before
