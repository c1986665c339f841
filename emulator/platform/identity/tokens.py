"""Bearer tokens: issued by the managed identity endpoint, checked by every service.

The claims are those of a version 1.0 access token of Microsoft Entra ID for an application
(learn.microsoft.com/entra/identity-platform/access-token-claims-reference).
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from emulator.platform.identity.errors import Forbidden, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from emulator.platform.store import Store

DPS_AUDIENCE = "https://azure-devices-provisioning.net"
IOT_HUB_AUDIENCE = "https://iothubs.azure.net"
KEY_VAULT_AUDIENCE = "https://vault.azure.net"
MANAGEMENT_AUDIENCE = "https://management.azure.com"
STORAGE_AUDIENCE = "https://storage.azure.com"
EVENT_GRID_AUDIENCE = "https://eventgrid.azure.net"
AUDIENCES = (
    *(DPS_AUDIENCE, IOT_HUB_AUDIENCE, KEY_VAULT_AUDIENCE, MANAGEMENT_AUDIENCE, STORAGE_AUDIENCE),
    EVENT_GRID_AUDIENCE,
)

LIFETIME = timedelta(hours=24)  # what a managed identity gets
CLOCK_SKEW = timedelta(minutes=5)  # granted to nbf only; the services here share one clock with the issuer
REMEMBERED = 256
ALGORITHM = "RS256"


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and the moment it stops working (``expires_on``, UTC)."""

    token: str
    expires_on: datetime


@dataclass(frozen=True, slots=True)
class SignIn:
    """A user or an app that signs in to an API of one's own, and the app roles that it was given there."""

    is_app: bool
    name: str
    roles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Verified:
    client_id: str
    audience: str
    not_before: datetime
    expires_on: datetime


class Tokens:
    """Issues and verifies the tokens of one emulator; its RSA key stays in the store."""

    def __init__(self, store: Store, *, tenant_id: str, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._issuer = f"https://sts.windows.net/{tenant_id}/"
        self._tenant_id = tenant_id
        self._key, self._key_id, self._principal_id = _signing_key(store)
        self._public_key = self._key.public_key()
        self._verified: dict[str, _Verified] = {}
        self._withheld: frozenset[str] = frozenset()

    def issue(self, resource: str, *, client_id: str | None = None, lifetime: timedelta = LIFETIME) -> IssuedToken:
        """Issue a token for ``resource``, which becomes its audience as it stands.

        Args:
            resource: audience, e.g. ``https://vault.azure.net``.
            client_id: of a user-assigned identity; None for the system-assigned one.
            lifetime: from now; a negative one makes a token that has expired.
        """
        now = self._clock().replace(microsecond=0)
        expires_on = now + lifetime
        application = client_id or self._principal_id
        principal = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._issuer}{application}"))
        claims = {
            "aud": resource,
            "iss": self._issuer,
            "iat": int(now.timestamp()),
            "nbf": int(min(now, expires_on).timestamp()),
            "exp": int(expires_on.timestamp()),
            "appid": application,
            "appidacr": "2",
            "idp": self._issuer,
            "idtyp": "app",
            "oid": principal,
            "sub": principal,
            "tid": self._tenant_id,
            "uti": uuid.uuid4().hex,
            "ver": "1.0",
        }
        return IssuedToken(jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self._key_id}), expires_on)

    def issue_sign_in(self, audience: str, who: SignIn, *, lifetime: timedelta) -> IssuedToken:
        """Issue a token for a user or an app; one of a name has the same object id each time.

        Args:
            audience: of the API, e.g. ``api://my-api``.
            who: signs in.
            lifetime: from now; a negative one makes a token that has expired.
        """
        now = self._clock().replace(microsecond=0)
        expires_on = now + lifetime
        object_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{self._issuer}{who.name}"))
        claims: dict[str, Any] = {
            "aud": audience,
            "iss": self._issuer,
            "iat": int(now.timestamp()),
            "nbf": int(min(now, expires_on).timestamp()),
            "exp": int(expires_on.timestamp()),
            "oid": object_id,
            "tid": self._tenant_id,
            "uti": uuid.uuid4().hex,
            "ver": "1.0",
            **(_of_app(object_id, who.name) if who.is_app else _of_user(object_id, who.name)),
        }
        if who.roles:
            claims["roles"] = list(who.roles)
        return IssuedToken(jwt.encode(claims, self._key, ALGORITHM, headers={"kid": self._key_id}), expires_on)

    def public_keys(self) -> dict[str, Any]:
        """The key that tells this issuer's tokens, as a JSON Web Key Set (RFC 7517 section 5)."""
        jwk: dict[str, Any] = jwt.algorithms.RSAAlgorithm.to_jwk(self._public_key, as_dict=True)
        return {"keys": [{**jwk, "kid": self._key_id, "use": "sig", "alg": ALGORITHM}]}

    def verify(self, authorization_header: str | None, audience: str) -> str:
        """Check scheme, signature, issuer, times and audience of an ``Authorization`` header.

        Args:
            authorization_header: ``Bearer <token>``; None when the request has none.
            audience: the service's own; the token's may end with a slash.

        Returns:
            The client id of the identity that calls.

        Raises:
            Unauthenticated: any of these does not hold.
            Forbidden: all of them hold, and the identity has no role at the service; see ``withhold_roles``.
        """
        if not authorization_header:
            raise Unauthenticated("the request has no Authorization header")
        scheme, _, token = authorization_header.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthenticated("the Authorization header is not of the form 'Bearer <token>'")
        verified = self._signed(token.strip())
        now = self._clock()
        if now >= verified.expires_on:
            raise Unauthenticated(f"the token expired at {verified.expires_on:%Y-%m-%dT%H:%M:%SZ}")
        if now < verified.not_before - CLOCK_SKEW:
            raise Unauthenticated(f"the token is not valid before {verified.not_before:%Y-%m-%dT%H:%M:%SZ}")
        if verified.audience.removesuffix("/") != audience.removesuffix("/"):
            raise Unauthenticated(f"the token's audience is {verified.audience!r}; {audience!r} is expected")
        if audience in self._withheld:
            raise Forbidden("the identity has no role at this service")
        return verified.client_id

    def withhold_roles(self, audiences: Collection[str]) -> None:
        """Act from now on as if the identities had no role at the services of ``audiences``, and one at all others."""
        self._withheld = frozenset(audiences)

    def withheld_roles(self) -> frozenset[str]:
        """Audiences of the services at which the identities have no role."""
        return self._withheld

    def _signed(self, token: str) -> _Verified:
        """What a token says, once its signature has been checked; remembered, as clients reuse a token for hours."""
        verified = self._verified.get(token)
        if verified is None:
            verified = self._check_signature(token)
            if len(self._verified) >= REMEMBERED:
                self._verified.clear()
            self._verified[token] = verified
        return verified

    def _check_signature(self, token: str) -> _Verified:
        options: Any = {"require": ["aud", "iss", "exp", "nbf"], "verify_aud": False, "verify_exp": False}
        options |= {"verify_nbf": False, "verify_iat": False}  # times are checked by the emulator's own clock
        try:
            claims = jwt.decode(token, self._public_key, algorithms=[ALGORITHM], options=options, issuer=self._issuer)
            return _Verified(
                client_id=str(claims.get("appid", "")),
                audience=str(claims["aud"]),
                not_before=datetime.fromtimestamp(int(claims["nbf"]), UTC),
                expires_on=datetime.fromtimestamp(int(claims["exp"]), UTC),
            )
        except jwt.InvalidSignatureError:
            raise Unauthenticated("the token was not signed by this emulator's identity endpoint") from None
        except jwt.InvalidIssuerError:
            raise Unauthenticated(f"the token's issuer is not {self._issuer!r}") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthenticated(f"the token has no claim {error.claim!r}") from None
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError):
            raise Unauthenticated("the token is not a JSON Web Token signed with RS256") from None


def _of_user(object_id: str, name: str) -> dict[str, Any]:
    """Claims of a user who came by Azure CLI."""
    return {
        "appid": "04b07795-8ddb-461a-bbee-02f9e1bf7b46",
        "name": name.partition("@")[0],
        "scp": "user_impersonation",
        "sub": str(uuid.uuid5(uuid.NAMESPACE_OID, object_id)),
        "upn": name,
    }


def _of_app(object_id: str, name: str) -> dict[str, Any]:
    """Claims of an app, whose subject is itself."""
    application = str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    return {"appid": application, "appidacr": "1", "idtyp": "app", "sub": object_id}


def _signing_key(store: Store) -> tuple[rsa.RSAPrivateKey, str, str]:
    """The kept key, its id, and the client id of the system-assigned identity; made on the first start."""
    kept = store.get("identity", "signing-key")
    if kept is None:
        pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        kept = {"pem": pem.decode(), "keyId": uuid.uuid4().hex, "clientId": str(uuid.uuid4())}
        store.put("identity", "signing-key", kept)
    # Made here: looking for its primes again would take as long as making it did.
    key = serialization.load_pem_private_key(kept["pem"].encode(), None, unsafe_skip_rsa_key_validation=True)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("the store's signing key of the identity endpoint is not an RSA key")
    return key, kept["keyId"], kept["clientId"]
