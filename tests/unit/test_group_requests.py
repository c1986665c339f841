"""Requests about one group: each is carried out once, in turn, and what was asked for last is what stays."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import pytest

from shared.contracts.authorities import AuthorityAct
from shared.contracts.groups import EnrollmentGroupRequest
from shared.contracts.parsing import parse
from shared.domain.groups import GroupState
from shared.errors import Conflict, Deferred, NotFound, PreconditionFailed, Rejected
from shared.ledger.requests import Requests
from tests.pki.hierarchy import NOW
from tests.unit.fakes import FakeProvisioning, FakeTable, Killed, Trap
from tests.unit.groups import GroupScene

FIRST, SECOND, THIRD = (NOW + timedelta(seconds=second) for second in (1, 2, 3))


@pytest.fixture(autouse=True, params=[True, False], ids=["certificate", "info"])
def _shown(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """DPS shows the certificates of its entries, or info of them alone: sources conflict, and both must do."""
    monkeypatch.setattr(FakeProvisioning, "shows_certificates", request.param)


def told(scene: GroupScene) -> list[tuple[str, bool]]:
    """Give the actions that events told of groups, and whether they came too late."""
    data = [body["data"] for _, body, _ in scene.queues.sent if "EnrollmentGroupChanged" in body["type"]]
    return [(each["action"], each.get("overtaken", False)) for each in data]


def status(scene: GroupScene) -> str:
    return str(scene.provisioning.groups["g"]["provisioningStatus"])


# --- create or change ---


async def test_put_creates_what_is_not_there_and_changes_what_is() -> None:
    """The decision is made when the request is carried out; the event tells which it was."""
    scene = await GroupScene().set_up()
    await scene.ask("put", request_id="p1", iotEdge=True)
    await scene.ask("put", request_id="p2", allocationPolicy="static")
    entry = scene.provisioning.groups["g"]
    assert (entry["capabilities"], entry["allocationPolicy"]) == ({"iotEdge": True}, "static")
    assert told(scene) == [("create", False), ("update", False)]


async def test_put_may_name_the_issuing_ca_that_the_group_has() -> None:
    """Its name, the CA above it and its custody are not a change, and other ones are refused with what there is."""
    scene = await GroupScene().set_up()
    await scene.issuing("factory", "dpsCa", path_length=1)
    for request_id in ("p1", "p2"):
        await scene.ask("put", request_id=request_id, issuer="factory", custody="wrapped")
    await scene.ask("put", request_id="p3", issuer="g-ca1")
    rule = "the issuing CA is changed by action 'roll'"
    with pytest.raises(Rejected) as refused:
        await scene.ask("put", request_id="p4", issuer="dpsCa")
    assert str(refused.value) == f"issuer: it is 'g-ca1', and the request names 'dpsCa'; {rule}"
    with pytest.raises(Rejected) as refused:
        await scene.ask("put", request_id="p5", custody="vault")
    assert str(refused.value) == f"custody: the key of 'g-ca1' is in custody 'wrapped'; {rule}"


async def test_put_restores_what_others_took_out_of_dps() -> None:
    """With the CAs that sign for it, and as disabled as it was; other actions say that it is gone."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.ask("roll")
    await scene.ask("disable")
    scene.provisioning.groups.clear()
    with pytest.raises(NotFound, match="is gone from the DPS"):
        await scene.ask("update", iotEdge=True)
    with pytest.raises(PreconditionFailed) as refused:
        await scene.ask("put", request_id="p1", ifMatch='"1"')
    assert str(refused.value) == (
        "ifMatch: the enrollment group 'g' does not exist, and the request expects '1': leave it out to create one"
    )
    await scene.ask("put", request_id="p2", iotEdge=True)
    assert (scene.accepted(), status(scene)) == (["g-ca1", "g-ca2"], "disabled")
    assert scene.provisioning.groups["g"]["capabilities"] == {"iotEdge": True}


async def test_put_restores_a_group_by_reference() -> None:
    """What it referred to was remembered."""
    scene = await GroupScene().set_up()
    await scene.ask("create", caReferences={"primary": "dpsCa", "secondary": "other"})
    scene.provisioning.groups.clear()
    await scene.ask("put")
    held = scene.provisioning.groups["g"]["attestation"]["x509"]
    assert held == {"caReferences": {"primary": "dpsCa", "secondary": "other"}}


async def test_put_changes_who_signs_below_references() -> None:
    """The issuing CA of a group by reference is in no entry, so it is changed by naming another one."""
    scene = await GroupScene().set_up()
    for name in ("line", "other"):
        await scene.issuing(name, "dpsCa")
    await scene.ask("put", caReferences={"primary": "dpsCa"}, issuer="line")
    await scene.ask("put", request_id="p2", issuer="other")
    assert (await scene.record()).issuer == "other"


async def test_a_group_that_others_took_out_of_dps_is_disabled_and_stays_so_when_it_is_made_again() -> None:
    """Nobody is let in by it, so it is as it is wanted. Who names an ETag has seen an entry, and is told."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    scene.provisioning.groups.clear()
    with pytest.raises(
        PreconditionFailed, match="the enrollment group 'g' does not exist, and the request expects '2'"
    ):
        await scene.ask("disable", request_id="d1", ifMatch='"2"')
    await scene.ask("disable", request_id="d2")
    assert ((await scene.record()).state, scene.provisioning.groups) == (GroupState.DISABLED, {})
    await scene.ask("put")
    assert status(scene) == "disabled"


async def test_a_group_of_a_revoked_ca_that_others_took_out_of_dps_is_disabled_once() -> None:
    """Else it would be asked for again by every pass of the timer, and be refused each time."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await scene.ask("create", issuer="line")
    scene.provisioning.groups.clear()
    act = {"requestId": "r", "name": "line", "action": "revoke", "reason": "keyCompromise"}
    await scene.worker().acts.carry_out(parse(AuthorityAct, act))
    asked = [body["data"] for queue, body, _ in scene.queues.sent if queue == "enrollment-group-requests"]
    assert [each["action"] for each in asked] == ["disable"]
    await scene.subject.carry_out(parse(EnrollmentGroupRequest, asked[0]))
    scene.queues.sent.clear()
    scene.now += timedelta(minutes=5)
    await scene.worker().converger.sweep()
    assert [body for queue, body, _ in scene.queues.sent if queue == "enrollment-group-requests"] == []


async def test_conditions_are_compared_when_the_request_is_carried_out() -> None:
    """With ifNoneMatch a put creates only, with ifMatch it changes only what is as it was read; each in words."""
    scene = await GroupScene().set_up()
    with pytest.raises(
        PreconditionFailed, match="the enrollment group 'g' does not exist, and the request expects '\\*'"
    ):
        await scene.ask("put", request_id="p1", ifMatch="*")
    assert await scene.groups.get("g") is None
    await scene.ask("put", request_id="p2", ifNoneMatch="*")
    with pytest.raises(PreconditionFailed) as refused:
        await scene.ask("put", request_id="p3", ifNoneMatch="*", iotEdge=True)
    assert str(refused.value) == (
        "ifNoneMatch: the enrollment group 'g' exists, with ETag '2', and the request does not want '*'"
    )
    await scene.ask("put", request_id="p4", ifMatch='"0", "2"', iotEdge=True)
    with pytest.raises(PreconditionFailed):
        await scene.ask("put", request_id="p5", ifMatch='"0", "2"', iotEdge=False)


async def test_what_comes_twice_is_done_once_though_it_was_killed_anywhere() -> None:
    """Killed after each step in turn and delivered again, a put that creates ends the same, with one event."""
    for after in range(1, 100):
        scene, trap = await GroupScene().set_up(), Trap(after)
        scene.provisioning.step = scene.queues.step = scene.group_rows.step = trap.step
        with suppress(Killed):
            await scene.ask("put", ifNoneMatch="*", iotEdge=True)
        if trap.steps < after:
            break
        trap.after = None
        await scene.ask("put", ifNoneMatch="*", iotEdge=True)
        record = await scene.record()
        assert (record.state, record.issuer, record.change) == (GroupState.ENABLED, "g-ca1", None)
        assert set(told(scene)) == {("create", False)}
    assert after == 9, (
        "claim, that an entry is made for it, the CA's event, entry in DPS, the same enabled, that it is so, event, that it "
        "was told: eight steps, and then none is left"
    )


async def test_a_deletion_that_comes_twice_ends_well() -> None:
    """Killed before it could be noted as done, it is delivered again and finds itself done."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    scene.queues.step = Trap(1).step
    with pytest.raises(Killed):
        await scene.ask("delete")
    scene.queues.step = lambda: None
    await scene.ask("delete")
    assert (await scene.record()).state is GroupState.DELETED


async def test_a_group_that_can_not_be_made_is_none() -> None:
    """A foreign group of that id in DPS refuses the request, and the next one finds the id free when that has gone."""
    scene = await GroupScene().set_up()
    foreign = {"enrollmentGroupId": "g", "attestation": {"type": "x509", "x509": {"caReferences": {"primary": "x"}}}}
    await scene.provisioning.put_group(foreign, etag=None)
    with pytest.raises(Conflict):
        await scene.ask("put", request_id="p1")
    with pytest.raises(NotFound):
        await scene.directory.describe("g")
    scene.provisioning.groups.clear()
    await scene.ask("put", request_id="p2")
    assert (await scene.record()).state is GroupState.ENABLED


async def test_what_others_made_with_the_same_ca_becomes_what_is_wanted() -> None:
    """The entry is taken over, with the settings asked for, and enabled."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    certificate = (await scene.worker().authorities.get("line")).certificate
    attestation = {"type": "x509", "x509": {"signingCertificates": {"primary": {"certificate": certificate}}}}
    theirs = {"enrollmentGroupId": "g", "provisioningStatus": "disabled", "allocationPolicy": "hashed"}
    await scene.provisioning.put_group({**theirs, "attestation": attestation}, etag=None)
    await scene.ask("put", issuer="line", allocationPolicy="static", iotEdge=True)
    entry = scene.provisioning.groups["g"]
    assert (status(scene), entry["allocationPolicy"], entry["capabilities"]) == ("enabled", "static", {"iotEdge": True})


# --- the order of requests ---


@pytest.mark.parametrize("order", [("disable", "enable"), ("enable", "disable")])
async def test_the_later_switch_wins_whichever_is_carried_out_first(order: tuple[str, str]) -> None:
    """An outdated one changes nothing, in DPS and in the ledger, and its event says so."""
    for at in ((FIRST, SECOND), (SECOND, FIRST)):
        scene = await GroupScene().set_up()
        await scene.ask("create")
        for action, asked_at in zip(order, at, strict=True):
            await scene.ask(action, at=asked_at)
        later = order[at.index(SECOND)]
        wanted = {"enable": "enabled", "disable": "disabled"}[later]
        assert (status(scene), (await scene.record()).state) == (wanted, wanted)
        assert told(scene)[1:] == [(order[0], False), (order[1], later != order[1])]


async def test_each_setting_is_as_it_was_asked_for_last() -> None:
    """Of an outdated change the settings are left out that were set since, and the others are set."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    desired, tags = {"properties": {"desired": {"rate": 2}}}, {"tags": {"line": 1}}
    await scene.ask("put", request_id="later", at=SECOND, allocationPolicy="static", initialTwin=desired)
    await scene.ask("put", request_id="earlier", at=FIRST, allocationPolicy="hashed", initialTwin=tags, iotEdge=True)
    entry = scene.provisioning.groups["g"]
    assert (entry["allocationPolicy"], entry["capabilities"]) == ("static", {"iotEdge": True})
    assert entry["initialTwin"] == {**desired, **tags}


async def test_whether_devices_are_renewed_by_themselves_is_as_it_was_asked_for_last() -> None:
    """It is the app's own, so DPS has nothing of it; a request that leaves it out leaves it as it is."""
    scene = await GroupScene().set_up()
    await scene.ask("put", request_id="p1", renewAutomatically=True, at=FIRST)
    entry = scene.provisioning.groups["g"]
    assert (await scene.record()).renew_automatically is True
    await scene.ask("put", request_id="p2", allocationPolicy="hashed", at=FIRST)
    assert (await scene.directory.list_groups())[0].renew_automatically is True
    etag = scene.provisioning.groups["g"]["etag"]
    await scene.ask("update", request_id="late", renewAutomatically=False, at=THIRD)
    await scene.ask("update", request_id="early", renewAutomatically=True, at=SECOND)
    assert (await scene.record()).renew_automatically is False
    assert (scene.provisioning.groups["g"]["etag"], "renewAutomatically" in entry) == (etag, False)
    await scene.ask("delete")
    await scene.ask("put", request_id="p3")
    assert (await scene.record()).renew_automatically is False


async def test_what_a_group_refers_to_is_as_it_was_asked_for_last() -> None:
    """An outdated change of its references leaves them, and its issuing CA, as they are."""
    scene = await GroupScene().set_up()
    for name in ("line", "other"):
        await scene.issuing(name, "dpsCa")
    await scene.ask("create", caReferences={"primary": "dpsCa"}, issuer="line")
    later = {"primary": "dpsCa", "secondary": "second"}
    await scene.ask("update", request_id="later", at=SECOND, caReferences=later)
    await scene.ask("update", request_id="earlier", at=FIRST, caReferences={"primary": "dpsCa"}, issuer="other")
    record = await scene.record()
    assert (record.issuer, record.ca_references and record.ca_references.secondary) == ("line", "second")
    assert scene.provisioning.groups["g"]["attestation"]["x509"]["caReferences"] == later


async def test_what_is_there_is_not_created_again() -> None:
    """A create says so, and how it is changed; its own second delivery is done."""
    scene = await GroupScene().set_up()
    await scene.ask("create", request_id="c1")
    await scene.ask("create", request_id="c1")
    with pytest.raises(Conflict) as refused:
        await scene.ask("create", request_id="c2")
    assert str(refused.value) == (
        "enrollmentGroup: the enrollment group 'g' exists; change it with action 'update', or 'put'"
    )
    assert told(scene) == [("create", False)]


async def test_what_came_in_the_same_second_is_not_outdated() -> None:
    """A queue knows the second alone; then the order of execution counts, as far as nobody knows better."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.ask("disable", at=FIRST + timedelta(milliseconds=900))
    await scene.ask("enable", at=FIRST)
    assert status(scene) == "enabled"
    await scene.ask("disable", request_id="d2", at=FIRST + timedelta(seconds=1))
    assert status(scene) == "disabled"


async def test_who_names_an_etag_is_told_that_it_is_outdated() -> None:
    """Its time does not count then: the change is refused, and not left out in silence."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.ask("update", request_id="u1", at=SECOND, allocationPolicy="static")
    with pytest.raises(PreconditionFailed):
        await scene.ask("update", request_id="u2", at=FIRST, allocationPolicy="hashed", ifMatch='"1"')


async def test_deleted_and_put_again_a_group_is_there_whichever_is_carried_out_first() -> None:
    """A deletion does not remove what was asked for after it, and a put does not bring back what was deleted after it."""
    for later, earlier, state in (("put", "delete", GroupState.ENABLED), ("delete", "put", GroupState.DELETED)):
        scene = await GroupScene().set_up()
        await scene.ask("create", at=FIRST)
        await scene.ask(later, at=THIRD)
        await scene.ask(earlier, at=SECOND)
        assert (await scene.record()).state is state
        assert ("g" in scene.provisioning.groups) is (state is GroupState.ENABLED)
        assert told(scene)[-1] == ({"put": "create", "delete": "delete"}[earlier], True)


async def test_the_first_delivery_says_when_a_request_was_made() -> None:
    """Put back into its queue and delivered again, it is as old as it was."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    rows, replace = scene.group_rows, scene.group_rows.replace

    async def too_late(_values: object, _etag: str) -> None:
        return None

    rows.replace = too_late  # type: ignore[method-assign, assignment]
    with pytest.raises(Deferred, match="the enrollment group 'g' is being changed by someone else"):
        await scene.ask("disable", at=FIRST)
    rows.replace = replace  # type: ignore[method-assign]
    scene.now += timedelta(minutes=2)
    await scene.ask("enable", at=SECOND)
    await scene.ask("disable", at=THIRD)
    assert status(scene) == "enabled"


async def test_a_change_waits_until_a_group_is_made() -> None:
    """A switch that overtakes the group's creation is put back, and does not end the creation."""
    scene = await GroupScene().set_up()
    scene.provisioning.step = Trap(1).step
    with pytest.raises(Killed):
        await scene.ask("create")
    scene.provisioning.step = lambda: None
    scene.now += timedelta(minutes=5)
    with pytest.raises(Deferred):
        await scene.ask("disable")
    assert (await scene.record()).state is GroupState.REQUESTED
    await scene.ask("create")
    await scene.ask("disable")
    assert status(scene) == "disabled"


# --- what a caller is told at once ---


async def test_what_can_not_succeed_is_foreseen() -> None:
    """Before anything is queued: a roll during a rollover, a CA that is not there, another group's CA."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.ask("create", "b")
    await scene.ask("roll")
    await scene.issuing("line", "dpsCa")
    await scene.root("old", validity=timedelta(days=100))
    await scene.issuing("taken-ca1", "dpsCa")
    scene.vault.foreign.add("theirs-ca1")
    scene.provisioning.groups["others"] = {**scene.provisioning.groups["b"], "enrollmentGroupId": "others"}
    await scene.ask("create", "gone")
    del scene.provisioning.groups["gone"]
    await scene.ask("create", "deleted")
    await scene.ask("delete", "deleted")
    for body, message in (
        (
            {"action": "put", "enrollmentGroup": "c", "issuer": "old"},
            "issuer: the issuing CA that is to be made for 'c' lives 1826 days, and 'old' above it ends on 2026-06-09, in "
            "99 days; name another CA, or first make one below 'old' with as many validityDays as are left, and name that",
        ),
        (
            {"action": "roll", "enrollmentGroup": "b", "issuer": "old"},
            "issuer: the issuing CA that is to be made for 'b'",
        ),
        ({"action": "roll", "enrollmentGroup": "b", "issuer": "b-ca1"}, "issuer: 'b-ca1' is the group's issuing CA"),
        ({"action": "put", "enrollmentGroup": "taken"}, "name: 'taken-ca1' exists as intermediate CA of another"),
        ({"action": "put", "enrollmentGroup": "theirs"}, "name: the vault has a key 'theirs-ca1' already"),
        (
            {"action": "put", "enrollmentGroup": "others"},
            "enrollmentGroup: the DPS has an enrollment group 'others' that this app did not make",
        ),
        (
            {"action": "enable", "enrollmentGroup": "gone"},
            "enrollmentGroup: the enrollment group 'gone' is gone from the",
        ),
        ({"action": "delete", "enrollmentGroup": "no"}, "enrollmentGroup: the enrollment group 'no' does not exist"),
        (
            {"action": "disable", "enrollmentGroup": "deleted"},
            "enrollmentGroup: the enrollment group 'deleted' does not exist",
        ),
        (
            {"action": "put", "caReferences": {"primary": "dpsCa"}, "issuer": "line"},
            "caReferences: the enrollment group 'g' holds the certificate of its issuing CA; that is changed by action",
        ),
        ({"action": "roll"}, "action: a rollover of 'g' from 'g-ca1' to 'g-ca2' is under way"),
        (
            {"action": "roll", "enrollmentGroup": "b", "issuer": "no"},
            "issuer: the certificate authority 'no' does not exist",
        ),
        (
            {"action": "put", "enrollmentGroup": "c", "issuer": "no"},
            "issuer: the certificate authority 'no' does not exist",
        ),
        ({"action": "put", "enrollmentGroup": "c", "issuer": "g-ca1"}, "issuer: 'g-ca1' is an issuing CA of"),
        ({"action": "put", "custody": "wrapped"}, "custody: the key of 'g-ca2' is in custody 'vault'"),
    ):
        request = parse(EnrollmentGroupRequest, {"requestId": "r", "enrollmentGroup": "g", **body})
        with pytest.raises(Rejected) as refused:
            await scene.checks.foresee(request)
        assert str(refused.value).startswith(message)
        if body.get("enrollmentGroup") != "deleted":  # which is known, and unknown
            with pytest.raises(Rejected) as refused:
                await scene.subject.carry_out(request)
            assert str(refused.value).startswith(message)
            scene.requests = Requests(FakeTable())
    assert {group.enrollment_group async for group in scene.groups.list()} == {"g", "b", "gone", "deleted"}


async def test_the_groups_of_others_take_places_of_the_dps() -> None:
    """With theirs and ours there are 100: the next one is refused before its CA is made. One of theirs by a key is free."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    for number in range(98):
        entry = {**scene.provisioning.groups["g"], "enrollmentGroupId": f"theirs-{number}"}
        scene.provisioning.groups[f"theirs-{number}"] = entry
    scene.provisioning.groups["keys"] = {"enrollmentGroupId": "keys", "attestation": {"type": "symmetricKey"}}
    await scene.ask("create", "last")
    for ask in (scene.ask("create", "more"), scene.checks.foresee(parse(EnrollmentGroupRequest, MORE))):
        with pytest.raises(Rejected) as refused:
            await ask
        assert str(refused.value) == (
            "enrollmentGroup: the DPS has 100 enrollment groups and takes 100; delete one, or use another DPS"
        )
    assert await scene.groups.get("more") is None


MORE = {"requestId": "r", "enrollmentGroup": "more", "action": "put"}


async def test_nothing_is_foreseen_of_a_group_that_is_being_made() -> None:
    """The request waits for it in its queue, where it is checked."""
    scene = await GroupScene().set_up()
    scene.provisioning.step = Trap(1).step
    with pytest.raises(Killed):
        await scene.ask("create")
    body = {"requestId": "r", "enrollmentGroup": "g", "action": "roll", "issuer": "no"}
    await scene.checks.foresee(parse(EnrollmentGroupRequest, body))


async def test_a_request_that_comes_again_is_known() -> None:
    """With the same content it is the same one; with other content it is refused."""
    scene = await GroupScene().set_up()
    await scene.ask("put", request_id="k")
    body = {"requestId": "k", "enrollmentGroup": "g", "action": "put"}
    assert await scene.subject.is_repeated(parse(EnrollmentGroupRequest, body))
    assert not await scene.subject.is_repeated(parse(EnrollmentGroupRequest, {**body, "requestId": "new"}))
    with pytest.raises(Conflict) as refused:
        await scene.subject.is_repeated(parse(EnrollmentGroupRequest, {**body, "iotEdge": True}))
    assert str(refused.value) == (
        "requestId: 'k' was used on 2026-03-01 with other content; a new request needs a new id"
    )
