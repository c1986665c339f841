"""Takes CAs, groups and devices over from vault, DPS and hubs, where the ledger is lost and nobody has a copy of it.

A CA is one of ours if the vault has its key, and DPS, an enrollment group or a file its certificate; its chain must go
up to a root. Each is entered if it is not there, the row last. So it can be run again as often as it breaks off, and
nothing is signed before the ledger's epoch is raised, which comes after all of it.

What is nowhere is said. The worst of it is a CA's last list: who was revoked stands there alone, beside DPS. A list
that lacks them would call them good, so without it nothing is taken over unless somebody says that it is lost.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.domain.attestations import attestation_of
from shared.domain.authorities import AuthorityRecord, AuthorityState, ProofOfPossession, WantedAuthority
from shared.domain.entries import kept_settings
from shared.domain.expiry import DueNotice, Notice, first_warning
from shared.domain.group_signers import OF_GROUPS
from shared.domain.groups import STATUS, CaReferences, GroupRecord, GroupState
from shared.domain.restoration import CAUSE, JUMP
from shared.domain.words import CertificateKind, KeyCustody
from shared.errors import Conflict, Rejected
from shared.ledger.table import Stale
from shared.pki import names
from shared.pki.identities import authority_identity
from shared.pki.public_keys import fingerprint
from shared.pki.signing_keys import algorithm_of
from shared.workflows.authorities.claims import claim_identity, claim_key
from shared.workflows.authorities.records import (
    AuthorityDefinition,
    all_certificates,
    book_entry,
    identity_of,
    installed,
)
from shared.workflows.groups.authorities import authority_name
from shared.workflows.reconciliation.found_authorities import number_of
from shared.workflows.status.revocation_lists import CONTENT_TYPE, CRLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence

    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.devices import Devices
    from shared.ledger.expiry import ExpiryIndex
    from shared.ledger.groups import Groups
    from shared.ledger.public_keys import PublicKeys
    from shared.ports.blobs import Blobs
    from shared.settings import Settings
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.reconciliation.found_authorities import FoundAuthorities, FoundAuthority
    from shared.workflows.reconciliation.service_devices import ServiceDevices

UNKNOWN = (
    "not known: orders, requests, rejections, approvals, findings, and the audit log",
    "not known: which CAs were disabled or retired; do it again",
    "not known: which groups renew their devices by themselves; ask for it again (renewAutomatically)",
    "not known: passwords of bundles. What was not opened has to be renewed",
    "not known: tags and life of certificates as they were ordered, and which keys devices had before",
)
"""What the services can't tell of a ledger that is lost, whatever it was."""


@dataclass(slots=True, kw_only=True)
class Adoption:
    """Takes over what the services have.

    Attributes:
        there: what they have.
        known_devices: those of the ledger, which may have the key of a CA that is found.
        begin: says in the ledger that this was begun, before anything else is entered.
    """

    records: Authorities
    certificates: Certificates
    public_keys: PublicKeys
    groups: Groups
    expiry: ExpiryIndex
    blobs: Blobs
    there: FoundAuthorities
    devices: ServiceDevices
    known_devices: Devices
    begin: Callable[[], Awaitable[object]]
    settings: Settings
    clock: Clock
    _by_thumbprint: dict[str, str] = field(default_factory=dict)
    """Names of CAs of ours, by the SHA-256 thumbprints of their certificates."""

    async def authorities(self) -> AsyncIterator[str]:
        """Take over CAs, and then groups; give what became of each, and what can't be known.

        Raises:
            Rejected: a CA's last list is nowhere, and nobody has said that it is lost. Then nothing is entered.
        """
        found, problems = await self.there.find()
        found, doubled = await self._once(found)
        new = [each for each in found if await self.records.holder(each.name) is None]
        self._check_lists(new)
        await self.begin()
        for problem in (*problems, *doubled):
            yield problem
        await self._claim_again()
        for each in new:
            try:
                yield await self._enter(each, found)
            except Conflict as refused:
                yield f"not known: the CA whose key is {each.name!r}, which is not taken over: {refused}"
                continue
            if each.crl is None and each.issuer.may_sign_crls:
                yield f"not known: which certificates of {each.name!r} were revoked, beside those that DPS keeps out"
        for record in [each async for each in self.records.list()]:
            for certificate in all_certificates(record):
                self._by_thumbprint[names.sha256_thumbprint(certificate)] = record.name
        for entry in self.there.entries:
            async for line in self._group(entry):
                yield line

    def devices_of_services(self) -> AsyncIterator[str]:
        """Take over devices, when their CAs and groups are known."""
        return self.devices.take_over(self.there.brought.certificates)

    # --- lists ---

    def _check_lists(self, found: Sequence[FoundAuthority]) -> None:
        missing = [each.name for each in found if each.crl is None and each.issuer.may_sign_crls]
        if not missing or self.there.brought.lists_are_lost:
            return
        raise Rejected.because(
            f"the last CRL of {', '.join(map(repr, missing))} is neither in the container {CRLS!r} nor among the "
            "files. Whoever was revoked would be left out of the next one. Give the last CRLs with --files: a relying "
            "party, a proxy or a monitor may have them. If they are nowhere, say --lists-are-lost"
        )

    def _crl_number(self, found: FoundAuthority) -> int:
        """Give a number that no list of the CA can have reached: nobody publishes one a second for years."""
        if found.crl is not None and (number := number_of(found.crl, found.issuer)) is not None:
            return number
        return int((self.clock() - found.certificate.not_valid_before_utc).total_seconds()) + JUMP

    # --- CAs ---

    async def _once(self, found: Sequence[FoundAuthority]) -> tuple[list[FoundAuthority], list[str]]:
        """Give each CA under one name, whatever others the vault has its key under, and name those.

        It is the name that the ledger has, or by which there is a list or a place in the DPS: its certificates name it.
        """
        ours = {identity_of(record): record.name async for record in self.records.list()}
        under: dict[str, list[FoundAuthority]] = {}
        for each in found:
            under.setdefault(_identity_of(each), []).append(each)
        kept: list[FoundAuthority] = []
        doubled = list[str]()
        for identity, same in under.items():
            ranked = [
                (
                    each.name == ours.get(identity),
                    len(same) > 1 and await self.blobs.describe(CRLS, f"{each.name}.crl") is not None,
                    each.name in self.there.places.values(),
                )
                for each in same
            ]
            own = same[ranked.index(max(ranked))]
            kept.append(own)
            doubled += [
                f"not known: why the vault has the key of the CA {own.name!r} as {each.name!r}, too. It is not taken "
                "over under that name"
                for each in same
                if each is not own
            ]
        return kept, doubled

    async def _claim_again(self) -> None:
        """Claim the identities of the CAs that are there: a run that broke off may not have come to it."""
        for record in [each async for each in self.records.list()]:
            if record.identity is not None:
                _ = await self.records.claim_identity(record.identity, record.name)  # another CA's stays that one's

    async def _enter(self, found: FoundAuthority, others: Sequence[FoundAuthority]) -> str:
        """Enter a CA: its key and what others read of it first, and its row at last.

        Raises:
            Conflict: its key is a device's. Then nothing of it is entered.
        """
        record, now = self._record(found, others), self.clock()
        named = fingerprint(found.issuer.signing_key.public_key())
        await claim_key(self.public_keys, self.known_devices, named, found.name, now)
        for certificate in all_certificates(record):
            # It is there from a run that broke off.
            _ = await self.certificates.try_add(book_entry(record, certificate, record.signed_by))
        await self.expiry.put(
            DueNotice.on(
                first_warning(found.certificate.not_valid_after_utc, self.settings.authority_warnings),
                Notice.EXPIRING,
                serial_number=names.serial_text(found.certificate.serial_number),
                subject=found.name,
                not_after=found.certificate.not_valid_after_utc,
            )
        )
        if found.crl is not None:
            # The last list that there is: it is left as it is.
            _ = await self.blobs.create(CRLS, f"{found.name}.crl", found.crl, content_type=CONTENT_TYPE, metadata={})
        _ = await self.records.try_insert(record)  # another run has taken it over: nothing else makes CAs meanwhile
        await claim_identity(self.records, record.identity or "", found.name)
        thumbprint = names.sha256_thumbprint(found.certificate)
        return f"{found.name}: taken over, with its key in the vault and the certificate {thumbprint}"

    def _record(self, found: FoundAuthority, others: Sequence[FoundAuthority]) -> AuthorityRecord:
        ours = {
            thumb: each.name
            for each in others
            for thumb in map(names.sha256_thumbprint, (each.certificate, *each.further))
        }
        above = list(found.chain[1:])
        at = next((i for i, each in enumerate(above) if names.sha256_thumbprint(each) in ours), len(above))
        parent = ours[names.sha256_thumbprint(above[at])] if at < len(above) else None
        place, group = self.there.places.get(names.thumbprint(found.certificate)), self._group_of(found.name)
        kind = CertificateKind.INTERMEDIATE if above else CertificateKind.ROOT
        algorithm = algorithm_of(found.certificate.public_key())
        described: dict[str, Any] = installed(found.issuer, above[:at], "certificate")
        # As it is asked for when nothing is said: then the same request finds it.
        wanted = AuthorityDefinition(
            name=found.name,
            kind=kind,
            parent=parent,
            key_algorithm=algorithm,
            enrollment_group=group,
            externally_signed=bool(at),
        )
        return AuthorityRecord(
            name=found.name,
            kind=kind,
            key_algorithm=algorithm,
            fingerprint=wanted.fingerprint,
            cause=CAUSE,
            requested_at=self.clock(),
            parent=parent,
            enrollment_group=group,
            # One that was made for its group is not signed for elsewhere, so nobody has to look for that.
            wanted=WantedAuthority() if group is not None else None,
            custody=KeyCustody.VAULT,
            key_id=found.key_id,
            further_certificates="".join(map(names.pem, found.further)) or None,
            crl_number=self._crl_number(found),
            proof_of_possession=None if parent else self._proof(place),
            place=place if place != found.name else None,
            **{**described, "state": AuthorityState.ACTIVE},
        )

    def _proof(self, place: str | None) -> ProofOfPossession:
        if place is not None:
            return ProofOfPossession.VERIFIED
        return ProofOfPossession.PENDING if self.there.takes_proofs else ProofOfPossession.BY_HAND

    def _group_of(self, name: str) -> str | None:
        groups = (str(entry["enrollmentGroupId"]) for entry in self.there.entries)
        return next((each for each in groups if _generation(each, [name])), None)

    # --- groups ---

    async def _group(self, entry: dict[str, Any]) -> AsyncIterator[str]:
        """Take over a group, if its CAs are ours."""
        group_id = str(entry["enrollmentGroupId"])
        if await self.groups.get(group_id) is not None:
            return
        present = attestation_of(entry)
        if present.kind not in OF_GROUPS:
            yield (
                f"not known: the enrollment group {group_id!r}, which is not taken over: it accepts {present.words}. "
                "Its devices go on until somebody deletes it in DPS"
            )
            return
        referred, held = present.references, [each.thumbprint for each in present.held]
        foreign = [each for each in held if each not in self._by_thumbprint]
        if foreign:
            yield (
                f"not known: the enrollment group {group_id!r}, which is not taken over: it has a CA that was not "
                f"taken over (SHA-256 {', '.join(foreign)}). Its devices go on until somebody deletes it in DPS"
            )
            return
        *previous, issuer = [self._by_thumbprint[each] for each in held] or [await self._below(group_id)]
        record = GroupRecord(
            enrollment_group=group_id,
            state=GroupState.DISABLED if entry.get(STATUS) == "disabled" else GroupState.ENABLED,
            issuer=issuer,
            previous_issuer=previous[0] if previous else None,
            updated_at=self.clock(),
            last_request=CAUSE,
            generation=_generation(group_id, self.there.key_names) or 1,
            ca_references=CaReferences(**dict(referred)) if referred else None,
            entry_settings=kept_settings(entry),
        )
        try:
            await self.groups.insert(record)
        except Stale:
            return
        yield f"{group_id}: the enrollment group is taken over, with {issuer or 'no CA of ours'}"
        if previous:
            yield (
                f"not known: since when {group_id!r} is rolled from {previous[0]!r} to {issuer!r}. The old CA is not "
                "taken out by itself: take it out of the group in DPS when its devices have renewed"
            )

    async def _below(self, group_id: str) -> str:
        """Find the CA that was made for a group that refers to CAs by name."""
        made = _generation(group_id, self.there.key_names)
        name = authority_name(group_id, made) if made else ""
        return name if name and await self.records.holder(name) is not None else ""


def _identity_of(found: FoundAuthority) -> str:
    return authority_identity(found.certificate.subject, found.issuer.signing_key.public_key())


def _generation(group_id: str, of: Collection[str]) -> int:
    """Give the highest number of a CA among those that were made for a group; 0 if none was."""
    begin = authority_name(group_id, 0).removesuffix("0")
    numbers = [re.fullmatch(re.escape(begin) + r"([1-9]\d{0,5})", each.lower()) for each in of]
    return max((int(each[1]) for each in numbers if each), default=0)
