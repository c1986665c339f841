"""How DPS and IoT Hub describe a CA certificate: the two packages do it alike."""

from __future__ import annotations

from typing import Any

from shared.ports.ca_certificates import UploadedAuthority


def uploaded(answer: Any) -> UploadedAuthority:
    """Read a CA certificate out of either service's answer."""
    properties = answer.properties
    return UploadedAuthority(
        verified=bool(properties and properties.is_verified),
        etag=answer.etag or "",
        thumbprint=(properties.thumbprint or "").upper() if properties else "",
    )
