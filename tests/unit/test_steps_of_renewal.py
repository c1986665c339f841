"""What becomes of a device when the certificates of its group, or of a CA, are renewed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from shared.domain import issuance
from shared.domain.certificates import CertificateState
from shared.domain.devices import DeviceRecord
from shared.domain.held_certificates import CertificateSummary, HeldCertificate
from shared.domain.renewal import Step, step_of, turn_of
from shared.domain.words import DeviceState
from shared.errors import Conflict, Overtaken
from tests.pki.hierarchy import NOW
from tests.records import held_certificate

DAY = timedelta(days=1)
FIRST, SECOND = "1" * 40, "2" * 40


def held(serial: str, *, issuer: str = "line", at: timedelta = -DAY, active: bool = True) -> HeldCertificate:
    state = CertificateState.ACTIVE if active else CertificateState.RESERVED
    return held_certificate(serial, NOW + at, state=state, issuer=issuer, not_after=NOW + 300 * DAY)


def summary(serial: str, *, issuer: str = "line") -> CertificateSummary:
    return CertificateSummary(
        serial_number=serial, thumbprint="T", not_before=NOW - DAY, not_after=NOW + 300 * DAY, issuer=issuer
    )


def device(state: DeviceState = DeviceState.REGISTERED, **fields: Any) -> DeviceRecord:
    given = {"certificate": summary(FIRST), "held": (held(FIRST),), **fields}
    return DeviceRecord(registration_id="press", state=state, order_id="o", updated_at=NOW, **given)


@pytest.mark.parametrize(
    ("record", "only_issuer", "step"),
    [
        (device(), None, Step.RENEW),
        (device(), "line", Step.RENEW),
        (device(own_key=True), None, Step.NEEDS_CSR),
        (device(), "another", Step.SKIP),
        (device(DeviceState.REVOKED), None, Step.SKIP),
        (device(DeviceState.ORDERED, certificate=None, held=()), None, Step.SKIP),
        (device(held=()), None, Step.SKIP),
        (device(held=(held(FIRST, at=DAY),)), None, Step.SKIP),
        (device(DeviceState.RENEWING, next_certificate=summary(SECOND), held=(held(FIRST), held(SECOND))), None,
         Step.SKIP),
        (device(DeviceState.RENEWING, next_certificate=summary(SECOND), held=(held(FIRST), held(SECOND))), "line",
         Step.RENEW),
        (device(DeviceState.RENEWING, next_certificate=summary(SECOND, issuer="next"),
                held=(held(FIRST), held(SECOND, issuer="next"))), "line", Step.SKIP),
    ],
    ids=["renewed", "of the CA", "with a key of its own", "of another CA", "revoked", "without a certificate",
         "not held any more", "renewed since", "waits for its next", "its next is of the CA", "its next is not"],
)  # fmt: skip
def test_a_device_is_renewed_unless_it_was_since_or_can_t_be(
    record: DeviceRecord, only_issuer: str | None, step: Step
) -> None:
    assert step_of(record, only_issuer=only_issuer, asked_at=NOW) is step


def test_nobody_has_to_replace_what_a_device_does_not_use() -> None:
    """A certificate that it had before, or of a device that is out of service."""
    assert turn_of(device(), SECOND, NOW) is None
    assert turn_of(device(DeviceState.REVOKED), FIRST, NOW) is None


def test_an_order_that_has_failed_with_a_device_does_not_get_it_by_a_late_attempt() -> None:
    """It says why it has failed; another order gets the device."""
    failed = device(DeviceState.FAILED, certificate=None, held=(), reason="the CSR is damaged")
    again = device(DeviceState.ORDERED, certificate=None, held=())
    with pytest.raises(Conflict, match=r"^the CSR is damaged$"):
        issuance.ordered(failed, again, field="f")
    other = again.changed(order_id="p")
    assert issuance.ordered(failed, other, field="f").order_id == "p"


def test_a_renewal_is_not_committed_to_a_device_that_was_revoked_meanwhile() -> None:
    """The certificate that was made is nobody's."""
    reserved = device(DeviceState.REVOKED, held=(held(FIRST), held(SECOND, active=False)),
                      pending=SECOND)  # fmt: skip
    made = issuance.Committed(summary(SECOND), "bundle", "T2")
    with pytest.raises(Overtaken, match="'press' was changed while its certificate was made; it is revoked now"):
        issuance.successor_issued(reserved, made, own_key=True, at=NOW)
