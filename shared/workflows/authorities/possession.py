"""Proof of possession: what a DPS, or an IoT hub, has to be shown before it takes devices of a CA.

Microsoft: "How to verify X.509 CA certificates". A service has 25 places for CA certificates ("Azure IoT DPS limits",
"IoT Hub quotas and throttling").
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared.errors import Conflict, Deferred, PreconditionFailed, Rejected
from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from cryptography import x509

    from shared.ports.ca_certificates import CaCertificates, UploadedAuthority

PLACES = 25
"""CA certificates of one service."""

_RETRY = timedelta(seconds=2)


async def check_place(service: CaCertificates, name: str, certificate: x509.Certificate | None) -> None:
    """See that a service has a place for a CA's certificate, or holds it, before anything is made.

    Args:
        service: which is to be shown possession.
        name: of the CA.
        certificate: of the CA; ``None`` for one that is still to be made.

    Raises:
        Conflict: it holds another one under that name.
        Rejected: all its places are taken.
    """
    held = {known.lower(): uploaded for known, uploaded in (await service.held()).items()}
    present = held.get(name.lower())
    if present is not None:
        _check_same(service, name, present, names.thumbprint(certificate) if certificate else "")
    elif len(held) >= PLACES:
        raise Rejected.because(
            f"{service.holder} has {len(held)} CA certificates and takes {PLACES}, so it can't be shown possession of "
            f"{name!r}; delete one there that is not needed any more",
            field="name",
        )


def _check_same(service: CaCertificates, name: str, present: UploadedAuthority, thumbprint: str) -> None:
    # Some answers leave the thumbprint out; then possession of the key, which only the owner can prove, decides.
    if present.thumbprint in {"", thumbprint} and thumbprint:
        return
    raise Conflict.because(
        f"{service.holder} holds another CA certificate named {name!r}, of thumbprint {present.thumbprint}"
        f"{f' and not {thumbprint}' if thumbprint else ''}; delete it there, or give this CA another name",
        field="name",
    )


async def prove(
    service: CaCertificates,
    name: str,
    certificate: x509.Certificate,
    sign: Callable[[str], Awaitable[x509.Certificate]],
) -> None:
    """Upload a CA to a service and prove possession; what is done already is left.

    Args:
        service: the DPS, or a hub.
        name: of the CA.
        certificate: of the CA.
        sign: gives a certificate of the CA whose CN is a code.

    Raises:
        Conflict: the service holds another CA certificate of that name.
        Rejected: it has no place left, or refuses the certificate.
        Deferred: others are at it.
    """
    try:
        uploaded = await _uploaded(service, name, certificate)
        _check_same(service, name, uploaded, names.thumbprint(certificate))
        if not uploaded.verified:
            code, etag = await service.verification_code(name, uploaded.etag)
            uploaded = await service.verify(name, await sign(code), etag)
    except PreconditionFailed as changed:
        # Another worker asked for a code, or proved, in between: whoever comes next finds what it did.
        raise Deferred(f"possession of {name!r} is being proved by others", retry_after=_RETRY) from changed
    if not uploaded.verified:
        raise RuntimeError(f"{service.holder} took the proof of possession of {name!r} and did not verify it")


async def _uploaded(service: CaCertificates, name: str, certificate: x509.Certificate) -> UploadedAuthority:
    present = await service.get(name)
    if present is None:
        try:
            return await service.upload(name, certificate)
        except (Conflict, PreconditionFailed):
            present = await service.get(name)  # by another worker, meanwhile
            if present is None:
                raise
    return present
