"""Acts on CAs: what each does, to whom, when it is refused, and that all of it is done however often it is begun."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from shared.acting import acting
from shared.contracts.authorities import AuthorityAct
from shared.contracts.messages import Queue
from shared.contracts.parsing import parse
from shared.domain.authorities import AuthorityAction, AuthorityChange, AuthorityState, ProofOfPossession
from shared.domain.authority_acts import BECOMES, check_possible
from shared.domain.callers import Actor, CallerKind
from shared.domain.certificates import CertificateRecord, CertificateState, RevocationRecord
from shared.domain.devices import DeviceRecord
from shared.domain.groups import GroupRecord, GroupState
from shared.domain.held_certificates import CertificateSummary
from shared.domain.request_parts import part_note
from shared.domain.requests import Progress, RequestState, advanced, done, waits
from shared.domain.words import CertificateKind, DeviceState, KeyCustody, RevocationReason
from shared.errors import Conflict, Deferred, Rejected
from shared.ledger.requests import Requests
from shared.ledger.table import Stale
from shared.workflows.authorities.changes import change
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.devices.authority_devices import AuthorityDevices
from shared.workflows.many import pages
from tests.pki.hierarchy import NOW
from tests.records import held_certificate
from tests.unit.authorities import AuthorityScene
from tests.unit.fakes import FakeTable
from tests.unit.test_authority_audit import ca
from tests.unit.test_owned_authorities import FakeService
from tests.world.certificates import overwrite

if TYPE_CHECKING:
    from shared.domain.authorities import AuthorityRecord

LINE = AuthorityDefinition(
    name="line", kind=CertificateKind.INTERMEDIATE, parent="root", path_length=0, custody=KeyCustody.WRAPPED
)
MINUTE = timedelta(minutes=1)


class FreedService(FakeService):
    """A service of which a place can be freed."""

    async def delete(self, name: str, etag: str) -> None:
        assert self.certificates[name].etag == etag
        del self.certificates[name]


async def scene_with_line(**fields: Any) -> AuthorityScene:
    """A root, an issuing CA below it, and the group ``line`` that has the CA."""
    scene = AuthorityScene(**fields)
    await scene.root("root")
    await scene.worker().creation.ensure(LINE, cause="make-line")
    await scene.groups.insert(
        GroupRecord(
            enrollment_group="g", state=GroupState.ENABLED, issuer="line", updated_at=NOW, last_request="make-group"
        )
    )
    scene.queues.sent.clear()
    scene.lists.published.clear()
    return scene


async def device(
    scene: AuthorityScene,
    name: str,
    *,
    number: int,
    used: bool = True,
    state: CertificateState = CertificateState.ACTIVE,
) -> str:
    """Enter a device with a certificate in force of the CA ``line``; one that it has used before, if not used."""
    serial = f"{number:040x}"
    held = held_certificate(serial, NOW, issuer="line")
    row = CertificateRecord(
        serial_number=serial,
        kind=CertificateKind.DEVICE,
        state=state,
        subject=name,
        issuer="line",
        cause="o",
        recorded_at=NOW,
        not_before=NOW,
        not_after=NOW + timedelta(days=300),
    )
    summary = CertificateSummary(
        serial_number=serial, thumbprint="A", not_before=NOW, not_after=NOW + timedelta(days=300), issuer="line"
    )
    await scene.certificates.try_add(row)
    await scene.certificates.enter_in_force(row, until=NOW + timedelta(days=300))
    if await scene.devices.get(name) is None:
        record = DeviceRecord(
            registration_id=name,
            state=DeviceState.REGISTERED,
            order_id="o",
            updated_at=NOW,
            enrollment_group="g",
            certificate=summary if used else None,
            held=(held,),
        )
        await scene.devices.insert(record)
    return serial


async def act(scene: AuthorityScene, name: str, action: AuthorityAction, request: str = "", **fields: Any) -> None:
    body = {"requestId": request or f"{action}-{name}", "name": name, "action": action.value, **fields}
    await scene.worker().acts.carry_out(parse(AuthorityAct, body))


async def state_of(scene: AuthorityScene, name: str) -> str:
    return (await record_of(scene, name)).state.value


async def record_of(scene: AuthorityScene, name: str) -> AuthorityRecord:
    known = await scene.records.get(name)
    assert known is not None
    return known.record


def told(scene: AuthorityScene) -> list[dict[str, Any]]:
    return [
        body["data"]
        for queue, body, _ in scene.queues.sent
        if queue == "provisioning-events" and body["type"].endswith(".CertificateAuthorityChanged")
    ]


def asked(scene: AuthorityScene, queue: str) -> list[dict[str, Any]]:
    return [body["data"] for name, body, _ in scene.queues.sent if name == queue]


async def gone_through(scene: AuthorityScene, name: str) -> None:
    """Enter that the request for a revoked CA's devices is done."""
    request = (await record_of(scene, name)).devices_request
    known = await scene.requests.get("revocation-requests", request or "")
    assert known is not None
    await scene.requests.enter(known.record, done(scene.now))


# --- what may follow what ---

STATES: dict[AuthorityAction, set[str]] = {
    AuthorityAction.DISABLE: {"active", "disabled"},
    AuthorityAction.ENABLE: {"active", "disabled"},
    AuthorityAction.RETIRE: {"active", "disabled", "retired"},
    AuthorityAction.REVOKE: {"active", "disabled", "retired", "revoked"},
    AuthorityAction.DELETE: {"awaitingCertificate", "signed", "disabled", "retired", "revoked", "deleted"},
}


@pytest.mark.parametrize("action", BECOMES)
@pytest.mark.parametrize("state", AuthorityState)
def test_an_act_is_possible_in_the_states_that_lead_on_and_in_the_one_it_leads_to(
    action: AuthorityAction, state: AuthorityState
) -> None:
    """Each refusal names the state, and what would be right."""
    if state.value in STATES[action]:
        check_possible(ca(state), action)
        return
    with pytest.raises(Conflict, match=rf"is {state.value}, so it can't be .*: .+"):
        check_possible(ca(state), action)


def test_a_ca_that_can_not_be_made_can_be_deleted() -> None:
    """Its row says why it can't be made; one that is being made is left to whoever makes it."""
    check_possible(ca(AuthorityState.REQUESTED, problem="its name is taken"), AuthorityAction.DELETE)


async def test_an_active_ca_is_deleted_after_it_was_retired() -> None:
    """As it is: a CA that signs could sign at the moment it is deleted."""
    scene = await scene_with_line()
    with pytest.raises(Conflict, match=r"'line' is active, so it can't be deleted: retire it first"):
        await act(scene, "line", AuthorityAction.DELETE)


# --- disable, enable, retire ---


async def test_a_disabled_ca_signs_nothing_until_it_is_enabled() -> None:
    """What waits for it is put back; and its group is told."""
    scene = await scene_with_line()
    await act(scene, "line", AuthorityAction.DISABLE, comment="ticket 1")
    with pytest.raises(Deferred, match="'line' is disabled and signs nothing until it is enabled"):
        await scene.worker().authorities.check_signs("line")
    with pytest.raises(Deferred, match="'line' is disabled"):
        await scene.worker().possession.verification_certificate("line", "CODE", cause="x")
    await act(scene, "line", AuthorityAction.ENABLE)
    await scene.worker().authorities.check_signs("line")
    assert told(scene) == [
        {
            "actor": None,
            "name": "line",
            "action": "disable",
            "state": "disabled",
            "reason": None,
            "comment": "ticket 1",
            "enrollmentGroups": ["g"],
        },
        {
            "actor": None,
            "name": "line",
            "action": "enable",
            "state": "active",
            "reason": None,
            "comment": None,
            "enrollmentGroups": ["g"],
        },
    ]


async def test_nothing_is_made_below_a_ca_that_is_disabled_or_retired() -> None:
    """Asked for while it is disabled, it waits; below one that is retired, it is refused in words."""
    scene = await scene_with_line()
    below = AuthorityDefinition(name="other", kind=CertificateKind.INTERMEDIATE, parent="root", path_length=0)
    await act(scene, "root", AuthorityAction.DISABLE)
    with pytest.raises(Deferred, match="'root' is disabled"):
        await scene.worker().creation.ensure(below, cause="r1")
    await act(scene, "root", AuthorityAction.RETIRE)
    with pytest.raises(Conflict, match="'root' is retired and signs nothing any more; roll its group to another CA"):
        await scene.worker().creation.ensure(below, cause="r1")
    assert await scene.records.get("other") is None


async def test_what_a_worker_has_seen_of_a_ca_counts_for_seconds() -> None:
    """A worker that has just looked goes on for five seconds, which a deletion waits for; then it looks again."""
    scene = await scene_with_line()
    worker = scene.worker()
    await worker.authorities.check_signs("line")
    await act(scene, "line", AuthorityAction.RETIRE)
    await worker.authorities.check_signs("line")
    scene.now += timedelta(seconds=6)
    with pytest.raises(Conflict, match="'line' is retired"):
        await worker.authorities.check_signs("line")


# --- revoke ---


async def test_a_ca_that_is_revoked_is_on_its_issuers_list_and_shut_out_everywhere() -> None:
    """Its certificate, its group, its devices; and the event says what was done once all of it is on its way."""
    scene = await scene_with_line()
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    record = await record_of(scene, "line")
    assert (record.state, record.revocation_reason, record.change) == ("revoked", "keyCompromise", None)
    listed = [each async for each in scene.certificates.revoked_by("root")]
    assert [(each.serial_number, each.reason) for each in listed] == [(record.serial_number, "keyCompromise")]
    assert scene.lists.published == ["root"]
    row = await scene.certificates.get(record.serial_number or "")
    assert row is not None
    assert (row.record.state, row.record.revocation_reason) == ("revoked", "keyCompromise")
    (disabled,) = asked(scene, "enrollment-group-requests")
    assert (disabled["enrollmentGroup"], disabled["action"]) == ("g", "disable")
    (revoked,) = asked(scene, "revocation-requests")
    assert (revoked["issuer"], revoked["reason"]) == ("line", "keyCompromise")
    assert told(scene)[-1]["state"] == "revoked"


async def test_a_revoked_root_leaves_its_places_and_takes_the_cas_below_it_along() -> None:
    """No list names a root: the services forget it. What it has signed counts for nothing."""
    service = FreedService()
    scene = await scene_with_line(verifiers=[service])
    assert (await record_of(scene, "root")).proof_of_possession is ProofOfPossession.VERIFIED
    await act(scene, "root", AuthorityAction.REVOKE, reason="keyCompromise")
    assert (service.certificates, (await record_of(scene, "root")).proof_of_possession) == ({}, None)
    below = await record_of(scene, "line")
    assert below.state is AuthorityState.REVOKED
    assert below.change is not None
    assert below.change.comment == "'root' above it was revoked"
    (message,) = [each for each in asked(scene, "enrollment-group-requests") if "name" in each]
    await scene.worker().acts.carry_out(parse(AuthorityAct, message))
    assert (await record_of(scene, "line")).change is None
    assert [each.serial_number async for each in scene.certificates.revoked_by("root")] == [below.serial_number]
    assert [(each["name"], each["enrollmentGroups"]) for each in told(scene)] == [("root", ["g"]), ("line", ["g"])]


async def test_the_place_of_another_ca_of_that_name_is_left() -> None:
    """Somebody else has put it there."""
    service = FreedService()
    scene = await scene_with_line(verifiers=[service])
    others = service.certificates["root"].__class__(verified=True, etag="9", thumbprint="OTHER")
    service.certificates["root"] = others
    await act(scene, "root", AuthorityAction.REVOKE, reason="keyCompromise")
    assert service.certificates == {"root": others}


async def test_many_devices_are_revoked_when_their_number_is_repeated() -> None:
    """Two may go without; a tenth more or less has come or gone meanwhile."""
    scene = await scene_with_line()
    for number in range(1, 21):
        await device(scene, f"press-{number}", number=number)
    with pytest.raises(Conflict, match=r"the CA 'line' has 20 devices, .* devices is not given; .* devices 20"):
        await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    with pytest.raises(Conflict, match="devices is 17; to revoke them all, repeat the number: devices 20"):
        await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise", devices=17)
    assert await state_of(scene, "line") == "active"
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise", devices=18)
    assert await state_of(scene, "line") == "revoked"


async def members(scene: AuthorityScene, name: str, size: int) -> list[list[str]]:
    """Give page after page of what is revoked with a CA: names of devices, or serial numbers of certificates alone."""
    of_authorities = AuthorityDevices(
        reach=scene.worker().reach,
        certificates=scene.certificates,
        devices=scene.devices,
        clock=scene.clock,
    )
    return [
        [each.serial_number or each.device.registration_id for each in page]
        async for page in pages(partial(of_authorities.page, name), size=size)
    ]


async def test_devices_that_get_in_are_revoked_first_and_what_nobody_uses_last() -> None:
    """Of a CA and of those below it; then those whose certificates nobody knows, which may be of any CA of the group."""
    scene = await scene_with_line()
    former = await device(scene, "press-1", number=1, used=False)
    await device(scene, "press-2", number=2)
    held = await scene.devices.get("press-2")
    assert held is not None
    on_hold = held.record.changed(state=DeviceState.REVOKED, revoked=RevocationReason.CERTIFICATE_HOLD)
    await scene.devices.replace(held, on_hold)
    await device(scene, "press-3", number=3)
    await device(scene, "press-4", number=4)
    await device(scene, "press-4", number=5)  # it has had this one before, and is revoked with all that it has
    for name, group in (("unknown", "g"), ("elsewhere", "other")):
        await scene.devices.insert(
            DeviceRecord(
                registration_id=name,
                state=DeviceState.REGISTERED,
                order_id="o",
                updated_at=NOW,
                enrollment_group=group,
                unseen=True,
            )
        )
    wanted = ["press-3", "press-4", "unknown", former, "press-2"]
    for size in (1, 2, 100):
        found = await members(scene, "root", size)
        assert [each for page in found for each in page] == wanted
        assert max(map(len, found)) <= size
    await act(scene, "root", AuthorityAction.REVOKE, reason="keyCompromise", devices=4)
    assert [each for page in await members(scene, "line", 2) for each in page] == wanted


async def test_devices_are_gone_through_though_their_group_left_the_ca_or_their_row_went_between_two_pages() -> None:
    """The group is rolled to another CA while its devices are revoked: what comes after it is not passed over."""
    scene = await scene_with_line()
    await device(scene, "former", number=1, used=False)
    for name in ("unseen-1", "unseen-2"):
        await scene.devices.insert(
            DeviceRecord(
                registration_id=name,
                state=DeviceState.REGISTERED,
                order_id="o",
                updated_at=NOW,
                enrollment_group="g",
                unseen=True,
            )
        )
    authority_devices = AuthorityDevices(
        certificates=scene.certificates, devices=scene.devices, reach=scene.worker().reach, clock=scene.clock
    )
    found, following = await authority_devices.page("root", size=1, continuation=None)
    assert [each.device.unseen for each in found] == [True]
    known = await scene.groups.get("g")
    assert known is not None
    await scene.groups.replace(known, known.record.changed(issuer="another"))
    of_nobody = CertificateRecord(
        serial_number=f"{9:040x}",
        kind=CertificateKind.DEVICE,
        state=CertificateState.ACTIVE,
        subject="nobody",
        issuer="line",
        cause="o",
        recorded_at=NOW,
    )
    await scene.certificates.try_add(of_nobody)
    await scene.certificates.enter_in_force(of_nobody, until=NOW + timedelta(days=9))
    left = []
    while following is not None:
        found, following = await authority_devices.page("root", size=1, continuation=following)
        left += [each.serial_number for each in found]
    assert left == [f"{1:040x}"]


async def test_a_device_whose_next_certificate_is_not_in_the_books_yet_is_not_passed_over() -> None:
    """Its record has the certificate that it is renewed with, and whoever enters that into the books has died, or will."""
    scene = await scene_with_line()
    await device(scene, "press-1", number=1)
    following = await device(scene, "press-1", number=2, state=CertificateState.RESERVED)
    known = await scene.devices.get("press-1")
    assert known is not None
    assert known.record.certificate is not None
    renewed = known.record.certificate.changed(serial_number=following)
    await scene.devices.replace(known, known.record.changed(next_certificate=renewed))
    assert await members(scene, "root", 100) == [["press-1"]]
    row = await scene.certificates.get(following)
    assert row is not None
    await scene.certificates.try_replace(row, row.record.changed(state=CertificateState.ACTIVE))
    assert await members(scene, "root", 100) == [["press-1"]], "once"


async def test_the_devices_of_a_ca_below_are_left_to_the_request_of_the_one_that_was_revoked() -> None:
    """They have one pace in common. The sweep asks for what is left when it has gone through them, for the same person."""
    scene = await scene_with_line()
    with acting(Actor(kind=CallerKind.USER, id="ada"), "ticket 4711"):
        await act(scene, "root", AuthorityAction.REVOKE, reason="keyCompromise", perMinute=60)
    (below,) = [each for each in asked(scene, "enrollment-group-requests") if "name" in each]
    await scene.worker().acts.carry_out(parse(AuthorityAct, below))
    (wanted,) = asked(scene, "revocation-requests")
    assert (wanted["issuer"], wanted["perMinute"]) == ("root", 60)
    disabled = {each["requestId"] for each in asked(scene, "enrollment-group-requests") if "enrollmentGroup" in each}
    rows = [await scene.requests.get("enrollment-group-requests", each) for each in disabled]
    assert [known.record.actor.id for known in rows if known and known.record.actor] == ["ada"]
    await device(scene, "late", number=7)
    await scene.worker().converger.sweep()
    assert len(asked(scene, "revocation-requests")) == 1
    await gone_through(scene, "line")
    await scene.worker().converger.sweep()
    late = asked(scene, "revocation-requests")[1]
    assert late["registrationId"] == "late"
    known = await scene.requests.get("revocation-requests", late["requestId"])
    assert known is not None
    assert known.record.actor is not None
    assert (known.record.actor.id, known.record.comment) == ("ada", "ticket 4711")


async def test_the_sweep_shuts_out_what_was_under_way_when_its_ca_was_revoked() -> None:
    """A certificate that was decided on before is signed a moment later; and a group that is enabled is disabled."""
    scene = await scene_with_line()
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    await gone_through(scene, "line")
    scene.queues.sent.clear()
    await device(scene, "late", number=7)
    await scene.worker().converger.sweep()
    assert [each["registrationId"] for each in asked(scene, "revocation-requests")] == ["late"]
    assert [each["enrollmentGroup"] for each in asked(scene, "enrollment-group-requests")] == ["g"]
    assert told(scene) == []
    await scene.worker().converger.sweep()
    assert len(asked(scene, "revocation-requests")) == 2, "it asks until the certificate is not in force any more"


async def test_the_sweep_does_not_wait_for_a_request_that_was_set_aside() -> None:
    """Nobody is at work on it until an operator replays it, and a door is not left open for so long."""
    scene = await scene_with_line()
    await device(scene, "press-1", number=1)
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise", perMinute=1)
    (whole,) = asked(scene, "revocation-requests")
    known = await scene.requests.get("revocation-requests", whole["requestId"])
    assert known is not None
    await scene.worker().converger.sweep()
    assert asked(scene, "revocation-requests") == [whole], "its message is on its way"
    set_aside = waits("an operator", at=scene.now, next_try=None, rejection_id="rejection-1")
    await scene.requests.enter(known.record, set_aside)
    await scene.worker().converger.sweep()
    assert [each["registrationId"] for each in asked(scene, "revocation-requests")[1:]] == ["press-1"]


@pytest.mark.parametrize("due", [timedelta(0), timedelta(days=3)])
async def test_the_sweep_does_not_wait_for_ever_for_a_request_that_does_not_go_on(due: timedelta) -> None:
    """Its message is gone: an app of the version before has refused it, as after a rollback. What is due later can wait."""
    scene = await scene_with_line()
    await device(scene, "press-1", number=1)
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise", perMinute=1)
    (whole,) = asked(scene, "revocation-requests")
    known = await scene.requests.get("revocation-requests", whole["requestId"])
    assert known is not None
    if due:
        await scene.requests.enter(known.record, advanced(None, Progress(continuation="1|line|", next_at=NOW + due)))
    scene.now = NOW + due + timedelta(hours=23)
    await scene.worker().converger.sweep()
    assert asked(scene, "revocation-requests") == [whole]
    scene.now += timedelta(hours=2)
    await scene.worker().converger.sweep()
    assert [each["registrationId"] for each in asked(scene, "revocation-requests")[1:]] == ["press-1"]


async def test_the_sweep_leaves_devices_to_their_request_while_parts_of_it_are_open() -> None:
    """All were sent and one is not done: asked for twice, a device that is renewed meanwhile would be revoked again."""
    scene = await scene_with_line()
    await device(scene, "press-1", number=1)
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    (whole,) = asked(scene, "revocation-requests")
    known = await scene.requests.get("revocation-requests", whole["requestId"])
    assert known is not None
    await scene.requests.enter(known.record, advanced(None, Progress(continuation=None, next_at=None)))
    part = known.record.changed(request_id="part", whole=whole["requestId"], state=RequestState.RUNNING)
    note = part_note(part, scene.now)
    assert note is not None
    await scene.requests.claim(part)
    await scene.requests.expect_part(note)
    await scene.worker().converger.sweep()
    assert asked(scene, "revocation-requests") == [whole]
    await scene.requests.enter(part, done(scene.now))
    await scene.worker().converger.sweep()
    assert [each["registrationId"] for each in asked(scene, "revocation-requests")[1:]] == ["press-1"]


async def test_the_sweep_does_not_wait_for_ever_for_a_request_that_is_not_kept() -> None:
    """What came of it may be forgotten after a day; within that day its row may not be there yet."""
    scene = await scene_with_line()
    await device(scene, "press-1", number=1)
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    scene.requests = scene.worker().requests = Requests(FakeTable())
    scene.queues.sent.clear()
    scene.now = NOW + timedelta(hours=23)
    await scene.worker().converger.sweep()
    assert asked(scene, "revocation-requests") == []
    scene.now += timedelta(hours=2)
    await scene.worker().converger.sweep()
    assert [each["registrationId"] for each in asked(scene, "revocation-requests")] == ["press-1"]


async def test_the_sweep_asks_for_what_is_left_of_a_ca_whose_devices_nobody_was_asked_for() -> None:
    """Its row names no request for them: there is nothing to wait for."""
    scene = await scene_with_line()
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    known = await scene.records.get("line")
    assert known is not None
    await scene.records.replace(known, known.record.changed(devices_request=None))
    scene.queues.sent.clear()
    await device(scene, "late", number=7)
    await scene.worker().converger.sweep()
    assert [each["registrationId"] for each in asked(scene, "revocation-requests")] == ["late"]


async def test_the_sweep_leaves_what_is_not_signed_or_not_known_and_asks_for_the_others() -> None:
    """A serial number without a signature is nobody's certificate; one that gets one is found by the next sweep."""
    scene = await scene_with_line()
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    await gone_through(scene, "line")
    scene.queues.sent.clear()
    await device(scene, "reserved", number=1, state=CertificateState.RESERVED)
    await device(scene, "late", number=2)
    lost = CertificateRecord(
        serial_number=f"{3:040x}",
        kind=CertificateKind.DEVICE,
        state=CertificateState.ACTIVE,
        subject="nobody",
        issuer="line",
        cause="o",
        recorded_at=NOW,
    )
    await scene.certificates.enter_in_force(lost, until=NOW + timedelta(days=300))
    await scene.worker().converger.sweep()
    assert [each["registrationId"] for each in asked(scene, "revocation-requests")] == ["late"]


async def test_a_ca_below_that_another_act_is_done_to_is_revoked_by_the_next_sweep() -> None:
    """The CA above is revoked all the same."""
    scene = await scene_with_line()
    known = await scene.records.get("line")
    assert known is not None
    disabling = AuthorityChange(request="d", action=AuthorityAction.DISABLE, decided_at=NOW)
    changed = await scene.records.replace(known, known.record.changed(change=disabling))
    await act(scene, "root", AuthorityAction.REVOKE, reason="keyCompromise", devices=0)
    assert (await state_of(scene, "root"), await state_of(scene, "line")) == ("revoked", "active")
    await scene.records.replace(changed, changed.record.changed(change=None))
    await scene.worker().converger.sweep()
    assert await state_of(scene, "line") == "revoked"


async def test_a_certificate_of_a_ca_that_has_expired_is_not_put_on_a_list() -> None:
    """A list names what could still be used (RFC 5280 section 3.3)."""
    scene = await scene_with_line()
    serial = (await record_of(scene, "line")).serial_number or ""
    scene.now = (await record_of(scene, "line")).not_after or NOW
    scene.now += MINUTE
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    assert [each async for each in scene.certificates.revoked_by("root")] == []
    known = await scene.certificates.get(serial)
    assert known is not None
    assert known.record.state is CertificateState.ACTIVE, "its end is entered by the sweep of what ends"


async def test_a_ca_that_was_signed_and_never_opened_is_entered_as_revoked() -> None:
    """Its serial number alone is in the books: without its certificate OCSP would not say that it is revoked."""
    scene = await scene_with_line()
    record = await record_of(scene, "line")
    serial = record.serial_number or ""
    known = await scene.certificates.get(serial)
    assert known is not None
    reserved = CertificateRecord(
        serial_number=serial,
        kind=CertificateKind.INTERMEDIATE,
        state=CertificateState.RESERVED,
        subject="line",
        issuer="root",
        cause="make-line",
        recorded_at=NOW,
    )
    await overwrite(scene.certificates, reserved)
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    entered = await scene.certificates.get(serial)
    assert entered is not None
    assert (entered.record.state, entered.record.pem) == (CertificateState.REVOKED, record.certificate)
    assert [each.serial_number async for each in scene.certificates.revoked_by("root")] == [serial]


async def test_the_list_of_an_issuer_that_is_deleted_or_not_here_is_not_published() -> None:
    """Whoever signed it lists nothing any more; the revocation is carried out all the same."""
    scene = await scene_with_line()
    known = await scene.records.get("root")
    assert known is not None
    for state in (AuthorityState.RETIRED, AuthorityState.DELETED):
        known = await scene.records.replace(known, known.record.changed(state=state))
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    assert await state_of(scene, "line") == "revoked"
    assert "root" not in scene.lists.published


async def test_the_sweep_asks_for_a_certificate_whose_device_was_asked_for_before() -> None:
    """It has got another CA's certificate meanwhile: that is another request, and not the first one with other content."""
    scene = await scene_with_line()
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    await gone_through(scene, "line")
    serial = await device(scene, "press-1", number=1)
    await scene.worker().converger.sweep()
    known = await scene.devices.get("press-1")
    assert known is not None
    await scene.devices.replace(known, known.record.changed(certificate=None))
    await scene.worker().converger.sweep()
    first, second = asked(scene, "revocation-requests")[1:]
    assert (first["registrationId"], second["serialNumber"]) == ("press-1", serial)


async def test_a_revocation_says_why_and_is_final() -> None:
    """A hold is none of a CA: that one is disabled."""
    for reason in (None, "certificateHold", "because"):
        with pytest.raises(Rejected, match="a revoked CA stays revoked, and reason says why: one of unspecified, key"):
            parse(AuthorityAct, {"requestId": "r", "name": "ca", "action": "revoke", "reason": reason})
    for field in ("devices", "perMinute"):
        with pytest.raises(Rejected, match=f"{field} belongs to action 'revoke' only"):
            parse(AuthorityAct, {"requestId": "r", "name": "ca", "action": "retire", field: 1})


# --- delete ---


async def test_a_ca_is_deleted_when_nobody_needs_it_and_its_record_stays() -> None:
    """Its key that is kept here is gone, its certificate is on its issuer's list, and its name stays taken."""
    scene = await scene_with_line()
    await act(scene, "line", AuthorityAction.RETIRE)
    with pytest.raises(Conflict, match="'line' can't be deleted: it is a CA of the enrollment groups 'g'"):
        await act(scene, "line", AuthorityAction.DELETE)
    group = await scene.groups.get("g")
    assert group is not None
    await scene.groups.replace(group, group.record.changed(state=GroupState.DELETED))
    with pytest.raises(Deferred, match="certificates of 'line' may be under way"):
        await act(scene, "line", AuthorityAction.DELETE)
    scene.now += MINUTE
    await act(scene, "line", AuthorityAction.DELETE)
    record = await record_of(scene, "line")
    assert (record.state, record.wrapped_key, record.missing) == ("deleted", None, None)
    assert [each.reason async for each in scene.certificates.revoked_by("root")] == ["cessationOfOperation"]
    with pytest.raises(Conflict, match="'line' is deleted and signs nothing any more"):
        await scene.worker().authorities.check_signs("line")
    loaded = await scene.worker().authorities.loaded("line")
    assert (loaded.deleted, loaded.issuer.certificate.subject) == (True, _certificate(record).subject)
    await scene.worker().authorities.check()


def _certificate(record: AuthorityRecord) -> x509.Certificate:
    return x509.load_pem_x509_certificate((record.certificate or "").encode())


async def test_a_ca_of_which_certificates_are_in_force_or_listed_is_not_deleted() -> None:
    """Devices that have one, CAs below it, and revoked ones that have not expired: each is named."""
    scene = await scene_with_line()
    for name in ("line", "root"):
        await act(scene, name, AuthorityAction.RETIRE)
    scene.now += MINUTE
    with pytest.raises(Conflict, match="the CAs 'line' have certificates of it in force"):
        await act(scene, "root", AuthorityAction.DELETE)
    await device(scene, "press-1", number=1)
    with pytest.raises(Conflict, match="1 device has a certificate of it"):
        await act(scene, "line", AuthorityAction.DELETE)
    await scene.certificates.leave_in_force("line", f"{1:040x}")
    await scene.certificates.enter_revocation(
        RevocationRecord(
            serial_number=f"{1:040x}",
            issuer="line",
            revoked_at=NOW,
            reason=RevocationReason.SUPERSEDED,
            not_after=NOW + timedelta(days=300),
        )
    )
    with pytest.raises(Conflict, match="revoked certificates of it have not expired, and stand on its list until then"):
        await act(scene, "line", AuthorityAction.DELETE)
    assert await state_of(scene, "line") == "retired"


# --- previews ---


async def test_a_preview_says_what_an_act_would_do_and_to_how_many_and_does_nothing() -> None:
    """Of a root: the CA below it, the group, and its devices."""
    scene = await scene_with_line()
    for number in (1, 2, 3):
        await device(scene, f"press-{number}", number=number)
    found = await scene.worker().acts.preview("root", AuthorityAction.REVOKE)
    assert (found.authorities, found.enrollment_groups, found.devices) == (["root", "line"], ["g"], 3)
    assert (found.becomes, found.more_devices, found.repeat_devices) == ("revoked", False, True)
    assert "3 devices are revoked: DPS and their hubs let them in no more" in found.effects
    assert "1 CAs below it are revoked with it: line" in found.effects
    assert scene.queues.sent == []
    assert await state_of(scene, "root") == "active"


@pytest.mark.parametrize("action", BECOMES)
async def test_each_act_has_a_preview_that_says_what_it_leads_to(action: AuthorityAction) -> None:
    """In words that a person understands, of whom it concerns."""
    scene = await scene_with_line()
    state = {AuthorityAction.ENABLE: "disabled", AuthorityAction.DELETE: "retired"}.get(action, "active")
    group = await scene.groups.get("g")
    assert group is not None
    if action is AuthorityAction.DELETE:
        await scene.groups.replace(group, group.record.changed(state=GroupState.DELETED))
    if state != "active":
        await act(scene, "line", AuthorityAction.DISABLE if state == "disabled" else AuthorityAction.RETIRE)
    found = await scene.worker().acts.preview("line", action)
    assert (found.state, found.becomes) == (state, BECOMES[action])
    assert found.effects


# --- again ---


async def test_an_act_that_comes_again_is_told_once_and_another_one_helps_it_first() -> None:
    """A worker is gone before it has told: the next act has that done, and then its own."""
    scene = await scene_with_line()
    send = scene.queues.send

    async def no_answer(*_: Any, **__: Any) -> None:
        raise ConnectionError("no answer")

    scene.queues.send = no_answer  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await act(scene, "line", AuthorityAction.DISABLE)
    assert await state_of(scene, "line") == "disabled"
    scene.queues.send = send  # type: ignore[method-assign]
    await act(scene, "line", AuthorityAction.RETIRE)
    await act(scene, "line", AuthorityAction.DISABLE)
    assert [each["action"] for each in told(scene)] == ["disable", "retire"]
    assert await state_of(scene, "line") == "retired"


async def test_the_sweep_tells_an_act_for_whoever_asked_for_it() -> None:
    """Its worker is gone; a minute later the sweep has everything follow, and the event names who asked, and why."""
    scene = await scene_with_line()
    send = scene.queues.send

    async def no_answer(*_: Any, **__: Any) -> None:
        raise ConnectionError("no answer")

    scene.queues.send = no_answer  # type: ignore[method-assign]
    with acting(Actor(kind=CallerKind.USER, id="ada"), "ticket 4711"), pytest.raises(ConnectionError):
        await act(scene, "line", AuthorityAction.DISABLE)
    scene.queues.send = send  # type: ignore[method-assign]
    assert await scene.worker().converger.sweep() == 0
    scene.now += MINUTE
    assert await scene.worker().converger.sweep() == 1
    assert await scene.worker().converger.sweep() == 0
    (event,) = told(scene)
    assert (event["actor"]["id"], event["comment"]) == ("ada", "ticket 4711")


# --- another certificate ---


async def renew(scene: AuthorityScene, name: str, **fields: Any) -> None:
    await act(scene, name, AuthorityAction.RENEW, **fields)


async def test_a_renewed_root_has_a_new_certificate_for_its_name_and_key_and_the_old_one_beside() -> None:
    """Its devices' chains verify under either; services know both; and its end is told of in its time."""
    service = FreedService()
    scene = await scene_with_line(verifiers=[service])
    before = await record_of(scene, "root")
    scene.now += timedelta(days=30)
    await renew(scene, "root", validityDays=7000)
    after = await record_of(scene, "root")
    old, new = _certificate(before), _certificate(after)
    assert old.public_key() == new.public_key()
    assert old.subject == new.subject
    assert new.not_valid_after_utc == scene.now + timedelta(days=7000, seconds=-1)
    assert (after.state, after.change, after.making) == ("active", None, None)
    assert after.further_certificates == before.certificate
    below = _certificate(await record_of(scene, "line"))
    below.verify_directly_issued_by(new)
    place = f"root-{(after.serial_number or '')[:8]}"
    assert (set(service.certificates), after.place) == ({"root", place}, place)
    assert after.proof_of_possession is ProofOfPossession.VERIFIED
    row = await scene.certificates.get(after.serial_number or "")
    assert row is not None
    assert (row.record.state, row.record.pem, row.record.cause) == ("active", after.certificate, "renew-root")
    issued = [body["data"] for _, body, _ in scene.queues.sent if body["type"].endswith(".CertificateIssued")]
    assert [each["serialNumber"] for each in issued] == [after.serial_number]
    await renew(scene, "root", validityDays=7000)
    assert await record_of(scene, "root") == after
    loaded = await scene.worker().authorities.loaded("line")
    assert loaded.issuer.chain[-1] == new
    await act(scene, "root", AuthorityAction.REVOKE, reason="keyCompromise")
    assert service.certificates == {}


@pytest.mark.parametrize("raised", [ConnectionError, Deferred])
async def test_a_list_that_is_made_beside_a_renewal_does_not_hold_up_the_next_one(raised: type[Exception]) -> None:
    """Both have a turn in the row of the CA. Who has lost the row to a list ends its own turn in it all the same."""
    scene = await scene_with_line()
    worker = scene.worker()
    logged = worker.log.append

    async def append(entry: bytes) -> int | None:
        await change(scene.records, "root", lambda record: record.changed(crl_number=record.crl_number + 1))
        if raised is ConnectionError:
            raise ConnectionError("no answer")
        return await logged(entry)

    worker.log.append = append  # type: ignore[method-assign]
    body = {"requestId": "renew-root", "name": "root", "action": "renew", "validityDays": 7000}
    with pytest.raises(raised):
        await worker.acts.carry_out(parse(AuthorityAct, body))
    record = await record_of(scene, "root")
    assert (record.making, record.further_certificates) == (None, None)
    await renew(scene, "root", validityDays=7000)
    assert (await record_of(scene, "root")).further_certificates == record.certificate


async def test_a_group_s_ca_is_renewed_with_a_new_key_by_rolling_the_group() -> None:
    """DPS knows it by its certificate: so with the same key it is refused, in words."""
    scene = await scene_with_line()
    with pytest.raises(Conflict, match=r"DPS knows 'line' by its certificate, .* 'g'; renew it with key 'new'"):
        await renew(scene, "line")
    await renew(scene, "line", key="new", request="renew-2")
    (roll,) = asked(scene, "enrollment-group-requests")
    assert (roll["enrollmentGroup"], roll["action"]) == ("g", "roll")
    with pytest.raises(
        Conflict, match="no enrollment group has 'root' as its issuing CA; with a new key it is another CA"
    ):
        await renew(scene, "root", key="new")


async def test_nobody_can_take_the_id_by_which_a_group_is_rolled_for_its_ca() -> None:
    """Not even who does all the same elsewhere, at the same time, to see what it becomes."""
    ids = set()
    for _ in range(2):
        scene = await scene_with_line()
        await renew(scene, "line", key="new", request="renew-2")
        await renew(scene, "line", key="new", request="renew-2")
        (roll,) = asked(scene, "enrollment-group-requests")
        ids.add(roll["requestId"])
    assert len(ids) == 2


async def test_a_group_is_rolled_for_who_has_renewed_its_ca() -> None:
    """Its request names her, and not the queue that it comes by."""
    scene = await scene_with_line()
    with acting(Actor(kind=CallerKind.USER, id="5b54"), "its key is old"):
        await renew(scene, "line", key="new", request="renew-2")
    (roll,) = asked(scene, "enrollment-group-requests")
    known = await scene.requests.find(Queue.ENROLLMENT_GROUP_REQUESTS, roll["requestId"])
    assert known is not None
    assert known.record.actor is not None
    assert (known.record.actor.id, known.record.comment) == ("5b54", "its key is old")


async def test_a_ca_that_another_ca_signs_has_both_certificates_and_goes_on_with_its_first() -> None:
    """For the same name and key; when it is revoked it is on the lists of both."""
    scene = await scene_with_line()
    await scene.root("other")
    before = await record_of(scene, "line")
    await act(scene, "line", AuthorityAction.CROSS_SIGN, issuer="other")
    after = await record_of(scene, "line")
    assert (after.certificate, after.serial_number) == (before.certificate, before.serial_number)
    crossed = x509.load_pem_x509_certificate((after.further_certificates or "").encode())
    crossed.verify_directly_issued_by(_certificate(await record_of(scene, "other")))
    assert (crossed.public_key(), crossed.subject) == (_certificate(before).public_key(), _certificate(before).subject)
    row = await scene.certificates.get(f"{crossed.serial_number:040x}")
    assert row is not None
    assert (row.record.state, row.record.issuer) == ("active", "other")
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    listed = [[each.serial_number async for each in scene.certificates.revoked_by(name)] for name in ("root", "other")]
    assert listed == [[before.serial_number], [f"{crossed.serial_number:040x}"]]


async def test_what_can_not_sign_a_ca_is_refused_before_anything_is_signed() -> None:
    """Itself, what is below it, its own issuer, a CA that is none, or one that may have none below it."""
    scene = await scene_with_line()
    await scene.issuing("low", "root", path_length=0)
    for issuer, why in (
        ("line", "'line' is 'line' itself, below it, or has signed it already; name another CA"),
        ("root", "'root' is 'line' itself, below it, or has signed it already"),
        ("none", "the certificate authority 'none' does not exist"),
        ("low", "'low' has path length 0, so no CA fits below it"),
    ):
        with pytest.raises(Rejected, match=why):
            await act(scene, "line", AuthorityAction.CROSS_SIGN, request=f"x-{issuer}", issuer=issuer)
    assert (await record_of(scene, "line")).further_certificates is None


async def test_a_renewal_that_breaks_off_is_signed_once() -> None:
    """Its worker is gone after the signature: another one signs anew a minute later, and the first counts for nothing."""
    scene = await scene_with_line()
    replace = scene.records.replace
    calls = 0

    async def gone(known: Any, record: AuthorityRecord) -> Any:
        nonlocal calls
        calls += 1
        if record.change is not None and calls > 1:
            raise ConnectionError("gone")
        return await replace(known, record)

    scene.records.replace = gone  # type: ignore[method-assign]
    with pytest.raises(ConnectionError):
        await renew(scene, "root")
    scene.records.replace = replace  # type: ignore[method-assign]
    with pytest.raises(Deferred, match="'root' is being made"):
        await renew(scene, "root")
    scene.now += 2 * MINUTE
    await renew(scene, "root")
    rows = [CertificateRecord.from_columns(row.values) for row in scene.certificate_rows.rows.values()]
    states = sorted(each.state.value for each in rows if each.subject == "root")
    assert states == ["abandoned", "active", "active"]


async def test_a_renewal_whose_answer_was_lost_counts_though_others_have_changed_the_row_since() -> None:
    """A list was made between the write and its repetition: the certificate is the CA's, so it is not given up."""
    scene = await scene_with_line()
    replace = scene.records.replace

    async def unanswered(known: Any, record: AuthorityRecord) -> Any:
        written = await replace(known, record)
        if record.change is None or record.change.serial_number is None:
            return written
        scene.records.replace = replace  # type: ignore[method-assign]
        await change(scene.records, "root", lambda present: present.changed(crl_number=present.crl_number + 1))
        raise Stale("root")

    scene.records.replace = unanswered  # type: ignore[method-assign]
    await renew(scene, "root", validityDays=7000)
    record = await record_of(scene, "root")
    row = await scene.certificates.get(record.serial_number or "")
    assert row is not None
    assert (row.record.state, row.record.pem) == ("active", record.certificate)
    assert (record.change, record.making) == (None, None)
