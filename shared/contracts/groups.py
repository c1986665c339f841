"""Enrollments: groups, and those of single devices."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import AnyUrl, BeforeValidator, Field, StringConstraints, UrlConstraints, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from shared.contracts.base import Contract, Flag, with_example
from shared.contracts.ids import ApiVersion, AuthorityName, EnrollmentGroupId, EntityTags, PemText, RequestId
from shared.contracts.orders import InitialTwin
from shared.domain.groups import CaReferences
from shared.domain.words import KeyCustody

if TYPE_CHECKING:
    from collections.abc import Mapping


class GroupAction(StrEnum):
    """What can be done to an enrollment group. ``put`` creates or updates, as it is when it is carried out."""

    PUT = "put"
    CREATE = "create"
    UPDATE = "update"
    DISABLE = "disable"
    ENABLE = "enable"
    ROLL = "roll"
    DELETE = "delete"


class ReprovisionPolicy(Contract):
    """What DPS does when a device registers again (DPS: ``reprovisionPolicy``); both are true unless they are set."""

    update_hub_assignment: Flag | None = None
    migrate_device_data: Flag | None = None


class CustomAllocation(Contract):
    """The Azure Function that chooses the hub (DPS: ``customAllocationDefinition``)."""

    webhook_url: Annotated[AnyUrl, UrlConstraints(allowed_schemes=["https"])]
    api_version: ApiVersion


_POLICY_SPELLINGS = {"geolatency": "geoLatency"}


def _policy(value: Any) -> Any:
    return _POLICY_SPELLINGS.get(value.lower(), value) if isinstance(value, str) else value


class EntrySettings(Contract):
    """What can be set of an enrollment, be it a group's or a single device's, in the DPS's own terms."""

    allocation_policy: (
        Annotated[Literal["hashed", "static", "geoLatency", "custom"], BeforeValidator(_policy)] | None
    ) = None
    custom_allocation: CustomAllocation | None = None
    iot_hubs: Annotated[list[str], Field(min_length=1, max_length=50)] | None = None
    initial_twin: InitialTwin | None = None
    reprovision_policy: ReprovisionPolicy | None = None
    iot_edge: Flag | None = None

    @model_validator(mode="after")
    def _custom(self) -> Self:
        if (self.allocation_policy == "custom") != (self.custom_allocation is not None):
            raise PydanticCustomError(
                "custom_allocation",
                "customAllocation, with webhookUrl and apiVersion, belongs to allocationPolicy 'custom' and to no "
                "other; give both or neither",
            )
        return self


class EnrollmentGroupDefinition(EntrySettings):
    """What can be set of an enrollment group.

    With ``renewAutomatically`` its devices are renewed by themselves, when two thirds of a certificate's life are over.
    """

    model_config = with_example({"issuer": "factory-1", "allocationPolicy": "hashed"})

    issuer: AuthorityName | None = None
    custody: KeyCustody | None = None
    ca_references: CaReferences | None = None
    renew_automatically: Flag | None = None

    @model_validator(mode="after")
    def _made_custody(self) -> Self:
        if self.ca_references is not None and self.custody is not None:
            raise PydanticCustomError(
                "custody",
                "custody is for an issuing CA that is made here, and caReferences name CAs instead; leave custody out",
            )
        return self


class EnrollmentGroupRoll(Contract):
    """Body of ``POST /enrollment-groups/{id}/roll``: the next issuing CA, or what it is to be; all may be left out."""

    model_config = with_example({"custody": "wrapped"})

    issuer: AuthorityName | None = None
    custody: KeyCustody | None = None


class EnrollmentGroupRequest(EnrollmentGroupDefinition):
    """A request about an enrollment group (queue ``enrollment-group-requests``).

    ``issuer`` names the group's issuing CA, or a CA that may have others below it, under which one is made. Without it,
    one is made under the deployment's root. ``custody`` says where the key of one that is made is to be. With
    ``caReferences`` the group accepts whatever stands under these CAs, and none is made.

    ``ifMatch`` is the ETag that the group is expected to have in the DPS, ``ifNoneMatch`` one that it is not to have:
    lists and ``*`` as in the headers (RFC 9110 section 13.1).
    """

    model_config = with_example(
        {"requestId": "group-1", "enrollmentGroup": "line-1", "action": "create", "issuer": "factory-1"}
    )

    request_id: RequestId
    enrollment_group: EnrollmentGroupId
    action: GroupAction
    if_match: EntityTags | None = None
    if_none_match: EntityTags | None = None

    @model_validator(mode="after")
    def _fields_of_action(self) -> Self:
        given = {name for name in type(self).model_fields if getattr(self, name) is not None}
        strange = given - _FIELDS_OF_ACTION[self.action] - {"request_id", "enrollment_group", "action"}
        if strange:
            raise PydanticCustomError(
                "action",
                "action '{action}' does not take {fields}; leave out what does not belong to it, or ask for another "
                "action",
                {"action": self.action.value, "fields": " and no ".join(sorted(map(to_camel, strange)))},
            )
        return self


_DEFINITION = frozenset(EnrollmentGroupDefinition.model_fields)


_FIELDS_OF_ACTION: Mapping[GroupAction, frozenset[str]] = {
    GroupAction.PUT: _DEFINITION | {"if_match", "if_none_match"},
    GroupAction.CREATE: _DEFINITION | {"if_none_match"},
    GroupAction.UPDATE: _DEFINITION | {"if_match"},
    GroupAction.DISABLE: frozenset({"if_match"}),
    GroupAction.ENABLE: frozenset({"if_match"}),
    GroupAction.ROLL: frozenset({"issuer", "custody", "if_match"}),
    GroupAction.DELETE: frozenset({"if_match"}),
}


class IndividualEnrollmentDefinition(EntrySettings):
    """Body of ``PUT /enrollments/{registrationId}``: the enrollment of a single device.

    A new one without ``certificate`` is for the device's present one. ``secondaryCertificate: null`` takes the second
    one out.
    """

    model_config = with_example({"deviceId": "press-1", "provisioningStatus": "enabled"})

    certificate: PemText | None = None
    secondary_certificate: PemText | None = None
    device_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}$")] | None = None
    provisioning_status: Literal["enabled", "disabled"] | None = None
