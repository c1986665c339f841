"""Signatures of webhooks, after the Standard Webhooks specification (standardwebhooks.com), version 1.0.0.

Both of its schemes: ``v1``, HMAC with SHA-256 under a secret (``whsec_``), and ``v1a``, Ed25519, of which only the
public key is here (``whpk_``). The vault secret may hold several keys, one after the other: so a key is changed by
putting the new one beside the old one first.

A signature covers the id, the time and the body, and not where the call goes. So an id belongs to the method, path and
body that it came with first: whoever has caught a signed call can repeat it, and do nothing else with it.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.contracts.ids import path_value
from shared.errors import Misconfigured, NotAuthentic, Reused
from shared.ledger.webhook_uses import WebhookUse

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from shared.ledger.webhook_uses import WebhookUses

TOLERANCE = timedelta(minutes=5)
"""How far a webhook's timestamp may be off: what is older could be a replay."""

KEY_OCTETS = 16
"""The least that a secret's key may have: 128 bits. Standard Webhooks recommends 24 to 64 octets."""

PUBLIC_KEY_OCTETS = 32
"""RFC 8032 section 5.1.5."""

_SECRET_PREFIX, _PUBLIC_PREFIX, _PRIVATE_PREFIX = "whsec_", "whpk_", "whsk_"
_NEAR_SECONDS = re.compile("[0-9]{1,12}")  # what is longer is millennia away, and no date


class Secrets(Protocol):
    """The vault's secrets."""

    async def get(self, name: str) -> str | None:
        """Read a secret, ``None`` if it does not exist."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """What tells genuine webhooks.

    Attributes:
        shared: keys of the scheme ``v1``.
        public: keys of the scheme ``v1a``.
    """

    shared: tuple[bytes, ...]
    public: tuple[Ed25519PublicKey, ...] = ()

    def fit(self, scheme: str, signature: str, content: bytes) -> bool:
        """Tell whether a signature of some scheme is one of theirs."""
        try:
            given = base64.b64decode(signature, validate=True)
        except ValueError:
            return False
        if scheme == "v1":
            return any(
                [hmac.compare_digest(hmac.new(key, content, sha256).digest(), given) for key in self.shared]  # noqa: C419 - each takes its time
            )
        return scheme == "v1a" and any(_is_of(key, given, content) for key in self.public)


def _is_of(key: Ed25519PublicKey, signature: bytes, content: bytes) -> bool:
    try:
        key.verify(signature, content)
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhooks:
    """The door for what revokes.

    Attributes:
        secret_name: of the vault secret with the keys; ``None`` where the caller's role is enough.
        uses: what each id was used for.
    """

    secrets: Secrets
    secret_name: str | None
    uses: WebhookUses
    clock: Callable[[], datetime]

    async def authenticate(self, headers: Mapping[str, str], body: bytes, door: str) -> str | None:
        """Check that a request comes from who holds a key, and give the webhook's id; ``None`` without a secret.

        Args:
            headers: of the request.
            body: the raw body.
            door: method and path of the request.

        Raises:
            NotAuthentic: see :func:`verify`.
            Reused: its id came with another method, path or body before.
            Rejected: its id can't be a request's id.
            Misconfigured: the secret can't be used.
        """
        if self.secret_name is None:
            return None
        keys = await self._keys(self.secret_name)
        now = self.clock()
        identifier = verify(keys, {name.lower(): value for name, value in headers.items()}, body, now)
        use = WebhookUse(
            webhook_id=path_value("requestId", identifier),
            fingerprint=sha256(f"{door}\n".encode(errors="replace") + body).hexdigest(),
            first_at=now,
        )
        known = await self.uses.claim(use)
        if known.fingerprint != use.fingerprint:
            raise Reused.because(
                f"webhook {identifier!r} came on {known.first_at:%Y-%m-%d} with another method, path or body; a new "
                "call needs a new id",
                field="webhook-id",
            )
        return identifier

    async def check(self) -> None:
        """Raise unless the secret is there and can be used."""
        if self.secret_name is not None:
            await self._keys(self.secret_name)

    async def _keys(self, name: str) -> Keys:
        secret = await self.secrets.get(name)
        if secret is None:
            raise Misconfigured(f"the vault has no secret {name!r}, which WEBHOOK_SECRET_NAME names")
        try:
            return keys_of(secret)
        except ValueError as error:
            raise Misconfigured(f"the vault secret {name!r}, which WEBHOOK_SECRET_NAME names, {error}") from None


def keys_of(secret: str) -> Keys:
    """Give the keys of a vault secret: one or more, with white space between them.

    Raises:
        ValueError: one of them is not of its form; the message does not repeat it.
    """
    given = secret.split()
    if not given:
        raise ValueError("is empty; it must hold 'whsec_' or 'whpk_' and a key in base64")
    shared, public = list[bytes](), list[Ed25519PublicKey]()
    for each in given:
        if each.startswith(_PRIVATE_PREFIX):
            raise ValueError(
                "holds a private key (whsk_), which belongs to who signs; put its public key (whpk_) there"
            )
        if each.startswith(_PUBLIC_PREFIX):
            public.append(_public_key_of(each.removeprefix(_PUBLIC_PREFIX)))
        else:
            shared.append(_shared_key_of(each.removeprefix(_SECRET_PREFIX)))
    return Keys(shared=tuple(shared), public=tuple(public))


def _shared_key_of(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("must be 'whsec_' or 'whpk_' and the key in base64") from None
    if len(key) < KEY_OCTETS:
        raise ValueError(f"has a key of {len(key)} octets; it needs {KEY_OCTETS}, and 24 to 64 are recommended")
    return key


def _public_key_of(text: str) -> Ed25519PublicKey:
    try:
        key = base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("must be 'whsec_' or 'whpk_' and the key in base64") from None
    if len(key) != PUBLIC_KEY_OCTETS:
        raise ValueError(f"has a public key of {len(key)} octets; one of Ed25519 has {PUBLIC_KEY_OCTETS}")
    return Ed25519PublicKey.from_public_bytes(key)


def verify(keys: Keys, headers: Mapping[str, str], body: bytes, now: datetime) -> str:
    """Check that a webhook comes from who holds a key.

    Args:
        keys: of :func:`keys_of`.
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
    content = signed_content(given["id"], given["timestamp"], body)
    signatures = [each.partition(",") for each in given["signature"].split()]
    if not any(keys.fit(scheme, signature, content) for scheme, _, signature in signatures):
        raise NotAuthentic.because("webhook-signature does not fit the body", field="webhook-signature")
    return given["id"]


def signed_content(identifier: str, timestamp: str, body: bytes) -> bytes:
    """Give what the signature of a webhook is made of.

    Args:
        identifier: the webhook's id.
        timestamp: seconds since 1970, as in ``webhook-timestamp``.
        body: the raw body.
    """
    return f"{identifier}.{timestamp}.".encode(errors="replace") + body
