"""What may follow which state: the tables lead nowhere they should not, and records keep to them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from shared.domain import lifecycles
from shared.domain.certificates import CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.lifecycles import (
    APPROVAL,
    AUTHORITY,
    BEGIN,
    CERTIFICATE,
    DEVICE,
    LIFECYCLES,
    ORDER,
    IllegalStep,
    Lifecycle,
)
from shared.domain.words import DeviceState
from tests.records import held_certificate

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ENDS = {
    "device": {"revoked", "deleted", "failed", "expired"},
    "certificate": {"revoked", "abandoned", "superseded", "expired"},
    "certificate authority": {"active", "disabled", "retired", "revoked", "deleted"},
    "enrollment group": {"enabled", "disabled", "deleted"},
    "rollover": {"retired"},
    "order": {"completed", "completedWithFailures", "cancelled", "rejected"},
    "request": {"done", "rejected"},
    "approval": {"approved", "refused", "expired"},
    "finding": {"closed"},
    "reconciliation": {"done"},
}
"""States in which nothing is waited for."""


@pytest.mark.parametrize("lifecycle", LIFECYCLES, ids=lambda each: each.kind)
def test_every_state_can_be_reached_and_every_wait_ends(lifecycle: Lifecycle) -> None:
    """From the beginning there is a way to each state, and from each state that waits a step by somebody else."""
    assert lifecycle.reachable(BEGIN) == lifecycle.states
    for state in lifecycle.states - ENDS[lifecycle.kind]:
        assert lifecycle.reachable(state) & ENDS[lifecycle.kind], state


def test_a_final_revocation_is_absorbing() -> None:
    """A certificate that is revoked for good stays so; a device gets in again by a deletion and a new order alone."""
    assert CERTIFICATE.reachable("revoked") == frozenset()
    assert DEVICE.reachable("revoked", without=frozenset({"deleted"})) == frozenset()
    assert DEVICE.reachable("revoked", without=frozenset({"ordered"})) == {"deleted"}


def test_what_has_ended_does_not_come_back() -> None:
    """Literally: no serial number that was given up is used, and no order that is complete is worked on."""
    assert CERTIFICATE.reachable("abandoned") == frozenset()
    assert ORDER.reachable("completed") == frozenset()
    assert {APPROVAL.reachable(each) for each in ("approved", "refused", "expired")} == {frozenset()}
    assert AUTHORITY.reachable("deleted") == frozenset()
    assert AUTHORITY.reachable("revoked") == {"deleted"}
    assert AUTHORITY.reachable("retired") == {"revoked", "deleted"}
    assert "active" not in CERTIFICATE.reachable("superseded", without=frozenset({"onHold"}))


def test_a_record_refuses_a_state_that_does_not_follow() -> None:
    """The mistake is the app's, so it is no refusal of a request."""
    device = DeviceRecord(registration_id="a", state=DeviceState.ORDERED, order_id="o", updated_at=NOW)
    with pytest.raises(IllegalStep, match=r"^a device that is ordered does not become registered$"):
        device.entered(DeviceState.REGISTERED, NOW)
    held = held_certificate("1", NOW, state=CertificateState.REVOKED)
    with pytest.raises(IllegalStep, match=r"^a certificate that is revoked does not become active$"):
        held.changed(state=CertificateState.ACTIVE)
    assert held.changed(listed=True).listed


def test_the_diagrams_are_those_of_the_tables() -> None:
    """docs/lifecycles.md is made anew by ``python -m shared.domain.lifecycles > docs/lifecycles.md``."""
    assert Path("docs/lifecycles.md").read_text(encoding="utf-8") == lifecycles.document()
