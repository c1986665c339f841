"""Acts on certificate authorities that are there, and what they would do."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from shared.contracts.base import Contract, with_example
from shared.contracts.ids import AuthorityName, RequestId, Words
from shared.contracts.plans import PLANNED, Pace, RevocationPlan
from shared.domain.authorities import AuthorityAction, AuthorityState
from shared.domain.words import RevocationReason

_Words = Annotated[str, StringConstraints(min_length=1, max_length=1000), Words]
_Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)]

_FINAL = tuple(each for each in RevocationReason if each is not RevocationReason.CERTIFICATE_HOLD)


class RenewedKey(StrEnum):
    """What key a renewed CA has."""

    SAME = "same"
    NEW = "new"


_Days = Annotated[int, Field(strict=True, ge=1, le=7305)]


class AuthorityRenewing(Contract):
    """Body of ``POST /certificate-authorities/{name}/renew``.

    With ``key: same`` the CA gets a new certificate, and keeps its name and key. With ``key: new`` the enrollment
    groups that have it are rolled to the next CA.
    """

    model_config = with_example({"key": "same", "validityDays": 3650})

    key: RenewedKey = RenewedKey.SAME
    validity_days: _Days | None = None
    reason: _Words | None = None
    comment: _Words | None = None


class AuthorityCrossSigning(Contract):
    """Body of ``POST /certificate-authorities/{name}/cross-sign``: the CA that signs another certificate for it."""

    model_config = with_example({"issuer": "corporate", "validityDays": 1825})

    issuer: AuthorityName
    validity_days: _Days | None = None
    reason: _Words | None = None
    comment: _Words | None = None


class AuthorityActing(Contract):
    """Body of ``POST /certificate-authorities/{name}/disable``, ``enable`` and ``retire``, and of its ``DELETE``."""

    model_config = with_example({"reason": "the line is closed", "comment": "ticket 4711"})

    reason: _Words | None = None
    comment: _Words | None = None


class AuthorityRevoking(Contract):
    """Body of ``POST /certificate-authorities/{name}/revoke``.

    ``devices`` repeats how many devices the preview has named, where these are more than the deployment lets through
    without it. The number may be off by a tenth, since devices come and go. With ``perMinute`` the CA is shut out at
    once, and so many devices a minute are revoked.
    """

    model_config = with_example(
        {"reason": "keyCompromise", "comment": "ticket 4711", "devices": 1200, "perMinute": 300}
    )

    reason: RevocationReason
    comment: _Words | None = None
    devices: _Count | None = None
    per_minute: Pace | None = None


class AuthorityAct(Contract):
    """An act on a CA that is there: the app's own message, after a call (queue ``enrollment-group-requests``).

    ``reason`` of a revocation is one of RFC 5280; of another act, it is in your own words.
    """

    model_config = with_example({"requestId": "ca-2", "name": "line-1-ca1", "action": "retire"})

    added_later: ClassVar[frozenset[str]] = frozenset({"perMinute"})

    request_id: RequestId
    name: AuthorityName
    action: AuthorityAction
    reason: _Words | None = None
    comment: _Words | None = None
    devices: _Count | None = None
    per_minute: Pace | None = None
    key: RenewedKey | None = None
    issuer: AuthorityName | None = None
    validity_days: _Days | None = None

    @model_validator(mode="after")
    def _fields_of_action(self) -> Self:
        revokes = self.action is AuthorityAction.REVOKE
        if revokes and self.reason not in _FINAL:
            raise PydanticCustomError(
                "reason",
                "a revoked CA stays revoked, and reason says why: one of {reasons}; a CA that is to rest for a while "
                "is disabled",
                {"reasons": ", ".join(_FINAL)},
            )
        if self.action is AuthorityAction.CROSS_SIGN and self.issuer is None:
            raise PydanticCustomError("issuer", "action 'crossSign' needs issuer, the CA that signs")
        for name, actions in _ONLY_WITH.items():
            if self.action not in actions and getattr(self, name) is not None:
                raise PydanticCustomError(
                    "action",
                    "{name} belongs to action '{actions}' only; leave it out",
                    {"name": to_camel(name), "actions": "' and '".join(actions)},
                )
        return self


_ONLY_WITH = {
    "devices": (AuthorityAction.REVOKE,),
    "per_minute": (AuthorityAction.REVOKE,),
    "key": (AuthorityAction.RENEW,),
    "issuer": (AuthorityAction.CROSS_SIGN,),
    "validity_days": (AuthorityAction.RENEW, AuthorityAction.CROSS_SIGN),
}


class AuthorityList(Contract):
    """Body of ``PUT /certificate-authorities/{name}/crl``: the newest list of a CA whose key is not here, in PEM."""

    model_config = with_example({"crl": "-----BEGIN X509 CRL-----\n...\n-----END X509 CRL-----\n"})

    crl: Annotated[str, StringConstraints(min_length=1, max_length=1_000_000)]


class ImportedListAnswer(Contract):
    """A list that was imported. ``revokes`` names the CAs that are here and that it revokes: revoke them here, too."""

    model_config = with_example(
        {
            "name": "Corporate-Root",
            "number": 12,
            "thisUpdate": "2026-05-01T12:00:00Z",
            "nextUpdate": "2026-11-01T12:00:00Z",
            "entries": 1,
            "revokes": [],
        }
    )

    name: str
    number: int
    this_update: datetime
    next_update: datetime
    entries: int
    revokes: list[str]


class AuthorityPreview(Contract):
    """What an act on a CA would do.

    ``devices`` counts the devices that have a certificate in force of this CA or of one below it, up to 10,000:
    ``moreDevices`` then. They are listed by ``GET /devices?issuer=...``, for each CA that ``authorities`` names.
    ``unknownCertificates`` tells how many of them are not listed there: nobody knows their certificates, since storage
    was lost. They are all the devices of ``enrollmentGroups`` of which that is so, and are revoked with the CA as well.
    ``effects`` says it in words. ``repeatDevices`` tells whether ``devices`` has to be repeated in the request.
    ``plan`` says what the revocation of the devices takes; other acts have none.
    """

    model_config = with_example(
        {
            "name": "line-1-ca1",
            "action": "revoke",
            "state": "active",
            "becomes": "revoked",
            "authorities": ["line-1-ca1"],
            "enrollmentGroups": ["line-1"],
            "devices": 1200,
            "moreDevices": False,
            "unknownCertificates": 0,
            "repeatDevices": True,
            "effects": ["1200 devices are revoked: their hubs and DPS let them in no more"],
            "plan": PLANNED,
        }
    )

    name: str
    action: AuthorityAction
    state: AuthorityState
    becomes: AuthorityState
    authorities: list[str]
    enrollment_groups: list[str]
    devices: int
    more_devices: bool
    unknown_certificates: int
    repeat_devices: bool
    effects: list[str]
    plan: RevocationPlan | None
