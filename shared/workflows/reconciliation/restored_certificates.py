"""Enters the certificates that a ledger has forgotten: the log says which were made, and bundles have them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

from shared.domain.lost_certificates import LostCertificate
from shared.domain.restoration import CAUSE
from shared.evidence.leaves import read_entry
from shared.workflows.devices.bundles import BUNDLES, Bundle, bundle_name
from shared.workflows.many import AT_ONCE, in_parts
from shared.workflows.reconciliation.taking_in import FoundCertificate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from shared.ledger.certificates import Certificates
    from shared.ledger.lost_certificates import LostCertificates
    from shared.ports.blobs import Blobs
    from shared.workflows.evidence.reading import LogReader
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.taking_in import TakingIn

_SLACK = timedelta(minutes=10)
"""So much clocks may differ, and so long an act may take."""


@dataclass(slots=True, kw_only=True)
class RestoredCertificates:
    """The certificates of devices that a ledger does not have.

    Attributes:
        lost: those that can't be had again.
        log: ``None`` where no log is kept.
        taking_in: enters certificates that are found.
        logged: what was logged since the ledger's epoch, the oldest first, and acts from just before.
        unreadable: names of blobs that stand where bundles do, and are not.
    """

    certificates: Certificates
    lost: LostCertificates
    blobs: Blobs
    log: LogReader | None
    taking_in: TakingIn
    clock: Clock
    logged: list[Mapping[str, Any]] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def take_back(self, since: datetime | None) -> AsyncIterator[str]:
        """Enter the certificates of bundles, of some devices at a time, each device's in the order of their making.

        A log that reaches back to the copy names all that may be missing. Without one, as where the log was lost and
        another one was begun, every bundle is looked at.

        Args:
            since: how far the ledger had come by its epoch; ``None`` if it had none.
        """
        reaches_back = await self._read_log(since)
        by_device = defaultdict[str, list[tuple[str, str]]](list)
        for entry in self.logged:
            if entry["type"] == "certificate" and entry["kind"] == "device":
                name = bundle_name(entry["subject"], entry["serialNumber"])
                by_device[entry["subject"]].append((name, entry["cause"]))
        async for lines in in_parts(self._of_log, by_device.items(), self._gate):
            for line in lines:
                yield line
        if not reaches_back:
            async for line in self._of_all_bundles():
                yield line

    async def name_lost(self) -> AsyncIterator[str]:
        """Write down, and say, which logged certificates can't be had again, of devices and of all others.

        Call it when all that there is was entered. What was lost before, and was entered since, is not lost any more.
        """
        async for _ in in_parts(self._withdraw_known, await self.lost.all(), self._gate):
            pass
        logged = [each for each in self.logged if each["type"] == "certificate"]
        async for line in in_parts(partial(self._name_if_lost, at=self.clock()), logged, self._gate):
            if line is not None:
                yield line

    async def _withdraw_known(self, lost: LostCertificate) -> None:
        if await self.certificates.get(lost.serial_number) is not None:
            await self.lost.withdraw(lost.serial_number)

    async def _name_if_lost(self, entry: Mapping[str, Any], *, at: datetime) -> str | None:
        serial_number, kind, subject, issuer = (entry[each] for each in ("serialNumber", "kind", "subject", "issuer"))
        if await self.certificates.get(serial_number) is not None:
            return None
        await self.lost.name(
            LostCertificate(serial_number=serial_number, kind=kind, subject=subject, issuer=issuer, named_at=at)
        )
        return (
            f"certificate {serial_number} ({kind} {subject!r}, by {issuer!r}, for {entry['cause']!r}) was logged, and "
            "can't be had again: OCSP says that it is unknown"
        )

    async def _of_log(self, logged: tuple[str, Sequence[tuple[str, str]]]) -> list[str]:
        """Enter the certificates of a device that were logged, each with its cause; say what became of each."""
        registration_id, bundles = logged
        found = [each for name, cause in bundles if (each := await self._found(name, cause)) is not None]
        return [await self.taking_in.enter(registration_id, each) for each in found]

    async def _read_log(self, since: datetime | None) -> bool:
        """Read what was logged since a time, and tell whether the log has older entries.

        A copy is begun after its epoch is raised, so it has what was logged before.
        """
        if self.log is None:
            return False
        since = since - _SLACK if since else datetime.min.replace(tzinfo=UTC)
        async for some in self.log.backwards():
            entries = [read_entry(each) for each in some]
            # An act has the time at which it was asked for, and may have been done, and logged, long after.
            kept = [each for each in entries if each["type"] == "act" or datetime.fromisoformat(each["at"]) >= since]
            self.logged[:0] = kept
            if len(kept) < len(entries):
                return True
        return False

    async def _of_all_bundles(self) -> AsyncIterator[str]:
        names = await self.blobs.names(BUNDLES, "")
        by_device = [(device, list(its)) for device, its in groupby(names, key=lambda name: name.rpartition("/")[0])]
        async for lines in in_parts(self._of_bundles, by_device, self._gate):
            for line in lines:
                yield line

    async def _of_bundles(self, stored: tuple[str, Sequence[str]]) -> list[str]:
        registration_id, names = stored
        found = [each for name in names if (each := await self._found(name, CAUSE)) is not None]
        found.sort(key=lambda it: it.certificate.not_valid_before_utc)
        return [await self.taking_in.enter(registration_id, each) for each in found]

    async def _found(self, name: str, cause: str) -> FoundCertificate | None:
        """Read the certificate of a bundle; ``None`` if the ledger has it, or the bundle is gone, or is not one."""
        known = await self.certificates.get(name.rpartition("/")[2].removesuffix(".json"))
        if known is not None and known.record.pem is not None:
            return None
        stored = await self.blobs.get(BUNDLES, name) if name not in self.unreadable else None
        if stored is None:
            return None
        bundle = Bundle.found(stored.content)
        if bundle is None:
            self.unreadable.append(name)
            return None
        return FoundCertificate(certificate=bundle.certificate, where="its bundle", cause=cause, bundle=bundle)
