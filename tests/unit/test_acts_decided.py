"""An act on a CA, or an answer to a request, that was decided before, or comes too late."""

from __future__ import annotations

from typing import Any

import pytest

from shared.domain.authorities import AuthorityAction, AuthorityState
from shared.domain.authority_acts import Wanted, decided, followed
from shared.domain.request_parts import PartCounts, counted
from shared.domain.requests import RequestRecord, RequestState, waits
from shared.domain.words import RevocationReason
from shared.errors import Deferred
from tests.pki.hierarchy import NOW
from tests.unit.test_authority_audit import ca

RETIRE, REVOKE = Wanted("r1", AuthorityAction.RETIRE), Wanted("r2", AuthorityAction.REVOKE, reason="keyCompromise")


def test_a_ca_is_as_an_act_wants_it_and_says_so_until_all_follows() -> None:
    """Then its request is remembered."""
    retired = decided(ca(), RETIRE, NOW)
    assert (retired.state, retired.since, retired.change) == (AuthorityState.RETIRED, NOW, RETIRE.change(NOW))
    assert decided(retired, RETIRE, NOW) is retired
    with pytest.raises(Deferred, match="another act on 'root' is being carried out: retire"):
        decided(retired, REVOKE, NOW)
    done = followed(retired, RETIRE.change(NOW))
    assert (done.change, done.acts) == (None, ("r1",))
    assert decided(done, RETIRE, NOW) is done


def test_what_followed_an_act_before_changes_nothing_of_the_next() -> None:
    """A worker that comes late has no say."""
    revoked = decided(followed(decided(ca(), RETIRE, NOW), RETIRE.change(NOW)), REVOKE, NOW)
    assert (revoked.revoked_at, revoked.revocation_reason) == (NOW, RevocationReason.KEY_COMPROMISE)
    assert followed(revoked, RETIRE.change(NOW)) is revoked


def test_an_act_that_changes_no_state_leaves_when_it_was_entered() -> None:
    """Somebody else asks for the same."""
    retired = followed(decided(ca(), RETIRE, NOW), RETIRE.change(NOW)).changed(since=None)
    again = decided(retired, Wanted("r9", AuthorityAction.RETIRE), NOW)
    assert (again.state, again.since) == (AuthorityState.RETIRED, None)


@pytest.mark.parametrize("state", [RequestState.DONE, RequestState.REJECTED])
@pytest.mark.parametrize(
    "change",
    [
        waits("a CSR", at=NOW, next_try=None),
        counted(PartCounts(total=1, open=1, waiting=0, set_aside=0, done=0, failed=0)),
    ],
    ids=["waiting", "counted"],
)
def test_a_request_that_has_ended_stays_so(state: RequestState, change: Any) -> None:
    ended = RequestRecord(kind="k", request_id="r", fingerprint="f", received_at=NOW, state=state)
    assert change(ended) is ended
