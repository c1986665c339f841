"""The HTTP API. Reads answer from the ledger and the services; what takes long is queued and answered with 202."""

from triggers.http import (
    approvals,
    audit,
    authorities,
    authority_acts,
    device_lists,
    devices,
    enrollment_groups,
    enrollments,
    evidence,
    explanations,
    findings,
    operations,
    orders,
    relying_parties,
    requests,
)

__all__ = [
    "approvals",
    "audit",
    "authorities",
    "authority_acts",
    "device_lists",
    "devices",
    "enrollment_groups",
    "enrollments",
    "evidence",
    "explanations",
    "findings",
    "operations",
    "orders",
    "relying_parties",
    "requests",
]
