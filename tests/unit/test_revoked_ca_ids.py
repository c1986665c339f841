"""The ids of what the revocation of a CA asks for: nobody works them out, and takes one for something else."""

from __future__ import annotations

import re
from http import HTTPStatus
from types import SimpleNamespace
from typing import TYPE_CHECKING

import azure.functions as func
import pytest

from shared.domain.authorities import AuthorityAction, AuthorityState
from shared.domain.authority_acts import Wanted, decided
from shared.domain.groups import GroupRecord, GroupState
from shared.domain.requests import RequestRecord
from shared.rules.request_ids import led_to
from tests.pki.hierarchy import NOW
from tests.unit.test_authority_acts import act, asked, device, gone_through, record_of, scene_with_line
from tests.unit.test_authority_audit import ca
from triggers import outcomes
from triggers.http import authorities

if TYPE_CHECKING:
    from tests.unit.authorities import AuthorityScene

DEVICES, GROUPS = "revocation-requests", "enrollment-group-requests"


async def take(scene: AuthorityScene, queue: str, *parts: str, secret: str | None = None) -> None:
    """Take an id that the revocation of a CA may ask by, for a request with other content."""
    taken = led_to("revoked-ca", *parts, secret=secret)
    known = await scene.requests.find(queue, taken)
    if known is None:
        await scene.requests.claim(RequestRecord(kind=queue, request_id=taken, fingerprint="0", received_at=NOW))
    else:
        await scene.requests.enter(known.record, lambda present: present.changed(fingerprint="0"))


async def revoked_before(scene: AuthorityScene) -> None:
    """Make the CA ``line`` one that was revoked by an app that made no nonce."""
    known = await scene.records.get("line")
    assert known is not None
    await scene.records.replace(known, known.record.changed(nonce=None))


# --- what can be worked out is not what is used ---


async def test_the_sweep_shuts_a_device_and_a_group_out_though_ids_made_of_what_is_known_are_taken() -> None:
    """The CA's name, when it was revoked, the device and its certificate, the group and its last request are shown."""
    scene = await scene_with_line()
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    await gone_through(scene, "line")
    await take(scene, DEVICES, "line", str(NOW), "press-1", await device(scene, "press-1", number=1), "device")
    await take(scene, GROUPS, "line", str(NOW), "g", "make-group")
    scene.queues.sent.clear()
    await scene.worker().converger.sweep()
    assert [each["registrationId"] for each in asked(scene, DEVICES)] == ["press-1"]
    assert [(each["enrollmentGroup"], each["action"]) for each in asked(scene, GROUPS)] == [("g", "disable")]


async def test_a_ca_is_revoked_with_its_devices_and_those_below_it_though_such_ids_are_taken_beforehand() -> None:
    """The time is told exactly here; who tries the microseconds of a second comes as far."""
    scene = await scene_with_line()
    await take(scene, DEVICES, "root", "revoke-root", str(NOW))
    await take(scene, GROUPS, "root", str(NOW), "line")
    await act(scene, "root", AuthorityAction.REVOKE, reason="keyCompromise")
    assert [each["issuer"] for each in asked(scene, DEVICES)] == ["root"]
    assert [each["name"] for each in asked(scene, GROUPS) if "name" in each] == ["line"]
    assert (await record_of(scene, "root")).change is None


@pytest.mark.parametrize("old", [False, True])
async def test_what_a_revocation_asks_for_has_the_same_id_each_time(*, old: bool) -> None:
    """It is done once. A CA that was revoked by an app that made no nonce asks by the ids that it has asked by."""
    scene = await scene_with_line()
    serial = await device(scene, "press-1", number=1)
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    await gone_through(scene, "line")
    if old:
        await revoked_before(scene)
    scene.queues.sent.clear()
    for _ in range(2):
        await scene.worker().converger.sweep()
    ids = {queue: {each["requestId"] for each in asked(scene, queue)} for queue in (DEVICES, GROUPS)}
    assert [len(asked(scene, queue)) for queue in ids] == [2, 2]
    assert {len(each) for each in ids.values()} == {1}
    assert all(re.fullmatch("revoked-ca-[0-9a-f]{32}", each) for found in ids.values() for each in found)
    known = {led_to("revoked-ca", "line", str(NOW), "press-1", serial, "device")}
    assert (ids[DEVICES] == known) is old


def test_a_revocation_that_an_app_without_nonces_has_decided_asks_for_its_devices_by_the_id_in_its_row() -> None:
    """It was stopped in between, and this app goes on. Revoked again, the CA gets a nonce, and keeps it."""
    request = led_to("revoked-ca", "line", "first", str(NOW))
    first = decided(ca(AuthorityState.ACTIVE), Wanted("first", AuthorityAction.REVOKE, nonce="n"), NOW)
    assert (first.nonce, first.devices_request == request) == ("n", False)
    before = first.changed(nonce=None, devices_request=request, change=None)
    again = decided(before, Wanted("second", AuthorityAction.REVOKE, nonce="n"), NOW)
    assert again.nonce == "n"
    third = decided(again.changed(change=None), Wanted("third", AuthorityAction.REVOKE, nonce="other"), NOW)
    assert third.nonce == "n"
    assert len({before.devices_request, again.devices_request, third.devices_request}) == 3


async def test_a_ca_that_goes_with_the_one_above_it_has_that_ones_request_for_its_devices_and_a_nonce_of_its_own() -> (
    None
):
    """Its own is not made known to it by the one above."""
    scene = await scene_with_line()
    await act(scene, "root", AuthorityAction.REVOKE, reason="keyCompromise")
    root, line = await record_of(scene, "root"), await record_of(scene, "line")
    (whole,) = asked(scene, DEVICES)
    assert {root.devices_request, line.devices_request} == {whole["requestId"]}
    assert len({root.nonce, line.nonce, None}) == 3


# --- nobody learns it ---


async def test_nobody_is_told_what_the_ids_are_made_with(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No message, event, answer or line of the log has it, nor the text of a record that is printed."""
    scene = await scene_with_line()
    await device(scene, "press-1", number=1)
    await act(scene, "root", AuthorityAction.REVOKE, reason="keyCompromise")
    await gone_through(scene, "line")
    await scene.worker().converger.sweep()
    shown = [await answer(scene, monkeypatch, name) for name in ("root", "line")]
    records = [await record_of(scene, name) for name in ("root", "line")]
    told = f"{scene.queues.sent} {caplog.text} {shown} {records}"
    for each in records:
        assert each.nonce is not None
        assert re.fullmatch("[0-9a-f]{32}", each.nonce)
        assert each.nonce[:8] not in told


async def answer(scene: AuthorityScene, monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """Give the answer to who asks for a CA."""
    there = SimpleNamespace(authorities=scene.worker().authorities, requests=scene.requests, clock=scene.clock)
    monkeypatch.setattr(outcomes, "services", lambda: there)
    request = func.HttpRequest("GET", "http://host/api/x", headers={}, route_params={"name": name}, body=b"")
    given = await outcomes.answer(request, authorities.get_certificate_authority)
    assert given.status_code == HTTPStatus.OK
    return str(given.get_body().decode())


async def test_the_request_for_a_cas_devices_is_shown_when_its_id_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sees it between the decision and the request could take it."""
    scene = await scene_with_line()
    known = await scene.records.get("line")
    assert known is not None
    wanted = Wanted("revoke-line", AuthorityAction.REVOKE, reason="keyCompromise")
    begun = decided(known.record, wanted, NOW)
    await scene.records.replace(known, begun)
    assert '"devicesRequest": null' in await answer(scene, monkeypatch, "line")
    await scene.worker().converger.converge("line")
    assert f'"devicesRequest": "{begun.devices_request}"' in await answer(scene, monkeypatch, "line")


# --- who knows one all the same ---


@pytest.mark.parametrize("shared_page", [True, False])
@pytest.mark.parametrize("old", [False, True])
async def test_an_id_that_somebody_has_taken_keeps_nothing_else_in_service(
    monkeypatch: pytest.MonkeyPatch, *, shared_page: bool, old: bool
) -> None:
    """Those of a CA that an older app has revoked can be worked out; the others are in the ledger for who reads that."""
    monkeypatch.setattr("shared.workflows.authorities.endings._PAGE", 10 if shared_page else 1)
    scene = await scene_with_line()
    again = GroupRecord(
        enrollment_group="h", state=GroupState.ENABLED, issuer="line", updated_at=NOW, last_request="make-second"
    )
    await scene.groups.insert(again)
    await act(scene, "line", AuthorityAction.REVOKE, reason="keyCompromise")
    await gone_through(scene, "line")
    if old:
        await revoked_before(scene)
    secret = (await record_of(scene, "line")).nonce
    serial = await device(scene, "press-1", number=1)
    await take(scene, DEVICES, "line", str(NOW), "press-1", serial, "device", secret=secret)
    await take(scene, GROUPS, "line", str(NOW), "g", "make-group", secret=secret)
    await device(scene, "press-2", number=2)
    scene.queues.sent.clear()
    await scene.worker().converger.sweep()
    assert [each["registrationId"] for each in asked(scene, DEVICES)] == ["press-2"]
    assert [each["enrollmentGroup"] for each in asked(scene, GROUPS)] == ["h"]
