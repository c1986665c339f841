"""Has a CA made: what is wanted is written into its record, and the converger makes it so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.authorities import OVER
from shared.domain.authority_acts import check_signs
from shared.domain.words import CertificateKind
from shared.errors import Conflict, Rejected
from shared.pki import names
from shared.pki.issuer_limits import check_fit
from shared.workflows.authorities.claims import check_holder, check_name, claim_name
from shared.workflows.authorities.records import subject_of

if TYPE_CHECKING:
    from datetime import datetime

    from shared.domain.authorities import AuthorityRecord
    from shared.ledger.authorities import Authorities
    from shared.pki.issuers import Issuer
    from shared.pki.profiles import Profile
    from shared.settings import Settings
    from shared.workflows.authorities.convergence import AuthorityConverger
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.possession import Possession
    from shared.workflows.authorities.records import AuthorityDefinition
    from shared.workflows.intake.outbox import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityCreation:
    """Creates CAs, with keys that are made here."""

    records: Authorities
    authorities: CertificateAuthorities
    keys: AuthorityKeys
    possession: Possession
    converger: AuthorityConverger
    settings: Settings
    clock: Clock

    async def ensure(self, definition: AuthorityDefinition, *, cause: str) -> AuthorityRecord:
        """Make a CA, or finish making it, or find that it is made.

        Raises:
            Conflict: the name belongs to a CA of another definition, or to one that is revoked or deleted, unless this
                request has made it; or it was deleted before it was open for use.
            NotFound: its parent does not exist.
            Deferred: another worker is at it.
            LedgerBehind: the ledger is an older one, and may not know who has the name.
        """
        await self.converger.check_ledger()
        try:
            await self.check_definition(definition)
        except Rejected:
            # What was in the way may be what another worker has made of the same request since it was looked for.
            if await self.records.get(definition.name) is None:
                raise
        known = await claim_name(self.records, definition.record(cause=cause, at=self.clock()))
        # A request that has been carried out stays so, whatever has become of its CA since.
        if known.record.cause != cause or not (known.record.certificate or known.record.signing_request):
            _check_not_over(known.record)
        made = await self.converger.converge(definition.name)
        if made.ended_unopened and made.signing_request is None:  # a request for its owner is all that one gives
            raise Conflict.because(
                f"the certificate authority {made.name!r} was deleted before it was ready; choose another name",
                field="name",
            )
        return made

    async def check_definition(self, definition: AuthorityDefinition) -> None:
        """See that a CA could be made now, or is made: a request that can't be carried out leaves no trace.

        Raises:
            NotFound: its parent does not exist.
            Conflict: its name, its key or its place in a service is taken.
            Rejected: it does not fit below its parent, which may sign nothing any more, or a service has no place left.
            Deferred: its parent is being made, or disabled.
        """
        holder = await self.records.holder(definition.name)
        if holder is not None:
            check_holder(holder.record, definition.name, definition.fingerprint)
            _check_not_over(holder.record)
            return
        check_name(definition.name)
        if definition.parent is not None:
            check_signs(await self.authorities.get(definition.parent))
            self._check_below(definition, await self.authorities.load(definition.parent))
        await self.keys.check_free(definition.name, definition.key_algorithm, definition.custody)
        if definition.kind is CertificateKind.ROOT:
            await self.possession.check_places(definition.name, None)

    def _check_below(self, definition: AuthorityDefinition, parent: Issuer) -> None:
        profile = definition.profile()
        if definition.enrollment_group is not None:
            _check_for_group(definition, profile, parent, self.clock())
        check_fit(profile, subject_of(self.settings, definition.name), parent, self.clock())


def _check_not_over(record: AuthorityRecord) -> None:
    if record.state in OVER:
        raise Conflict.because(
            f"the certificate authority {record.name!r} exists and is {record.state}, which is final; choose another "
            "name",
            field="name",
        )


def _check_for_group(definition: AuthorityDefinition, profile: Profile, parent: Issuer, now: datetime) -> None:
    """See that a group's CA fits below a CA: its request names that one, and neither days nor a path length."""
    if parent.path_length == 0:
        raise Rejected.because(
            f"{parent.quoted_name} has path length 0, so no issuing CA of a group fits below it; name another CA",
            field="issuer",
        )
    last, wanted = parent.ends_first, profile.validity
    left = last.not_valid_after_utc - now
    if left < wanted * profile.least_share:
        raise Rejected.because(
            f"the issuing CA that is to be made for {definition.enrollment_group!r} lives {wanted.days} days, and "
            f"{names.quoted(last.subject)} above it ends on {last.not_valid_after_utc:%Y-%m-%d}, in "
            f"{max(left.days, 0)} days; name another CA, or first make one below {parent.quoted_name} with as many "
            "validityDays as are left, and name that",
            field="issuer",
        )
