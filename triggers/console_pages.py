"""The console: pages for operators, in HTML."""

from triggers.console import (
    acts,
    approvals,
    audit,
    authorities,
    authority_acts,
    devices,
    findings,
    group_acts,
    groups,
    orders,
    rejections,
    requests,
    sign_in,
    today,
)

__all__ = [
    "acts",
    "approvals",
    "audit",
    "authorities",
    "authority_acts",
    "devices",
    "findings",
    "group_acts",
    "groups",
    "orders",
    "rejections",
    "requests",
    "sign_in",
    "today",
]
