"""Previews: which entry DPS would match for a device, what it would answer, and why.

Order of match (Microsoft: "How to disenroll or revoke a device"): the individual enrollment of the registration id,
then the groups of the chain's CAs, the lowest first. The first entry found decides, enabled or disabled.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from cryptography import x509

from shared.errors import Rejected
from shared.ledger.issuers import ProofOfPossession
from shared.pki import names
from shared.pki.certificates import UNREADABLE, issued_by
from shared.pki.chains import Finding, check_chain
from shared.workflows.dps_entries import certificate_of, held_certificates, read_entry, references

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.adapters.dps_management import ProvisioningServiceAuthorities
    from shared.adapters.dps_service import ProvisioningService
    from shared.workflows.certificate_authorities import CertificateAuthorities
    from shared.workflows.dps_entries import Entry
    from shared.workflows.events import Clock

UNAUTHORIZED = 401002
"""DPS's error code for a device that it does not let in."""

_INVALID, _DISABLED = "Invalid certificate", "Enrollment is disabled"
_MESSAGES = {
    "no-verified-ca": "CA certificate not found",
    "not-verified": "CA certificate not found",
    "broken-link": "CA certificate not found",
    "other-key": "CA certificate not found",
    "no-group": "Signing certificate info did not match chain elements",
    "wrong-group": "Signing certificate info did not match chain elements",
}
_OF_THE_PATH = frozenset({*_MESSAGES, "self-signed-leaf"})
"""Findings that do not concern a device with an enrollment of its own: it is known by its certificate itself."""


@dataclass(frozen=True, slots=True)
class Match:
    """The entry that decides.

    Attributes:
        kind: ``individualEnrollment`` or ``enrollmentGroup``.
        identifier: registration id, or id of the group.
        entry: as DPS holds it.
        by: the certificate of the chain that it was found by; ``None`` for an individual enrollment.
    """

    kind: str
    identifier: str
    entry: Entry
    by: x509.Certificate | None = None

    @property
    def enabled(self) -> bool:
        """Whether it lets devices in."""
        return self.entry.get("provisioningStatus") != "disabled"


@dataclass(frozen=True, slots=True)
class Previews:
    """Answers in place of DPS, and says why."""

    provisioning: ProvisioningService
    resource: ProvisioningServiceAuthorities | None
    authorities: CertificateAuthorities
    clock: Clock

    async def check(self, group_id: str | None, registration_id: str, chain_pem: str) -> dict[str, Any]:
        """Tell what DPS would do with a device.

        Args:
            group_id: the group that the device is meant for; ``None`` for whichever DPS finds.
            registration_id: as it would register.
            chain_pem: the certificates it would send, leaf first.

        Returns:
            The entry that DPS would match, its answer, and every reason found.

        Raises:
            Rejected: the chain can't be read.
            NotFound: DPS does not have the group.
        """
        chain = _read(chain_pem)
        group, enrollment, verified = await asyncio.gather(
            read_entry(self.provisioning, group_id) if group_id else _nothing(),
            self.provisioning.get_enrollment(registration_id),
            self._verified(chain),
        )
        if enrollment is not None:
            match: Match | None = Match("individualEnrollment", registration_id, enrollment)
        else:
            match = _first_match(chain, [each async for each in self.provisioning.list_groups()], verified)
        findings = self._findings(chain, registration_id, match.entry if match else group, verified, match)
        if match is None and group_id is None:
            findings = [*(each for each in findings if each.code != "wrong-group"), _no_group(chain)]
        return _described(group_id, registration_id, match, findings)

    def _findings(
        self,
        chain: Sequence[x509.Certificate],
        registration_id: str,
        entry: Entry,
        verified: dict[str, x509.Certificate],
        match: Match | None,
    ) -> list[Finding]:
        individual = match is not None and match.by is None and not references(entry)
        found = check_chain(
            chain,
            registration_id=registration_id,
            group_certificates=_accepted(entry, chain, verified),
            verified_authorities=list(verified.values()),
            now=self.clock(),
        )
        if not individual:
            return list(found)
        return [*(each for each in found if each.code not in _OF_THE_PATH), *_own_certificate(chain[0], entry)]

    async def _verified(self, chain: Sequence[x509.Certificate]) -> dict[str, x509.Certificate]:
        """Find the CA certificates that are verified in the DPS, by their names there.

        The service names them by thumbprint; where it does not give the certificate, ours or the chain's is it.
        """
        own = {record.name: record async for record in self.authorities.list() if record.certificate}
        if self.resource is None:
            proved = {ProofOfPossession.VERIFIED, ProofOfPossession.BY_HAND}
            return {
                name: x509.load_pem_x509_certificate((record.certificate or "").encode())
                for name, record in own.items()
                if record.proof_of_possession in proved
            }
        known = {names.thumbprint(each): each for each in chain}
        for record in own.values():
            if record.thumbprint is not None and record.thumbprint not in known:
                known[record.thumbprint] = x509.load_pem_x509_certificate((record.certificate or "").encode())
        verified: dict[str, x509.Certificate] = {}
        for each in await self.resource.verified():
            certificate = known.get(each.thumbprint) or certificate_of(each.certificate)
            if certificate is not None:
                verified[each.name] = certificate
        return verified


async def _nothing() -> Entry:
    """Stand in for the group that is not named: an entry that accepts no certificate."""
    return {"attestation": {"x509": {}}}


def _no_group(chain: Sequence[x509.Certificate]) -> Finding:
    present = ", ".join(names.quoted(each.subject) for each in chain[1:]) or "none"
    return Finding(
        "no-group", f"no enrollment group of this DPS holds a CA of the chain; the chain's CAs are {present}"
    )


def _read(chain_pem: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(chain_pem.encode())
    except UNREADABLE as error:
        raise Rejected.because(
            f"there are no certificates in PEM, leaf first, then each one's issuer: {str(error)[:200]}", field="chain"
        ) from None


def _first_match(
    chain: Sequence[x509.Certificate], groups: Sequence[Entry], verified: dict[str, x509.Certificate]
) -> Match | None:
    """Find the group of the lowest CA; the verified CA above the chain is the last that counts."""
    above = [each for each in verified.values() if each not in chain and issued_by(chain[-1], each)]
    for authority in (*chain[1:], *above[:1]):
        thumbprint = names.sha256_thumbprint(authority)
        for group in groups:
            named = [verified[name] for name in references(group).values() if name in verified]
            if thumbprint in held_certificates(group) or authority in named:
                return Match("enrollmentGroup", str(group["enrollmentGroupId"]), group, authority)
    return None


def _accepted(
    entry: Entry, chain: Sequence[x509.Certificate], verified: dict[str, x509.Certificate]
) -> list[x509.Certificate]:
    """Give the certificates that an entry accepts chains of."""
    known = {names.sha256_thumbprint(each): each for each in (*chain, *verified.values())}
    held = [known.get(thumbprint) or certificate_of(text) for thumbprint, text in held_certificates(entry).items()]
    named = [verified.get(name) for name in references(entry).values()]
    return [each for each in (*held, *named) if each is not None]


def _own_certificate(leaf: x509.Certificate, enrollment: Entry) -> list[Finding]:
    held = held_certificates(enrollment)
    if names.sha256_thumbprint(leaf) in held:
        return []
    return [
        Finding(
            "other-certificate",
            "the device's individual enrollment, which decides before any group, holds another certificate (SHA-256 "
            f"{' or '.join(held) or 'none'}) than the leaf (SHA-256 {names.sha256_thumbprint(leaf)}); put the leaf "
            "into it, or delete it to let a group decide",
        )
    ]


def _described(
    group_id: str | None, registration_id: str, match: Match | None, findings: list[Finding]
) -> dict[str, Any]:
    refusal = _MESSAGES.get(findings[0].code, _INVALID) if findings else None
    if match is None:
        refusal = refusal or _MESSAGES["wrong-group"]
    reasons = [{"code": finding.code, "message": finding.message} for finding in findings]
    if match is not None and not match.enabled:
        refusal = refusal or _DISABLED
        reasons.append({"code": "disabled", "message": _why_disabled(match)})
    if group_id and match is not None and match.by is not None and match.identifier.lower() != group_id:
        reasons.append({"code": "other-group", "message": _why_other(match, group_id)})
    return {
        "registrationId": registration_id,
        "enrollmentGroup": group_id,
        "accepted": refusal is None,
        "match": _shown(match),
        "matchesGroup": match is not None and match.by is not None and match.identifier.lower() == group_id,
        "answer": {
            "status": HTTPStatus.OK if refusal is None else HTTPStatus.UNAUTHORIZED,
            "errorCode": None if refusal is None else UNAUTHORIZED,
            "message": refusal,
        },
        "reasons": reasons,
    }


def _shown(match: Match | None) -> dict[str, Any] | None:
    if match is None:
        return None
    return {
        "kind": match.kind,
        "id": match.identifier,
        "provisioningStatus": "enabled" if match.enabled else "disabled",
        "by": names.common_name(match.by.subject) if match.by else None,
    }


def _why_disabled(match: Match) -> str:
    if match.by is None:
        return (
            f"the individual enrollment of {match.identifier!r} is disabled, and decides before any group: the device "
            "is shut out"
        )
    return (
        f"the enrollment group {match.identifier!r}, found by {names.quoted(match.by.subject)}, is disabled; "
        "DPS looks no further, so no group of a CA higher up lets the device in"
    )


def _why_other(match: Match, group_id: str) -> str:
    by = names.quoted(match.by.subject) if match.by else ""
    return (
        f"DPS matches the enrollment group {match.identifier!r} and not {group_id!r}: it takes the group of the lowest "
        f"CA in the chain that has one, and that is {by}"
    )
