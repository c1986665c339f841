"""Every message and HTTP body: the public schema, and the one source for JSON Schema and OpenAPI.

Field names are camelCase on the wire. Unknown fields are refused by name. A message on a queue is a CloudEvents 1.0
event in structured JSON, or the bare ``data`` object for senders that know no CloudEvents.
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, LiteralString, NamedTuple, Self, get_args

from pydantic import (
    AfterValidator,
    AnyUrl,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    UrlConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

from shared.errors import Reason, Rejected
from shared.reading.base64_text import octets
from shared.reading.json_text import read_json
from shared.reading.text import text_of
from shared.reading.times import point_in_time
from shared.redaction import has_private_key, is_marked, private_keys, without_secrets
from shared.rules.key_algorithms import KeyAlgorithm
from shared.rules.registration_ids import canonical_registration_id
from shared.rules.twin_limits import DESIRED_LIMIT, TAGS_LIMIT, twin_fault

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MESSAGE_LIMIT = 48 * 1024
"""Bytes of a queue message before base64: a Storage queue carries 64 KiB of text, base64 takes a third of it."""


SOURCE = "/device-identity-factory"
"""``source`` of the events this app sends."""


class Queue(StrEnum):
    """Names of the queues."""

    CERTIFICATE_REQUESTS = "certificate-requests"
    ENROLLMENT_GROUP_REQUESTS = "enrollment-group-requests"
    DEVICE_ORDERS = "device-orders"
    DEVICE_REGISTRATIONS = "device-registrations"
    RENEWAL_REQUESTS = "renewal-requests"
    REVOCATION_REQUESTS = "revocation-requests"
    PROVISIONING_EVENTS = "provisioning-events"

    @property
    def poison(self) -> str:
        """Name of the queue that takes what could not be handled."""
        return f"{self.value}-poison"


INBOUND_QUEUES = tuple(queue for queue in Queue if queue is not Queue.PROVISIONING_EVENTS)


class DeviceState(StrEnum):
    """States of a device, and of its line in an order."""

    ORDERED = "ordered"
    ISSUED = "issued"
    REGISTERED = "registered"
    RENEWING = "renewing"
    REVOKED = "revoked"
    EXPIRED = "expired"
    DELETED = "deleted"
    FAILED = "failed"


class EventType(StrEnum):
    """``type`` of an event on ``provisioning-events``."""

    CERTIFICATE_ISSUED = "DeviceProvisioning.CertificateIssued"
    ENROLLMENT_GROUP_CHANGED = "DeviceProvisioning.EnrollmentGroupChanged"
    ORDER_ACCEPTED = "DeviceProvisioning.OrderAccepted"
    DEVICE_REGISTERED = "DeviceProvisioning.DeviceRegistered"
    ORDER_COMPLETED = "DeviceProvisioning.OrderCompleted"
    DEVICE_REVOKED = "DeviceProvisioning.DeviceRevoked"
    DEVICE_REINSTATED = "DeviceProvisioning.DeviceReinstated"
    CERTIFICATE_EXPIRING = "DeviceProvisioning.CertificateExpiring"
    CERTIFICATE_EXPIRED = "DeviceProvisioning.CertificateExpired"
    CERTIFICATE_RENEWED = "DeviceProvisioning.CertificateRenewed"
    REQUEST_REJECTED = "DeviceProvisioning.RequestRejected"


class RevocationReason(StrEnum):
    """Reason names of RFC 5280 section 5.3.1 that a device or its owner can give."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"


# --- ids: each with its rule in the error text -----------------------------------------------------------------------


def _registration_id(text: str) -> str:
    try:
        return canonical_registration_id(text)
    except Rejected as rejection:
        message = rejection.reasons[0].message
        raise PydanticCustomError("registration_id", "{message}", {"message": message}) from None


def _enrollment_group_id(text: str) -> str:
    canonical = text.lower()
    if not text.isascii() or not re.fullmatch(r"[a-z0-9\-._:]{0,127}[a-z0-9\-]", canonical):
        raise PydanticCustomError(
            "enrollment_group_id",
            "'{text}' is no enrollment group id: 1 to 128 letters, digits and - . _ :, the last a letter, digit or -",
            {"text": text[:140]},
        )
    return canonical


def _issuer_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9\-]{0,62}[A-Za-z0-9]", text):
        raise PydanticCustomError(
            "issuer_name",
            "'{text}' is no name for a certificate authority: 2 to 64 letters, digits and dashes, no dash at the ends "
            "(it names a Key Vault key and is the CN)",
            {"text": text[:140]},
        )
    return text


_TAKEN_OUT: LiteralString = "a secret was taken out of it when it was refused; send it anew, with what belongs there"


def _signing_request(text: str) -> str:
    # Here, before anything is kept; what a request says is checked when its device is looked at.
    if has_private_key(text):
        raise PydanticCustomError("private_key", "there is a private key beside the CSR; it must stay in the device")
    if is_marked(text) and "-----BEGIN" not in text:
        raise PydanticCustomError("marked", _TAKEN_OUT)
    return text


def _request_id(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._:\-]{0,127}", text):
        raise PydanticCustomError(
            "request_id",
            "'{text}' is no id: 1 to 128 letters, digits and - . _ :, the first a letter or a digit",
            {"text": text[:140]},
        )
    return text


def _serial_number(text: str) -> str:
    canonical = text.replace(":", "").lower().removeprefix("0x").zfill(40)
    if not re.fullmatch(r"[0-9a-f]{40}", canonical) or not canonical.strip("0"):
        raise PydanticCustomError(
            "serial_number",
            "'{text}' is no serial number: up to 40 hexadecimal digits (20 octets, RFC 5280 section 4.1.2.2)",
            {"text": text[:140]},
        )
    return canonical


def _api_version(text: str) -> str:
    matched = re.fullmatch(r"([0-9]{4}-[0-9]{2}-[0-9]{2})(-preview)?", text)
    with suppress(ValueError):
        if matched and date.fromisoformat(matched[1]):
            return text
    raise PydanticCustomError(
        "api_version",
        "'{text}' is no API version: a date as in 2021-10-01, or 2021-11-01-preview",
        {"text": text[:140]},
    )


RegistrationId = Annotated[str, StringConstraints(min_length=1), AfterValidator(_registration_id)]
EnrollmentGroupId = Annotated[str, StringConstraints(min_length=1), AfterValidator(_enrollment_group_id)]
IssuerName = Annotated[str, StringConstraints(min_length=1), AfterValidator(_issuer_name)]
RequestId = Annotated[str, StringConstraints(min_length=1), AfterValidator(_request_id)]
SerialNumber = Annotated[str, StringConstraints(min_length=1), AfterValidator(_serial_number)]
ApiVersion = Annotated[str, AfterValidator(_api_version)]
CaReference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\-._]{1,64}$")]
PemText = Annotated[str, StringConstraints(min_length=1, max_length=16_384)]
EntityTags = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
SigningRequest = Annotated[PemText, AfterValidator(_signing_request)]


def _blob_url(url: AnyUrl) -> AnyUrl:
    # Never repeated: what stands behind '?' or before '@' lets whoever reads it in.
    if "?" in str(url) or url.username is not None or url.password is not None:
        raise PydanticCustomError(
            "devices_url",
            "the URL has a query ('?'), such as a shared access signature, or a password; leave it out: the app reads "
            "the blob by its own identity. A '?' in the name is '%3F'",
        )
    return url


BlobUrl = Annotated[AnyUrl, UrlConstraints(max_length=4096), AfterValidator(_blob_url)]


def _fit_for_twins(limit: int) -> AfterValidator:
    def check(content: dict[str, Any]) -> dict[str, Any]:
        if is_marked(content):
            raise PydanticCustomError("marked", _TAKEN_OUT)
        fault = twin_fault(content, limit)
        if fault is not None:
            raise PydanticCustomError("twin", "no hub takes it: {fault}", {"fault": fault})
        return content

    return AfterValidator(check)


Tags = Annotated[dict[str, Any], _fit_for_twins(TAGS_LIMIT)]
DesiredProperties = Annotated[dict[str, Any], _fit_for_twins(DESIRED_LIMIT)]
Flag = Annotated[bool, Field(strict=True)]


class Contract(BaseModel):
    """Base of all bodies: camelCase on the wire, frozen, no unknown fields."""

    model_config = ConfigDict(
        alias_generator=to_camel, validate_by_name=True, validate_by_alias=True, extra="forbid", frozen=True
    )

    read_later: ClassVar[frozenset[str]] = frozenset()
    """Fields whose items are checked one by one, by a contract of their own."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content, in hexadecimal: equal for equal content, whatever its order or spacing was."""
        text = json.dumps(self.model_dump(mode="json", by_alias=True), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def to_json(self) -> str:
        """Give the body as it goes over the wire."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


# --- device orders ---------------------------------------------------------------------------------------------------


class DeviceTwinProperties(Contract):
    """``properties`` of an initial twin."""

    desired: DesiredProperties | None = None


class InitialTwin(Contract):
    """What a device's twin holds when DPS creates it (DPS: ``initialTwin``)."""

    tags: Tags | None = None
    properties: DeviceTwinProperties | None = None

    @property
    def desired(self) -> dict[str, Any] | None:
        """Its desired properties, if it names any."""
        return self.properties.desired if self.properties else None


class DeviceRequest(Contract):
    """One device of an order.

    ``csr`` is a PKCS#10 request in PEM, the first choice: then the private key never leaves the device. Without it
    the service makes the key.
    """

    registration_id: RegistrationId
    csr: SigningRequest | None = None
    key_algorithm: KeyAlgorithm | None = None
    initial_twin: InitialTwin | None = None
    tags: Tags | None = None

    @model_validator(mode="after")
    def _one_key(self) -> Self:
        if self.csr is not None and self.key_algorithm is not None:
            raise PydanticCustomError(
                "one_key", "csr and keyAlgorithm exclude each other: the CSR brings the key; leave keyAlgorithm out"
            )
        return self


class RegisterBy(StrEnum):
    """Who registers a device through DPS."""

    SERVICE = "service"
    DEVICE = "device"


class DeviceOrder(Contract):
    """An ERP's order of devices for one enrollment group (queue ``device-orders``).

    ``devices`` is read device by device, so that a bad one does not stop the others: its items are checked by
    :func:`device_request`.
    """

    read_later: ClassVar[frozenset[str]] = frozenset({"devices"})

    order_id: RequestId
    enrollment_group: EnrollmentGroupId
    devices: Annotated[list[Any], Field(min_length=1)] | None = None
    devices_url: BlobUrl | None = None
    register_by: RegisterBy = RegisterBy.SERVICE
    validity_days: Annotated[int, Field(strict=True, ge=1, le=3650)] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.devices is None) == (self.devices_url is None):
            raise PydanticCustomError("one_source", "an order needs either devices or devicesUrl, and not both")
        return self


class DeviceOrderSchema(DeviceOrder):
    """The published schema of an order, in which each device shows its fields."""

    devices: list[DeviceRequest] | None = None


class OrderWatch(Contract):
    """An accepted order that is seen to until it is complete (queue ``device-orders``; the app's own message).

    ``watch`` tells the message that sees to the order from those that did before.
    """

    order_id: RequestId
    watch: AwareDatetime


class DeviceRegistration(Contract):
    """One line of an order on its way (queue ``device-registrations``)."""

    order_id: RequestId
    line: Annotated[int, Field(strict=True, ge=0)]


# --- certificates, groups, revocations -------------------------------------------------------------------------------


class CertificateKind(StrEnum):
    """What a certificate is for."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"
    DEVICE = "device"
    VERIFICATION = "verification"


class KeyCustody(StrEnum):
    """Where a CA's key is.

    ``vault``: made in Key Vault, where each signature is one call. ``wrapped``: for issuing CAs only, encrypted under a
    key of the vault in the ledger, and in memory while a worker lives: as many signatures as the worker can compute.
    """

    VAULT = "vault"
    WRAPPED = "wrapped"


class CertificateRequest(Contract):
    """A request for one certificate (queue ``certificate-requests``).

    ``name`` is the CA's name, or the registration id of a device; a verification certificate is named by its code.
    ``externallySigned`` asks for an issuing CA whose certificate is signed elsewhere, by an offline or corporate root:
    its signing request can be fetched, and the answer installed.
    """

    request_id: RequestId
    kind: CertificateKind
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    issuer: IssuerName | None = None
    csr: SigningRequest | None = None
    key_algorithm: KeyAlgorithm | None = None
    validity_days: Annotated[int, Field(strict=True, ge=1, le=7305)] | None = None
    path_length: Annotated[int, Field(strict=True, ge=0, le=5)] | None = None
    custody: KeyCustody | None = None
    externally_signed: Flag = False
    verification_code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,64}$")] | None = None

    @model_validator(mode="after")
    def _fields_of_kind(self) -> Self:
        if self.kind in _CA_KINDS:
            _issuer_name(self.name)
        if self.kind is CertificateKind.DEVICE:
            _registration_id(self.name)
        for broken, code, rule in self._rules_of_kind():
            if broken:
                raise PydanticCustomError(code, rule)
        return self

    def _rules_of_kind(self) -> Iterator[tuple[bool, LiteralString, LiteralString]]:
        """Give each rule: whether it is broken, a word for it, and its text."""
        kind, external = self.kind, self.externally_signed
        intermediate, verification = kind is CertificateKind.INTERMEDIATE, kind is CertificateKind.VERIFICATION
        yield (
            kind is CertificateKind.ROOT and self.issuer is not None,
            "root_issuer",
            "a root signs itself; leave issuer out, or ask for 'intermediate'",
        )
        yield (
            kind is CertificateKind.DEVICE and self.issuer is None,
            "device_issuer",
            "a device certificate needs issuer, the name of its issuing CA",
        )
        yield (
            verification and (self.issuer is None or self.verification_code is None),
            "verification",
            "a verification certificate needs issuer (the CA to be verified) and verificationCode",
        )
        yield (
            not verification and self.verification_code is not None,
            "code",
            "verificationCode belongs to kind 'verification' only",
        )
        yield (
            kind is not CertificateKind.DEVICE and self.csr is not None,
            "csr",
            "csr belongs to kind 'device' only; a CA's key is made in the vault",
        )
        yield (
            self.custody is not None and kind not in _CA_KINDS,
            "custody",
            "custody belongs to the kinds 'root' and 'intermediate' only",
        )
        yield (
            self.custody is KeyCustody.WRAPPED and not intermediate,
            "custody",
            "custody 'wrapped' is for issuing CAs; a root's key stays in the vault",
        )
        yield (
            external and (not intermediate or self.issuer is not None),
            "externally_signed",
            "externallySigned is for kind 'intermediate' without issuer: another CA signs it",
        )
        yield (
            external and self.validity_days is not None,
            "externally_signed",
            "with externallySigned the CA that signs decides the life; leave validityDays out",
        )


_CA_KINDS = frozenset({CertificateKind.ROOT, CertificateKind.INTERMEDIATE})


class AuthorityImport(Contract):
    """Body of ``POST /certificate-authorities/{name}/import``: an owner's root or issuing CA, with its key.

    Either ``pfx`` (PKCS#12 in base64) or ``pem`` (key and certificates), with the chain up to the root. The key goes
    into the vault, or is wrapped by a key of it, and is kept nowhere else.
    """

    pfx: SecretStr | None = None
    pem: SecretStr | None = None
    password: SecretStr | None = None
    custody: KeyCustody | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.pfx is None) == (self.pem is None):
            raise PydanticCustomError("one_form", "give either pfx or pem, and not both")
        return self


class AuthorityCertificate(Contract):
    """Body of ``PUT /certificate-authorities/{name}/certificate``: the answer to its signing request.

    ``certificate`` is PEM: the CA's certificate, and the chain above it up to and including the root.
    """

    certificate: Annotated[str, StringConstraints(min_length=1, max_length=65_536)]


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


class CaReferences(Contract):
    """CA certificates by the names under which they are verified in the DPS (DPS: ``caReferences``)."""

    primary: CaReference
    secondary: CaReference | None = None


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
                "customAllocation, with webhookUrl and apiVersion, goes with allocationPolicy 'custom', and with no "
                "other; give both or neither",
            )
        return self


class EnrollmentGroupDefinition(EntrySettings):
    """What can be set of an enrollment group."""

    issuer: IssuerName | None = None
    custody: KeyCustody | None = None
    ca_references: CaReferences | None = None

    @model_validator(mode="after")
    def _made_custody(self) -> Self:
        if self.ca_references is not None and self.custody is not None:
            raise PydanticCustomError(
                "custody", "custody is for an issuing CA that is made, and with caReferences none is; leave it out"
            )
        return self


class EnrollmentGroupRoll(Contract):
    """Body of ``POST /enrollment-groups/{id}/roll``: the next issuing CA, or what it is to be; all may be left out."""

    issuer: IssuerName | None = None
    custody: KeyCustody | None = None


class EnrollmentGroupRequest(EnrollmentGroupDefinition):
    """A request about an enrollment group (queue ``enrollment-group-requests``).

    ``issuer`` names the group's issuing CA, or a CA that may have others below it, under which one is made. Without it,
    one is made under the deployment's root. ``custody`` says where the key of one that is made is to be. With
    ``caReferences`` the group accepts whatever stands under these CAs, and none is made.

    ``ifMatch`` is the ETag that the group is expected to have in the DPS, ``ifNoneMatch`` one that it is not to have:
    lists and ``*`` as in the headers (RFC 9110 section 13.1).
    """

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
                "action '{action}' takes no {fields}; leave out what does not belong to it, or ask for another action",
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

    certificate: PemText | None = None
    secondary_certificate: PemText | None = None
    device_id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9\-:.+%_#*?!(),=@;$']{1,128}$")] | None = None
    provisioning_status: Literal["enabled", "disabled"] | None = None


class EnrollmentCheck(Contract):
    """Body of ``POST /enrollment-groups/{id}/check``: a device as it would come to DPS.

    ``chain`` is what it would send, in PEM: the leaf first, then each one's issuer.
    """

    registration_id: RegistrationId
    chain: Annotated[str, StringConstraints(min_length=1, max_length=MESSAGE_LIMIT)]


class CertificateCheck(EnrollmentCheck):
    """Body of ``POST /certificates/check``. ``enrollmentGroup`` is the one meant; without it, any that DPS finds."""

    enrollment_group: EnrollmentGroupId | None = None


class RevocationAction(StrEnum):
    """Revoke, undo a hold, or take a device out of service: revoked, and gone from its hub."""

    REVOKE = "revoke"
    REINSTATE = "reinstate"
    DELETE = "delete"


class RevocationRequest(Contract):
    """A request to revoke one device, one certificate or a whole group (queue ``revocation-requests``).

    ``reason`` is required where ``action`` is ``revoke``, since most reasons are final. ``delete`` concerns a device.
    """

    request_id: RequestId
    registration_id: RegistrationId | None = None
    serial_number: SerialNumber | None = None
    enrollment_group: EnrollmentGroupId | None = None
    action: RevocationAction = RevocationAction.REVOKE
    reason: RevocationReason = Field(default=None, validate_default=True)

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

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        targets = (self.registration_id, self.serial_number, self.enrollment_group)
        if sum(target is not None for target in targets) != 1:
            raise PydanticCustomError(
                "one_target", "name exactly one of registrationId, serialNumber and enrollmentGroup"
            )
        if self.action is RevocationAction.DELETE and self.registration_id is None:
            raise PydanticCustomError("delete_target", "action 'delete' takes one device: name its registrationId")
        return self


class MemberRevocation(RevocationRequest):
    """What the revocation of a group asks for one device of it: the app's own message (queue ``revocation-requests``).

    ``requestId`` is that of the group's revocation; ``part`` proves that the message comes from it.
    """

    registration_id: RegistrationId
    part: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


def revocation_request(body: Any) -> RevocationRequest:
    """Check a message of the queue ``revocation-requests``; see :func:`parse`."""
    return parse(MemberRevocation if isinstance(body, dict) and "part" in body else RevocationRequest, body)


class RenewalRequest(Contract):
    """A request for a successor of a device's certificate (queue ``renewal-requests``)."""

    request_id: RequestId
    registration_id: RegistrationId
    csr: SigningRequest | None = None


class Revocation(Contract):
    """Body of ``POST /devices/{registrationId}/revoke``. Most reasons are final, so one has to be given."""

    reason: RevocationReason


class IdentityChange(Contract):
    """Body of ``POST /devices/{registrationId}/disable`` and ``enable``: why, for whoever looks at the hub."""

    reason: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None


class Renewal(Contract):
    """Body of ``POST /devices/{registrationId}/renew``."""

    csr: SigningRequest | None = None


class VerificationCode(Contract):
    """Body of ``POST /certificate-authorities/{name}/verification-certificates``."""

    verification_code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,64}$")]


# --- reading ---------------------------------------------------------------------------------------------------------

_TEXTS: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field; known are {known}",
    "json_invalid": "is no JSON: {error}",
    "too_short": "needs at least {min_length}, and has {actual_length}",
    "too_long": "takes at most {max_length}, and has {actual_length}",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
}


def parse[C: Contract](contract: type[C], body: Any, *, field: str = "") -> C:
    """Check a decoded body against its contract.

    Args:
        contract: the model of the body.
        body: the decoded JSON.
        field: path of the body inside the request, put before the paths of its fields.

    Raises:
        Rejected: with one reason per problem: field, value and rule; for a private key, unless the contract asks for
            one, with its place alone.
    """
    if not isinstance(body, dict):
        raise Rejected(Reason(field, f"must be a JSON object, and is {_kind(body)}"))
    if not _secrets(contract):
        refuse_private_keys({name: each for name, each in body.items() if name not in contract.read_later}, field=field)
    try:
        return contract.model_validate(body, by_name=False, by_alias=True)
    except ValidationError as error:
        raise Rejected(*(_reason(contract, problem, field) for problem in error.errors())) from None


def refuse_private_keys(body: Any, *, field: str = "") -> None:
    """See that there is no private key in a decoded body, before it is put anywhere.

    Args:
        body: the decoded JSON.
        field: path of the body inside the request.

    Raises:
        Rejected: with a reason for each key, which names its place.
    """
    found = [
        Reason(
            place,
            "there is a private key beside the CSR; it must stay in the device"
            if place.endswith("csr")
            else "there is a private key in it; a private key is not sent here, and one that was sent is no secret "
            "any more",
        )
        for place in private_keys(body, field)
    ]
    if found:
        raise Rejected(*found)


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)


def _reason(contract: type[BaseModel], problem: Any, prefix: str) -> Reason:
    path = prefix
    for part in problem["loc"]:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else str(part)
    text = _TEXTS.get(problem["type"])
    if text is not None:
        known = ", ".join(sorted(_fields(_holder(contract, problem["loc"][:-1]))))
        return Reason(path, text.format(known=known, **problem.get("ctx", {})) + _shown(contract, problem))
    message = problem["msg"]
    if message[1:2].islower():  # a sentence, and no abbreviation
        message = message[:1].lower() + message[1:]
    return Reason(path, message + _shown(contract, problem))


def _shown(contract: type[BaseModel], problem: Any) -> str:
    """Repeat a value that was refused, if it is a plain one and no secret."""
    value = problem["input"]
    hidden = problem["type"] in _OWN_TEXT or not _secrets(contract).isdisjoint(problem["loc"])
    if hidden or not isinstance(value, str | int | float | bool):
        return ""
    return f"; it is {without_secrets(str(value))[:140]!r}"


def _fields(contract: type[BaseModel]) -> dict[str, Any]:
    """Give the annotations of a contract's fields by their names on the wire."""
    return {field.alias or name: field.annotation for name, field in contract.model_fields.items()}


def _holder(contract: type[BaseModel], path: tuple[int | str, ...]) -> type[BaseModel]:
    """Find the contract that a field at a path belongs to."""
    for part in path:
        annotation = _fields(contract).get(str(part))
        inner = [each for each in (annotation, *get_args(annotation)) if isinstance(each, type)]
        contract = next((each for each in inner if issubclass(each, BaseModel)), contract)
    return contract


_OWN_TEXT = frozenset(
    {
        "api_version",
        "devices_url",
        "enrollment_group_id",
        "extra_forbidden",
        "issuer_name",
        "private_key",
        "registration_id",
        "request_id",
        "serial_number",
    }
)
"""Error types whose message names the value already, or must not."""


def _secrets(contract: type[BaseModel]) -> set[str]:
    """Give the fields whose values are never repeated."""
    fields = contract.model_fields.items()
    return {
        field.alias or name for name, field in fields if SecretStr in (field.annotation, *get_args(field.annotation))
    }


def device_request(body: Any, *, index: int) -> DeviceRequest:
    """Check one device of an order; see :func:`parse`."""
    return parse(DeviceRequest, body, field=f"devices[{index}]")


class _PathValues(Contract):
    """Ids as they stand in a path or a header."""

    registration_id: RegistrationId | None = None
    enrollment_group: EnrollmentGroupId | None = None
    serial_number: SerialNumber | None = None
    request_id: RequestId | None = None
    order_id: RequestId | None = None
    id: RequestId | None = None
    name: IssuerName | None = None


def path_value(field: str, value: str) -> str:
    """Check an id from a path or a header, and give its canonical form.

    Args:
        field: ``registrationId``, ``enrollmentGroup``, ``serialNumber``, ``requestId``, ``orderId``, ``id``, of a
            rejection, or ``name``, of a CA.
        value: the id as given.

    Raises:
        Rejected: with the id's rule.
    """
    checked = parse(_PathValues, {field: value}).model_dump(by_alias=True)[field]
    return str(checked)


class CloudEvent(BaseModel):
    """A CloudEvents 1.0 event in structured JSON (cloudevents.io, core specification 1.0)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    specversion: Literal["1.0"]
    id: Annotated[str, StringConstraints(min_length=1)]
    source: Annotated[str, StringConstraints(min_length=1)]
    type: Annotated[str, StringConstraints(min_length=1)]
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    traceparent: str | None = None
    correlationid: str | None = None
    data: Any = None
    data_base64: str | None = None


def decoded(content: str | bytes, what: str, *, field: str = "") -> Any:
    """Read JSON.

    Args:
        content: the text, or its octets: UTF-8, or UTF-16 with a byte order mark.
        what: names it, for messages.
        field: where it stands in the request.

    Raises:
        Rejected: it is none, or holds what is no text.
    """
    text = content if isinstance(content, str) else text_of(content, what, field=field)
    try:
        return read_json(text)
    except ValueError as error:
        raise Rejected.because(f"{what} is no JSON: {error}", field=field) from None


NEVER_SET = datetime(2000, 1, 1, tzinfo=UTC)
"""A time before is that of a clock that was never set: year 1 of .NET and Go, 1601 of Windows, 1970 of Unix."""

_ATTEMPT = "deliveryattempt"
"""CloudEvents extension of this app's own: how often a message was put back because a service was down."""

ATTEMPTS_LIMIT = 1000
"""How often a message is put back: three days, of a service that is down or of a bug that looks like it."""


class Message(NamedTuple):
    """What a queue message says.

    Attributes:
        data: the decoded body.
        traceparent: the sender's (CloudEvents distributed-tracing extension), if it gave one.
        time: when the sender made it, in UTC, if it says so by a clock that was set.
    """

    data: Any
    traceparent: str | None = None
    time: datetime | None = None


def read_message(text: str) -> Message:
    """Take the data out of a queue message.

    Args:
        text: the decoded message: a CloudEvent, or the bare data object.

    Raises:
        Rejected: when it is no JSON, or no valid CloudEvent.
    """
    size = len(text.encode(errors="replace"))
    if size > MESSAGE_LIMIT:
        raise Rejected.because(
            f"the message has {size} bytes; at most {MESSAGE_LIMIT} fit a queue: put the devices into a blob and name "
            "it in devicesUrl"
        )
    body = decoded(text, "the message")
    if not isinstance(body, dict):
        raise Rejected.because(f"the message must be a JSON object, and is {_kind(body)}")
    if "specversion" not in body:
        return Message(body)
    try:
        event = CloudEvent.model_validate(body)
    except ValidationError as error:
        raise Rejected(*(_reason(CloudEvent, problem, "") for problem in error.errors())) from None
    return Message(_data_of(event), event.traceparent, _time_of(event))


def _data_of(event: CloudEvent) -> Any:
    """Give an event's data, which may stand in base64 (CloudEvents 1.0, JSON event format, section 3.1)."""
    if event.data_base64 is None:
        return event.data
    if event.data is not None:
        raise Rejected.because("data and data_base64 exclude each other; give one of them", field="data_base64")
    return decoded(octets("data_base64", event.data_base64), "what it holds", field="data_base64")


def _time_of(event: CloudEvent) -> datetime | None:
    time = point_in_time(event.time, field="time") if event.time is not None else None
    return time if time is not None and time >= NEVER_SET else None


def attempts_of(text: str) -> int:
    """Tell how often a message, one that :func:`read_message` reads, was put back because a service was down."""
    attempts = read_json(text).get(_ATTEMPT)
    return min(attempts, ATTEMPTS_LIMIT) if type(attempts) is int and attempts > 0 else 0


def anew(text: str) -> str:
    """Give a message as if it had never been put back; one that can't be read comes as it is."""
    try:
        read_message(text)
    except Rejected:
        return text
    if not attempts_of(text):
        return text
    body = {name: value for name, value in read_json(text).items() if name != _ATTEMPT}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def put_back(text: str, queue: Queue, *, asked_at: datetime, attempt: int, traceparent: str | None) -> str:
    """Compose a message that waits for its next try: the same content, and when it was asked for.

    Args:
        text: the message as it came, one that :func:`read_message` reads.
        queue: where it came from.
        asked_at: when it was asked for, UTC; a queue counts anew from now.
        attempt: how often it has been put back because a service was down.
        traceparent: W3C trace context to carry on.

    Returns:
        A CloudEvent; the text as it is where there is no room for more.
    """
    body = read_json(text)
    if "specversion" not in body:
        body = {
            "specversion": "1.0",
            "id": hashlib.sha256(text.encode()).hexdigest(),
            "source": SOURCE,
            "type": f"DeviceProvisioning.Command.{queue.value}",
            "data": body,
        }
    body.pop(_ATTEMPT, None)
    body |= {"time": timestamp(asked_at)} | ({_ATTEMPT: attempt} if attempt else {})
    if traceparent:
        body["traceparent"] = traceparent
    composed = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return composed if len(composed.encode()) <= MESSAGE_LIMIT else text


def event(
    kind: EventType,
    *,
    subject: str,
    correlation_id: str,
    at: datetime,
    traceparent: str | None,
    data: Mapping[str, Any],
    occasion: str = "",
) -> str:
    """Compose an event for ``provisioning-events``.

    Its id follows from what happened, so that an event sent again after a crash is known as the same one
    (CloudEvents: source + id are unique per event).

    Args:
        kind: what happened.
        subject: the id concerned.
        correlation_id: the order or request that caused it.
        at: when it happened, UTC.
        traceparent: W3C trace context to carry on.
        data: the event's own fields; never a private key or a password.
        occasion: tells repeated events of one kind, subject and cause apart, such as a serial number.
    """
    name = "/".join(filter(None, (kind.removeprefix("DeviceProvisioning."), subject, correlation_id, occasion)))
    body: dict[str, Any] = {
        "specversion": "1.0",
        "id": name,
        "source": SOURCE,
        "type": kind.value,
        "subject": subject,
        "time": timestamp(at),
        "datacontenttype": "application/json",
        "correlationid": correlation_id,
        "data": dict(data),
    }
    if traceparent:
        body["traceparent"] = traceparent
    return json.dumps(body, separators=(",", ":"))


def command(queue: Queue, body: Contract, *, at: datetime, traceparent: str | None) -> str:
    """Compose a message for one of the inbound queues, as a CloudEvent that carries the trace on, and when it was."""
    message: dict[str, Any] = {
        "specversion": "1.0",
        "id": body.fingerprint,
        "source": SOURCE,
        "type": f"DeviceProvisioning.Command.{queue.value}",
        "time": timestamp(at),
        "data": body.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    if traceparent:
        message["traceparent"] = traceparent
    return json.dumps(message, separators=(",", ":"))


def timestamp(at: datetime) -> str:
    """Give a point in time as RFC 3339 text in UTC, to the second or finer as it is."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
