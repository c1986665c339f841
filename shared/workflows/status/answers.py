"""OCSP: the status of a certificate as the ledger has it at this moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.x509.ocsp import OCSPResponseStatus, load_der_ocsp_response

from shared.domain.certificates import CertificateState, InternalKind
from shared.errors import Rejected
from shared.pki import names, ocsp
from shared.pki.ocsp import Responder, Revoked, Status, UnreadableRequest
from shared.pki.profiles import ocsp_responder_profile
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.pki.subjects import Subject
from shared.workflows.authorities.issuance import Signer, Wanted
from shared.workflows.turns import Turns

if TYPE_CHECKING:
    from datetime import datetime

    from shared.ledger.certificates import Certificates
    from shared.pki.issuers import Issuer
    from shared.workflows.authorities.issuance import Issuance
    from shared.workflows.authorities.loading import CertificateAuthorities, LoadedAuthority
    from shared.workflows.intake.outbox import Clock

CONTENT_TYPE = "application/ocsp-response"
"""RFC 6960 appendix A.2."""

ANSWER_LIFE = timedelta(hours=1)
"""From thisUpdate to nextUpdate: so late may a client that keeps answers see a revocation."""

_NAME_LIMIT = 64
_MADE = frozenset(
    {CertificateState.ACTIVE, CertificateState.SUPERSEDED, CertificateState.EXPIRED, CertificateState.REVOKED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAnswers:
    """Answers OCSP requests. Each worker has a responder of its own for each CA that it is asked about."""

    authorities: CertificateAuthorities
    issuance: Issuance
    certificates: Certificates
    clock: Clock
    _responders: dict[str, Responder] = field(default_factory=dict)
    _making: Turns = field(default_factory=Turns)

    async def answer(self, name: str, request: bytes) -> bytes:
        """Answer a request about a certificate of a CA.

        Args:
            name: of the CA.
            request: OCSPRequest in DER.

        Returns:
            OCSPResponse in DER; what can't be answered is so named in it.

        Raises:
            NotFound: the CA does not exist.
        """
        authority = await self.authorities.loaded(name)
        try:
            asked = ocsp.read_request(request, authority.issuer)
        except UnreadableRequest as error:
            return ocsp.refusal(error)
        status = await self._status(authority, asked.serial_number)
        now = self.clock()
        try:
            responder = await self._responder(authority, now)
        except Rejected:  # the CA has expired, or may not have a responder: nothing here may speak for it
            return ocsp.refusal(UnreadableRequest(OCSPResponseStatus.UNAUTHORIZED))
        return ocsp.answer(asked, status, responder=responder, now=now, next_update=now + ANSWER_LIFE)

    async def _status(self, authority: LoadedAuthority, serial_number: int) -> Status:
        known = await self.certificates.get(names.serial_text(serial_number))
        if known is None or known.record.issuer != authority.name or known.record.state not in _MADE:
            return ocsp.UNKNOWN
        record = known.record
        if record.revoked_at is None or record.revocation_reason is None:
            return ocsp.GOOD
        return Revoked(record.revoked_at, record.revocation_reason.value)

    async def _responder(self, authority: LoadedAuthority, now: datetime) -> Responder:
        async with self._making.of(authority.name):  # of a burst one makes it, and the others wait
            present = self._responders.get(authority.name)
            if present is not None and now < _used_until(present, authority.issuer):
                return present
            made = self._responders[authority.name] = await self._make_responder(authority)
            return made

    async def _make_responder(self, authority: LoadedAuthority) -> Responder:
        key = generate_key(KeyAlgorithm.EC_P256)
        wanted = Wanted(
            kind=InternalKind.OCSP_RESPONDER,
            profile=ocsp_responder_profile(),
            subject=Subject(f"OCSP {authority.name}"[:_NAME_LIMIT]),
            public_key=key.public_key(),
            cause="ocsp",
        )
        return Responder(await self.issuance.issue(wanted, Signer(authority.name, authority.issuer)), key)


def is_successful(answer: bytes) -> bool:
    """Tell whether an OCSPResponse says how a certificate is, and not that it can't be said (RFC 6960 section 2.3)."""
    return load_der_ocsp_response(answer).response_status is OCSPResponseStatus.SUCCESSFUL


def _used_until(responder: Responder, issuer: Issuer) -> datetime:
    """Use a responder for half its life; or for all of it, where another one would not live longer."""
    begin, end = responder.certificate.not_valid_before_utc, responder.certificate.not_valid_after_utc
    return end if end == issuer.ends_first.not_valid_after_utc else begin + (end - begin) / 2
