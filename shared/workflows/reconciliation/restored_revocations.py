"""Takes back the revocations that published CRLs name and a ledger that was put back has forgotten.

A list names certificates. What it says of a device depends on whether the device still used the certificate: so one
that has got another certificate since is looked at when that is known, and certificates that are not used any more come
first, each with the reason and the time that its list gives.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.authorities import AuthorityAction
from shared.domain.authority_acts import Wanted, decided
from shared.domain.certificates import CertificateRecord, CertificateState
from shared.domain.restoration import CAUSE, found_revoked, of_nobody
from shared.domain.words import CertificateKind, RevocationReason
from shared.errors import Conflict, Deferred, Rejected
from shared.pki.list_checks import ListedCertificate, listed_certificates
from shared.workflows.authorities.changes import change as change_authority
from shared.workflows.authorities.changes import change_certificate
from shared.workflows.devices.bundles import BUNDLES
from shared.workflows.devices.changes import change, device_of
from shared.workflows.many import AT_ONCE
from shared.workflows.reconciliation.found_authorities import number_of
from shared.workflows.reconciliation.said_first import Due, due_of, said_first
from shared.workflows.status.former_lists import keep_listed, revocation_of
from shared.workflows.status.revocation_lists import CRLS
from shared.workflows.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from shared.domain.authorities import AuthorityRecord
    from shared.domain.certificates import RevocationRecord
    from shared.domain.devices import DeviceRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ports.blobs import Blobs
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.taking_in import TakingIn

    type Listed = tuple[str, ListedCertificate]
    """The name of a CA, and what its list says of a certificate."""


@dataclass(slots=True, kw_only=True)
class RestoredRevocations:
    """Enters revocations, some at a time.

    Attributes:
        taking_in: is told of each CA that is loaded.
        is_lost: whether the ledger was lost, and is taken over from the services.
        numbers: the highest numbers that lists of CAs are known to have reached.
        missing: CAs that have published lists, of which the last one is not there.
    """

    authorities: CertificateAuthorities
    records: Authorities
    certificates: Certificates
    devices: Devices
    blobs: Blobs
    taking_in: TakingIn
    is_lost: bool
    clock: Clock
    numbers: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    _entered: dict[str, set[str]] = field(default_factory=dict)
    """Certificates that are on the ledger's list of a CA, as they were before anything was entered here."""
    _turns: Turns = field(default_factory=Turns)
    """Of devices: two of one device's certificates may be listed."""
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    async def find(self) -> list[Listed]:
        """Give what all CAs have revoked, CA after CA."""
        return [(each.name, entry) async for each in self.authorities.list() for entry in await self._by(each)]

    async def take_back(self, revoked: Sequence[Listed], *, may_wait: bool) -> AsyncIterator[str]:
        """Enter revocations that lists name; say what became of each, in the order of the lists.

        Args:
            revoked: what the lists say.
            may_wait: whether one may be found out about later: nobody knows the certificate yet, or its device has got
                another one since.
        """
        used: set[Listed] = set()
        unused = partial(self._revoke, may_wait=may_wait, used=used)
        async for line in said_first(unused, revoked, self._gate):
            yield line
        last = [each for each in revoked if each in used]
        async for line in said_first(partial(self._revoke, may_wait=may_wait, used=None), last, self._gate):
            yield line

    async def _by(self, record: AuthorityRecord) -> Sequence[ListedCertificate]:
        """Give what a CA has revoked, by its published list, and by the ledger's rows, which may know of more."""
        found = {each.serial_number: each for each in await self._listed(record)}
        if record.certificate is None:
            return ()
        async for row in self.certificates.revoked_by(record.name):
            if row.serial_number not in found and not await self._is_undone(row):
                found[row.serial_number] = ListedCertificate(row.serial_number, row.revoked_at, row.reason)
        return list(found.values())

    async def _is_undone(self, row: RevocationRecord) -> bool:
        """Tell whether its device says that a certificate is not revoked any more, and its row is about to follow."""
        known = await self.certificates.get(row.serial_number)
        device = await self.devices.get(known.record.subject) if known is not None else None
        held = device.record.find(row.serial_number) if device is not None else None
        return held is not None and held.state is not CertificateState.REVOKED and held.changed_in > row.generation

    async def _listed(self, record: AuthorityRecord) -> Sequence[ListedCertificate]:
        """Read the published list of a CA; nothing, if it has none that it has signed."""
        if record.certificate is None:
            return ()
        issuer = self.taking_in.issuers[record.name] = await self.authorities.load(record.name)
        stored = await self.blobs.get(CRLS, f"{record.name}.crl")
        number = number_of(stored.content, issuer) if stored is not None else None
        if stored is None or number is None:
            if stored is None and not self.is_lost and issuer.may_sign_crls and record.crl_number:
                self.numbers[record.name] = record.crl_number  # it has published more since, which nobody knows of
                self.missing.append(record.name)
            return ()
        self.numbers[record.name] = number
        return listed_certificates(stored.content, issuer)

    async def _revoke(self, revoked: Listed, *, may_wait: bool, used: set[Listed] | None) -> Due | None:
        """Find out what follows from a revocation that the list of a CA names.

        Args:
            revoked: the name of the CA, and what its list says.
            may_wait: as :meth:`take_back` has it.
            used: gets those of certificates that their devices use, which are the last ones; ``None`` once it is their
                turn.
        """
        name, listed = revoked
        known = await self.certificates.get(listed.serial_number)
        if known is None or (known.record.kind is CertificateKind.DEVICE and not known.record.subject):
            return None if may_wait else await self._keep_listed(name, listed)
        if known.record.state is CertificateState.REVOKED and known.record.ended:
            return None
        if known.record.kind is CertificateKind.DEVICE:
            return await self._revoke_of(known.record.subject, revoked, may_wait=may_wait, used=used)
        if may_wait:
            return None
        line, is_done = await self._revoke_authority(name, known.record, listed)
        await self._enter(name, listed)
        return Due(line=line, enter=partial(self._enter_revoked, listed) if is_done else None)

    async def _enter_revoked(self, listed: ListedCertificate) -> None:
        """Have the row of a CA's certificate say that it is revoked; OCSP answers by that, and no later run would.

        Raises:
            Overtaken: others keep changing it.
        """

        def revoked(present: CertificateRecord) -> CertificateRecord:
            if present.state is CertificateState.REVOKED:
                return present
            return present.changed(
                state=CertificateState.REVOKED,
                revoked_at=listed.revoked_at,
                revocation_reason=RevocationReason(listed.reason),
            )

        await change_certificate(self.certificates, listed.serial_number, revoked)

    async def _revoke_of(
        self, registration_id: str, revoked: Listed, *, may_wait: bool, used: set[Listed] | None
    ) -> Due | None:
        device, (name, listed) = await self.devices.get(registration_id), revoked
        if device is not None and listed.serial_number in device.record.in_use:
            if used is not None:
                used.add(revoked)
                return None
            if may_wait and await self._has_another(registration_id):
                return None
            async with self._turns.of(registration_id):
                await self.taking_in.enter_use(await device_of(self.devices, registration_id))
        return await self._revoke_device(name, registration_id, listed, may_wait=may_wait)

    async def _revoke_device(
        self, name: str, registration_id: str, listed: ListedCertificate, *, may_wait: bool
    ) -> Due | None:
        act = partial(
            found_revoked,
            serial_number=listed.serial_number,
            reason=RevocationReason(listed.reason),
            at=listed.revoked_at,
        )
        try:
            known = await device_of(self.devices, registration_id)
            wanted = act(known.record)
        except Rejected as refusal:
            if may_wait:
                return None
            return Due(
                line=f"certificate {listed.serial_number} of {registration_id!r} stays on the list of {name!r}, and "
                f"nothing else is done about it: {refusal}",
                enter=partial(self._enter, name, listed),
            )
        is_used = listed.serial_number in known.record.in_use
        what = "" if is_used else f"certificate {listed.serial_number}, which it does not use any more, is "
        line = f"{registration_id}: {what}revoked again ({listed.reason}, {listed.revoked_at:%Y-%m-%d %H:%M} UTC)"
        return due_of(known.record, wanted, line=line, enter=partial(self._change, registration_id, act))

    async def _change(self, registration_id: str, act: Callable[[DeviceRecord], DeviceRecord]) -> None:
        async with self._turns.of(registration_id):
            await change(self.devices, registration_id, act, at=self.clock())

    async def _has_another(self, registration_id: str) -> bool:
        """Tell whether a device has a bundle with a certificate that is not known: it may use that one by now."""
        for name in await self.blobs.names(BUNDLES, f"{registration_id}/"):
            if await self.certificates.get(name.rpartition("/")[2].removesuffix(".json")) is None:
                return True
        return False

    async def _revoke_authority(
        self, name: str, record: CertificateRecord, listed: ListedCertificate
    ) -> tuple[str, bool]:
        """Revoke a CA whose certificate its issuer's list names: it signs nothing more.

        Returns:
            What became of it, and whether nothing is left to do when this is run again.
        """
        known, subject = await self.records.get(record.subject), record.subject
        if known is None or known.record.serial_number != listed.serial_number:
            return (
                f"certificate {listed.serial_number} ({record.kind} {subject!r}) is on the list of {name!r} again: "
                "what was done to the CA after the copy is to be done again"
            ), True
        wanted = Wanted(request=f"{CAUSE}-{listed.serial_number}", action=AuthorityAction.REVOKE, reason=listed.reason)
        try:
            await change_authority(self.records, subject, lambda present: decided(present, wanted, listed.revoked_at))
        except Conflict as refusal:
            return f"{subject}: the CA's certificate is on the list of {name!r}: {refusal}", True
        except Deferred as refusal:
            return f"{subject}: the CA is not revoked again yet: {refusal}; run this again when that is done", False
        return f"{subject}: the CA is revoked again ({listed.reason}); its groups and its devices follow", True

    async def _keep_listed(self, name: str, listed: ListedCertificate) -> Due | None:
        """Keep a certificate revoked of which nobody knows whose it is; say so, if the ledger did not list it."""
        # It is there from a run that broke off, or whose it is was entered: what is known counts.
        _ = await self.certificates.try_add(of_nobody(revocation_of(name, listed, self.taking_in.issuers[name])))
        if await self._is_entered(name, listed):
            return None
        return Due(
            line=f"certificate {listed.serial_number} of {name!r} is revoked ({listed.reason}), and whose it is can't "
            "be known; it stays on the list",
            enter=partial(self._enter, name, listed),
        )

    async def _is_entered(self, name: str, listed: ListedCertificate) -> bool:
        if name not in self._entered:
            self._entered[name] = {each.serial_number async for each in self.certificates.revoked_by(name)}
        return listed.serial_number in self._entered[name]

    async def _enter(self, name: str, listed: ListedCertificate) -> None:
        await keep_listed(self.certificates, revocation_of(name, listed, self.taking_in.issuers[name]))
