"""What is wanted of a group is brought about by whoever comes first, and nobody undoes what came later."""

from __future__ import annotations

from contextlib import suppress
from copy import deepcopy
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.contracts.authorities import AuthorityAct
from shared.contracts.parsing import parse
from shared.domain.attestations import x509_attestation
from shared.domain.groups import Change, ChangeAction, GroupRecord, GroupState, RolloverState
from shared.errors import Conflict, Deferred, LedgerBehind, NotFound, PreconditionFailed, Rejected
from shared.workflows.authorities.keys import AuthorityKeys
from shared.workflows.authorities.loading import CertificateAuthorities
from tests.unit.fakes import Killed, Trap
from tests.unit.groups import GroupScene

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from cryptography import x509

    from shared.domain.authorities import AuthorityRecord


def told(scene: GroupScene) -> list[str]:
    """Give the actions that events told of groups, each event once."""
    events = {body["id"]: body["data"] for _, body, _ in scene.queues.sent if "EnrollmentGroupChanged" in body["type"]}
    return [f"{each['action']} overtaken" if each.get("overtaken") else each["action"] for each in events.values()]


def status(scene: GroupScene) -> str:
    return str(scene.provisioning.groups["g"]["provisioningStatus"])


async def killed_after_deciding(scene: GroupScene, action: str, **fields: Any) -> None:
    scene.group_rows.step = Trap(1).step
    with suppress(Killed):
        await scene.ask(action, **fields)
    scene.group_rows.step = lambda: None


def meanwhile(scene: GroupScene, call: str, work: Callable[[], Awaitable[None]], *, before: bool = True) -> None:
    """Have something else happen ahead of the next call of DPS, or after it has answered."""
    original = getattr(scene.provisioning, call)

    async def called(*args: Any, **named: Any) -> Any:
        setattr(scene.provisioning, call, original)
        if before:
            await work()
        answer = await original(*args, **named)
        if not before:
            await work()
        return answer

    setattr(scene.provisioning, call, called)


async def test_a_timer_goes_on_with_what_was_left_lying() -> None:
    """What was decided a minute ago is brought about and told, without its message; what is younger is left alone."""
    scene = await GroupScene().set_up()
    await killed_after_deciding(scene, "create")
    assert await scene.converger.sweep(older_than=timedelta(minutes=1)) == 0
    assert "g" not in scene.provisioning.groups
    scene.now += timedelta(minutes=1)
    assert await scene.converger.sweep(older_than=timedelta(minutes=1)) == 1
    assert (status(scene), (await scene.record()).state, told(scene)) == ("enabled", GroupState.ENABLED, ["create"])
    assert await scene.converger.sweep(older_than=timedelta()) == 0


async def test_a_group_that_can_not_go_on_does_not_hold_up_the_others() -> None:
    """Each one is tried, and then the failures are raised together."""
    scene = await GroupScene().set_up()
    for group in ("a", "g"):
        await scene.ask("create", group)
        await killed_after_deciding(scene, "disable", group=group)
    get_group = scene.provisioning.get_group

    async def failing(group_id: str) -> dict[str, Any] | None:
        if group_id == "a":
            raise ConnectionError("no route")
        return await get_group(group_id)

    scene.provisioning.get_group = failing  # type: ignore[method-assign]
    with pytest.raises(ExceptionGroup, match="1 of 2 groups can't be brought about yet"):
        await scene.converger.sweep(older_than=timedelta())
    assert status(scene) == "disabled"


@pytest.mark.parametrize(("writes", "issuer"), [(1, "g-ca1"), (2, "g-ca2")])
async def test_a_rollover_that_was_left_lying_is_finished_and_told(writes: int, issuer: str) -> None:
    """Killed when it was decided, or when the next CA signs and that was not told: the timer does the rest."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    scene.group_rows.step = Trap(writes).step
    with pytest.raises(Killed):
        await scene.ask("roll")
    scene.group_rows.step = lambda: None
    assert ((await scene.record()).issuer, told(scene)) == (issuer, ["create"])
    assert await scene.converger.sweep(older_than=timedelta()) == 1
    assert ((await scene.record()).issuer, told(scene)) == ("g-ca2", ["create", "roll"])


async def test_that_the_next_ca_signs_is_told_though_others_took_the_group_out_of_dps() -> None:
    """There is nothing to do for it in DPS any more."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    scene.group_rows.step = Trap(2).step
    with pytest.raises(Killed):
        await scene.ask("roll")
    scene.group_rows.step = lambda: None
    scene.provisioning.groups.clear()
    await scene.ask("roll")
    assert told(scene) == ["create", "roll"]


async def test_a_change_is_brought_about_before_the_next_ca_signs() -> None:
    """Both were left lying: neither is lost."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    for action in ("roll", "disable"):
        await killed_after_deciding(scene, action)
    await scene.converger.prepare("g")
    await scene.converger.settle("g")
    assert (status(scene), scene.accepted(), told(scene)) == (
        "disabled", ["g-ca1", "g-ca2"], ["create", "disable", "roll"]
    )  # fmt: skip


async def test_the_next_request_brings_about_what_was_decided_before_it() -> None:
    """A disable that was killed after its decision is done and told before the update that follows it."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await killed_after_deciding(scene, "disable")
    await scene.ask("update", iotEdge=True)
    assert (status(scene), scene.provisioning.groups["g"]["capabilities"]) == ("disabled", {"iotEdge": True})
    assert told(scene) == ["create", "disable", "update"]
    await scene.ask("disable")
    assert told(scene) == ["create", "disable", "update"]


async def test_a_request_that_comes_again_after_a_later_one_changes_nothing_and_says_nothing_else() -> None:
    """Killed before it was noted as done, and overtaken since, it is known by its id."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    scene.group_rows.step = Trap(2).step
    with pytest.raises(Killed):
        await scene.ask("disable")
    scene.group_rows.step = lambda: None
    scene.now += timedelta(seconds=2)
    await scene.ask("enable")
    await scene.ask("disable")
    assert (status(scene), told(scene)) == ("enabled", ["create", "disable", "enable"])


async def test_a_group_is_disabled_while_its_next_ca_can_not_be_made() -> None:
    """The vault is down in the middle of a rollover, and DPS is not: nobody waits for the vault but the rollover."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    make = scene.vault.get_or_create

    async def down(_name: str, _algorithm: str) -> Any:
        raise ConnectionError("the vault is down")

    scene.vault.get_or_create = down  # type: ignore[method-assign, assignment]
    with pytest.raises(ConnectionError):
        await scene.ask("roll")
    await scene.ask("disable")
    assert (status(scene), told(scene)) == ("disabled", ["create", "disable"])
    scene.vault.get_or_create = make  # type: ignore[method-assign]
    scene.now += timedelta(minutes=10)
    await scene.ask("roll")
    assert (status(scene), scene.accepted()) == ("disabled", ["g-ca1", "g-ca2"])
    assert told(scene) == ["create", "disable", "roll"]


async def test_what_dps_refuses_is_withdrawn() -> None:
    """Nobody is told that it is done, and the next request does not meet it."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    put_group = scene.provisioning.put_group

    async def refusing(_group: Any, *, etag: str | None = None) -> Any:
        del etag
        raise Rejected.because("DPS takes no such twin")

    scene.provisioning.put_group = refusing  # type: ignore[method-assign, assignment]
    with pytest.raises(Rejected, match="DPS takes no such twin"):
        await scene.ask("update", iotEdge=True)
    assert ((await scene.record()).change, told(scene)) == (None, ["create"])
    scene.provisioning.put_group = put_group  # type: ignore[method-assign]
    await scene.ask("disable")
    assert "capabilities" not in scene.provisioning.groups["g"]


async def test_a_group_that_dps_refuses_does_not_exist() -> None:
    """It was entered in the ledger, and is withdrawn from it; its id is free."""
    scene = await GroupScene().set_up()
    put_group = scene.provisioning.put_group

    async def refusing(_group: Any, *, etag: str | None = None) -> Any:
        del etag
        raise Rejected.because("DPS takes no such group")

    scene.provisioning.put_group = refusing  # type: ignore[method-assign, assignment]
    with pytest.raises(Rejected, match="DPS takes no such group"):
        await scene.ask("create", request_id="first")
    assert (await scene.record()).state is GroupState.DELETED
    scene.provisioning.put_group = put_group  # type: ignore[method-assign]
    await scene.ask("create", request_id="second")
    assert ((await scene.record()).state, told(scene)) == (GroupState.ENABLED, ["create"])


async def test_of_two_groups_that_are_made_with_one_ca_at_once_one_is_refused() -> None:
    """Each has been checked before the other one was entered; then they see each other."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    list_groups = scene.provisioning.list_groups

    async def entered_meanwhile() -> AsyncIterator[dict[str, Any]]:
        scene.provisioning.list_groups = list_groups  # type: ignore[method-assign]
        async for each in list_groups():
            yield each
        await killed_after_deciding(scene, "create", group="b", issuer="line")

    scene.provisioning.list_groups = entered_meanwhile  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="issuer: 'line' is an issuing CA of the enrollment group 'b'"):
        await scene.ask("create", issuer="line")
    await scene.ask("create", "b", issuer="line")
    assert list(scene.provisioning.groups) == ["b"]


async def test_what_others_write_meanwhile_is_not_overwritten() -> None:
    """An entry that has changed since it was read is read anew, and what others set stays."""
    scene = await GroupScene().set_up()
    await scene.ask("create")

    async def set_by_others() -> None:
        entry = scene.provisioning.groups["g"]
        await scene.provisioning.put_group({**entry, "allocationPolicy": "static"}, etag=entry["etag"])

    meanwhile(scene, "put_group", set_by_others)
    await scene.ask("disable")
    assert (status(scene), scene.provisioning.groups["g"]["allocationPolicy"]) == ("disabled", "static")


async def test_what_others_set_is_not_what_the_group_is_to_have_from_then_on() -> None:
    """An act that does not name it leaves it in DPS, where it stays a difference; one that names it decides."""
    scene = await GroupScene().set_up()
    await scene.ask("create", initialTwin={"tags": {"site": "north"}, "properties": {"desired": {"rate": 1}}})
    entry = scene.provisioning.groups["g"]
    by_others = {**entry["initialTwin"], "tags": {"site": "elsewhere"}}
    await scene.provisioning.put_group({**entry, "initialTwin": by_others}, etag=entry["etag"])
    await scene.ask("disable")
    await scene.ask("update", initialTwin={"properties": {"desired": {"rate": 2}}})
    assert scene.provisioning.groups["g"]["initialTwin"] == {
        "tags": {"site": "elsewhere"}, "properties": {"desired": {"rate": 2}}
    }  # fmt: skip
    assert ((await scene.record()).entry_settings or {})["initialTwin"] == {
        "tags": {"site": "north"}, "properties": {"desired": {"rate": 2}}
    }  # fmt: skip
    await scene.ask("update", request_id="tags", initialTwin={"tags": {"site": "south"}})
    assert ((await scene.record()).entry_settings or {})["initialTwin"]["tags"] == {"site": "south"}


async def test_an_entry_that_is_made_again_has_what_was_asked_for_before() -> None:
    """Others have deleted it; ``put`` names one thing, and the group keeps the others."""
    scene = await GroupScene().set_up()
    await scene.ask("create", allocationPolicy="static", initialTwin={"tags": {"site": "north"}})
    scene.provisioning.groups.clear()
    await scene.ask("put", iotEdge=True)
    made = scene.provisioning.groups["g"]
    assert (made["allocationPolicy"], made["initialTwin"], made["capabilities"]) == (
        "static", {"tags": {"site": "north"}}, {"iotEdge": True}
    )  # fmt: skip


async def test_a_deletion_that_is_late_does_not_delete_what_was_made_anew() -> None:
    """Its other delivery has deleted the group, and a later request has made it again."""
    scene = await GroupScene().set_up()
    await scene.ask("create")

    async def deleted_and_made_anew() -> None:
        await scene.ask("delete")
        scene.now += timedelta(seconds=2)
        await scene.ask("put")

    meanwhile(scene, "delete_group", deleted_and_made_anew)
    await scene.ask("delete")
    assert (status(scene), (await scene.record()).state) == ("enabled", "enabled")


async def test_what_dps_can_not_follow_is_judged_by_its_entry_as_it_is_now() -> None:
    """The entry was looked for when the group was deleted, and the change belongs to the group that was made since."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.ask("delete")

    async def made_anew_and_to_be_disabled() -> None:
        scene.now += timedelta(seconds=2)
        await scene.ask("put")
        await killed_after_deciding(scene, "disable")

    meanwhile(scene, "get_group", made_anew_and_to_be_disabled, before=False)
    await scene.converger.settle("g")
    assert (status(scene), (await scene.record()).state) == ("disabled", "disabled")


async def test_what_dps_refuses_of_another_request_does_not_stop_the_next_one() -> None:
    """The change that was left lying is withdrawn on the way, and is told to its own message."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await killed_after_deciding(scene, "update", ifMatch='"9"', iotEdge=True)
    await scene.ask("disable")
    assert (status(scene), told(scene)) == ("disabled", ["create", "disable"])
    scene.now += timedelta(minutes=10)  # when the message of who was killed comes again
    with pytest.raises(Rejected, match="its ETag is '3', and the request expects '9'"):
        await scene.ask("update", ifMatch='"9"', iotEdge=True)


async def test_a_group_that_was_deleted_while_it_was_made_is_taken_back() -> None:
    """One worker is about to make the entry; meanwhile another one has made it, and a later request deleted it."""
    scene = await GroupScene().set_up()

    async def made_and_deleted() -> None:
        await scene.ask("put")
        await scene.ask("delete")

    meanwhile(scene, "put_group", made_and_deleted)
    await scene.ask("put")
    assert (await scene.record()).state is GroupState.DELETED
    assert scene.provisioning.groups == {}
    assert told(scene) == ["create", "delete"]


async def test_of_two_groups_that_want_a_ca_the_one_that_is_refused_leaves_no_entry() -> None:
    """Its entry was made before the other one, which has seen nobody have the CA, was entered."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    wanted: dict[str, Any] = {"request": "r", "action": ChangeAction.CREATE, "issuer": "line", "decided_at": scene.now}
    other = GroupRecord(
        enrollment_group="h",
        state=GroupState.REQUESTED,
        issuer="line",
        updated_at=scene.now,
        last_request="r",
        change=Change(state=GroupState.ENABLED, **wanted),
    )

    async def entered() -> None:
        await scene.groups.insert(other)

    meanwhile(scene, "put_group", entered)
    with pytest.raises(Conflict, match="'line' is an issuing CA of the enrollment group 'h'"):
        await scene.ask("create", issuer="line")
    assert (await scene.record()).state is GroupState.DELETED
    assert scene.provisioning.groups == {}
    await scene.converger.settle("h")
    assert scene.accepted("h") == ["line"]


async def test_a_group_that_another_worker_refuses_leaves_no_entry_of_the_worker_that_made_it() -> None:
    """It is refused when it was made, and was not enabled yet."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    other = GroupRecord(
        enrollment_group="h", state=GroupState.ENABLED, issuer="line", updated_at=scene.now, last_request="r"
    )

    async def refused() -> None:
        await scene.groups.insert(other)
        with pytest.raises(Conflict, match="'line' is an issuing CA of the enrollment group 'h'"):
            await scene.converger.settle("g")

    async def made() -> None:
        meanwhile(scene, "put_group", refused)

    meanwhile(scene, "put_group", made, before=False)
    with pytest.raises(Conflict):
        await scene.ask("create", issuer="line")
    assert (await scene.record()).state is GroupState.DELETED
    assert scene.provisioning.groups == {}


async def test_a_group_that_is_to_be_made_only_is_made_again_when_others_took_it_out_of_dps() -> None:
    """What does not exist matches no ETag, and what the request has made is not what it found."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    scene.provisioning.groups.clear()
    scene.now += timedelta(seconds=2)
    await scene.ask("put", ifNoneMatch="*")
    assert (status(scene), told(scene)) == ("enabled", ["create", "update"])
    scene.now += timedelta(seconds=2)
    with pytest.raises(PreconditionFailed, match="the enrollment group 'g' exists, with ETag "):
        await scene.ask("put", request_id="again", ifNoneMatch="*")


async def test_an_entry_that_looks_as_it_is_wanted_is_looked_at_again() -> None:
    """It was read before somebody else disabled the group, and the record after somebody wanted it enabled again."""
    scene = await GroupScene().set_up()
    await scene.ask("create")

    async def disabled_and_to_be_enabled() -> None:
        await scene.ask("disable")
        scene.now += timedelta(seconds=2)
        await killed_after_deciding(scene, "enable")

    meanwhile(scene, "get_group", disabled_and_to_be_enabled, before=False)
    await scene.converger.settle("g")
    assert (status(scene), (await scene.record()).state) == ("enabled", "enabled")


@pytest.mark.parametrize("action", ["disable", "delete"])
async def test_an_entry_that_others_have_put_back_is_shut_though_it_was_not_there(action: str) -> None:
    """It was looked for before they put it back."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    entry = scene.provisioning.groups.pop("g")

    async def put_back() -> None:
        await scene.provisioning.put_group(entry, etag=None)

    meanwhile(scene, "get_group", put_back, before=False)
    await scene.ask(action)
    assert "g" not in scene.provisioning.groups or (action, status(scene)) == ("disable", "disabled")


async def test_a_refusal_counts_only_if_the_group_is_as_it_was_judged() -> None:
    """Checked against DPS while another delivery made the group: its own entry is not taken for somebody else's."""
    scene = await GroupScene().set_up()
    list_groups = scene.provisioning.list_groups

    async def made_meanwhile() -> AsyncIterator[dict[str, Any]]:
        scene.provisioning.list_groups = list_groups  # type: ignore[method-assign]
        async for each in list_groups():
            yield each
        await scene.ask("put")

    scene.provisioning.list_groups = made_meanwhile  # type: ignore[method-assign]
    await scene.ask("put")
    assert ((await scene.record()).state, told(scene)) == (GroupState.ENABLED, ["create"])


async def test_who_is_overtaken_again_and_again_lets_go() -> None:
    """Others keep changing the entry: the request is put back, and its change stays decided."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    put_group = scene.provisioning.put_group

    async def overtaken(group: Any, *, etag: str | None = None) -> Any:
        entry = scene.provisioning.groups["g"]
        await put_group({**entry, "iotHubs": [str(scene.provisioning.writes)]}, etag=entry["etag"])
        return await put_group(group, etag=etag)

    scene.provisioning.put_group = overtaken  # type: ignore[method-assign]
    with pytest.raises(Deferred, match="the enrollment group 'g' is being changed by someone else"):
        await scene.ask("disable")
    with pytest.raises(Deferred):
        await scene.ask("roll")
    scene.provisioning.put_group = put_group  # type: ignore[method-assign]
    assert await scene.converger.sweep(older_than=timedelta()) == 1
    assert (status(scene), told(scene)) == ("disabled", ["create", "disable"])


async def test_a_group_that_is_not_known_is_not_brought_about() -> None:
    """It does not exist."""
    scene = await GroupScene().set_up()
    with pytest.raises(NotFound, match="the enrollment group 'no' does not exist"):
        await scene.converger.settle("no")


# --- CAs that end meanwhile ---


async def ended(scene: GroupScene, action: str) -> None:
    body = {"requestId": f"{action}-line", "name": "line", "action": action}
    body |= {"reason": "keyCompromise"} if action == "revoke" else {}
    await scene.worker().acts.carry_out(parse(AuthorityAct, body))


async def carried_on(scene: GroupScene, action: str, **fields: Any) -> None:
    """Have the timer go on, and then the message, which is told why."""
    scene.now += timedelta(minutes=1)
    await scene.converger.sweep(older_than=timedelta(minutes=1))
    scene.now += timedelta(minutes=10)  # its first delivery has ended by then
    with pytest.raises(Conflict, match="'line'"):
        await scene.ask(action, **fields)


@pytest.mark.parametrize("end", ["retire", "revoke"])
async def test_a_group_is_not_made_with_a_ca_that_ended_after_it_was_asked_for(end: str) -> None:
    """DPS was down, say: whoever has the key of a revoked CA gets in by no group that is made later."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await killed_after_deciding(scene, "create", issuer="line")
    await ended(scene, end)
    await carried_on(scene, "create", issuer="line")
    assert ((await scene.record()).state, scene.provisioning.groups) == (GroupState.DELETED, {})
    assert scene.provisioning.writes == 0


async def test_a_group_is_made_with_a_ca_that_was_disabled_after_it_was_asked_for() -> None:
    """It signs when it is enabled."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await killed_after_deciding(scene, "create", issuer="line")
    await ended(scene, "disable")
    await scene.ask("create", issuer="line")
    assert (await scene.record()).state is GroupState.ENABLED


@pytest.mark.parametrize("end", ["retire", "revoke"])
async def test_a_group_is_not_rolled_to_a_ca_that_ended_after_that_was_asked_for(end: str) -> None:
    """Its devices would get no certificates, nor could it be rolled again before all of the old CA's have ended."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.issuing("line", "dpsCa")
    await killed_after_deciding(scene, "roll", issuer="line")
    await ended(scene, end)
    await carried_on(scene, "roll", issuer="line")
    record = await scene.record()
    assert (record.issuer, record.rollover, scene.accepted()) == ("g-ca1", None, ["g-ca1"])
    await scene.ask("roll", request_id="another")
    assert (await scene.record()).previous_issuer == "g-ca1"


async def test_a_roll_to_a_ca_that_is_disabled_meanwhile_waits_until_it_is_enabled() -> None:
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.issuing("line", "dpsCa")
    await killed_after_deciding(scene, "roll", issuer="line")
    await ended(scene, "disable")
    with pytest.raises(Deferred, match="'line' is disabled"):
        await scene.ask("roll", issuer="line")
    assert ((await scene.record()).issuer, scene.accepted()) == ("g-ca1", ["g-ca1"])
    await ended(scene, "enable")
    await scene.ask("roll", issuer="line")
    assert (await scene.record()).issuer == "line"


async def test_a_roll_that_dps_has_already_goes_on_though_its_ca_has_ended_since() -> None:
    """Else nobody would know that the group has the CA, and it would not be disabled."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.issuing("line", "dpsCa")

    async def stop() -> None:
        raise ConnectionError("no answer")

    meanwhile(scene, "put_group", stop, before=False)
    with pytest.raises(ConnectionError):
        await scene.ask("roll", issuer="line")
    await ended(scene, "revoke")
    await scene.ask("roll", issuer="line")
    assert ((await scene.record()).issuer, scene.accepted()) == ("line", ["g-ca1", "line"])


async def test_a_group_is_not_enabled_when_its_ca_was_revoked_after_that_was_asked_for() -> None:
    """Who has revoked the CA has it disabled as well, in case it has just been enabled."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await scene.ask("create", issuer="line")
    await scene.ask("disable")
    await killed_after_deciding(scene, "enable")
    scene.queues.sent.clear()
    await ended(scene, "revoke")
    asked = [body["data"] for queue, body, _ in scene.queues.sent if queue == "enrollment-group-requests"]
    assert [(each["enrollmentGroup"], each["action"]) for each in asked] == [("g", "disable")]
    await carried_on(scene, "enable")
    assert ((await scene.record()).state, status(scene)) == (GroupState.DISABLED, "disabled")


async def test_an_enabled_group_of_a_revoked_ca_is_not_made_again() -> None:
    """It is about to be disabled: until then nobody puts its entry back."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await scene.ask("create", issuer="line")
    del scene.provisioning.groups["g"]
    await killed_after_deciding(scene, "put")
    await ended(scene, "revoke")
    await carried_on(scene, "put")
    assert scene.provisioning.groups == {}


def revoked_meanwhile(scene: GroupScene, call: str = "put_group") -> None:
    """Have the CA revoked, and another worker refuse the change, while a worker is about to bring it about."""

    async def revoked() -> None:
        await ended(scene, "revoke")
        with pytest.raises(Conflict, match="'line', a CA of the enrollment group 'g', is revoked"):
            await scene.converger.settle("g")

    meanwhile(scene, call, revoked)


async def test_a_worker_who_is_late_enables_no_group_whose_ca_was_revoked() -> None:
    """Others have refused that meanwhile, and the entry is as it was when it was read."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await scene.ask("create", issuer="line")
    await scene.ask("disable")
    revoked_meanwhile(scene)
    with pytest.raises(Conflict, match="'line'"):
        await scene.ask("enable")
    assert ((await scene.record()).state, (await scene.record()).change) == (GroupState.DISABLED, None)
    assert status(scene) == "disabled"


@pytest.mark.parametrize("put", [1, 2])
async def test_a_worker_who_is_late_makes_no_entry_again_by_which_a_revoked_ca_lets_in(put: int) -> None:
    """Others have refused that meanwhile; whether the entry is not there yet, or is there and still disabled."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await scene.ask("create", issuer="line")
    scene.provisioning.groups.clear()
    if put == 1:
        revoked_meanwhile(scene)
    else:
        put_group = scene.provisioning.put_group

        async def first(group: Any, *, etag: str | None) -> dict[str, Any]:
            scene.provisioning.put_group = put_group  # type: ignore[method-assign]
            made = await put_group(group, etag=etag)
            revoked_meanwhile(scene)
            return made

        scene.provisioning.put_group = first  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="'line'"):
        await scene.ask("put")
    assert (scene.provisioning.groups, (await scene.record()).change) == ({}, None)


async def asked_to_disable(scene: GroupScene) -> list[str]:
    """Give the groups that the timer of CAs asks to be disabled, since a CA of theirs is revoked."""
    scene.queues.sent.clear()
    scene.now += timedelta(minutes=10)
    await scene.worker().converger.sweep()
    asked = [body["data"] for queue, body, _ in scene.queues.sent if queue == "enrollment-group-requests"]
    return [each["enrollmentGroup"] for each in asked if each["action"] == "disable"]


async def put_by_hand(scene: GroupScene, authority: str, state: str) -> dict[str, Any]:
    """Have an entry of the group in DPS that somebody has made there."""
    certificate = await scene.worker().authorities.certificate(authority)
    entry = {"enrollmentGroupId": "g", "provisioningStatus": state, "attestation": x509_attestation(certificate)}
    return await scene.provisioning.put_group(entry, etag=None)


@pytest.mark.parametrize("there", [None, "disabled", "enabled"])
@pytest.mark.parametrize("end", ["retire", "revoke"])
async def test_a_group_that_dps_has_enabled_is_made_though_its_ca_has_ended_since(end: str, there: str | None) -> None:
    """So it is known, and is disabled if the CA is revoked. Whether the app has made its entry, or taken one over."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    if there is not None:
        await put_by_hand(scene, "line", there)
    scene.provisioning.step = Trap(2 if there is None else 1).step
    with pytest.raises(Killed):
        await scene.ask("create", issuer="line")
    scene.provisioning.step = lambda: None
    assert status(scene) == "enabled"
    await ended(scene, end)
    assert await scene.converger.sweep(older_than=timedelta()) == 1
    assert ((await scene.record()).state, told(scene)) == (GroupState.ENABLED, ["create"])
    assert await asked_to_disable(scene) == (["g"] if end == "revoke" else [])


async def killed_before_it_has_told() -> GroupScene:
    """Give a group that DPS has, and whose worker was killed before the event."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    scene.queues.step = Trap(1).step
    with pytest.raises(Killed):
        await scene.ask("create", issuer="line")
    scene.queues.step = lambda: None
    return scene


async def test_what_dps_follows_is_told_by_whoever_comes_though_it_could_not_be_made_any_more() -> None:
    """It is recorded before it is told: so nobody is told that it is done, and then that it was refused."""
    scene = await killed_before_it_has_told()
    await ended(scene, "revoke")
    await scene.ask("create", issuer="line")
    assert ((await scene.record()).state, told(scene)) == (GroupState.ENABLED, ["create"])


@pytest.mark.parametrize("end", [None, "revoke"])
async def test_an_entry_that_others_delete_after_dps_has_followed_is_not_made_again_to_tell_it(end: str | None) -> None:
    """That it was there is told; that it is gone is a finding."""
    scene = await killed_before_it_has_told()
    scene.provisioning.groups.clear()
    if end is not None:
        await ended(scene, end)
    await scene.ask("create", issuer="line")
    assert (scene.provisioning.groups, told(scene)) == ({}, ["create"])
    assert (await scene.record()).acts == ("create-g",)


async def test_an_entry_with_a_former_certificate_of_its_ca_is_still_the_one_that_was_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The renewal was begun when no group had the CA. The group is made anew, with the certificate that the CA has now."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    former = await scene.worker().authorities.certificate("line")
    renew = {"requestId": "renew-line", "name": "line", "action": "renew"}
    await scene.worker().acts.carry_out(parse(AuthorityAct, renew))
    certificate = scene.worker().authorities.certificate

    async def before(name: str) -> x509.Certificate:
        return former if name == "line" else await certificate(name)

    scene.provisioning.step = Trap(2).step
    monkeypatch.setattr(CertificateAuthorities, "certificate", lambda _self, name: before(name))
    with pytest.raises(Killed):
        await scene.ask("create", issuer="line")
    monkeypatch.undo()
    scene.provisioning.step = lambda: None
    with pytest.raises(Conflict, match="this app did not make"):
        await scene.converger.settle("g")
    assert (scene.provisioning.groups, (await scene.record()).state) == ({}, GroupState.DELETED)


async def test_a_group_by_reference_is_not_made_when_its_issuing_ca_was_revoked() -> None:
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await killed_after_deciding(scene, "create", caReferences={"primary": "dpsCa"}, issuer="line")
    await ended(scene, "revoke")
    with pytest.raises(Conflict, match="'line' is revoked and signs nothing any more"):
        await scene.converger.settle("g")
    assert (scene.provisioning.groups, (await scene.record()).state) == ({}, GroupState.DELETED)


async def test_an_entry_that_others_have_made_beside_a_put_is_theirs() -> None:
    """It has another CA: the put finds one that it did not want to be there, and enables nothing."""
    scene = await GroupScene().set_up()
    await scene.issuing("theirs", "dpsCa")
    await scene.ask("create")
    scene.provisioning.groups.clear()

    async def made_by_others() -> None:
        await put_by_hand(scene, "theirs", "disabled")

    meanwhile(scene, "put_group", made_by_others)
    with pytest.raises(PreconditionFailed, match="the enrollment group 'g' exists"):
        await scene.ask("put", ifNoneMatch="*", iotEdge=True)
    assert (status(scene), scene.accepted(), "capabilities" in scene.provisioning.groups["g"]) == (
        "disabled", ["theirs"], False
    )  # fmt: skip


async def test_an_entry_that_others_have_made_of_a_revoked_ca_is_not_enabled_by_a_put() -> None:
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await scene.ask("create")
    scene.provisioning.groups.clear()
    scene.group_rows.step = Trap(2).step  # when it is entered that one is made
    with pytest.raises(Killed):
        await scene.ask("put")
    scene.group_rows.step = lambda: None
    await put_by_hand(scene, "line", "disabled")
    await ended(scene, "revoke")
    assert await scene.converger.sweep(older_than=timedelta()) == 1
    assert (status(scene), scene.accepted()) == ("disabled", ["line"])


@pytest.mark.parametrize("action", ["create", "put"])
@pytest.mark.parametrize("end", ["retire", "revoke"])
async def test_a_worker_that_was_killed_with_an_entry_it_has_made_leaves_none_that_is_refused(
    end: str, action: str
) -> None:
    """Whoever refuses it knows that the entry was made for it, and that nobody was to be let in by it yet."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    if action == "put":
        await scene.ask("create", issuer="line")
        scene.provisioning.groups.clear()
    scene.provisioning.step = Trap(1).step
    named: dict[str, Any] = {"issuer": "line"} if action == "create" else {}
    with pytest.raises(Killed):
        await scene.ask(action, **named)
    scene.provisioning.step = lambda: None
    assert status(scene) == "disabled"
    await ended(scene, end)
    if (action, end) == ("put", "retire"):  # one that is retired lets in its devices
        assert await scene.converger.sweep(older_than=timedelta()) == 1
        assert status(scene) == "enabled"
        return
    await carried_on(scene, action, **named)
    assert (scene.provisioning.groups, (await scene.record()).change) == ({}, None)


@pytest.mark.parametrize("makes", [False, True])
async def test_an_entry_of_others_is_left_alone_when_a_new_group_is_refused(*, makes: bool) -> None:
    """They have made it since the request was checked; disabled, and with a CA of theirs. So it is not the app's."""
    scene = await GroupScene().set_up()
    for name in ("line", "theirs"):
        await scene.issuing(name, "dpsCa")
    await scene.ask("create", "h", issuer="theirs")
    theirs = {**scene.provisioning.groups["h"], "enrollmentGroupId": "g", "provisioningStatus": "disabled"}
    await killed_after_deciding(scene, "create", issuer="line")
    if makes:  # it says already that it makes one
        known = await scene.groups.get("g")
        assert known is not None
        await scene.groups.replace(known, known.record.making())
    made = await scene.provisioning.put_group(theirs, etag=None)
    with pytest.raises(Conflict, match="the DPS has an enrollment group 'g' that this app did not make"):
        await scene.converger.settle("g")
    assert scene.provisioning.groups["g"] == made


async def test_an_entry_that_lets_in_by_keys_of_others_is_not_written_for_a_change_that_is_refused() -> None:
    """DPS shows no symmetric keys, and might make new ones for an entry without them."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await scene.ask("create", issuer="line")
    await scene.ask("disable")
    await killed_after_deciding(scene, "enable")
    await ended(scene, "revoke")
    entry = scene.provisioning.groups["g"]
    theirs = await scene.provisioning.put_group({**entry, "attestation": {"type": "symmetricKey"}}, etag=entry["etag"])
    with pytest.raises(Conflict, match="'line', a CA of the enrollment group 'g', is revoked"):
        await scene.converger.settle("g")
    assert (scene.provisioning.groups["g"], (await scene.record()).change) == (theirs, None)


async def test_what_is_refused_is_not_undone_while_the_ledger_is_an_older_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may not know that the group was made since."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    known = await scene.groups.get("g")
    assert known is not None
    refused = Change(
        request="r", action=ChangeAction.CREATE, state=GroupState.ENABLED, issuer="g-ca1", decided_at=scene.now
    ).changed(makes=True, refused=True)
    before = known.record.changed(change=refused)
    await scene.groups.replace(known, before)

    async def behind(_self: CertificateAuthorities) -> None:
        raise LedgerBehind("it is at epoch 1")

    monkeypatch.setattr(CertificateAuthorities, "check_ledger", behind)
    with pytest.raises(LedgerBehind):
        await scene.converger.settle("g")
    assert status(scene) == "enabled"


async def test_a_group_that_is_rolled_is_disabled_by_the_timer_while_the_ledger_is_an_older_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The roll waits, and what shuts does not."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    for action in ("roll", "disable"):
        await killed_after_deciding(scene, action)

    async def behind(_self: CertificateAuthorities) -> None:
        raise LedgerBehind("it is at epoch 1")

    monkeypatch.setattr(CertificateAuthorities, "check_ledger", behind)
    with pytest.raises(ExceptionGroup):
        await scene.converger.sweep(older_than=timedelta())
    assert status(scene) == "disabled"


# --- several requests ---


async def test_a_roll_is_not_refused_for_what_another_request_wanted() -> None:
    """What that one left is brought about first, and is refused."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await killed_after_deciding(scene, "roll")
    await killed_after_deciding(scene, "update", ifMatch='"9"', iotEdge=True)
    scene.now += timedelta(minutes=10)
    await scene.ask("roll")
    assert told(scene) == ["create", "roll"]


async def test_a_roll_that_is_done_is_not_refused_for_what_another_roll_wants_since() -> None:
    """Another worker has brought it about, and the next roll was entered; its CA has ended."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.issuing("line", "dpsCa")

    async def others() -> None:
        await scene.converger.prepare("g")
        await scene.converger.settle("g")
        known = await scene.groups.get("g")
        assert known is not None
        assert known.record.rollover is not None
        again = known.record.rollover.changed(
            state=RolloverState.PREPARING, target="line", request="roll-2", replaces=known.record.rollover
        )
        await scene.groups.replace(known, known.record.changed(rollover=again))
        await ended(scene, "retire")

    meanwhile(scene, "put_group", others)
    await scene.ask("roll")
    assert told(scene) == ["create", "roll"]


async def test_a_request_that_is_done_is_not_refused_for_what_another_one_wants_since() -> None:
    """Another worker has brought it about, and the next request was entered."""
    scene = await GroupScene().set_up()
    await scene.ask("create")

    async def others() -> None:
        await scene.converger.settle("g")
        await killed_after_deciding(scene, "update", ifMatch='"9"', iotEdge=True)

    meanwhile(scene, "put_group", others)
    await scene.ask("disable")
    assert told(scene) == ["create", "disable"]


# --- rollovers that are refused when DPS has followed ---


async def other_group(scene: GroupScene, issuer: str) -> None:
    """Enter another group that has a CA."""
    record = GroupRecord(
        enrollment_group="h", state=GroupState.ENABLED, issuer=issuer, updated_at=scene.now, last_request="r"
    )
    await scene.groups.insert(record)


def overtaken_by_a_group_of(scene: GroupScene, issuer: str) -> None:
    """Have DPS follow a roll, and then another group have the CA, and others be faster: the roll is judged anew."""

    async def overtaken() -> None:
        await other_group(scene, issuer)
        await killed_after_deciding(scene, "disable")

    meanwhile(scene, "put_group", overtaken, before=False)


async def test_a_roll_that_is_refused_when_dps_holds_its_ca_takes_that_out_and_makes_room_for_another() -> None:
    """Else DPS would let in devices of another group, and no roll would be taken any more."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.issuing("line", "dpsCa")
    overtaken_by_a_group_of(scene, "line")
    with pytest.raises(Conflict, match="'line' is an issuing CA of the enrollment group 'h'"):
        await scene.ask("roll", issuer="line")
    record = await scene.record()
    assert (record.issuer, record.rollover, scene.accepted()) == ("g-ca1", None, ["g-ca1"])
    assert (status(scene), told(scene)) == ("disabled", ["create", "disable"])
    await scene.ask("roll", request_id="another")
    assert scene.accepted() == ["g-ca1", "g-ca3"]


async def test_the_replacement_of_a_revoked_ca_that_is_refused_when_dps_holds_its_ca_takes_that_out() -> None:
    """The revoked one does not come back into DPS by that; the old one stays, and another roll is taken."""
    scene = await GroupScene().set_up()
    for name in ("line", "next"):
        await scene.issuing(name, "dpsCa")
    await scene.ask("create")
    await scene.ask("roll", issuer="line")
    await ended(scene, "revoke")
    before = (await scene.record()).rollover
    overtaken_by_a_group_of(scene, "next")
    with pytest.raises(Conflict, match="'next' is an issuing CA of the enrollment group 'h'"):
        await scene.ask("roll", request_id="again", issuer="next")
    record = await scene.record()
    assert (record.issuer, record.previous_issuer, scene.accepted()) == ("line", "g-ca1", ["g-ca1"])
    assert record.rollover == before
    await scene.ask("roll", request_id="another")
    assert scene.accepted() == ["g-ca1", "g-ca4"]


async def killed_when_its_roll_was_refused() -> GroupScene:
    """Give a group whose roll to another group's CA is entered as refused; DPS holds that CA."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.issuing("line", "dpsCa")

    async def overtaken_and_to_be_killed() -> None:
        await other_group(scene, "line")
        await killed_after_deciding(scene, "disable")
        scene.group_rows.step = Trap(2).step  # when the disable is done, and the roll refused

    meanwhile(scene, "put_group", overtaken_and_to_be_killed, before=False)
    with pytest.raises(Killed):
        await scene.ask("roll", issuer="line")
    scene.group_rows.step = lambda: None
    return scene


async def test_a_refused_roll_that_is_killed_before_dps_follows_is_taken_back_by_the_timer() -> None:
    """That it is refused was entered before; its message is then told why."""
    scene = await killed_when_its_roll_was_refused()
    assert scene.accepted() == ["g-ca1", "line"]
    scene.now += timedelta(minutes=1)
    assert await scene.converger.sweep(older_than=timedelta(minutes=1)) == 1
    assert ((await scene.record()).rollover, scene.accepted()) == (None, ["g-ca1"])
    scene.now += timedelta(minutes=10)
    with pytest.raises(Conflict, match="'line' is an issuing CA of the enrollment group 'h'"):
        await scene.ask("roll", issuer="line")


async def test_a_ca_that_comes_into_dps_while_its_refused_roll_is_taken_back_is_taken_out() -> None:
    """DPS did not hold it when its entry was read. The worker that has put it there was late, and is killed."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.issuing("line", "dpsCa")
    await killed_after_deciding(scene, "roll", issuer="line")
    await other_group(scene, "line")

    async def late() -> None:
        entry = deepcopy(scene.provisioning.groups["g"])
        entry["attestation"] = x509_attestation(
            *[(await scene.worker().authorities.load(each)).certificate for each in ("g-ca1", "line")]
        )
        await scene.provisioning.put_group(entry, etag=entry["etag"])

    meanwhile(scene, "put_group", late)
    with pytest.raises(Conflict, match="'line' is an issuing CA of the enrollment group 'h'"):
        await scene.converger.prepare("g")
    assert ((await scene.record()).rollover, scene.accepted()) == (None, ["g-ca1"])


async def test_a_roll_that_another_worker_refuses_does_not_come_into_dps_late() -> None:
    """DPS did not hold its CA yet, and its entry was written all the same: who was about to put it there is late."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.issuing("line", "dpsCa")

    async def refused() -> None:
        await other_group(scene, "line")
        with pytest.raises(Conflict, match="'line' is an issuing CA of the enrollment group 'h'"):
            await scene.converger.prepare("g")

    meanwhile(scene, "put_group", refused)
    with pytest.raises(Conflict):
        await scene.ask("roll", issuer="line")
    assert ((await scene.record()).rollover, scene.accepted()) == (None, ["g-ca1"])


def have_the_vault_say(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """Have nobody open the key of a CA."""
    opened = AuthorityKeys.open

    async def open_key(self: AuthorityKeys, record: AuthorityRecord) -> Any:
        if record.name == name:
            raise error
        return await opened(self, record)

    monkeypatch.setattr(AuthorityKeys, "open", open_key)


@pytest.mark.parametrize(
    "error",
    [Deferred("the vault throttles", retry_after=timedelta(seconds=30)), RuntimeError("the key is disabled")],
    ids=["throttled", "disabled"],
)
async def test_the_ca_of_a_refused_roll_leaves_dps_whatever_the_vault_says_of_its_key(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Its certificate is all that is needed. A worker that has not used the CA yet would have to open its key."""
    scene = await killed_when_its_roll_was_refused()
    have_the_vault_say(monkeypatch, "line", error)
    scene.now += timedelta(minutes=1)
    assert await scene.converger.sweep(older_than=timedelta(minutes=1)) == 1
    assert ((await scene.record()).rollover, scene.accepted()) == (None, ["g-ca1"])


async def test_a_revoked_ca_whose_key_is_disabled_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever revokes a CA since others have its key disables that key, too; its certificate is all that is needed."""
    scene = await GroupScene().set_up()
    await scene.issuing("line", "dpsCa")
    await scene.ask("create")
    await scene.ask("roll", issuer="line")
    await ended(scene, "revoke")
    have_the_vault_say(monkeypatch, "line", RuntimeError("the key is disabled"))
    scene.now += timedelta(hours=2)  # what this worker has loaded is not used any more
    await scene.ask("roll", request_id="again")
    assert (scene.accepted()[0], "line" in scene.accepted(), len(scene.accepted())) == ("g-ca1", False, 2)


async def test_a_roll_stays_refused_until_dps_holds_its_ca_no_more() -> None:
    """DPS refuses the entry without it, for now: whoever comes next tries again."""
    scene = await GroupScene().set_up()
    await scene.ask("create")
    await scene.issuing("line", "dpsCa")
    put_group = scene.provisioning.put_group

    async def refusing(group: Any, *, etag: str | None = None) -> Any:
        if len(group["attestation"]["x509"]["signingCertificates"]) == 1:
            raise Rejected.because("DPS takes no such group")
        return await put_group(group, etag=etag)

    async def overtaken() -> None:
        scene.provisioning.put_group = refusing  # type: ignore[method-assign]
        await other_group(scene, "line")
        await killed_after_deciding(scene, "disable")

    meanwhile(scene, "put_group", overtaken, before=False)
    with pytest.raises(Rejected, match="DPS takes no such group"):
        await scene.ask("roll", issuer="line")
    assert scene.accepted() == ["g-ca1", "line"]
    with pytest.raises(Conflict, match="the last roll of 'g' was refused, and DPS may still accept its CA 'line'"):
        await scene.ask("roll", request_id="another")
    scene.provisioning.put_group = put_group  # type: ignore[method-assign]
    await scene.converger.prepare("g")
    assert ((await scene.record()).rollover, scene.accepted()) == (None, ["g-ca1"])


async def test_what_others_put_into_dps_after_a_roll_was_decided_is_not_replaced() -> None:
    """It may have devices: the roll is refused, and the entry accepts what it accepted."""
    scene = await GroupScene().set_up()
    await scene.issuing("theirs", "dpsCa")
    await scene.ask("create")
    await scene.ask("create", "h", issuer="theirs")
    await killed_after_deciding(scene, "roll")
    entry, other = (deepcopy(scene.provisioning.groups[group]) for group in ("g", "h"))
    held, others = (each["attestation"]["x509"]["signingCertificates"] for each in (entry, other))
    held["secondary"] = others["primary"]
    await scene.provisioning.put_group(entry, etag=entry["etag"])
    with pytest.raises(Conflict, match="has other signing certificates than this app put there"):
        await scene.converger.prepare("g")
    assert ((await scene.record()).rollover, scene.accepted()) == (None, ["g-ca1", "theirs"])
