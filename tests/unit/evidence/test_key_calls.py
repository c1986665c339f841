"""A call to change the log's key breaks off: the audit log says whether it took effect, when the timer has been there.

Each call has an entry that is written ahead of the deed, as :func:`triggers.auditing.carried_out` does.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from shared.domain.audit_entries import SubjectKind
from shared.ledger.audit_log import AuditFilters
from shared.workflows.intake.audit import Act
from tests.unit.evidence.test_key_changes import filled
from tests.world.conductor import Go

if TYPE_CHECKING:
    from tests.unit.evidence.stored import Place


async def called(place: Place, action: str) -> None:
    """Have an operator call, as the app's routes do."""
    keys = place.worker().keys
    deed = {"renewLogKey": keys.begin, "retireLogKey": keys.end}[action]
    async with place.audit.carried_out(Act(action=action, kind=SubjectKind.OPERATION, subject=action)):
        await deed()


async def outcomes(place: Place, action: str) -> list[str]:
    """Give what came of the calls, the latest first."""
    found, _ = await place.audit.log.page(AuditFilters(action=action), size=9, continuation=None)
    return [each.outcome for each in found]


@pytest.mark.parametrize("lose", [False, True], ids=["killed", "its answer lost"])
@pytest.mark.parametrize("action", ["renewLogKey", "retireLogKey"])
async def test_a_call_that_breaks_off_anywhere_is_done_in_the_log_if_and_only_if_it_took_effect(
    action: str, *, lose: bool
) -> None:
    """The timer goes on with a key that was to be announced. It retires none: who was not told so asks again."""
    step, carried_on = 1, set[bool]()
    while True:
        place, worker = await filled()
        if action == "retireLogKey":
            await worker.keys.begin()
        place.conductor.start("a", called(place, action))
        if await place.conductor.advance("a", step) < step:
            break
        if lose:
            await place.conductor.advance("a", 1, go=Go.LOSE_ANSWER)
            await place.conductor.advance("a")
        await place.conductor.kill("a")
        entries = await outcomes(place, action)
        record = await place.worker().keys.carry_on()
        is_so = bool(record.retired) if action == "retireLogKey" else record.change is not None
        if entries:  # before it is written down nothing is done
            assert (await outcomes(place, action) == ["done"]) is is_so, f"{step}: {place.conductor.steps['a']}"
        carried_on.add(entries != ["done"] and is_so)
        assert record.audited == ()
        step += 1
    assert carried_on == {False, True}


async def test_each_call_to_renew_the_key_that_failed_is_done_when_both_keys_sign() -> None:
    place, _ = await filled()
    place.conductor.start("a", called(place, "renewLogKey"))
    while not (await place.checkpoints.newest()).record.change:  # type: ignore[union-attr]
        assert await place.conductor.advance("a", 1) == 1
    place.conductor.down.add("blobs")
    await place.conductor.advance("a")
    assert place.conductor.outcome("a") is not None
    assert await outcomes(place, "renewLogKey") == ["failed"]
    place.conductor.down.clear()
    place.now += timedelta(seconds=5)
    await called(place, "renewLogKey")
    assert await outcomes(place, "renewLogKey") == ["done", "done"]
