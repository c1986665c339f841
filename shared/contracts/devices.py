"""What is asked of a device that exists: revocation, renewal, its identity."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import Field, StringConstraints, ValidationInfo, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from shared.contracts.base import Contract, with_example
from shared.contracts.ids import (
    AuthorityName,
    EnrollmentGroupId,
    RegistrationId,
    RequestId,
    SerialNumber,
    SigningRequest,
    Words,
)
from shared.contracts.messages import COMMENT_LIMIT
from shared.contracts.parsing import parse
from shared.contracts.plans import Pace
from shared.domain.words import RevocationReason

Comment = Annotated[str, StringConstraints(min_length=1, max_length=COMMENT_LIMIT), Words]
"""What somebody says to what they ask for."""

RevocationTarget = Literal["registrationId", "registrationIds", "serialNumber", "enrollmentGroup", "orderId"]


class RevocationAction(StrEnum):
    """Revoke, undo a hold, or take a device out of service: revoked, and gone from its hub."""

    REVOKE = "revoke"
    REINSTATE = "reinstate"
    DELETE = "delete"


class RevocationRequest(Contract):
    """A request to revoke one device, one certificate or many devices (queue ``revocation-requests``).

    Many are those of a group, those of an order, or those that ``registrationIds`` names. ``reason`` is required where
    ``action`` is ``revoke``, since most reasons are final. ``delete`` concerns a device. ``devices`` repeats how many
    are revoked, where these are more than the deployment lets through without it. The number may be off by a tenth,
    since devices come and go. With ``perMinute`` so many are asked for a minute, and the services have time for others.
    """

    model_config = with_example({"requestId": "revocation-1", "registrationId": "press-1", "reason": "keyCompromise"})

    added_later: ClassVar[frozenset[str]] = frozenset({"devices", "registrationIds", "orderId", "perMinute"})

    of_one: ClassVar[tuple[str, ...]] = ("registration_id", "serial_number")
    of_many: ClassVar[tuple[str, ...]] = ("registration_ids", "enrollment_group", "order_id")
    """What it can be about: exactly one of all these."""

    request_id: RequestId
    registration_id: RegistrationId | None = None
    registration_ids: Annotated[tuple[RegistrationId, ...], Field(min_length=1, max_length=400)] | None = None
    order_id: RequestId | None = None
    serial_number: SerialNumber | None = None
    enrollment_group: EnrollmentGroupId | None = None
    action: RevocationAction = RevocationAction.REVOKE
    reason: RevocationReason = Field(default=None, validate_default=True)
    devices: Annotated[int, Field(strict=True, ge=1, le=10_000_000)] | None = None
    per_minute: Pace | None = None

    @field_validator("reason", mode="before")
    @classmethod
    def _reason_of_action(cls, reason: Any, info: ValidationInfo) -> Any:
        if reason is not None:
            return reason
        if info.data.get("action") is RevocationAction.REVOKE:
            raise PydanticCustomError(
                "reason_required", "is required to revoke: one of {reasons}", {"reasons": ", ".join(RevocationReason)}
            )
        return RevocationReason.UNSPECIFIED

    @property
    def is_of_many(self) -> bool:
        """Whether it is about the devices of something, or about those that it names."""
        return any(getattr(self, target) is not None for target in self.of_many)

    @property
    def target(self) -> RevocationTarget:
        """The field that says what it is about, as it stands on the wire."""
        name = next(to_camel(each) for each in self.of_one + self.of_many if getattr(self, each) is not None)
        return cast("RevocationTarget", name)

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        if sum(getattr(self, target) is not None for target in self.of_one + self.of_many) != 1:
            raise PydanticCustomError(
                "one_target",
                "name exactly one of registrationId, registrationIds, serialNumber, enrollmentGroup and orderId",
            )
        if self.action is RevocationAction.DELETE and self.registration_id is None:
            raise PydanticCustomError("delete_target", "action 'delete' takes one device: name its registrationId")
        for name in ("devices", "per_minute"):
            if getattr(self, name) is not None and not self.is_of_many:
                raise PydanticCustomError(
                    "of_many",
                    "{field} goes with many devices: name enrollmentGroup, orderId or registrationIds",
                    {"field": to_camel(name)},
                )
        return self


class RevocationCall(RevocationRequest):
    """Body of ``POST /revocations``: what is asked for, and what is said to it."""

    model_config = with_example(
        {"requestId": "revocation-1", "registrationId": "press-1", "reason": "keyCompromise", "comment": "ticket 4711"}
    )

    comment: Comment | None = None

    def request(self) -> RevocationRequest:
        """Give what is asked for; the comment is kept with who asked."""
        return RevocationRequest.model_validate(self.model_dump(exclude={"comment"}))


class MemberRevocation(RevocationRequest):
    """What the revocation of many devices asks for one of them: the app's own message (queue ``revocation-requests``).

    ``requestId`` is that of the whole revocation; ``part`` proves that the message comes from it.
    """

    model_config = with_example(
        {"requestId": "revocation-1", "registrationId": "press-1", "reason": "keyCompromise", "part": "0" * 64}
    )

    registration_id: RegistrationId
    part: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class AuthorityRevocation(RevocationRequest):
    """What the revocation of a CA asks for the devices that have certificates of it, or of a CA below it.

    The app's own message (queue ``revocation-requests``). Whoever wants this revokes the CA.
    """

    model_config = with_example(
        {"requestId": "revocation-2", "issuer": "line-1-ca1", "reason": "keyCompromise", "perMinute": 60}
    )

    of_many: ClassVar[tuple[str, ...]] = (*RevocationRequest.of_many, "issuer")

    issuer: AuthorityName


def revocation_request(body: Any) -> RevocationRequest:
    """Check a message of the queue ``revocation-requests``; see :func:`parse`."""
    given = body if isinstance(body, dict) else {}
    if "part" in given:
        return parse(MemberRevocation, body)
    return parse(AuthorityRevocation if "issuer" in given else RevocationRequest, body)


class RenewalRequest(Contract):
    """A request for a successor of a device's certificate (queue ``renewal-requests``)."""

    model_config = with_example({"requestId": "renewal-1", "registrationId": "press-1"})

    request_id: RequestId
    registration_id: RegistrationId
    csr: SigningRequest | None = None


class CertificateRenewal(RenewalRequest):
    """What the app itself asks for a device: a successor of one certificate (queue ``renewal-requests``).

    There is nothing to do if the device has another certificate by then.
    """

    model_config = with_example({"requestId": "renewal-1", "registrationId": "press-1", "replaces": "4" * 40})

    replaces: SerialNumber


class GroupRenewing(Contract):
    """Body of ``POST /enrollment-groups/{id}/renew``: how many a minute, and the CA whose certificates are meant."""

    model_config = with_example({"perMinute": 300, "onlyIssuer": "line-1-ca1"})

    per_minute: Pace = 60
    only_issuer: AuthorityName | None = None


class GroupRenewal(GroupRenewing):
    """A request to renew the devices of a group, so many a minute (queue ``renewal-requests``)."""

    model_config = with_example({"requestId": "renewal-2", "enrollmentGroup": "line-1", "perMinute": 300})

    request_id: RequestId
    enrollment_group: EnrollmentGroupId


def renewal_request(body: Any) -> RenewalRequest | GroupRenewal:
    """Check a message of the queue ``renewal-requests``; see :func:`parse`."""
    given = body if isinstance(body, dict) else {}
    if "enrollmentGroup" in given:
        return parse(GroupRenewal, body)
    return parse(CertificateRenewal if "replaces" in given else RenewalRequest, body)


class Revocation(Contract):
    """Body of ``POST /devices/{registrationId}/revoke``. Most reasons are final, so one has to be given."""

    model_config = with_example({"reason": "keyCompromise", "comment": "found on a dump"})

    reason: RevocationReason
    comment: Comment | None = None


class Saying(Contract):
    """Body of what needs none: what is said to it."""

    model_config = with_example({"comment": "ticket 4711"})

    comment: Comment | None = None


class IdentityChange(Contract):
    """Body of ``POST /devices/{registrationId}/disable`` and ``enable``: why, for whoever looks at the hub."""

    model_config = with_example({"reason": "returned for repair"})

    reason: Annotated[str, StringConstraints(min_length=1, max_length=128), Words] | None = None
    comment: Comment | None = None


class Renewal(Contract):
    """Body of ``POST /devices/{registrationId}/renew``."""

    model_config = with_example({})

    csr: SigningRequest | None = None
