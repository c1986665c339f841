"""Signatures of webhooks, after the Standard Webhooks specification (standardwebhooks.com), symmetric scheme ``v1``."""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from shared.errors import Misconfigured, NotAuthentic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

TOLERANCE = timedelta(minutes=5)
"""How far a webhook's timestamp may be off: what is older could be a replay."""

KEY_OCTETS = 16
"""The least that a secret's key may have: 128 bits. Standard Webhooks recommends 24 to 64 octets."""

_SECRET_PREFIX = "whsec_"  # noqa: S105 - the specification's prefix, not a secret
_NEAR_SECONDS = re.compile("[0-9]{1,12}")  # what is longer is millennia away, and no date


class Secrets(Protocol):
    """The vault's secrets."""

    async def get(self, name: str) -> str | None:
        """Read a secret, ``None`` if it does not exist."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """The door for what revokes.

    Attributes:
        secret_name: of the vault secret that signs; ``None`` where the function key is enough.
    """

    secrets: Secrets
    secret_name: str | None
    clock: Callable[[], datetime]

    async def authenticate(self, headers: Mapping[str, str], body: bytes) -> str | None:
        """Check that a request comes from who holds the secret, and give the webhook's id; ``None`` without a secret.

        Raises:
            NotAuthentic: see :func:`verify`.
            Misconfigured: the secret can't be used.
        """
        if self.secret_name is None:
            return None
        key = await self._key(self.secret_name)
        return verify(key, {name.lower(): value for name, value in headers.items()}, body, self.clock())

    async def check(self) -> None:
        """Raise unless the secret is there and can be used."""
        if self.secret_name is not None:
            await self._key(self.secret_name)

    async def _key(self, name: str) -> bytes:
        secret = await self.secrets.get(name)
        if secret is None:
            raise Misconfigured(f"the vault has no secret {name!r}, which WEBHOOK_SECRET_NAME names")
        try:
            return key_of(secret)
        except ValueError as error:
            raise Misconfigured(f"the vault secret {name!r}, which WEBHOOK_SECRET_NAME names, {error}") from None


def key_of(secret: str) -> bytes:
    """Give the key of a secret. White space around it does not count: a secret out of a file ends with a line end.

    Args:
        secret: ``whsec_`` and the key in base64.

    Raises:
        ValueError: it is not of that form, or too short to keep anybody out; the message does not repeat it.
    """
    try:
        key = base64.b64decode(secret.strip().removeprefix(_SECRET_PREFIX), validate=True)
    except ValueError:
        raise ValueError("must be 'whsec_' and the key in base64") from None
    if len(key) < KEY_OCTETS:
        raise ValueError(f"has a key of {len(key)} octets; it needs {KEY_OCTETS}, and 24 to 64 are recommended")
    return key


def verify(key: bytes, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """Check that a webhook comes from who holds the key.

    Args:
        key: of :func:`key_of`.
        headers: of the request, names in lower case.
        body: the raw body, byte for byte.
        now: the present time.

    Returns:
        The webhook's id, its idempotency key.

    Raises:
        NotAuthentic: a header is missing, the timestamp is off by more than five minutes, or no signature fits.
    """
    given = {name: headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature")}
    missing = [f"webhook-{name}" for name, value in given.items() if not value]
    if missing:
        raise NotAuthentic.because(f"the webhook lacks the header {', '.join(missing)} (Standard Webhooks)")
    if not _NEAR_SECONDS.fullmatch(given["timestamp"]):
        raise NotAuthentic.because("webhook-timestamp must be seconds since 1970", field="webhook-timestamp")
    if abs(now.timestamp() - int(given["timestamp"])) > TOLERANCE.total_seconds():
        raise NotAuthentic.because("webhook-timestamp is off by more than five minutes", field="webhook-timestamp")
    expected = sign(key, given["id"], given["timestamp"], body).encode()
    if not any(hmac.compare_digest(expected, each.encode(errors="replace")) for each in given["signature"].split()):
        raise NotAuthentic.because("webhook-signature does not fit the body", field="webhook-signature")
    return given["id"]


def sign(key: bytes, identifier: str, timestamp: str, body: bytes) -> str:
    """Give the signature of a webhook, as in ``webhook-signature``.

    Args:
        key: of :func:`key_of`.
        identifier: the webhook's id.
        timestamp: seconds since 1970, as in ``webhook-timestamp``.
        body: the raw body.
    """
    content = f"{identifier}.{timestamp}.".encode(errors="replace") + body
    return "v1," + base64.b64encode(hmac.new(key, content, sha256).digest()).decode()
