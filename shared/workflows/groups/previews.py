"""Previews: which entry DPS would match for a device, what it would answer, and why."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from shared.contracts import answers_certificates as answers
from shared.contracts.answers_certificates import Check, DpsAnswer
from shared.domain.attestations import attestation_of, attests_by_certificates, certificate_of
from shared.domain.authorities import ProofOfPossession
from shared.domain.dps_decisions import Knowledge, decide
from shared.errors import NotFound, Rejected
from shared.pki import names
from shared.pki.certificates import UNREADABLE
from shared.pki.damage import why_unreadable
from shared.pki.findings import Finding
from shared.pki.readable import load_certificate, load_certificates
from shared.reading.pem import certificates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from shared.domain.attestations import Entry
    from shared.domain.dps_decisions import Decision, Match
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.provisioning import ProvisioningService
    from shared.workflows.authorities.loading import CertificateAuthorities
    from shared.workflows.intake.outbox import Clock

UNAUTHORIZED = 401002
"""DPS's error code for a device that it does not let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Previews:
    """Answers in place of DPS, and says why."""

    provisioning: ProvisioningService
    resource: DpsCaCertificates | None
    authorities: CertificateAuthorities
    clock: Clock

    async def check(self, group_id: str | None, registration_id: str, chain_pem: str) -> Check:
        """Tell what DPS would do with a device.

        Args:
            group_id: the group that the device is meant for; ``None`` for whichever DPS finds.
            registration_id: as it would register.
            chain_pem: the certificates it would send, leaf first.

        Returns:
            The entry that DPS would match, its answer, and every reason found.

        Raises:
            Rejected: the chain can't be read, or the group looks at none.
            NotFound: DPS does not have the group.
        """
        chain = _read(chain_pem)
        enrollment, groups, verified = await asyncio.gather(
            self.provisioning.get_enrollment(registration_id), self.groups(), self.verified(chain)
        )
        named = next((each for each in groups if str(each["enrollmentGroupId"]).lower() == group_id), None)
        if group_id is not None and named is None:
            raise NotFound.because(f"the DPS has no enrollment group {group_id!r}", field="enrollmentGroup")
        if named is not None and not attests_by_certificates(named):
            raise Rejected.because(
                f"the enrollment group {group_id!r} accepts {attestation_of(named).words}, and no certificate",
                field="enrollmentGroup",
            )
        known = Knowledge(enrollment, [*filter(attests_by_certificates, groups)], verified, self.clock(), named)
        return _described(group_id, registration_id, decide(chain, registration_id, known))

    async def groups(self) -> list[Entry]:
        """Give all enrollment groups of the DPS."""
        return [each async for each in self.provisioning.list_groups()]

    async def verified(self, chain: Sequence[x509.Certificate]) -> dict[str, x509.Certificate]:
        """Find the CA certificates that are verified in the DPS, by their names there.

        The service names them by thumbprint; where it does not give the certificate, ours or the chain's is it.
        """
        own = {record.name: record async for record in self.authorities.list() if record.certificate}
        if self.resource is None:
            proved = {ProofOfPossession.VERIFIED, ProofOfPossession.BY_HAND}
            return {
                name: load_certificates((record.certificate or "").encode())[0]
                for name, record in own.items()
                if record.proof_of_possession in proved
            }
        known = {names.thumbprint(each): each for each in chain}
        for record in own.values():
            if record.thumbprint is not None and record.thumbprint not in known:
                known[record.thumbprint] = load_certificates((record.certificate or "").encode())[0]
        verified: dict[str, x509.Certificate] = {}
        for each in await self.resource.verified():
            certificate = known.get(each.thumbprint) or certificate_of(each.certificate)
            if certificate is not None:
                verified[each.name] = certificate
        return verified


def _read(chain_pem: str) -> list[x509.Certificate]:
    wanted = "certificates in PEM, leaf first, then each one's issuer"
    found = certificates(chain_pem, field="chain", wanted=wanted)
    return [_read_one(position, der) for position, der in enumerate(found, start=1)]


def _read_one(position: int, der: bytes) -> x509.Certificate:
    try:
        return load_certificate(der)
    except UNREADABLE:
        raise Rejected.because(
            f"certificate {position} of the PEM can't be read: {why_unreadable(der)}", field="chain"
        ) from None


def _described(group_id: str | None, registration_id: str, decision: Decision) -> Check:
    match, refusal = decision.match, decision.causes[0].message if decision.causes else None
    advice = list(decision.advice)
    matches = match is not None and match.by is not None and match.identifier.lower() == group_id
    if group_id and match is not None and match.by is not None and not matches:
        advice.append(Finding("other-group", _why_other(match, group_id)))
    return Check(
        registration_id=registration_id,
        enrollment_group=group_id,
        accepted=refusal is None,
        match=_shown(match),
        matches_group=matches,
        answer=DpsAnswer(
            status=200 if refusal is None else 401,
            error_code=None if refusal is None else UNAUTHORIZED,
            message=refusal,
        ),
        reasons=[
            *(_reason(cause.finding, "refusal") for cause in decision.causes),
            *(_reason(each, "advice") for each in advice),
        ],
    )


def _reason(finding: Finding, effect: Literal["refusal", "advice"]) -> answers.Finding:
    return answers.Finding(code=finding.code, effect=effect, message=finding.message)


def _shown(match: Match | None) -> answers.Match | None:
    if match is None:
        return None
    return answers.Match(
        kind=match.kind,
        id=match.identifier,
        provisioning_status="enabled" if match.enabled else "disabled",
        by=names.common_name(match.by.subject) if match.by else None,
    )


def _why_other(match: Match, group_id: str) -> str:
    by = names.quoted(match.by.subject) if match.by else ""
    return (
        f"DPS matches the enrollment group {match.identifier!r} and not {group_id!r}: it takes the group of the lowest "
        f"CA in the chain that has one, and that is {by}"
    )
