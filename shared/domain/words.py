"""The words that messages, records and events have in common."""

from __future__ import annotations

from enum import StrEnum


class DeviceState(StrEnum):
    """States of a device."""

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
    CERTIFICATE_AUTHORITY_CHANGED = "DeviceProvisioning.CertificateAuthorityChanged"
    ENROLLMENT_GROUP_CHANGED = "DeviceProvisioning.EnrollmentGroupChanged"
    ORDER_ACCEPTED = "DeviceProvisioning.OrderAccepted"
    DEVICE_REGISTERED = "DeviceProvisioning.DeviceRegistered"
    ORDER_PROGRESSED = "DeviceProvisioning.OrderProgressed"
    ORDER_COMPLETED = "DeviceProvisioning.OrderCompleted"
    DEVICE_REVOKED = "DeviceProvisioning.DeviceRevoked"
    DEVICE_REINSTATED = "DeviceProvisioning.DeviceReinstated"
    CERTIFICATE_EXPIRING = "DeviceProvisioning.CertificateExpiring"
    CERTIFICATE_EXPIRED = "DeviceProvisioning.CertificateExpired"
    CERTIFICATE_RENEWED = "DeviceProvisioning.CertificateRenewed"
    APPROVAL_WANTED = "DeviceProvisioning.ApprovalWanted"
    APPROVAL_ENDED = "DeviceProvisioning.ApprovalEnded"
    REQUEST_REJECTED = "DeviceProvisioning.RequestRejected"
    DRIFT_FOUND = "DeviceProvisioning.DriftFound"
    DRIFT_MENDED = "DeviceProvisioning.DriftMended"


class RevocationReason(StrEnum):
    """Reason names of RFC 5280 section 5.3.1 that a device or its owner can give."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "keyCompromise"
    AFFILIATION_CHANGED = "affiliationChanged"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    CERTIFICATE_HOLD = "certificateHold"
    PRIVILEGE_WITHDRAWN = "privilegeWithdrawn"


class RegisterBy(StrEnum):
    """Who registers a device through DPS."""

    SERVICE = "service"
    DEVICE = "device"


class IssuedDevices(StrEnum):
    """What becomes of the devices of a cancelled order that have their certificate."""

    KEEP = "keep"
    REVOKE = "revoke"


class CertificateKind(StrEnum):
    """What a certificate is for."""

    ROOT = "root"
    INTERMEDIATE = "intermediate"
    DEVICE = "device"
    VERIFICATION = "verification"


class RenewalNeeds(StrEnum):
    """Whose turn it is, so that a device gets its next certificate into use.

    ``csr``: the device made its own key, and a renewal has to bring a new CSR. ``device``: it has to register by
    itself, with its next certificate or for the first time. ``operator``: its renewal was refused, or is late.
    """

    CSR = "csr"
    DEVICE = "device"
    OPERATOR = "operator"


class KeyCustody(StrEnum):
    """Where a CA's key is.

    ``vault``: made in Key Vault, where each signature is one call. ``wrapped``: for issuing CAs only, encrypted under a
    key of the vault in the ledger, and in memory while a worker lives: as many signatures as the worker can compute.
    """

    VAULT = "vault"
    WRAPPED = "wrapped"
