"""Makes a CA's key, and its certificate or the request for one: once, whoever carries it on, and how many at once.

Who makes it has the turn, which is the serial number reserved in the CA's row. A worker that does not come back in time
is taken for gone. If it was only slow, its write meets another ETag, and what it has signed does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.serialization import Encoding

from shared.domain.authorities import AuthorityState, Making
from shared.domain.authority_acts import check_signs
from shared.errors import Rejected
from shared.ledger.table import Stale
from shared.pki import names
from shared.pki.authority_files import signing_request
from shared.pki.identities import authority_identity
from shared.pki.issuance import new_serial_number
from shared.pki.public_keys import fingerprint
from shared.workflows.authorities.claims import claim_identity, claim_key
from shared.workflows.authorities.issuance import Signer, Wanted
from shared.workflows.authorities.loading import being_made
from shared.workflows.authorities.records import AuthorityDefinition, counts, problem_of, signed, subject_of

if TYPE_CHECKING:
    from shared.domain.authorities import AuthorityRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.devices import Devices
    from shared.ledger.public_keys import PublicKeys
    from shared.ledger.table import Versioned
    from shared.settings import Settings
    from shared.workflows.authorities.issuance import Issuance
    from shared.workflows.authorities.keys import AuthorityKey, AuthorityKeys
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.intake.outbox import Clock

_MAKING = timedelta(minutes=1)
"""So long a worker has for making a key and signing; then others take it for gone. One that was slow only loses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityMaking:
    """Makes what a CA's record wants of keys and signatures."""

    records: Authorities
    public_keys: PublicKeys
    devices: Devices
    authorities: CertificateAuthorities
    keys: AuthorityKeys
    issuance: Issuance
    possession: Possession
    settings: Settings
    clock: Clock

    async def make(self, known: Versioned[AuthorityRecord]) -> AuthorityRecord:
        """Make a CA's key, and its certificate or the request for one.

        Raises:
            Deferred: another worker is at it.
            Rejected: it can't be made. If its key does not exist, its name is free again; else its row says why.
        """
        begun, making = await self._begin(known)
        definition = AuthorityDefinition.of(begun.record)
        try:
            key = await self.keys.create(definition.name, definition.key_algorithm, definition.custody)
        except Rejected:
            _ = await self.records.withdraw(begun)  # one that has changed is another worker's
            raise
        except Exception:
            await self._give_up(begun, making)
            raise
        try:
            made = await self._made(definition, begun.record, key)
        except Exception as error:
            await self._give_up(begun, making, problem=problem_of(error) if isinstance(error, Rejected) else None)
            raise
        try:
            return (await self.records.replace(begun, begun.record.changed(making=None, problem=None, **made))).record
        except Stale:
            present = await self.records.get(definition.name)
            if present is not None and counts(present.record, making.serial_number):
                return present.record  # the answer was lost, and others have changed the row since
            # It took longer than others wait: one of them has begun anew, and what that one stores counts.
            await self.issuance.abandon(making.serial_number)
            raise being_made(definition.name) from None

    async def _begin(self, known: Versioned[AuthorityRecord]) -> tuple[Versioned[AuthorityRecord], Making]:
        """Reserve the serial number in the CA's row, which takes the turn."""
        before, now = known.record.making, self.clock()
        if before is not None and before.until > now:
            raise being_made(known.record.name)
        making = Making(serial_number=names.serial_text(new_serial_number()), until=now + _MAKING)
        begun = await self.records.try_replace(known, known.record.changed(making=making))
        if begun is None:
            raise being_made(known.record.name)  # whoever has changed the row has the turn
        if before is not None:
            await self.issuance.abandon(before.serial_number)
        return begun, making

    async def _give_up(self, begun: Versioned[AuthorityRecord], making: Making, *, problem: str | None = None) -> None:
        """Let others begin at once. If the row has changed, another worker has begun anew already."""
        await self.issuance.abandon(making.serial_number)
        # Nobody else writes the row of a CA that is being made: it is not open, so no list is made beside.
        _ = await self.records.try_replace(begun, begun.record.changed(making=None, problem=problem))

    async def _made(
        self, definition: AuthorityDefinition, record: AuthorityRecord, key: AuthorityKey
    ) -> dict[str, object]:
        """Give what a CA's record says of it when it is made."""
        subject = subject_of(self.settings, definition.name)
        identity = authority_identity(subject.to_name(), key.signing_key.public_key())
        await claim_identity(self.records, identity, definition.name)
        await claim_key(
            self.public_keys, self.devices, fingerprint(key.signing_key.public_key()), definition.name, self.clock()
        )
        if definition.externally_signed:
            return {**await self._request(definition, key), **key.place}
        return {**await self._certificate(definition, record, key), **key.place}

    async def _certificate(
        self, definition: AuthorityDefinition, record: AuthorityRecord, key: AuthorityKey
    ) -> dict[str, object]:
        wanted = Wanted(
            kind=definition.kind,
            profile=definition.profile(),
            subject=subject_of(self.settings, definition.name),
            public_key=key.signing_key.public_key(),
            cause=record.cause,
            serial_number=int(record.making.serial_number, 16) if record.making else None,
            enrollment_group=definition.enrollment_group,
        )
        _, certificate = await self.issuance.sign(wanted, await self._signer(definition, key))
        return {
            **signed(certificate),
            "proof_of_possession": None if definition.parent else self.possession.of_topmost,
        }

    async def _signer(self, definition: AuthorityDefinition, key: AuthorityKey) -> Signer:
        if definition.parent is None:
            return Signer(name=definition.name, issuer=None, own_key=key.signing_key)
        check_signs(await self.authorities.get(definition.parent))
        above = await self.authorities.loaded(definition.parent)
        return Signer(name=definition.parent, issuer=above.issuer, urls=self.authorities.distribution_points(above))

    async def _request(self, definition: AuthorityDefinition, key: AuthorityKey) -> dict[str, object]:
        request = await self.keys.signing(
            key.signing_key,
            signing_request,
            definition.profile(),
            subject_of(self.settings, definition.name),
            key.signing_key,
        )
        return {
            "state": AuthorityState.AWAITING_CERTIFICATE,
            "signing_request": request.public_bytes(Encoding.PEM).decode("ascii"),
            "proof_of_possession": self.possession.of_topmost,
        }
