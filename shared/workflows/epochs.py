"""Whether the ledger is the one that it was, as the epochs in ledger and vault tell, and whether it is whole.

What signs asks before it signs. A vault that does not answer says nothing about the ledger: then what was seen last
counts.
"""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.epochs import EpochMark, EpochRecord, LogMark, lost_past
from shared.domain.restores import RestorationRecord
from shared.errors import LedgerBehind, Overtaken
from shared.ledger.checkpoints import Checkpoints
from shared.ledger.epochs import EpochRows
from shared.rules.zones import Zone

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from shared.ledger.table import Versioned
    from shared.ports.evidence import EvidenceLog
    from shared.ports.rows import Table
    from shared.ports.vault import KeyTags
    from shared.settings import Settings

MARK = "ledger-epoch"
"""Name of the vault's key whose tags say how far the ledger has come. It signs nothing."""

HOLDS = timedelta(seconds=5)
"""So long a worker goes on with what it has seen."""

_SECONDS = 4
_ATTEMPTS = 5

_log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Epochs:
    """The epochs of ledger and vault.

    Attributes:
        vault: with the key whose tags are the vault's epoch; ``None`` in a zone that asks no vault.
        mark: name of that key.
        checkpoints: of the log, whose size the vault is told as well; ``None`` where no log is kept.
    """

    rows: EpochRows
    vault: KeyTags | None
    mark: str
    clock: Callable[[], datetime]
    checkpoints: Checkpoints | None = None
    _fault: str | None = None
    _seen_at: datetime | None = None
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock)
    _unfinished: str | None = None
    _asked_at: datetime | None = None
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def check(self) -> None:
        """See that the ledger is whole, and not an older one.

        Raises:
            LedgerBehind: it is.
        """
        fault = await self.fault()
        if fault is not None:
            raise LedgerBehind(fault)

    async def check_now(self) -> None:
        """See the same as it is now, and that the vault lets this identity see it; errors are the vault's as well."""
        self._unfinished, self._asked_at = await self._restore(), self.clock()
        if self._unfinished is not None:
            raise LedgerBehind(self._unfinished)
        if self.vault is not None:
            self._fault = await self.look(self.vault)
            self._seen_at = self.clock()
            if self._fault is not None:
                raise LedgerBehind(self._fault)

    async def fault(self) -> str | None:
        """Tell what of the ledger is lost; ``None`` if nothing is known to be."""
        unfinished = await self.unfinished()
        if unfinished is not None or self.vault is None:
            return unfinished
        if self._is_stale():
            async with self._looking:  # of a burst one looks, and the others wait
                if self._is_stale():
                    self._fault = await self._seen(self.vault)
                    self._seen_at = self.clock()
        return self._fault

    async def restoration(self) -> Versioned[RestorationRecord] | None:
        """Give the restoration that was begun, and is not over; ``None`` if there is none."""
        return await self.rows.restoration()

    async def unfinished(self) -> str | None:
        """Tell of a restore that is not whole; ``None`` if there is none. No vault is asked."""
        if self._must_ask():
            async with self._asking:
                if self._must_ask():
                    await self._ask()
        return self._unfinished

    async def _ask(self) -> None:
        try:
            self._unfinished, self._asked_at = await self._restore(), self.clock()
        except Exception:
            if self._asked_at is None:
                raise
            _log.warning("whether the ledger is being restored can't be read; what was seen last counts")

    def _must_ask(self) -> bool:
        return self._asked_at is None or self.clock() - self._asked_at > HOLDS

    async def _restore(self) -> str | None:
        known = await self.rows.restore()
        return known.record.fault if known else None

    def _is_stale(self) -> bool:
        return self._seen_at is None or self.clock() - self._seen_at > HOLDS

    async def _seen(self, vault: KeyTags) -> str | None:
        if self._seen_at is None:
            return await self.look(vault)
        try:
            async with asyncio.timeout(_SECONDS):
                return await self.look(vault)
        except Exception:  # noqa: BLE001 - whatever keeps it from being read, the ledger is as it was seen last
            _log.warning("the epochs of ledger and vault can't be compared; what was seen last counts")
            return self._fault

    async def look(self, vault: KeyTags) -> str | None:
        """Compare the two as they are now; the vault's is read first, since the ledger's is raised first."""
        mark = await self._marked(vault)
        return await self._compared(await self.rows.get(), mark)

    async def _compared(self, known: Versioned[EpochRecord] | None, mark: EpochMark | None) -> str | None:
        begun = await self.rows.restoration()
        if begun is not None and begun.record.fault is not None:
            return begun.record.fault
        return lost_past(known.record if known else None, mark)

    async def _marked(self, vault: KeyTags) -> EpochMark | None:
        tags = await vault.tags(self.mark)
        return EpochMark.from_tags(tags) if tags is not None else None

    async def logged(self) -> LogMark | None:
        """Tell how many entries the log had, as the vault was told; ``None`` if it was not, or is not asked."""
        tags = await self.vault.tags(self.mark) if self.vault is not None else None
        return LogMark.from_tags(tags) if tags is not None else None

    async def _signed(self, told: LogMark | None) -> dict[str, str]:
        """Give the tags of how many entries of the log are signed; none if the vault was told of more of this log."""
        signed = await self.checkpoints.newest() if self.checkpoints is not None else None
        if signed is None:
            return {}
        if told is not None and told.is_of(signed.record.origin) and told.entries >= signed.record.size:
            return {}
        return LogMark(signed.record.origin, signed.record.size).to_tags()

    async def advance(self) -> int | None:
        """Raise both by one, with two calls of the vault unless others raise them at the same time.

        Returns:
            The number; ``None`` if another worker was quicker, or the zone asks no vault.

        Raises:
            LedgerBehind: the ledger is an older one, or not whole. Then nothing is raised.
            Overtaken: others keep raising them.
        """
        if self.vault is None:
            return None
        await self._check_whole()
        tags = await self.vault.tags(self.mark) or {}
        known = await self.rows.get()
        fault = await self._compared(known, EpochMark.from_tags(tags))
        if fault is not None:
            raise LedgerBehind(fault)
        record = EpochRecord(number=(known.record.number if known else 0) + 1, reached_at=self.clock())
        if not await self.rows.try_put(known, record):
            return None
        await self._tell(self.vault, record, await self._signed(LogMark.from_tags(tags)))
        return record.number

    async def _tell(self, vault: KeyTags, record: EpochRecord, signed: Mapping[str, str]) -> None:
        """Tell the vault how far the ledger has come, and again if it has come further meanwhile.

        Tags are written without a condition. Whoever is late puts back what others have told: so each looks at the
        ledger when it has told, and the last one finds nothing later.

        Raises:
            Overtaken: others keep raising it.
        """
        for _ in range(_ATTEMPTS):
            await vault.tag(self.mark, {**record.mark.to_tags(), **signed})
            known = await self.rows.get()
            if known is None or known.record.number <= record.number:
                return
            record, told = known.record, LogMark.from_tags(await vault.tags(self.mark) or {})
            signed = await self._signed(told)
        raise _raised_by_others()

    async def _check_whole(self) -> None:
        unfinished = await self._restore()
        if unfinished is not None:
            raise LedgerBehind(unfinished)

    # --- a ledger that lacks something ---

    async def begin(self, *, is_lost: bool) -> RestorationRecord:
        """Say that what the ledger lacks is being taken back, unless that was begun before; give what was begun.

        Args:
            is_lost: whether the ledger was lost, and is taken over from the services.
        """
        for _ in range(_ATTEMPTS):
            known = await self.rows.restoration()
            if known is not None:
                return known.record
            epoch = await self.rows.get()
            since = epoch.record.reached_at if epoch else None
            record = RestorationRecord(begun_at=self.clock(), is_lost=is_lost, since=since)
            if await self.rows.try_put_restoration(None, record):
                return record
        raise Overtaken("others begin and end a restoration at this moment")

    async def end(self, begun: RestorationRecord) -> None:
        """Say that everything follows what was taken back."""
        known = await self.rows.restoration()
        if known is not None and known.record.begun_at == begun.begun_at:
            await self.rows.end_restoration(known)

    async def _accept_restoration(self) -> None:
        for _ in range(_ATTEMPTS):
            known = await self.rows.restoration()
            if known is None or known.record.accepted:
                return
            if await self.rows.try_put_restoration(known, known.record.changed(accepted=True)):
                return
        raise Overtaken("others carry on a restoration at this moment")

    async def accept(self) -> int:
        """Take the ledger as it is for the present one: raise it above what the vault says.

        Returns:
            The number.

        Raises:
            LedgerBehind: a restore was begun, and is not whole.
            Overtaken: others raise it, or carry on a restoration, at this moment.
        """
        if self.vault is None:
            raise ValueError("no vault was named that has the ledger's epoch")
        await self._check_whole()
        for _ in range(_ATTEMPTS):
            mark = await self._marked(self.vault)
            known = await self.rows.get()
            reached = max(known.record.number if known else 0, mark.number if mark else 0)
            record = EpochRecord(number=reached + 1, reached_at=self.clock())
            if await self.rows.try_put(known, record):
                await self._tell(self.vault, record, {})
                await self._accept_restoration()
                self._seen_at = None
                return record.number
        raise _raised_by_others()


def _raised_by_others() -> Overtaken:
    return Overtaken("others raise the ledger's epoch at this moment")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuardedLog:
    """The log, for whoever signs: each signature has its entry first, and an older ledger gets none."""

    log: EvidenceLog
    epochs: Epochs

    async def append(self, entry: bytes) -> int | None:
        """Append an entry; see :class:`shared.ports.evidence.EvidenceLog`.

        Raises:
            LedgerBehind: the ledger is older than it was.
        """
        await self.epochs.check()
        return await self.log.append(entry)


def epochs_of(
    settings: Settings,
    table: Callable[[str], Table],
    *,
    keys: KeyTags,
    responder_keys: KeyTags,
    clock: Callable[[], datetime],
) -> Epochs:
    """Give them, as the zone has them.

    The vault's stands where the public zone can read it: in the vault of the key that wraps responders' keys, which
    holds nothing of worth. Where one app does everything, it stands in the vault of CA keys, which others may use, too.
    """
    rows = EpochRows(table("issuers"))
    if settings.zone is Zone.INTAKE:
        return Epochs(rows=rows, vault=None, mark=MARK, clock=clock)
    signs = settings.zone in {Zone.ALL, Zone.ISSUING} and settings.evidence_log != "off"
    checkpoints = Checkpoints(table("checkpoints")) if signs else None
    if settings.status_vault_url:
        return Epochs(rows=rows, vault=responder_keys, mark=MARK, clock=clock, checkpoints=checkpoints)
    mark = re.sub(r"[^0-9A-Za-z-]", "-", f"{MARK}-{settings.deployment_name}")
    return Epochs(rows=rows, vault=keys, mark=mark, clock=clock, checkpoints=checkpoints)
