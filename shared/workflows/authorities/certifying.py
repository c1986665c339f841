"""Further certificates for the key and the name of a CA: renewed ones, and those of another issuer.

A renewed certificate is what the CA signs with from then on. The one before, and those of other issuers, are kept
beside it: whoever trusts their issuers goes on to trust the CA. Who signs has the turn in the CA's row, as when it was
made; and what is signed is entered there in the same write as what is still to be done for it.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from shared import acting
from shared.contracts.authorities import RenewedKey
from shared.domain.authorities import AuthorityAction, AuthorityState, Making, ProofOfPossession
from shared.domain.authority_acts import Wanted, certified, check_signs
from shared.errors import Conflict, NotFound, Overtaken, Rejected
from shared.ledger.table import Stale
from shared.pki import names
from shared.pki.issuance import new_serial_number
from shared.pki.issuer_limits import check_fit
from shared.workflows.authorities.changes import authority_of, change
from shared.workflows.authorities.issuance import Signer
from shared.workflows.authorities.issuance import Wanted as WantedCertificate
from shared.workflows.authorities.loading import being_made
from shared.workflows.authorities.possession import place_of
from shared.workflows.authorities.records import (
    AuthorityDefinition,
    all_certificates,
    check_length,
    counts,
    signed,
    subject_of,
)

if TYPE_CHECKING:
    from cryptography import x509

    from shared.contracts.authorities import AuthorityAct
    from shared.domain.authorities import AuthorityRecord
    from shared.ledger.authorities import Authorities
    from shared.ledger.table import Versioned
    from shared.pki.profiles import Profile
    from shared.settings import Settings
    from shared.workflows.authorities.issuance import Issuance
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.reach import AuthorityReach
    from shared.workflows.intake.outbox import Clock

_TURN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityCertifying:
    """Renews CAs' certificates, and has CAs certified by others."""

    records: Authorities
    authorities: CertificateAuthorities
    keys: AuthorityKeys
    issuance: Issuance
    reach: AuthorityReach
    settings: Settings
    clock: Clock

    async def check(self, act: AuthorityAct, record: AuthorityRecord) -> None:
        """See that a CA can have another certificate as things are.

        Raises:
            NotFound: the other issuer does not exist.
            Conflict: the CA's state, what it is, or what hangs on it does not allow it.
            Rejected: the issuer can't sign it for so long.
            Deferred: the CA or its issuer is disabled.
        """
        if record.state not in {AuthorityState.ACTIVE, AuthorityState.DISABLED}:
            check_signs(record)
            raise being_made(record.name)
        check_signs(record)
        if act.action is AuthorityAction.RENEW:
            await self._check_renewal(record)
        else:
            await self._check_crossing(act, record)
        signer = await self._signer(act, record)
        if signer.issuer is not None:
            check_fit(self._profile(act, record), subject_of(self.settings, record.name), signer.issuer, self.clock())

    async def _check_renewal(self, record: AuthorityRecord) -> None:
        name = record.name
        if record.external_issuer is not None:
            raise Conflict.because(
                f"{record.external_issuer!r} has signed {name!r}: have it signed there again, and install the "
                "certificate",
                field="name",
            )
        groups = [each.enrollment_group for each in await self.reach.groups_of(name)]
        if groups:
            raise Conflict.because(
                f"DPS knows {name!r} by its certificate, in the enrollment groups {', '.join(map(repr, groups))}; "
                f"renew it with key '{RenewedKey.NEW}', which rolls them to the next CA",
                field="key",
            )
        self._check_made_here(record)

    async def _check_crossing(self, act: AuthorityAct, record: AuthorityRecord) -> None:
        issuer = act.issuer or ""
        below = {record.name, *(each.name for each in await self.reach.below(record.name, deep=True))}
        if issuer in below or issuer == record.parent:
            raise Conflict.because(
                f"{issuer!r} is {record.name!r} itself, below it, or has signed it already; name another CA",
                field="issuer",
            )
        self._check_made_here(record)

    def _check_made_here(self, record: AuthorityRecord) -> None:
        """See that this app has given the CA its name, so that it can write the same name again."""
        certificate = next(all_certificates(record))
        if subject_of(self.settings, record.name).to_name() != certificate.subject:
            raise Conflict.because(
                f"the subject of {record.name!r} is {names.shown(certificate.subject.rfc4514_string())}, which was not "
                "given here; have it signed elsewhere, and install the certificate",
                field="name",
            )

    async def certify(self, known: Versioned[AuthorityRecord], act: AuthorityAct) -> None:
        """Sign a certificate for a CA's key, and enter it into the CA's row, with what is still to be done.

        Raises:
            Rejected: the issuer can't sign it.
            Deferred: another worker is at it.
        """
        record, now = known.record, self.clock()
        if record.making is not None and record.making.until > now:
            raise being_made(record.name)
        making = Making(serial_number=names.serial_text(new_serial_number()), until=now + _TURN)
        begun = await self.records.try_replace(known, record.changed(making=making))
        if begun is None:
            raise being_made(record.name)
        if record.making is not None:
            await self.issuance.abandon(record.making.serial_number)
        try:
            certificate = await self._signed(act, begun.record, making)
            fields = self._fields(act, record, certificate)
            wanted = certified(begun.record, self._wanted(act, making), fields, now)
        except Exception:
            await self.issuance.abandon(making.serial_number)
            await self._end_turn(record.name, making)
            raise
        try:
            await self.records.replace(begun, wanted)
        except Stale:
            if counts((await authority_of(self.records, record.name)).record, making.serial_number):
                return  # the answer was lost, and others have changed the row since
            await self.issuance.abandon(making.serial_number)
            await self._end_turn(record.name, making)
            raise being_made(record.name) from None

    async def _end_turn(self, name: str, making: Making) -> None:
        """Let others begin at once, whatever else has changed in the CA's row: its lists are made beside."""

        def ended(present: AuthorityRecord) -> AuthorityRecord:
            return present.changed(making=None) if present.making == making else present

        with suppress(NotFound, Overtaken):  # the turn ends by itself as well
            await change(self.records, name, ended)

    @staticmethod
    def _wanted(act: AuthorityAct, making: Making) -> Wanted:
        return Wanted(
            act.request_id,
            act.action,
            reason=act.reason,
            comment=act.comment or acting.comment(),
            actor=acting.actor(),
            serial_number=making.serial_number,
        )

    async def _signed(self, act: AuthorityAct, record: AuthorityRecord, making: Making) -> x509.Certificate:
        wanted = WantedCertificate(
            kind=record.kind,
            profile=self._profile(act, record),
            subject=subject_of(self.settings, record.name),
            public_key=next(all_certificates(record)).public_key(),  # type: ignore[arg-type]
            cause=act.request_id,
            serial_number=int(making.serial_number, 16),
            enrollment_group=record.enrollment_group,
        )
        _, certificate = await self.issuance.sign(wanted, await self._signer(act, record))
        return certificate

    @staticmethod
    def _fields(act: AuthorityAct, record: AuthorityRecord, certificate: x509.Certificate) -> dict[str, object]:
        """Give what the CA's record says of it from now on."""
        further = record.further_certificates or ""
        if act.action is AuthorityAction.CROSS_SIGN:
            fields: dict[str, object] = {"further_certificates": further + names.pem(certificate)}
        else:
            fields = {
                **signed(certificate),
                "state": record.state,
                "further_certificates": (record.certificate or "") + further,
            }
            if record.proof_of_possession is ProofOfPossession.VERIFIED:
                # At a place of its own, so that services know the CA by the one before until then.
                fields |= {
                    "proof_of_possession": ProofOfPossession.PENDING,
                    "place": place_of(record.name, certificate),
                }
        check_length(fields, "name")
        return fields

    def _profile(self, act: AuthorityAct, record: AuthorityRecord) -> Profile:
        before = record.wanted.validity if record.wanted else None
        validity = timedelta(days=act.validity_days) if act.validity_days is not None else before
        return AuthorityDefinition(
            name=record.name, kind=record.kind, path_length=record.path_length, validity=validity
        ).profile()

    async def _signer(self, act: AuthorityAct, record: AuthorityRecord) -> Signer:
        name = act.issuer if act.action is AuthorityAction.CROSS_SIGN else record.parent
        if name is None:
            return Signer(name=record.name, issuer=None, own_key=await self.keys.open(record))
        check_signs(await self.authorities.get(name))
        above = await self.authorities.loaded(name)
        if act.action is AuthorityAction.CROSS_SIGN and above.issuer.path_length == 0:
            raise Rejected.because(
                f"{above.issuer.quoted_name} has path length 0, so no CA fits below it", field="issuer"
            )
        return Signer(name=name, issuer=above.issuer, urls=self.authorities.distribution_points(above))
