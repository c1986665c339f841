"""Reads what was ever issued to a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.certificates import CertificateState
from shared.domain.given_settings import UNKNOWN
from shared.domain.own_certificates import Own, unseen_of
from shared.pki import names
from shared.pki.readable import load_certificates

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.domain.devices import DeviceRecord
    from shared.domain.given_settings import Given
    from shared.ledger.devices import Devices


async def own_certificates(devices: Devices, record: DeviceRecord, given: Given = UNKNOWN) -> Own:
    """Give the thumbprints of everything that was ever issued to a device.

    Args:
        devices: all devices.
        record: of the device.
        given: what its own entry in DPS is to have, where that counts.
    """
    found = await devices.certificates_of(record.registration_id)
    parsed = {each.serial_number: load_certificates(each.pem.encode())[0] for each in found if each.pem}
    both = {
        serial: frozenset({names.thumbprint(leaf), names.sha256_thumbprint(leaf)}) for serial, leaf in parsed.items()
    }

    def of(serial_numbers: Iterable[str]) -> frozenset[str]:
        return frozenset().union(*(both.get(each, frozenset()) for each in serial_numbers))

    used = of(record.in_use)
    revoked = of(each.serial_number for each in found if each.state is CertificateState.REVOKED)
    named = frozenset(unseen_of(record)) - (revoked - used)
    following = record.next_certificate
    return Own(
        in_use=used | named,
        all=named.union(*both.values()),
        revoked=revoked,
        waiting=of([following.serial_number]) if following else frozenset(),
        unseen=named.difference(*both.values()),
        given=given,
    )
