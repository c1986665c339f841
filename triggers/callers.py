"""Who sent an HTTP request, and whether they may do what it asks for."""

from __future__ import annotations

import ipaddress
import re
from base64 import b64decode
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

import aiohttp

from shared.contracts.messages import Queue
from shared.domain.callers import ANONYMOUS, READING, Caller, CallerKind, Grant, Role
from shared.domain.key_roles import named_key
from shared.errors import Deferred, Forbidden, NotAuthentic, Reason, Rejected
from shared.reading.json_text import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import azure.functions as func

    from shared.services import Services

PRINCIPAL = "x-ms-client-principal"
_KEY_LIMIT = 512
_CLAIMS = "http://schemas.microsoft.com/identity/claims/"
_WORDS = {
    # The names that claims have in a token, and those that App Service maps some of them to ("Work with user identities
    # in Azure App Service authentication", azure/app-service/configure-authentication-user-identities: "default
    # claims-mapping process"). Roles come by both names: Azure/static-web-apps#655.
    "role": ("roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role"),
    "object id": ("oid", f"{_CLAIMS}objectidentifier"),
    "scope": ("scp", f"{_CLAIMS}scope"),
    "user name": (
        "preferred_username",
        "upn",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
        "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
    ),
    "display name": ("name",),
    "application": ("appid", "azp"),
    "kind": ("idtyp",),
}
_caller: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)


def current() -> Caller:
    """Give who sent the request that is being answered."""
    return _caller.get()


@contextmanager
def answering(caller: Caller) -> Iterator[None]:
    """Answer a request of somebody."""
    token = _caller.set(caller)
    try:
        yield
    finally:
        _caller.reset(token)


async def caller_of(services: Services, request: func.HttpRequest) -> Caller:
    """Give who sent a request: whom App Service authentication signed in, or who has a function key.

    Raises:
        NotAuthentic: nobody is signed in, and a function key that the host takes is missing.
        Rejected: the request says who its user is, where nobody checks that.
        Deferred: a function key can't be checked now.
        TooManyRequests: too much else was denied to its address.
    """
    address = address_of(request.headers)
    principal = signed_in(services, request.headers)
    if principal is not None:
        return replace(principal, address=address)
    key = key_in(request)
    if key and (not services.settings.entra_authentication or await takes(services, key, address)):
        return replace(holder_of(services, key), address=address)
    wanted = "sign in with Microsoft Entra ID, or send" if services.settings.entra_authentication else "send"
    raise NotAuthentic.because(f"who asks is not known: {wanted} a function key in the header x-functions-key")


def key_in(request: func.HttpRequest) -> str:
    """Give the function key of a request, empty if it has none (Azure Functions: access keys)."""
    return request.headers.get("x-functions-key") or request.params.get("code") or ""


def holder_of(services: Services, key: str) -> Caller:
    """Give who has a function key that the host has taken, with the roles that the settings give."""
    named = named_key(services.settings.key_roles, key)
    if named is None:
        mark = sha256(key.encode(errors="replace")).hexdigest()[:16]
        return Caller(kind=CallerKind.KEY, id="a key without a name", grants=READING, mark=mark)
    return Caller(kind=CallerKind.KEY, id=named.name, grants=named.grants)


async def takes(services: Services, key: str, address: str | None) -> bool:
    """Tell whether the host takes a function key.

    A key that nobody has named, and that the host has not taken in the last minute, may be a guess. If too much was
    denied to its address, the host is not asked. Keys with names are asked for, whatever others at the address do.

    Raises:
        Deferred: the host does not answer.
        TooManyRequests: it may be a guess, and the host is not asked.
    """
    if len(key) > _KEY_LIMIT or not (key.isascii() and key.isprintable()):
        return False
    if named_key(services.settings.key_roles, key) is None and not services.own_host.believes(key):
        await services.limits.check_guess(replace(ANONYMOUS, address=address))
    try:
        return await services.own_host.takes(key)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Deferred(
            f"the function key can't be checked now ({type(error).__name__}); come again in a moment",
            retry_after=timedelta(seconds=5),
        ) from error


# --- whom App Service authentication signed in ---


def signed_in(services: Services, headers: Mapping[str, str]) -> Caller | None:
    """Give whom App Service authentication signed in; ``None`` if nobody is.

    It takes such headers from outside away, but only while it is on ("External requests aren't allowed to set these
    headers": azure/app-service/configure-authentication-user-identities).

    Raises:
        Rejected: the header is there, and App Service authentication is not on.
        NotAuthentic: the header can't be read, or is not about somebody of Microsoft Entra ID.
    """
    text = headers.get(PRINCIPAL)
    if not text:
        return None
    if not services.settings.entra_authentication:
        raise Rejected.because(
            "a request that says who its user is (X-MS-CLIENT-PRINCIPAL) is not taken, since App Service "
            "authentication is off here (ENTRA_AUTHENTICATION); send a function key in the header x-functions-key"
        )
    principal = _Principal.read(text)
    object_id = principal.first("object id")
    # Other identity providers say what roles somebody has, too.
    if principal.provider != "aad" or object_id is None:
        raise NotAuthentic.because("X-MS-CLIENT-PRINCIPAL is not about a user or an app of Microsoft Entra ID")
    user, application = principal.first("user name"), principal.first("application")
    shown = user or headers.get("x-ms-client-principal-name") or principal.first("display name")
    is_app = principal.first("kind") == "app" or not (
        user or principal.first("scope") or principal.first("display name")
    )
    return Caller(
        kind=CallerKind.APP if is_app else CallerKind.USER,
        id=object_id,
        name=(application if is_app else shown) or None,
        grants=frozenset(principal.grants()),
    )


@dataclass(frozen=True, slots=True)
class _Principal:
    """What ``X-MS-CLIENT-PRINCIPAL`` says.

    Attributes:
        provider: ``aad`` for Microsoft Entra ID.
        claims: names and values; a name may be there more than once.
    """

    provider: str
    role_type: str
    claims: tuple[tuple[str, str], ...]

    @classmethod
    def read(cls, text: str) -> _Principal:
        try:
            found = read_json(b64decode(text, validate=True))
        except ValueError:
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("claims"), list):
            raise NotAuthentic.because("X-MS-CLIENT-PRINCIPAL can't be read; it must be JSON with claims, in base64")
        claims = [each for each in found["claims"] if isinstance(each, dict)]
        return cls(
            provider=str(found.get("auth_typ")),
            role_type=str(found.get("role_typ")),
            claims=tuple((str(each.get("typ")), str(each.get("val"))) for each in claims),
        )

    def first(self, what: str) -> str | None:
        return next((value for name, value in self.claims if name in _WORDS[what] and value), None)

    def grants(self) -> Iterator[Grant]:
        """Give the roles that are of this app; others are of no concern here."""
        for name, value in self.claims:
            if name in {*_WORDS["role"], self.role_type}:
                with suppress(ValueError):
                    yield Grant.read(value)


# --- where a request comes from ---

_WITH_PORT = re.compile(r"\[(?P<six>[0-9A-Fa-f:.]+)\](?::[0-9]+)?|(?P<four>[0-9.]+):[0-9]+")


def address_of(headers: Mapping[str, str]) -> str | None:
    """Give the address that a request came from, as the host says; ``None`` if it does not say.

    App Service's front end writes ``Client-IP`` over whatever a caller sends (Azure/app-service-linux-docs#140), and
    adds the same at the end of ``X-Forwarded-For`` (sergiodxa/remix-utils#496 shows both). Behind a gateway that is the
    gateway's address; what stands before it in ``X-Forwarded-For`` is what others say.
    """
    last = (headers.get("client-ip") or (headers.get("x-forwarded-for") or "").rpartition(",")[2]).strip()
    matched = _WITH_PORT.fullmatch(last)
    text = (matched["six"] or matched["four"]) if matched else last
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return None


# --- what they may do ---


def lacking(role: Role, *, of_all: bool = False, parameter: str | None = None) -> Forbidden:
    """Say which role is missing, and nothing of what it was missing for.

    Args:
        role: that is needed.
        of_all: whether it is there for single enrollment groups, and needed for all.
        parameter: that limits the request to one group.
    """
    if not of_all:
        return Forbidden(Reason("", f"this needs the role {role}"))
    way_out = f", or {parameter}= with a group that it is given for" if parameter else ""
    return Forbidden(Reason("", f"this needs the role {role} for all enrollment groups{way_out}"))


def require(role: Role, group: str | None) -> None:
    """Check that who asks has one more role than the operation says, for what belongs to a group.

    Raises:
        Forbidden: they have not.
    """
    if not current().may(role, group):
        raise lacking(role, of_all=current().has(role))


ROLE_OF_QUEUE: Mapping[Queue, Role] = {
    Queue.CERTIFICATE_REQUESTS: Role.AUTHORITIES_MANAGE,
    Queue.ENROLLMENT_GROUP_REQUESTS: Role.GROUPS_MANAGE,
    Queue.DEVICE_ORDERS: Role.ORDERS_WRITE,
    Queue.DEVICE_REGISTRATIONS: Role.ORDERS_WRITE,
    Queue.RENEWAL_REQUESTS: Role.ORDERS_WRITE,
    Queue.REVOCATION_REQUESTS: Role.DEVICES_REVOKE,
}
"""What whoever puts a refused message back needs: the same as for what the message asks."""


def may_replay(queue: str | None) -> bool:
    """Tell whether who asks may do what messages of a queue ask for; without one, those of every queue."""
    return all(current().may(role, None) for each, role in ROLE_OF_QUEUE.items() if queue is None or each == queue)


def require_for(queue: str | None) -> None:
    """Check that who asks may do what messages of a queue ask for; without one, those of every queue.

    Raises:
        Forbidden: they may not.
    """
    for each, role in ROLE_OF_QUEUE.items():
        if queue is None or each == queue:
            require(role, None)
