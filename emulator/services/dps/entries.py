"""Enrollment groups and individual enrollments: how they are read, kept and shown.

Fields: Azure/azure-rest-api-specs, deviceprovisioningservices, data-plane service API 2021-10-01.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emulator.platform.certificates import certificate_info, read_certificate
from emulator.services.dps import errors
from emulator.services.dps.attestation import SYMMETRIC_KEY, X509
from emulator.services.dps.symmetric_keys import checked_keys

if TYPE_CHECKING:
    from collections.abc import Collection as Sized
    from collections.abc import Iterator, Mapping

_STATUSES = ("enabled", "disabled")
_POLICIES = ("hashed", "static", "geoLatency", "custom")
_READ_ONLY = ("registrationState",)
_CERTIFICATES = ("signingCertificates", "clientCertificates")


@dataclass(frozen=True, slots=True)
class Collection:
    """One kind of entry.

    Attributes:
        store_kind: where its documents are.
        id_field: names its id.
        noun: for messages.
        certificates: the x509 attestation's field that holds its certificates.
    """

    store_kind: str
    id_field: str
    noun: str
    certificates: str


GROUPS = Collection("dps.group", "enrollmentGroupId", "Enrollment group", "signingCertificates")
ENROLLMENTS = Collection("dps.enrollment", "registrationId", "Enrollment", "clientCertificates")


def checked_entry(
    kind: Collection, identifier: str, body: Any, *, present: Mapping[str, Any] | None, linked: Sized[str]
) -> dict[str, Any]:
    """Read an entry as a client sends it.

    Args:
        kind: of which kind it is.
        identifier: its id, as the path has it.
        body: JSON value.
        present: the entry as it is kept; None for a new one.
        linked: host names of the hubs that are linked.

    Raises:
        ProvisioningError: 400, it breaks a rule; 501, the emulator lacks what it asks for.
    """
    if not isinstance(body, dict):
        raise errors.bad_request("The body must be a JSON object.")
    if str(body.get(kind.id_field, "")).lower() != identifier.lower():
        raise errors.bad_request(f"{kind.id_field} of the body and of the path differ.")
    if kind is ENROLLMENTS:
        errors.check_registration_id(identifier)
    status, policy = _or(body.get("provisioningStatus"), "enabled"), _or(body.get("allocationPolicy"), "hashed")
    if status not in _STATUSES:
        raise errors.bad_request(f"provisioningStatus {status!r} is not one of {', '.join(_STATUSES)}.")
    if policy not in _POLICIES:
        raise errors.bad_request(f"allocationPolicy {policy!r} is not one of {', '.join(_POLICIES)}.")
    for host in body.get("iotHubs") or []:
        if host not in linked:
            raise errors.bad_request(f"IoT hub {host!r} is not linked; linked are {', '.join(linked)}.")
    return {
        **{name: value for name, value in body.items() if name not in _READ_ONLY},
        kind.id_field: identifier.lower() if kind is ENROLLMENTS else body[kind.id_field],
        "provisioningStatus": status,
        "allocationPolicy": policy,
        "attestation": _checked_attestation(kind, body.get("attestation"), (present or {}).get("attestation") or {}),
    }


def _or(given: Any, default: str) -> Any:
    return default if given is None else given


def _checked_attestation(kind: Collection, given: Any, present: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(given, dict) or given.get("type") is None:
        raise errors.bad_request("attestation with a type is required.")
    if given["type"] == SYMMETRIC_KEY:
        return {"type": SYMMETRIC_KEY, SYMMETRIC_KEY: checked_keys(given.get(SYMMETRIC_KEY))}
    if given["type"] != X509:
        raise errors.not_offered(f"attestation of type {given['type']!r}: {X509} and {SYMMETRIC_KEY} only")
    x509_part = given.get(X509) or {}
    certificates = x509_part.get(kind.certificates) or {}
    references = x509_part.get("caReferences") or {}
    if not certificates.get("primary") and not references.get("primary"):
        raise errors.bad_request(f"attestation.x509 needs {kind.certificates}.primary or caReferences.primary.")
    kept = [each for held in _held(present) for each in held.values() if each]
    described = {name: _described(value, name, kept) for name, value in certificates.items() if value}
    others = {name: value for name, value in x509_part.items() if name != kind.certificates and value is not None}
    return {"type": X509, X509: others | ({kind.certificates: described} if described else {})}


def _described(given: Any, name: str, kept: list[dict[str, Any]]) -> dict[str, Any]:
    """Read a certificate that is sent, or find the one that the entry keeps by the ``info`` that is sent instead.

    A client that changes something else sends back what it was shown, which can be ``info`` alone: so does the
    ``az iot dps enrollment update`` of Azure/azure-iot-cli-extension.
    """
    fields = given if isinstance(given, dict) else {}
    if fields.get("certificate"):
        try:
            certificate = read_certificate(str(fields["certificate"]))
        except ValueError as error:
            raise errors.bad_request(f"the {name} certificate can't be read: {error}.") from None
        return {"certificate": fields["certificate"], "info": certificate_info(certificate)}
    info = fields.get("info")
    if not isinstance(info, dict):
        raise errors.bad_request(f"the {name} certificate is missing.")
    wanted = str(info.get("sha256Thumbprint") or "").upper()
    found = next((each for each in kept if each["info"]["sha256Thumbprint"] == wanted), None)
    if found is None:
        raise errors.bad_request(f"the {name} certificate is missing, and its info describes none that the entry has.")
    return found


def without_keys(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Give an entry without its symmetric keys, if it has such.

    So GET and queries answer (recordings of the tests of azure-iot-deviceprovisioning, Azure/azure-sdk-for-python), and
    so a webhook gets it (Microsoft, "Use custom allocation policies", its log).
    """
    attestation = {name: value for name, value in entry["attestation"].items() if name != SYMMETRIC_KEY}
    return {**entry, "attestation": attestation}


def without_certificates(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Give an entry with what its certificates say (``info``) and without the certificates themselves."""
    x509 = entry["attestation"].get(X509)
    if x509 is None:
        return dict(entry)
    shown = {
        name: {place: each and {"info": each["info"]} for place, each in x509[name].items()}
        for name in _CERTIFICATES
        if x509.get(name)
    }
    return {**entry, "attestation": {**entry["attestation"], X509: {**x509, **shown}}}


def _held(attestation: Mapping[str, Any]) -> Iterator[Mapping[str, dict[str, Any] | None]]:
    x509 = attestation.get(X509) or {}
    return (x509[name] for name in _CERTIFICATES if x509.get(name))
