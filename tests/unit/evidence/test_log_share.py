"""What the log adds to an order, with services that take as long as real ones, in a time of its own."""

from __future__ import annotations

from tests.unit.evidence.timed_orders import AT_ONCE, REGISTRATION, once

DEVICES = 40


def test_the_log_adds_less_than_a_twentieth_to_an_order() -> None:
    """Its devices go into the log together, while others wait for DPS."""
    on, off = (once(DEVICES, REGISTRATION, logged=logged) for logged in (True, False))
    assert off.seconds > REGISTRATION
    assert 1 <= on.seconds / off.seconds < 1.05
    assert 0 < on.operations - off.operations < 0.5 * DEVICES


def test_if_dps_answered_at_once_an_order_would_wait_for_few_writes_of_the_log() -> None:
    on, off = (once(DEVICES, AT_ONCE, logged=logged) for logged in (True, False))
    assert off.seconds < REGISTRATION
    assert 0 < on.seconds - off.seconds < 2
