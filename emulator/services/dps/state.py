"""What a provisioning service keeps, and its rules; no HTTP and no MQTT."""

from __future__ import annotations

import secrets
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from emulator.platform.certificates import sha1_thumbprint, sha256_thumbprint
from emulator.platform.tls import CA_FILE
from emulator.platform.variants import ENTRY_CERTIFICATES, HUB_THUMBPRINTS
from emulator.services.dps import attestation, errors, symmetric_keys
from emulator.services.dps.allocation import Allocation, AllocationFailed, Choice, Request, policy_of
from emulator.services.dps.attestation import SYMMETRIC_KEY, X509, Knowledge, Match
from emulator.services.dps.entries import (
    ENROLLMENTS,
    GROUPS,
    Collection,
    checked_entry,
    without_certificates,
    without_keys,
)
from emulator.services.management.ca_certificates import CaCertificates

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptography import x509

    from emulator.platform.context import Context
    from emulator.services.dps.attestation import Proof
    from emulator.services.iot_hub.state import IotHubs

GROUP_LIMIT = 100
"""Of each type of attestation (Microsoft, "Azure subscription and service limits", its table for DPS)."""

_TYPES = {X509: "X.509", SYMMETRIC_KEY: "symmetric key"}
MAX_SECONDS = 86_400
"""For so long a registration can be made to take."""

_REGISTRATIONS, _OPERATIONS = "dps.registration", "dps.operation"
_CAS, _SCOPE = "dps.ca", "dps.scope"

_HIDDEN = ("enrollmentGroupId", "attestationType", "readyAt")
"""Fields of a registration record that no API shows."""

_KNOWN_WHILE_ASSIGNING = ("registrationId", "createdDateTimeUtc", "lastUpdatedDateTimeUtc", "etag")


class Provisioning:
    """One provisioning service.

    Attributes:
        assigning_seconds: for so long a registration is ``assigning``; its effect is there from the start.
        ca_certificates: what a device's chain may end at, once verified.
        linked: host names of the hubs that devices are assigned to.
    """

    def __init__(self, context: Context, hubs: IotHubs) -> None:
        self.assigning_seconds = context.configuration.assigning_seconds
        self.linked = list(hubs)
        self._allocation = Allocation(self.linked, context.configuration.tls_dir / CA_FILE)
        self._context = context
        self._store = context.store
        self._hubs = hubs
        self._begin(context.configuration.id_scope)
        self.ca_certificates = CaCertificates(context, _CAS)
        self._groups: list[dict[str, Any]] | None = None
        """The enrollment groups as they are now: reading 100 takes milliseconds."""

    def _begin(self, id_scope: str) -> None:
        """Have what was there before, if it was of this provisioning service: one of another id scope is another."""
        before = self._store.get(_SCOPE, _SCOPE)
        if before is not None and before["idScope"] != id_scope:
            with self._store.transaction():
                for kind in (GROUPS.store_kind, ENROLLMENTS.store_kind, _REGISTRATIONS, _OPERATIONS, _CAS):
                    for key in [key for key, _ in self._store.scan(kind)]:
                        self._store.delete(kind, key)
        self._store.put(_SCOPE, _SCOPE, {"idScope": id_scope})

    def link(self, hosts: Sequence[str]) -> None:
        """Link these hubs and no others: devices are assigned to them from now on, and nothing moves by itself.

        Raises:
            ValueError: one of them does not exist, or none is named.
        """
        unknown = [each for each in hosts if each not in self._hubs]
        if unknown or not hosts:
            raise ValueError(f"the hubs are {', '.join(self._hubs)}; give one or more of them, and not {unknown}")
        self.linked[:] = hosts

    def _now(self) -> str:
        return self._context.clock().isoformat().replace("+00:00", "Z")

    # --- enrollment groups and individual enrollments ---

    def get(self, kind: Collection, identifier: str) -> dict[str, Any]:
        """Read an entry.

        Raises:
            ProvisioningError: 404.
        """
        return without_keys(self._told(kind, self._entry(kind, identifier)))

    def attestation_mechanism(self, kind: Collection, identifier: str) -> dict[str, Any]:
        """Read what an entry asks of devices, with its symmetric keys.

        Raises:
            ProvisioningError: 404.
        """
        found: dict[str, Any] = self._told(kind, self._entry(kind, identifier))["attestation"]
        return found

    def _entry(self, kind: Collection, identifier: str) -> dict[str, Any]:
        found = self._store.get(kind.store_kind, identifier.lower())
        if found is None:
            raise errors.not_found(kind.noun)
        return found

    def put(self, kind: Collection, identifier: str, body: Any, if_match: str | None) -> dict[str, Any]:
        """Create an entry (no ETag), or replace the one that has this ETag (or any, ``*``).

        Returns:
            The entry, with its symmetric keys (recordings of the tests of azure-iot-deviceprovisioning,
            Azure/azure-sdk-for-python).

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
        entry = checked_entry(kind, identifier, body, present=present, linked=self.linked)
        if kind is GROUPS:
            self._check_room(entry, present)
        entry["createdDateTimeUtc"] = present["createdDateTimeUtc"] if present else self._now()
        entry["lastUpdatedDateTimeUtc"] = self._now()
        entry["etag"] = _new_etag()
        self._write(kind.store_kind, identifier.lower(), entry)
        return self._told(kind, entry)

    def _check_room(self, group: Mapping[str, Any], present: Mapping[str, Any] | None) -> None:
        """See that the service has room for a group that is new, or has a type of attestation that is new to it."""
        wanted = group["attestation"]["type"]
        if present is not None and present["attestation"]["type"] == wanted:
            return
        if sum(each["attestation"]["type"] == wanted for each in self._all_groups()) >= GROUP_LIMIT:
            raise errors.bad_request(
                f"The service has {GROUP_LIMIT} {_TYPES[wanted]} enrollment groups, and takes no more."
            )

    def _told(self, kind: Collection, entry: Mapping[str, Any]) -> dict[str, Any]:
        """Give an entry as the service API shows it, with its keys; an individual one with how it is registered."""
        told = (
            dict(entry) if self._context.variants[ENTRY_CERTIFICATES] == "certificate" else without_certificates(entry)
        )
        record = self._store.get(_REGISTRATIONS, entry["registrationId"]) if kind is ENROLLMENTS else None
        return told if record is None else {**told, "registrationState": self._shown(record)}

    def delete(self, kind: Collection, identifier: str, if_match: str | None) -> None:
        """Delete an entry.

        Raises:
            ProvisioningError: 404, 412.
        """
        present = self._entry(kind, identifier)
        if if_match is not None and not _matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        self._write(kind.store_kind, identifier.lower(), None)

    def page(
        self, kind: Collection, wanted: Callable[[Mapping[str, Any]], bool], *, after: str, size: int
    ) -> tuple[list[dict[str, Any]], str | None]:
        """List a page of the entries that are wanted, and the key after which the next one begins."""
        found: list[dict[str, Any]] = []
        last = after
        for key, body in self._store.scan(kind.store_kind, after=after):
            told = without_keys(self._told(kind, body))
            if not wanted(told):
                continue
            if len(found) == size:
                return found, last
            found.append(told)
            last = key
        return found, None

    # --- registration records ---

    def registration(self, registration_id: str) -> dict[str, Any]:
        """Read a registration record.

        Raises:
            ProvisioningError: 404.
        """
        return self._shown(self._record(registration_id))

    def _record(self, registration_id: str) -> dict[str, Any]:
        found = self._store.get(_REGISTRATIONS, registration_id.lower())
        if found is None:
            raise errors.not_found("Registration")
        return found

    def _shown(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Give a record as it is told now: while it is assigning, nothing is known of the hub."""
        if self._is_ready(record):
            return {name: value for name, value in record.items() if name not in _HIDDEN}
        return {**{name: record[name] for name in _KNOWN_WHILE_ASSIGNING}, "status": "assigning"}

    def _is_ready(self, document: Mapping[str, Any]) -> bool:
        ready_at = document.get("readyAt")  # absent from records that an earlier version wrote
        return ready_at is None or datetime.fromisoformat(ready_at) <= self._context.clock()

    def delete_registration(self, registration_id: str, if_match: str | None) -> None:
        """Delete a registration record; the hub's identity stays.

        Raises:
            ProvisioningError: 404, 412.
        """
        present = self._record(registration_id)
        if if_match is not None and not _matches(if_match, present["etag"]):
            raise errors.precondition_failed()
        with self._store.transaction():
            self._store.delete(_REGISTRATIONS, registration_id.lower())
            self._store.delete(_OPERATIONS, registration_id.lower())

    def registrations_of(self, group_id: str, *, after: str, size: int) -> tuple[list[dict[str, Any]], str | None]:
        """List a page of a group's registration records."""
        self._entry(GROUPS, group_id)
        found: list[dict[str, Any]] = []
        for key, body in self._store.scan(_REGISTRATIONS, after=after):
            if body.get("enrollmentGroupId") != group_id.lower():
                continue
            if len(found) == size:
                return found, found[-1]["registrationId"]
            found.append(self._shown(body))
            after = key
        return found, None

    # --- devices ---

    def admit(self, proof: Proof, registration_id: str) -> Match:
        """Find the entry that lets a device in.

        Raises:
            ProvisioningError: none does.
        """
        identifier, now = registration_id.lower(), self._context.clock()
        known = self._knowledge(identifier)
        if proof.signature is not None and not proof.chain:
            id_scope = self._context.configuration.id_scope
            return symmetric_keys.decide(proof.signature, id_scope, identifier, known, now)
        return attestation.decide(proof.chain, identifier, known, now)

    async def register(self, proof: Proof, registration_id: str, payload: Any) -> dict[str, Any]:
        """Let a device in, give it a hub, and see that it has an identity there.

        Returns:
            The operation, as ``operation`` gives it.

        Raises:
            ProvisioningError: the device is not let in.
        """
        identifier = registration_id.lower()
        match = self.admit(proof, identifier)
        before = self._store.get(_REGISTRATIONS, identifier)
        try:
            choice = await self._allocation.choose(Request(match, identifier, proof.leaf, payload, before))
        except AllocationFailed as failure:
            outcome = {"status": "failed", "errorCode": failure.code, "errorMessage": str(failure)}
            return self._conclude(match, identifier, outcome, keep=before is None)
        with self._store.transaction():
            outcome = self._assign(match, identifier, choice, self._hub_authentication(match, identifier, proof.leaf))
            if choice.payload is not None:
                outcome["payload"] = choice.payload
            return self._conclude(match, identifier, outcome, keep=True)

    def _hub_authentication(self, match: Match, identifier: str, leaf: x509.Certificate | None) -> dict[str, Any]:
        """Give what the hub will know the device by: its keys, or its thumbprints (sources: README, variants)."""
        if leaf is None:
            return {"type": "sas", "symmetricKey": symmetric_keys.device_keys(match, identifier)}
        sha1 = self._context.variants[HUB_THUMBPRINTS] == "sha1"
        primary, secondary = (sha1_thumbprint(leaf), None) if sha1 else (sha256_thumbprint(leaf),) * 2
        return {
            "type": "selfSigned",
            "x509Thumbprint": {"primaryThumbprint": primary, "secondaryThumbprint": secondary},
        }

    def _assign(
        self, match: Match, identifier: str, choice: Choice, authentication: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Give the device its identity at the chosen hub, with the twin that the reprovision policy says."""
        entry, present = match.entry, self._store.get(_REGISTRATIONS, identifier) or {}
        device_id = str(entry.get("deviceId") or identifier)
        hub = self._hubs[choice.host_name]
        migrate = policy_of(entry)["migrateDeviceData"] and choice.initial_twin is None
        old = self._hubs.get(str(present.get("assignedHub")))
        moved = old is not None and old is not hub
        carried = old.twin_document(present["deviceId"]) if old and moved and migrate else None
        hub.provision(
            device_id,
            authentication=authentication,
            initial_twin=choice.initial_twin or entry.get("initialTwin"),
            reset_twin=old is not None and not migrate,
            carried_twin=carried,
            iot_edge=bool((entry.get("capabilities") or {}).get("iotEdge")),
        )
        if old is not None and moved:
            old.remove(present["deviceId"])
        return {
            "assignedHub": hub.host_name,
            "deviceId": device_id,
            "status": "assigned",
            "substatus": _substatus(first=old is None, moved=moved, migrate=migrate),
        }

    def _conclude(self, match: Match, identifier: str, outcome: Mapping[str, Any], *, keep: bool) -> dict[str, Any]:
        """Write down how a registration ended; it is told when the assigning time is over."""
        present = self._store.get(_REGISTRATIONS, identifier)
        record = {
            "registrationId": identifier,
            "createdDateTimeUtc": present["createdDateTimeUtc"] if present else self._now(),
            **outcome,
            "lastUpdatedDateTimeUtc": self._now(),
            "etag": _new_etag(),
            "enrollmentGroupId": match.group_id.lower() if match.group_id else None,
            "attestationType": match.attestation_type,
            "readyAt": (self._context.clock() + timedelta(seconds=self.assigning_seconds)).isoformat(),
        }
        operation_id = f"5.{secrets.token_hex(8)}.{uuid.uuid4()}"
        with self._store.transaction():
            self._store.put(_OPERATIONS, identifier, {"operationId": operation_id, "record": record})
            if keep:
                self._store.put(_REGISTRATIONS, identifier, record)
        return self.operation(identifier, operation_id)

    def operation(self, registration_id: str, operation_id: str) -> dict[str, Any]:
        """Tell how a registration stands (``RegistrationOperationStatus``). Of each device the latest one is kept.

        Raises:
            ProvisioningError: 404, the operation does not exist.
        """
        found = self._store.get(_OPERATIONS, registration_id.lower())
        if found is None or found["operationId"] != operation_id:
            raise errors.not_found("Operation")
        record = found["record"]
        if not self._is_ready(record):
            return {"operationId": operation_id, "status": "assigning"}
        return {
            "operationId": operation_id,
            "status": record["status"],
            "registrationState": self._device_view(record),
        }

    def device_registration(self, registration_id: str) -> dict[str, Any]:
        """Give a registration record as its device reads it (``DeviceRegistrationResult``).

        Raises:
            ProvisioningError: 404.
        """
        return self._device_view(self._record(registration_id))

    def _device_view(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Give a record with what the device was let in by.

        After an individual enrollment with keys it says nothing of that (Microsoft, "How to use symmetric keys over
        HTTPS without an SDK").
        """
        group_id = record["enrollmentGroupId"]
        kind = record.get("attestationType", X509)  # absent from records that an earlier version wrote
        shown = self._shown(record)
        if group_id:
            return {kind: {"enrollmentGroupId": group_id}, **shown}
        return {X509: {}, **shown} if kind == X509 else shown

    def _all_groups(self) -> list[dict[str, Any]]:
        if self._groups is None:
            self._groups = [body for _, body in self._store.scan(GROUPS.store_kind)]
        return self._groups

    def _knowledge(self, registration_id: str) -> Knowledge:
        return Knowledge(
            enrollment=self._store.get(ENROLLMENTS.store_kind, registration_id),
            groups=self._all_groups(),
            verified=self.ca_certificates.verified,
        )

    def _write(self, kind: str, key: str, body: Mapping[str, Any] | None) -> None:
        """Put an entry, or delete it (None)."""
        if body is None:
            self._store.delete(kind, key)
        else:
            self._store.put(kind, key, body)
        self._groups = None


def checked_seconds(given: Any) -> float:
    """Read how long registrations take.

    Raises:
        ValueError: it is not a number of seconds, or too large; the text says what would be right.
    """
    number = isinstance(given, int | float) and not isinstance(given, bool)
    if not number or not 0 <= given <= MAX_SECONDS:
        raise ValueError(f"seconds is {given!r}; it must be a number from 0 to {MAX_SECONDS}")
    return float(given)


def _substatus(*, first: bool, moved: bool, migrate: bool) -> str:
    if first:
        return "initialAssignment"
    if not moved:
        return "reprovisionedToInitialAssignment"
    return "deviceDataMigrated" if migrate else "deviceDataReset"


def _new_etag() -> str:
    return f'"{uuid.uuid4().hex}"'


def _matches(if_match: str | None, etag: str) -> bool:
    return if_match is None or if_match == "*" or if_match.strip('"') == etag.strip('"')
