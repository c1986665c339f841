"""Compares CAs with the services that possession of their keys was proved to, and with the vault that has the keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from shared.domain.authorities import AuthorityState, ProofOfPossession
from shared.domain.findings import Difference, SubjectKind
from shared.domain.treatments import FindingKind
from shared.pki import names
from shared.pki.wrapped_keys import WrappedKeyError
from shared.workflows.authorities.possession import places_of
from shared.workflows.authorities.records import all_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.domain.authorities import AuthorityRecord
    from shared.ledger.authorities import Authorities
    from shared.ports.ca_certificates import CaCertificates
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityLook:
    """Looks at CAs, one by one."""

    records: Authorities
    keys: AuthorityKeys
    ca_certificates: Sequence[CaCertificates]
    clock: Clock

    async def in_use(self) -> list[AuthorityRecord]:
        """List the CAs that sign."""
        return [each async for each in self.records.list() if each.state is AuthorityState.ACTIVE]

    async def differences(self, name: str) -> list[Difference]:
        """Give what differs about a CA; nothing of one that does not sign."""
        known = await self.records.get(name)
        if known is None or known.record.state is not AuthorityState.ACTIVE:
            return []
        record, found = known.record, list[Difference]()
        differs = partial(
            Difference,
            subject_kind=SubjectKind.AUTHORITY,
            subject=record.name,
            enrollment_group=record.enrollment_group,
            certificate_authority=record.name,
        )
        if problem := await self._key_problem(record):
            said = "the CA signs with its key"
            found.append(differs(kind=FindingKind.KEY_UNUSABLE, where="Key Vault", ledger=said, service=problem))
        if record.proof_of_possession is ProofOfPossession.VERIFIED:
            for service in self.ca_certificates:
                found += await self._at(service, record, differs)
        return found

    async def _at(
        self, service: CaCertificates, record: AuthorityRecord, differs: Callable[..., Difference]
    ) -> list[Difference]:
        """Compare each place of a CA at a service: that of a root's former certificate lets devices in, too."""
        found, places = list[Difference](), places_of(record)
        for place, certificate in places.items():
            if certificate.not_valid_after_utc < self.clock():
                continue
            is_former = place != (record.place or record.name)
            where = f"{service.holder}, under {place!r}" if is_former else service.holder
            which = "former certificate" if is_former else "certificate"
            thumbprint = names.thumbprint(certificate)
            held = await service.get(place)
            if held is not None and held.thumbprint not in {"", thumbprint}:
                said, holds = f"the CA's {which} has the thumbprint {thumbprint}", f"it has {held.thumbprint} there"
                found.append(differs(kind=FindingKind.AUTHORITY_REPLACED, where=where, ledger=said, service=holds))
            elif held is None or not held.verified:
                said = f"possession of the CA's key was proved{' with its former certificate' if is_former else ''}"
                holds = "it is not verified" if held else "the service does not have it"
                found.append(differs(kind=FindingKind.AUTHORITY_UNVERIFIED, where=where, ledger=said, service=holds))
        return found

    async def _key_problem(self, record: AuthorityRecord) -> str | None:
        if problem := await self.keys.problem(record):
            return problem
        try:
            key = await self.keys.open(record)
        except WrappedKeyError as error:
            return str(error)
        if key.public_key() != next(all_certificates(record)).public_key():
            return "the key is not the one of the CA's certificate"
        return None
