"""OCSP: the status of a certificate as the ledger has it at this moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.x509.ocsp import OCSPResponseStatus, load_der_ocsp_response

from shared.domain.certificates import CertificateState
from shared.errors import Deferred, Rejected
from shared.pki import names, ocsp
from shared.pki.ocsp import Revoked, Status, UnreadableRequest

if TYPE_CHECKING:
    from shared.ledger.certificates import Certificates
    from shared.workflows.authorities.loading import CertificateAuthorities, LoadedAuthority
    from shared.workflows.intake.outbox import Clock
    from shared.workflows.status.lost_past import LostPast
    from shared.workflows.status.responders import Responders

CONTENT_TYPE = "application/ocsp-response"
"""RFC 6960 appendix A.2."""

ANSWER_LIFE = timedelta(hours=1)
"""From thisUpdate to nextUpdate: so late may a client that keeps answers see a revocation."""

_MADE = frozenset(
    {CertificateState.ACTIVE, CertificateState.SUPERSEDED, CertificateState.EXPIRED, CertificateState.REVOKED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAnswers:
    """Answers OCSP requests, whoever makes the responders."""

    authorities: CertificateAuthorities
    certificates: Certificates
    responders: Responders
    clock: Clock
    past: LostPast

    async def answer(self, name: str, request: bytes) -> bytes:
        """Answer a request about a certificate of a CA.

        Args:
            name: of the CA.
            request: OCSPRequest in DER.

        Returns:
            OCSPResponse in DER; what can't be answered is so named in it. An older ledger's word counts only about
            what is revoked: of anything else it may have forgotten the end, so the answer is ``tryLater``.

        Raises:
            NotFound: the CA does not exist.
        """
        authority = await self.authorities.loaded(name)
        try:
            asked = ocsp.read_request(request, authority.issuer)
        except UnreadableRequest as error:
            return ocsp.refusal(error)
        if authority.deleted:  # its key is gone, and so are all certificates that it has signed
            return ocsp.refusal(UnreadableRequest(OCSPResponseStatus.UNAUTHORIZED))
        # Looked at before: what an older ledger says is not called good because it was restored a moment later.
        lost = await self._is_lost(authority)
        status = await self._status(authority, asked.serial_number)
        if not isinstance(status, Revoked):
            if isinstance(lost, Exception):
                raise lost
            if lost:
                return ocsp.refusal(UnreadableRequest(OCSPResponseStatus.TRY_LATER))
        now = self.clock()
        try:
            responder = await self.responders.of(authority, now)
        except Deferred:
            return ocsp.refusal(UnreadableRequest(OCSPResponseStatus.TRY_LATER))
        except Rejected:  # the CA has expired, or may not have a responder: nothing here may speak for it
            return ocsp.refusal(UnreadableRequest(OCSPResponseStatus.UNAUTHORIZED))
        return ocsp.answer(asked, status, responder=responder, now=now, next_update=now + ANSWER_LIFE)

    async def _is_lost(self, authority: LoadedAuthority) -> bool | Exception:
        """Tell whether the ledger's past is lost, or why nobody knows: that a certificate is revoked counts anyway."""
        try:
            return await self.past.is_lost(authority)
        except Exception as error:  # noqa: BLE001 - raised where it matters
            return error

    async def _status(self, authority: LoadedAuthority, serial_number: int) -> Status:
        known = await self.certificates.get(names.serial_text(serial_number))
        if known is None or known.record.issuer != authority.name or known.record.state not in _MADE:
            return ocsp.UNKNOWN
        record = known.record
        if record.revoked_at is None or record.revocation_reason is None:
            return ocsp.GOOD
        return Revoked(record.revoked_at, record.revocation_reason.value)


def is_successful(answer: bytes) -> bool:
    """Tell whether an OCSPResponse says how a certificate is, and not that it can't be said (RFC 6960 section 2.3)."""
    return load_der_ocsp_response(answer).response_status is OCSPResponseStatus.SUCCESSFUL
