"""Changes CAs, and the rows of their certificates: each act reads, decides, and writes under the ETag that it read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import NotFound, Overtaken
from shared.ledger.table import Stale

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.domain.authorities import AuthorityRecord
    from shared.domain.certificates import CertificateRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.table import Versioned

_ATTEMPTS = 10


async def authority_of(records: Authorities, name: str) -> Versioned[AuthorityRecord]:
    """Find a CA.

    Raises:
        NotFound: it does not exist.
    """
    known = await records.get(name)
    if known is None:
        raise NotFound.because(f"the certificate authority {name!r} does not exist", field="issuer")
    return known


async def change(
    records: Authorities, name: str, decide: Callable[[AuthorityRecord], AuthorityRecord]
) -> AuthorityRecord:
    """Change a CA that is known.

    Args:
        records: of all CAs.
        name: of the CA.
        decide: gives the record as it is wanted, an equal one if nothing is to change, or raises why not. It is asked
            again if somebody else changed the CA meanwhile.

    Returns:
        The record as it is from now on.

    Raises:
        NotFound: the CA does not exist.
        Overtaken: others kept changing it.
    """
    for _ in range(_ATTEMPTS):
        known = await authority_of(records, name)
        wanted = decide(known.record)
        if wanted == known.record:
            return wanted
        try:
            return (await records.replace(known, wanted)).record
        except Stale:
            continue
    raise Overtaken(f"{name!r} is being changed by others")


async def change_certificate(
    certificates: Certificates, serial_number: str, decide: Callable[[CertificateRecord], CertificateRecord]
) -> None:
    """Change the row of a certificate that is not a device's; there is nothing to do for one that is not recorded.

    Args:
        certificates: of all CAs.
        serial_number: 40 hexadecimal digits.
        decide: as :func:`change` has it.

    Raises:
        Overtaken: others kept changing it.
    """
    for _ in range(_ATTEMPTS):
        known = await certificates.get(serial_number)
        if known is None:
            return
        wanted = decide(known.record)
        if wanted == known.record or await certificates.try_replace(known, wanted) is not None:
            return
    raise Overtaken(f"certificate {serial_number} is being changed by others")
