"""CAs and groups: which CA signs what, how long it lives, and how old its list is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.authorities import OPENED, AuthorityState
from shared.domain.authority_acts import BECOMES, is_possible
from triggers.console.pages import page, rendered

if TYPE_CHECKING:
    from datetime import datetime

    import azure.functions as func

    from shared.domain.authorities import AuthorityRecord
    from shared.services import Services


_AS_WANTED = frozenset(
    {AuthorityState.DISABLED, AuthorityState.RETIRED, AuthorityState.REVOKED, AuthorityState.DELETED}
)
"""States that somebody has brought a CA into, in which it does not sign."""


@dataclass(frozen=True, slots=True)
class ShownAuthority:
    """A CA as the console shows it.

    Attributes:
        depth: CAs of ours above it.
        trouble: why it can't sign; empty if it can, and if somebody wanted it so, which its state says.
        list_trouble: what is wrong with its list; empty if nothing is.
        life_used: per cent of its certificate's life; ``None`` without a certificate.
    """

    record: AuthorityRecord
    depth: int
    trouble: str
    list_trouble: str
    life_used: int | None

    @property
    def acts(self) -> list[str]:
        """Give what can be asked for of it."""
        return [each.value for each in BECOMES if is_possible(self.record, each)]

    @classmethod
    def of(cls, record: AuthorityRecord, depth: int, now: datetime) -> ShownAuthority:
        """Look at a CA."""
        return cls(record, depth, _trouble(record, now), _list_trouble(record, now), _life_used(record, now))

    def ends_before(self, moment: datetime) -> bool:
        """Tell whether its certificate ends before a point in time."""
        return self.record.not_after is not None and self.record.not_after < moment


def _trouble(record: AuthorityRecord, now: datetime) -> str:
    if record.state in _AS_WANTED:
        return ""
    if record.not_after is not None and record.not_after < now:
        return "its certificate has expired"
    if record.problem:
        return record.problem
    if record.state is AuthorityState.AWAITING_CERTIFICATE:
        return "it waits for its certificate, which is signed elsewhere"
    if record.state is not AuthorityState.ACTIVE:
        return "it is being made"
    return ""


def _list_trouble(record: AuthorityRecord, now: datetime) -> str:
    if record.state not in OPENED:
        return ""
    if record.published is None:
        return "it has not been published yet"
    return (
        "it is out of date: relying parties may refuse every certificate" if record.published.next_update < now else ""
    )


def _life_used(record: AuthorityRecord, now: datetime) -> int | None:
    if record.not_before is None or record.not_after is None:
        return None
    whole = max(record.not_after - record.not_before, timedelta(seconds=1))
    return max(0, min(100, int(100 * (now - record.not_before) / whole)))


async def shown_authorities(services: Services) -> list[ShownAuthority]:
    """List the CAs, each below the one that signed it."""
    records = {record.name: record async for record in services.authorities.list()}
    below: dict[str | None, list[AuthorityRecord]] = {}
    for record in sorted(records.values(), key=lambda each: each.name):
        below.setdefault(record.parent if record.parent in records else None, []).append(record)
    now = services.clock()
    found: list[ShownAuthority] = []
    ahead = [(record, 0) for record in reversed(below.get(None, []))]
    while ahead:
        record, depth = ahead.pop()
        found.append(ShownAuthority.of(record, depth, now))
        ahead.extend((each, depth + 1) for each in reversed(below.get(record.name, [])))
    return found


@page("authorities")
async def console_authorities(services: Services, _request: func.HttpRequest) -> func.HttpResponse:
    """Show the CAs as a tree, and the enrollment groups."""
    authorities = await shown_authorities(services)
    groups = await services.groups.directory.list_groups()
    return rendered("authorities.html", authorities=authorities, groups=groups)
