"""How DPS and IoT Hub describe a CA certificate: the two packages do it alike."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from shared.errors import NotFound, PreconditionFailed
from shared.ports.ca_certificates import UploadedAuthority

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def as_it_was_read() -> Iterator[None]:
    """Say of a CA certificate that is gone that it has changed: whoever was proving possession begins anew.

    Raises:
        PreconditionFailed: it is gone; an action on it is answered with 404, and not with 412.
    """
    try:
        yield
    except NotFound as gone:
        raise PreconditionFailed(*gone.reasons) from gone


def uploaded(answer: Any) -> UploadedAuthority:
    """Read a CA certificate out of either service's answer."""
    properties = answer.properties
    return UploadedAuthority(
        verified=bool(properties and properties.is_verified),
        etag=answer.etag or "",
        thumbprint=(properties.thumbprint or "").upper() if properties else "",
    )
