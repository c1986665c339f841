"""Changes of records that come twice, or too late, change nothing: whoever is second writes what is there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from shared.domain.audit_entries import AuditedAct
from shared.domain.devices import DeviceRecord
from shared.domain.entry_changes import decided, followed, wish_of, withdrawn
from shared.domain.entry_wishes import EntryChange
from shared.domain.groups import GroupRecord, GroupState
from shared.domain.orders import LineCounts, OrderRecord, OrderState, completed, cut
from shared.domain.requests import Delivery, RequestRecord, RequestState, Wait, done, rejected
from shared.domain.upkeep import pinned, switched
from shared.domain.words import DeviceState

if TYPE_CHECKING:
    from collections.abc import Callable

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = datetime(2026, 3, 2, tzinfo=UTC)


def test_an_order_is_completed_once() -> None:
    """The time and the counts are those of whoever saw it first."""
    order = OrderRecord(order_id="o", state=OrderState.PROCESSING, accepted_at=NOW, fingerprint="f")
    done = completed(LineCounts(by_state={"registered": 2}, left=0, awaiting=0), order, NOW)(order)
    assert (done.state, done.completed_at, done.counts) == (OrderState.COMPLETED, NOW, {"registered": 2})
    later = LineCounts(by_state={"registered": 1, "failed": 1}, left=0, awaiting=0)
    assert completed(later, order, LATER)(done) is done


def test_an_order_whose_lines_are_all_sent_is_not_cut_short() -> None:
    """A reader that failed half-way may come later than one that succeeded."""
    order = OrderRecord(order_id="o", state=OrderState.COMPLETED, accepted_at=NOW, fingerprint="f")
    assert cut(3, ({"field": "", "message": "the blob is gone"},))(order) is order


def test_a_group_that_has_nothing_to_follow_stays_as_it_is() -> None:
    """Another worker was faster: DPS follows the change already, or the next CA signs already."""
    group = GroupRecord(
        enrollment_group="line", state=GroupState.ENABLED, issuer="line-ca1", updated_at=NOW, last_request="r"
    )
    assert group.followed(LATER) is group
    assert group.taken_over(LATER) is group


@pytest.mark.parametrize("enabled", [True, False])
def test_a_device_that_is_switched_drops_the_opposite_that_no_service_has_followed(*, enabled: bool) -> None:
    """What the audit log says of an act is that it took effect: the opposite never will. Other acts are left."""
    acts = tuple(AuditedAct(entry_id=str(each), at=NOW, enabled=each) for each in (True, False, None))
    record = DeviceRecord(
        registration_id="press", state=DeviceState.REGISTERED, order_id="o", updated_at=NOW, audited=acts
    )
    after = switched(record, enabled=enabled, reason="r", at=LATER)
    assert [each.entry_id for each in after.audited] == [str(enabled), "None"]


@pytest.mark.parametrize(
    ("follows", "kept"),
    [(None, {"deviceId": "other", "iotHubs": ["hub-1"]}), ("digest", {"deviceId": "other"})],
    ids=["of its own", "of its group"],
)
def test_of_an_entry_that_follows_its_group_no_more_than_a_device_id_is_kept_as_asked_for(
    follows: str | None, kept: dict[str, object]
) -> None:
    """Its other settings are those of the group, whatever DPS has made of them: the next change of the group counts."""
    record = DeviceRecord(registration_id="press", state=DeviceState.REGISTERED, order_id="o", updated_at=NOW)
    asked = decided(record, EntryChange(by="act", follows=follows), wish_of(record).changed(entry_asked_at=NOW))
    after = followed(asked, {"deviceId": "other", "iotHubs": ["hub-1"]})
    assert (after.entry_settings, after.entry_follows) == (kept, follows)
    assert (after.entry_change, after.entry_asked_at) == (None, None)
    assert followed(asked, None).entry_settings == record.entry_settings


REASONS = ({"field": "id", "message": "no"},)


@pytest.mark.parametrize(
    ("end", "state", "reasons", "rejection"),
    [
        (done(LATER), RequestState.DONE, None, None),
        (rejected(LATER, REASONS, "rejection-2"), RequestState.REJECTED, REASONS, "rejection-2"),
    ],
    ids=["done", "rejected"],
)
def test_a_request_that_has_ended_waits_for_nothing_and_nobody_is_at_it(
    end: Callable[[RequestRecord], RequestRecord],
    state: RequestState,
    reasons: tuple[dict[str, str], ...] | None,
    rejection: str | None,
) -> None:
    """Whoever looks at it is told how it ended, and not what it waited for before."""
    waiting = RequestRecord(
        kind="revocation-requests",
        request_id="r",
        fingerprint="f",
        received_at=NOW,
        state=RequestState.WAITING,
        wait=Wait(what="the hub does not answer", since=NOW),
        rejection_id="rejection-1",
        at_work=(Delivery(number=1, by="worker", began_at=NOW),),
    )
    after = end(waiting)
    assert (after.state, after.reasons, after.rejection_id, after.ended_at) == (state, reasons, rejection, LATER)
    assert (after.wait, after.at_work) == (None, ())
    assert done(LATER)(after) is after


@pytest.mark.parametrize("gone", [True, False])
def test_who_pins_a_device_to_its_certificates_drops_nothing_of_its_entry_but_that_there_is_to_be_none(
    *, gone: bool
) -> None:
    """What an operator is asking for comes about; if DPS refuses it, the device keeps its own entry all the same."""
    record = DeviceRecord(registration_id="press", state=DeviceState.REGISTERED, order_id="o", updated_at=NOW)
    wish = wish_of(record).changed(own_entry=not gone, entry_settings={"iotHubs": ["hub-1"]} if not gone else {})
    asked = decided(record, EntryChange(by="act", gone=gone), wish)
    after = pinned(asked, group="others", at=LATER)
    assert (after.own_entry, after.generation) == (True, asked.generation + 1)
    assert after.entry_settings == wish.entry_settings
    if gone:
        assert after.entry_change is None
        return
    assert after.entry_change is not None
    assert withdrawn(after, "act").own_entry
