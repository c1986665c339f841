"""Says why a device is as it is: the cause, what to do, its doors, and what happened.

It is asked by the device's id, or by what somebody has at hand: a chain, a thumbprint, or lines of a device's log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cryptography import x509

from shared.contracts.explanations import (
    ExplainedCertificate,
    ExplainedLine,
    Explanation,
    ExplanationCall,
    ExplanationCause,
    ExplanationDoor,
    ExplanationMoment,
    FurtherCause,
    ToDo,
)
from shared.domain.explanations.causes import Explanation as Known
from shared.domain.explanations.causes import explain
from shared.domain.explanations.certificates import Pasted, certificate_causes, relation
from shared.domain.explanations.logs import devices_named, log_causes, not_recognised, recognised
from shared.domain.explanations.parts import Cause, Kind, Remedy, Unseen, thumbprints_of
from shared.errors import NotFound, Rejected
from shared.pki import names
from shared.pki.certificate_rules import unreadable_findings
from shared.pki.certificates import UNREADABLE, find_extension, issued_by
from shared.pki.damage import why_unreadable
from shared.pki.readable import load_certificate
from shared.reading.pem import certificates as pem_certificates
from shared.rules.registration_ids import canonical_registration_id
from shared.workflows.authorities.records import all_certificates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.domain.explanations.logs import Line
    from shared.domain.explanations.parts import Seen
    from shared.ledger.authorities import Authorities
    from shared.ledger.certificates import Certificates
    from shared.ledger.directory import Directory
    from shared.workflows.devices.looking import Looking
    from shared.workflows.intake.outbox import Clock

_SEPARATORS = re.compile(r"[\s:]")
_THUMBPRINT = re.compile(r"(?:[0-9A-F]{40}|[0-9A-F]{64})")
_QUIET = frozenset({Kind.HEALTHY, Kind.WAITING, Kind.DUE})
"""Kinds of causes that keep nobody out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explaining:
    """Answers why."""

    looking: Looking
    directory: Directory
    certificates: Certificates
    authorities: Authorities
    clock: Clock

    async def of_device(self, registration_id: str) -> Explanation:
        """Explain a device.

        Raises:
            NotFound: the ledger does not have it.
        """
        seen = await self.looking.at(registration_id)
        return _answer(seen, explain(seen))

    async def of_thumbprint(self, thumbprint: str, said: str | None) -> Explanation:
        """Explain the device that has, or had, a certificate with a thumbprint.

        Args:
            thumbprint: SHA-1 or SHA-256 in hexadecimal, with colons or spaces as they are pasted.
            said: the device that it is said to be of.

        Raises:
            Rejected: it is not a thumbprint.
        """
        digits = _SEPARATORS.sub("", thumbprint).upper()
        if not _THUMBPRINT.fullmatch(digits):
            raise Rejected.because(
                f"{thumbprint[:100]!r} is not a thumbprint: SHA-1 has 40 hexadecimal digits, SHA-256 has 64",
                field="thumbprint",
            )
        seen = await self._seen(await self.directory.by_thumbprint(digits)) or await self._seen(said)
        found = next((each for each in _carried(seen) if digits in thumbprints_of(each)), None)
        if found is None:
            return _answer(seen, explain(seen) if seen else None, first=(_unknown_thumbprint(digits),))
        return await self._of_chain((found,), said, seen=seen, whole=False)

    async def of_certificate(self, pem: str, said: str | None) -> Explanation:
        """Explain a chain, and the device that it is of.

        Args:
            pem: as the device sends it.
            said: the device that it is said to be of.

        Raises:
            Rejected: it can't be read.
        """
        found = pem_certificates(pem, field="certificate", wanted="certificates in PEM, as the device sends them")
        chain = tuple(_read(position, der) for position, der in enumerate(found, start=1))
        for damage in unreadable_findings(chain, "the PEM"):
            raise Rejected.because(damage.message, field="certificate")
        return await self._of_chain(chain, said)

    async def of_log(self, log: str, said: str | None) -> Explanation:
        """Explain lines of a device's log.

        Args:
            log: the lines.
            said: the device that they are said to be of; else the one that they name, if the ledger has it.
        """
        lines = recognised(log)
        seen = None
        for named in [said] if said else devices_named(log):
            seen = seen or await self._seen(named)
        told = log_causes(lines) or (not_recognised(log),)
        known = explain(seen) if seen else None
        if known is not None and known.cause.kind not in _QUIET:
            return _answer(seen, known, after=told, log=lines)
        return _answer(seen, known, first=told, log=lines)

    # --- chains ---

    async def _of_chain(
        self, chain: Sequence[x509.Certificate], said: str | None, *, seen: Seen | None = None, whole: bool = True
    ) -> Explanation:
        leaf = next((each for each in chain if not _is_authority(each)), chain[0])
        number = names.serial_text(leaf.serial_number)
        known = await self.certificates.get(number)
        record = known.record if known and known.record.thumbprint == names.thumbprint(leaf) else None
        owner = record.subject if record else names.common_name(leaf.subject)
        seen = seen or await self._seen(owner) or await self._seen(said)
        pasted = Pasted(
            now=self.clock(),
            chain=tuple(chain),
            leaf=leaf,
            record=record,
            device=seen.device if seen else None,
            signed_here=record is not None or await self._signed_here(leaf),
            said=said,
            decision=await self._decision(chain, said or owner) if whole else None,
        )
        shown = ExplainedCertificate(
            serial_number=number,
            thumbprint=names.thumbprint(leaf),
            subject=names.common_name(leaf.subject),
            issuer=names.common_name(leaf.issuer),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
            relation=relation(pasted),
            state=record.state if record else None,
        )
        return _answer(seen, explain(seen) if seen else None, first=certificate_causes(pasted), certificate=shown)

    async def _decision(self, chain: Sequence[x509.Certificate], owner: str) -> Any:
        registration_id = _registration_id(owner)
        if registration_id is None:
            return None
        view = await self.looking.dps(registration_id, chain)
        decision = self.looking.decide(view, chain, registration_id)
        return None if isinstance(decision, Unseen) else decision

    async def _signed_here(self, leaf: x509.Certificate) -> bool:
        """Tell whether a CA of this app has signed a certificate, by its key and not by its name alone."""
        async for record in self.authorities.list():
            if any(issued_by(leaf, each) for each in all_certificates(record)):
                return True
        return False

    async def _seen(self, registration_id: str | None) -> Seen | None:
        """Look at a device that may exist."""
        canonical = _registration_id(registration_id or "")
        if canonical is None:
            return None
        try:
            return await self.looking.at(canonical)
        except NotFound:
            return None


def _registration_id(text: str) -> str | None:
    try:
        return canonical_registration_id(text)
    except Rejected:
        return None


def _read(position: int, der: bytes) -> x509.Certificate:
    try:
        return load_certificate(der)
    except UNREADABLE:
        raise Rejected.because(
            f"certificate {position} of the PEM can't be read: {why_unreadable(der)}", field="certificate"
        ) from None


def _is_authority(certificate: x509.Certificate) -> bool:
    constraints = find_extension(certificate, x509.BasicConstraints)
    return constraints is not None and constraints.ca


def _carried(seen: Seen | None) -> Sequence[x509.Certificate]:
    return tuple(seen.certificates.values()) if seen else ()


def _unknown_thumbprint(thumbprint: str) -> Cause:
    return Cause(
        "unknownThumbprint",
        Kind.FAULT,
        f"no certificate that a device of this app has, or had as its last one, has the thumbprint {thumbprint}",
        Remedy("Send the certificate itself: it says who has issued it."),
    )


# --- answers ---


def _answer(
    seen: Seen | None,
    known: Known | None,
    *,
    first: Sequence[Cause] = (),
    after: Sequence[Cause] = (),
    certificate: ExplainedCertificate | None = None,
    log: Sequence[Line] = (),
) -> Explanation:
    """Give an explanation as it is answered; what was given is looked at beside what is known of the device."""
    own = known.causes if known else ()
    causes = [*first, *own, *after] if not first else [*first, *(each for each in own if each.kind not in _QUIET)]
    causes = causes or [_nothing_known()]
    kinds = {each.kind for each in causes}
    return Explanation(
        registration_id=seen.device.registration_id if seen else None,
        state=seen.device.shown_state if seen else None,
        as_it_should_be=False if Kind.FAULT in kinds else None if Kind.UNKNOWN in kinds else True,
        cause=ExplanationCause(code=causes[0].code, kind=causes[0].kind, text=causes[0].text),
        what_to_do=_to_do(causes[0].remedy),
        further=[
            FurtherCause(code=each.code, kind=each.kind, text=each.text, what_to_do=_to_do(each.remedy))
            for each in causes[1:]
        ],
        doors=[
            ExplanationDoor(door=each.door, name=each.name, state=each.state, why=each.why)
            for each in (known.doors if known else ())
        ],
        timeline=[
            ExplanationMoment(at=each.at, source=each.source, text=each.text)
            for each in (known.timeline if known else ())
        ],
        certificate=certificate,
        log=[
            ExplainedLine(
                line=each.number,
                text=each.text,
                code=each.message.code,
                meaning=each.message.meaning,
                source=each.message.source,
            )
            for each in log
        ],
    )


def _nothing_known() -> Cause:
    return Cause(
        "deviceUnknown",
        Kind.UNKNOWN,
        "the certificate is good, and the ledger does not have its device",
        Remedy("Say which device it is, by registrationId."),
    )


def _to_do(remedy: Remedy) -> ToDo:
    call = remedy.call
    if call is None:
        return ToDo(text=remedy.text, call=None)
    body = dict(call.body) if call.body is not None else None
    return ToDo(text=remedy.text, call=ExplanationCall(method=call.method, path=call.path, body=body))
