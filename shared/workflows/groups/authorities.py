"""Which CA signs for an enrollment group: one that is named, or one that is made."""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from shared.domain.authorities import OVER
from shared.domain.authority_acts import check_signs
from shared.domain.groups import GroupState
from shared.domain.words import CertificateKind, KeyCustody
from shared.errors import Conflict, NotFound, Rejected
from shared.pki import names
from shared.workflows.authorities.records import AuthorityDefinition
from shared.workflows.groups.sharing import check_free

if TYPE_CHECKING:
    from shared.contracts.groups import EnrollmentGroupRequest
    from shared.domain.authorities import AuthorityRecord
    from shared.domain.groups import CaReferences, GroupRecord
    from shared.ledger.groups import Groups
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.settings import Settings
    from shared.workflows.authorities.creation import AuthorityCreation
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.authorities.possession import Possession

_NAME_LIMIT = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupAuthorities:
    """Finds the issuing CAs of groups."""

    groups: Groups
    authorities: CertificateAuthorities
    creation: AuthorityCreation
    possession: Possession
    resource: DpsCaCertificates | None
    settings: Settings

    async def first(self, request: EnrollmentGroupRequest, generation: int) -> str | AuthorityDefinition:
        """Give what is to sign for a new group: a CA by its name, or what it is to be if it has to be made.

        Raises:
            NotFound: the CA that is named is not there.
            Conflict: another group has it, or what would be made has a name that is taken.
            Rejected: its key is not where the request wants it, DPS would refuse its devices, or no CA fits below it.
            Deferred: it is being made, or waits for its certificate, or possession of its key is being proved.
        """
        if request.ca_references is not None:
            return await self.below(request.enrollment_group, request.ca_references, request.issuer)
        custody = KeyCustody(self.settings.issuing_custody)
        return await self._wanted(request, generation, self.settings.root_authority, custody)

    async def following(self, request: EnrollmentGroupRequest, record: GroupRecord) -> str | AuthorityDefinition:
        """Give what is to take over in a group; what a request leaves out is as with the present issuing CA.

        Raises:
            Rejected: no CA can be made beside the present one; for the rest see :meth:`first`.
        """
        parent, custody = self.settings.root_authority, KeyCustody(self.settings.issuing_custody)
        if record.issuer:
            custody = (await self.authorities.get(record.issuer)).custody
            if request.issuer is None:
                parent = await self._parent(record.issuer)
        return await self._wanted(request, record.generation + 1, parent, custody)

    async def _parent(self, name: str) -> str:
        above = await self.authorities.above(name)
        if above is None:
            raise Rejected.because(
                f"{name!r} was signed by a CA whose key is not here, so none can be made beside it; name the next "
                "issuing CA, or a CA that may have others below it",
                field="issuer",
            )
        return above

    async def _wanted(
        self, request: EnrollmentGroupRequest, generation: int, parent: str, custody: KeyCustody
    ) -> str | AuthorityDefinition:
        if request.issuer is not None:
            named = await self.authorities.get(request.issuer)
            check_signs(named)
            await self.possession.check_proved(named.name)
            if _signs_devices(named):
                _check_custody(named, request.custody)
                await check_free(self.groups, request.enrollment_group, named.name)
                return named.name
            parent = named.name
        else:
            check_signs(await self.authorities.get(parent))
            await self.possession.check_proved(parent)
        wanted = AuthorityDefinition(
            name=authority_name(request.enrollment_group, generation),
            kind=CertificateKind.INTERMEDIATE,
            parent=parent,
            enrollment_group=request.enrollment_group,
            custody=request.custody or custody,
        )
        await self.creation.check_definition(wanted)
        return wanted

    async def below(self, group_id: str, references: CaReferences, named: str | None) -> str:
        """Find the CA that signs for a group of referred CAs; empty if its devices have certificates from elsewhere.

        Raises:
            NotFound: the CA that is named is not there.
            Conflict: another group, which does not attest by reference, has it.
            Rejected: it is not below these.
        """
        issuer = await self._below(references, named)
        await check_free(self.groups, group_id, issuer, by_reference=True)
        return issuer

    async def _below(self, references: CaReferences, named: str | None) -> str:
        if named is None:
            try:
                referred = await self.authorities.get(references.primary)
            except NotFound:
                return ""
            return referred.name if _signs_devices(referred) else ""
        accepted = [references.primary, *([references.secondary] if references.secondary else [])]
        issuer, chain = await self.authorities.get(named), (await self.authorities.load(named)).chain
        verified = await self.resource.verified() if self.resource else []
        thumbprints = {each.thumbprint for each in verified if each.name in accepted}
        below = not self.resource or bool(thumbprints & {names.thumbprint(each) for each in chain})
        if not _signs_devices(issuer) or not below:
            raise Rejected.because(
                f"{named!r} is to sign for a group that accepts what stands under {' or '.join(accepted)}, and it is "
                f"not an issuing CA of these: its chain is {', '.join(names.quoted(each.subject) for each in chain)}",
                field="issuer",
            )
        return named

    async def check_kept(self, request: EnrollmentGroupRequest, record: GroupRecord) -> None:
        """See that a change of a group asks for the issuing CA that it has, if it names one or its custody.

        Raises:
            Rejected: it asks for another one.
        """
        issuer, custody = request.issuer, request.custody
        if custody is not None and not record.issuer:
            raise Rejected.because("the group has no issuing CA; leave custody out", field="custody")
        if issuer not in {None, record.issuer} and issuer != await self.authorities.above(record.issuer):
            raise _rolled("issuer", f"it is {record.issuer!r}, and the request names {issuer!r}")
        if custody is not None and custody is not (present := (await self.authorities.get(record.issuer)).custody):
            raise _rolled("custody", f"the key of {record.issuer!r} is in custody '{present}'")


async def check_none_over(authorities: CertificateAuthorities, record: GroupRecord) -> None:
    """See that DPS may let devices in by a group's CAs.

    Raises:
        Conflict: one of them is revoked: whoever has its key could sign for any device.
    """
    for name in filter(None, (record.previous_issuer, record.issuer)):
        if (await authorities.get(name)).state in OVER:
            raise Conflict.because(
                f"{name!r}, a CA of the enrollment group {record.enrollment_group!r}, is revoked; roll the group to "
                "another CA, and enable it when the revoked one has left it",
                field="action",
            )


async def usable_for_devices(authorities: CertificateAuthorities, groups: Groups, name: str) -> AuthorityRecord:
    """Find a CA for a device that no group's order names, and see that it may sign for devices now.

    A CA signs for whoever has it: while its groups are disabled, or when they are deleted, for nobody.

    Args:
        authorities: all CAs.
        groups: all groups.
        name: of the CA.

    Raises:
        NotFound: the CA does not exist.
        Rejected: it is a root, or has other CAs below it.
        Conflict: none of the groups that have it is enabled, or it signs nothing any more.
        Deferred: it is disabled.
    """
    authority = await authorities.get(name)
    if authority.certificate is None:
        await authorities.load(name)  # says what it waits for
    check_signs(authority)
    if not _signs_devices(authority):
        kind = "a root" if authority.kind is CertificateKind.ROOT else "a CA that may have others below it"
        raise Rejected.because(
            f"{name!r} is {kind}; a device is signed by an issuing CA, whose path length is 0", field="issuer"
        )
    having = await groups.having({name}, deleted=True)
    shut = [each for each in having if each.state in {GroupState.DISABLED, GroupState.DELETED}]
    if shut and len(shut) == len(having):
        raise Conflict.because(
            f"{name!r} is an issuing CA of the enrollment group {shut[0].enrollment_group!r}, which is "
            f"{shut[0].state}; enable the group or create it anew, or name another CA",
            field="issuer",
        )
    return authority


def authority_name(group_id: str, generation: int) -> str:
    """Name the issuing CA of a group, fit to be a vault key's name: letters, digits and dashes."""
    plain = re.sub(r"[^a-z0-9]+", "-", group_id).strip("-")
    if plain != group_id or len(plain) > _NAME_LIMIT:
        plain = f"{plain[:_NAME_LIMIT]}-{sha256(group_id.encode()).hexdigest()[:8]}".strip("-")
    return f"{plain}-ca{generation}"


def _signs_devices(authority: AuthorityRecord) -> bool:
    return authority.kind is CertificateKind.INTERMEDIATE and authority.path_length == 0


def _check_custody(authority: AuthorityRecord, wanted: KeyCustody | None) -> None:
    if wanted not in {None, authority.custody}:
        raise Rejected.because(
            f"the key of {authority.name!r} is in custody '{authority.custody}' and stays there; leave custody out, or "
            "name a CA under which one is to be made",
            field="custody",
        )


def _rolled(field: str, present: str) -> Rejected:
    return Rejected.because(f"{present}; the issuing CA is changed by action 'roll'", field=field)
