"""What grows old by itself, so that no act could tell of it: CAs, their lists, and messages that nobody takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.authorities import AuthorityState
from shared.domain.groups import GroupState
from shared.telemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.contracts.messages import Queue
    from shared.domain.authorities import AuthorityRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.groups import Groups
    from shared.ports.queues import Queues
    from shared.workflows.intake.outbox import Clock

_DAY_SECONDS = 86_400
_MEASURED = frozenset({AuthorityState.ACTIVE, AuthorityState.DISABLED})
"""Those that are to sign again. Who retires or revokes a CA knows that it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """Measures what a timer is to tell of. Each costs a list of some hundred rows at most, or a look at a queue."""

    records: Authorities
    groups: Groups
    queues: Queues
    clock: Clock

    async def authorities(self) -> None:
        """Tell of each CA in use how long it lasts, and of each active one how old its list is."""
        now = self.clock()
        known = {record.name: record async for record in self.records.list() if record.state in _MEASURED}
        for record in known.values():
            if record.published is not None:
                age = (now - record.published.made_at).total_seconds()
                metrics.CRL_AGE.record(max(0, age), {metrics.CA: record.name})
        for record in await self._in_use(known):
            if record.not_after is not None:
                days = (record.not_after - now).total_seconds() / _DAY_SECONDS
                metrics.CA_REMAINING.record(days, {metrics.CA: record.name})

    async def _in_use(self, known: Mapping[str, AuthorityRecord]) -> list[AuthorityRecord]:
        """Find the CAs of groups, and those above them. Before there is a group, every CA counts."""
        groups = [group async for group in self.groups.list() if group.state is not GroupState.DELETED]
        if not groups:
            return list(known.values())
        used = set[str]()
        for group in groups:
            name: str | None = group.issuer
            while name is not None and name in known and name not in used:
                used.add(name)
                name = known[name].parent
        return [known[name] for name in sorted(used)]

    async def waiting(self, queues: Iterable[Queue]) -> None:
        """Tell how long a message has been waiting that could be taken now."""
        failed = list[Exception]()
        for queue in queues:
            try:
                since = await self.queues.waiting_since(queue)
            except Exception as error:  # noqa: BLE001 - another queue may be in another account
                failed.append(error)
                continue
            age = (self.clock() - since).total_seconds() if since is not None else 0
            metrics.QUEUE_AGE.record(max(0, age), {metrics.QUEUE: queue.value})
        if failed:
            raise failed[0]
