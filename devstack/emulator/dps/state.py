"""What a provisioning service keeps, and its rules; no HTTP and no MQTT."""

from __future__ import annotations

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from devstack.emulator.dps import attestation, errors
from devstack.emulator.dps.attestation import Knowledge, KnownAuthority, Match

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from devstack.emulator.context import Context
    from devstack.emulator.iot_hub.state import IotHub, IotHubs

GROUP_LIMIT = 100
AUTHORITY_LIMIT = 25
_GROUPS, _ENROLLMENTS, _REGISTRATIONS, _AUTHORITIES = "dps.group", "dps.enrollment", "dps.registration", "dps.ca"
_STATUSES = ("enabled", "disabled")
_POLICIES = ("hashed", "static", "geoLatency", "custom")


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


GROUPS = Collection(_GROUPS, "enrollmentGroupId", "Enrollment group", "signingCertificates")
ENROLLMENTS = Collection(_ENROLLMENTS, "registrationId", "Enrollment", "clientCertificates")


class Provisioning:
    """One provisioning service."""

    def __init__(self, context: Context, hubs: IotHubs) -> None:
        self._context = context
        self._store = context.store
        self._hubs = hubs

    def _now(self) -> str:
        return self._context.clock().isoformat().replace("+00:00", "Z")

    # --- enrollment groups and individual enrollments ---

    def get(self, kind: Collection, identifier: str) -> dict[str, Any]:
        """Read an entry.

        Raises:
            ProvisioningError: 404.
        """
        found = self._store.get(kind.store_kind, identifier.lower())
        if found is None:
            raise errors.not_found(kind.noun)
        return found

    def put(self, kind: Collection, identifier: str, body: Any, if_match: str | None) -> dict[str, Any]:
        """Create an entry (no ETag), or replace the one that has this ETag (or any, ``*``).

        Raises:
            ProvisioningError: 400 for what is wrong with it, 404, 409, 412.
        """
        present = self._store.get(kind.store_kind, identifier.lower())
        if present is None and if_match is not None:
            raise errors.not_found(kind.noun)
        if present is not None and if_match is None:
            raise errors.conflict(f"{kind.noun} {identifier} already exists.")
        if present is not None and not _matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        if present is None and kind is GROUPS and self._store.count(_GROUPS) >= GROUP_LIMIT:
            raise errors.bad_request(f"The service has {GROUP_LIMIT} X.509 enrollment groups, and takes no more.")
        entry = self._checked(kind, identifier, body)
        entry["createdDateTimeUtc"] = present["createdDateTimeUtc"] if present else self._now()
        entry["lastUpdatedDateTimeUtc"] = self._now()
        entry["etag"] = _new_etag()
        self._store.put(kind.store_kind, identifier.lower(), entry)
        return entry

    def _checked(self, kind: Collection, identifier: str, body: Any) -> dict[str, Any]:
        if not isinstance(body, dict):
            raise errors.bad_request("The body must be a JSON object.")
        if str(body.get(kind.id_field, "")).lower() != identifier.lower():
            raise errors.bad_request(f"{kind.id_field} of the body and of the path differ.")
        status, policy = body.get("provisioningStatus", "enabled"), body.get("allocationPolicy", "hashed")
        if status not in _STATUSES:
            raise errors.bad_request(f"provisioningStatus {status!r} is none of {', '.join(_STATUSES)}.")
        if policy not in _POLICIES:
            raise errors.bad_request(f"allocationPolicy {policy!r} is none of {', '.join(_POLICIES)}.")
        for host in body.get("iotHubs") or []:
            if host not in self._hubs:
                raise errors.bad_request(f"IoT hub {host!r} is not linked; linked are {', '.join(self._hubs)}.")
        return {
            **body,
            kind.id_field: identifier.lower() if kind is ENROLLMENTS else body[kind.id_field],
            "provisioningStatus": status,
            "allocationPolicy": policy,
            "attestation": _checked_attestation(kind, body.get("attestation")),
        }

    def delete(self, kind: Collection, identifier: str, if_match: str | None) -> None:
        """Delete an entry.

        Raises:
            ProvisioningError: 404, 412.
        """
        present = self.get(kind, identifier)
        if if_match is not None and not _matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        self._store.delete(kind.store_kind, identifier.lower())

    def page(self, kind: Collection, *, after: str, size: int) -> tuple[list[dict[str, Any]], str | None]:
        """List a page of entries, and the key after which the next one begins."""
        return self._page(kind.store_kind, after=after, size=size)

    def _page(self, store_kind: str, *, after: str, size: int) -> tuple[list[dict[str, Any]], str | None]:
        rows = list(self._store.scan(store_kind, after=after, limit=size + 1))
        following = rows[size - 1][0] if len(rows) > size else None
        return [body for _, body in rows[:size]], following

    # --- registration records ---

    def registration(self, registration_id: str) -> dict[str, Any]:
        """Read a registration record.

        Raises:
            ProvisioningError: 404.
        """
        found = self._store.get(_REGISTRATIONS, registration_id.lower())
        if found is None:
            raise errors.not_found("Registration")
        return found

    def delete_registration(self, registration_id: str, if_match: str | None) -> None:
        """Delete a registration record; the hub's identity stays.

        Raises:
            ProvisioningError: 404, 412.
        """
        present = self.registration(registration_id)
        if if_match is not None and not _matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        self._store.delete(_REGISTRATIONS, registration_id.lower())

    def registrations_of(self, group_id: str, *, after: str, size: int) -> tuple[list[dict[str, Any]], str | None]:
        """List a page of a group's registration records."""
        self.get(GROUPS, group_id)
        found: list[dict[str, Any]] = []
        for key, body in self._store.scan(_REGISTRATIONS, after=after):
            if body.get("enrollmentGroupId") != group_id.lower():
                continue
            if len(found) == size:
                return found, found[-1]["registrationId"]
            found.append(body)
            after = key
        return found, None

    # --- devices ---

    def register(self, chain: Sequence[x509.Certificate], registration_id: str, payload: Any) -> dict[str, Any]:
        """Let a device in, give it a hub, and see that it has an identity there.

        Returns:
            Its registration record.

        Raises:
            ProvisioningError: it is not let in.
        """
        identifier = registration_id.lower()
        match = attestation.decide(chain, identifier, self._knowledge(identifier), self._context.clock())
        present = self._store.get(_REGISTRATIONS, identifier)
        device_id = str(match.entry.get("deviceId") or identifier)
        hub, moved = self._hub_for(match, identifier, present)
        twin, migrate = match.entry.get("initialTwin"), _policy(match)["migrateDeviceData"]
        hub.provision(
            device_id,
            thumbprint=attestation.sha1_thumbprint(chain[0]),
            initial_twin=twin,
            reset_twin=present is not None and not migrate,
            iot_edge=bool((match.entry.get("capabilities") or {}).get("iotEdge")),
        )
        if moved and present is not None and present["assignedHub"] in self._hubs:
            self._hubs[present["assignedHub"]].remove(device_id)
        record = {
            "registrationId": identifier,
            "createdDateTimeUtc": present["createdDateTimeUtc"] if present else self._now(),
            "assignedHub": hub.host_name,
            "deviceId": device_id,
            "status": "assigned",
            "substatus": _substatus(present, moved=moved, migrate=migrate),
            "lastUpdatedDateTimeUtc": self._now(),
            "etag": _new_etag(),
            "enrollmentGroupId": match.group_id.lower() if match.group_id else None,
        }
        if payload is not None:
            record["payload"] = payload
        self._store.put(_REGISTRATIONS, identifier, record)
        return record

    def _knowledge(self, registration_id: str) -> Knowledge:
        return Knowledge(
            enrollment=self._store.get(_ENROLLMENTS, registration_id),
            groups=[body for _, body in self._store.scan(_GROUPS)],
            verified=[
                KnownAuthority(name, x509.load_pem_x509_certificate(body["certificate"].encode()))
                for name, body in self._store.scan(_AUTHORITIES)
                if body["isVerified"]
            ],
        )

    def _hub_for(self, match: Match, registration_id: str, present: Mapping[str, Any] | None) -> tuple[IotHub, bool]:
        """Choose a hub: by hash over the registration id, or the first one (``static``)."""
        names = list(match.entry.get("iotHubs") or self._hubs)
        before = str(present["assignedHub"]) if present else ""
        if before in self._hubs and not _policy(match)["updateHubAssignment"]:
            return self._hubs[before], False
        if match.entry["allocationPolicy"] == "custom":
            raise errors.not_offered("custom allocation: it calls an Azure Function of yours")
        digest = int.from_bytes(hashlib.sha256(registration_id.encode()).digest()[:8], "big")
        chosen = names[0] if match.entry["allocationPolicy"] == "static" else names[digest % len(names)]
        return self._hubs[chosen], bool(before) and before != chosen

    # --- CA certificates ---

    def authorities(self) -> list[dict[str, Any]]:
        """List the CA certificates."""
        return [body for _, body in self._store.scan(_AUTHORITIES)]

    def authority(self, name: str) -> dict[str, Any]:
        """Read a CA certificate.

        Raises:
            ProvisioningError: 404.
        """
        found = self._store.get(_AUTHORITIES, name)
        if found is None:
            raise errors.not_found(f"Certificate {name}")
        return found

    def put_authority(self, name: str, text: str, if_match: str | None, *, verified: bool) -> dict[str, Any]:
        """Upload a CA certificate.

        Raises:
            ProvisioningError: 400 if it is none, or there are 25; 412.
        """
        present = self._store.get(_AUTHORITIES, name)
        if present is not None and not _matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        if present is None and self._store.count(_AUTHORITIES) >= AUTHORITY_LIMIT:
            raise errors.bad_request(f"The service has {AUTHORITY_LIMIT} CA certificates, and takes no more.")
        try:
            certificate = attestation.first_of(attestation.read_certificates(text))
        except ValueError as error:
            raise errors.bad_request(f"The certificate can't be read: {error}.") from None
        record = {
            "name": name,
            "certificate": certificate.public_bytes(Encoding.PEM).decode(),
            "isVerified": verified,
            "created": self._now(),
            "updated": self._now(),
            "etag": _new_etag(),
        }
        self._store.put(_AUTHORITIES, name, record)
        return record

    def delete_authority(self, name: str, if_match: str | None) -> None:
        """Delete a CA certificate, if it exists."""
        present = self._store.get(_AUTHORITIES, name)
        if present is not None and not _matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        self._store.delete(_AUTHORITIES, name)

    def verification_code(self, name: str, if_match: str | None) -> dict[str, Any]:
        """Draw a code that the CA has to sign."""
        present = self.authority(name)
        if not _matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        changed = {**present, "verificationCode": secrets.token_hex(24).upper(), "etag": _new_etag()}
        self._store.put(_AUTHORITIES, name, changed)
        return changed

    def verify_authority(self, name: str, text: str, if_match: str | None) -> dict[str, Any]:
        """Take the proof of possession: a certificate whose CN is the code, signed by the CA.

        Raises:
            ProvisioningError: 400 if it proves nothing; 404, 412.
        """
        present = self.authority(name)
        if not _matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        try:
            proof = attestation.first_of(attestation.read_certificates(text))
        except ValueError as error:
            raise errors.bad_request(f"The verification certificate can't be read: {error}.") from None
        names = [str(each.value) for each in proof.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if not present.get("verificationCode") or names != [present["verificationCode"]]:
            raise errors.bad_request("The CN of the verification certificate is not the verification code.")
        try:
            proof.verify_directly_issued_by(x509.load_pem_x509_certificate(present["certificate"].encode()))
        except (ValueError, TypeError, InvalidSignature):
            raise errors.bad_request("The verification certificate is not signed by this CA.") from None
        if not proof.not_valid_before_utc <= self._context.clock() <= proof.not_valid_after_utc:
            raise errors.bad_request("The verification certificate is expired or not yet valid.")
        changed = {**present, "isVerified": True, "updated": self._now(), "etag": _new_etag()}
        self._store.put(_AUTHORITIES, name, changed)
        return changed


def _checked_attestation(kind: Collection, given: Any) -> dict[str, Any]:
    if not isinstance(given, dict) or given.get("type") is None:
        raise errors.bad_request("attestation with a type is required.")
    if given["type"] != "x509":
        raise errors.not_offered(f"attestation of type {given['type']!r}: x509 only")
    x509_part = given.get("x509") or {}
    certificates = x509_part.get(kind.certificates) or {}
    references = x509_part.get("caReferences") or {}
    if not certificates.get("primary") and not references.get("primary"):
        raise errors.bad_request(f"attestation.x509 needs {kind.certificates}.primary or caReferences.primary.")
    described = {name: _described(value, name) for name, value in certificates.items() if value}
    return {"type": "x509", "x509": {**x509_part, kind.certificates: described or None}}


def _described(given: Any, name: str) -> dict[str, Any]:
    text = given.get("certificate") if isinstance(given, dict) else None
    if not text:
        raise errors.bad_request(f"the {name} certificate is missing.")
    try:
        certificate = attestation.first_of(attestation.read_certificates(str(text)))
    except ValueError as error:
        raise errors.bad_request(f"the {name} certificate can't be read: {error}.") from None
    return {"certificate": text, "info": attestation.certificate_info(certificate)}


def _policy(match: Match) -> Mapping[str, bool]:
    return {"updateHubAssignment": True, "migrateDeviceData": True, **(match.entry.get("reprovisionPolicy") or {})}


def _substatus(present: Mapping[str, Any] | None, *, moved: bool, migrate: bool) -> str:
    if present is None:
        return "initialAssignment"
    if not moved:
        return "reprovisionedToInitialAssignment"
    return "deviceDataMigrated" if migrate else "deviceDataReset"


def _new_etag() -> str:
    return f'"{uuid.uuid4().hex}"'


def _matches(if_match: str | None, etag: str) -> bool:
    return if_match is None or if_match == "*" or if_match.strip('"') == etag.strip('"')
