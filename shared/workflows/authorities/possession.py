"""Proof of possession: what a DPS, or an IoT hub, has to be shown before it takes devices of a CA; and its end.

Microsoft: "How to verify X.509 CA certificates". A service has 25 places for CA certificates ("Azure IoT DPS limits",
"IoT Hub quotas and throttling").
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec

from shared.domain.authorities import OVER, ProofOfPossession
from shared.domain.authority_acts import check_signs
from shared.domain.requests import draws
from shared.domain.words import CertificateKind
from shared.errors import Conflict, Deferred, Overtaken, PreconditionFailed, Rejected
from shared.pki import names
from shared.pki.profiles import verification_profile
from shared.pki.subjects import Subject
from shared.workflows.authorities.issuance import Signer, Wanted
from shared.workflows.authorities.loading import BEING_MADE
from shared.workflows.authorities.records import all_certificates

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from cryptography import x509

    from shared.domain.authorities import AuthorityRecord
    from shared.domain.requests import RequestRecord
    from shared.ledger.requests import Requests
    from shared.ports.ca_certificates import CaCertificates, UploadedAuthority
    from shared.workflows.authorities.issuance import Issuance
    from shared.workflows.authorities.loading import CertificateAuthorities

PLACES = 25
"""CA certificates of one service."""

_RETRY = timedelta(seconds=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Possession:
    """Shows services possession of CAs' keys.

    Attributes:
        services: a DPS and hubs; none where possession is proved by hand.
    """

    authorities: CertificateAuthorities
    issuance: Issuance
    services: Sequence[CaCertificates]

    @property
    def of_topmost(self) -> ProofOfPossession:
        """How possession of a CA that stands at the top of ours is proved."""
        return ProofOfPossession.PENDING if self.services else ProofOfPossession.BY_HAND

    async def check_places(self, name: str, certificate: x509.Certificate | None) -> None:
        """See that every service has a place for a CA's certificate; see :func:`check_place`."""
        for service in self.services:
            await check_place(service, name, certificate)

    async def prove(self, record: AuthorityRecord) -> None:
        """Upload a CA to every service and prove possession of its key; errors are those of :func:`prove`.

        If the CA has ended meanwhile, its places are freed again.
        """
        await self._prove_in(record, {record.place or record.name: next(all_certificates(record))})

    async def prove_again(self, record: AuthorityRecord, now: datetime) -> None:
        """Prove possession in every place of a CA, also those of valid former certificates, as :meth:`prove` does."""
        places = places_of(record).items()
        await self._prove_in(record, {place: each for place, each in places if each.not_valid_after_utc >= now})

    async def _prove_in(self, record: AuthorityRecord, places: Mapping[str, x509.Certificate]) -> None:
        async def sign(code: str) -> x509.Certificate:
            return await self.verification_certificate(record.name, code, cause=record.cause)

        try:
            for service in self.services:
                for place, certificate in places.items():
                    await prove(service, place, certificate, sign)
        finally:
            # Who ends the CA after this look frees its places after this proof.
            present = await self.authorities.get(record.name)
            if present.state in OVER:
                await self.withdraw(present)

    async def withdraw(self, record: AuthorityRecord) -> None:
        """Free the places of a CA's certificates in every service; those of another CA of that name are left.

        A service that does not know a root lets no device in by it. So this shuts doors, too.

        Raises:
            Deferred: others are changing them.
        """
        own = {names.thumbprint(each) for each in all_certificates(record)}
        places = [record.name, *(place_of(record.name, each) for each in all_certificates(record))]
        for service in self.services:
            for place in places if record.place is not None else places[:1]:
                await self._free(service, place, own)

    @staticmethod
    async def _free(service: CaCertificates, place: str, own: Collection[str]) -> None:
        present = await service.get(place)
        if present is None or present.thumbprint not in {"", *own}:
            return
        try:
            await service.delete(place, present.etag)
        except PreconditionFailed as changed:
            raise Deferred(
                f"the place {place!r} in {service.holder} is being changed by others", retry_after=_RETRY
            ) from changed

    async def verification_certificate(self, name: str, code: str, *, cause: str) -> x509.Certificate:
        """Sign a certificate whose CN is a service's verification code, with a key that is thrown away.

        Args:
            name: the CA whose possession is to be proved.
            code: the code, exactly as the service gave it.
            cause: id of the request.

        Raises:
            NotFound: the CA does not exist.
            Conflict: it signs nothing any more.
            Deferred: it is being made, or waits for its certificate, or is disabled.
        """
        return await self.issuance.issue(*await self._verification(name, code, cause))

    async def requested_certificate(
        self, requests: Requests, request: RequestRecord, *, name: str, code: str
    ) -> x509.Certificate:
        """Sign a certificate as :meth:`verification_certificate` does: one for a request, however often that comes.

        The serial number is entered in the request before it is signed. Who finds one there takes what was recorded
        under it, or gives it up before another one is drawn.

        Args:
            requests: all requests.
            request: what asks for it, as it was when this delivery began.
            name: the CA whose possession is to be proved.
            code: the code, exactly as the service gave it.

        Raises:
            NotFound: the CA does not exist.
            Conflict: it signs nothing any more.
            Deferred: it is being made, or waits for its certificate, or is disabled.
            Overtaken: another delivery is at work.
        """
        before = request.certificate
        made = await self.issuance.counting(before) if before is not None else None
        if made is not None:
            return made

        async def claim(serial_number: str) -> None:
            if await requests.enter(request, draws(serial_number, instead_of=before)) is None:
                raise Overtaken(f"the id of request {request.request_id!r} is another one's by now")

        return await self.issuance.issue_claimed(*await self._verification(name, code, request.request_id), claim)

    async def _verification(self, name: str, code: str, cause: str) -> tuple[Wanted, Signer]:
        check_signs(await self.authorities.get(name))
        issuer = await self.authorities.load(name)
        check_signs(await self.authorities.get(name))  # one that was never open may be deleted at any moment
        wanted = Wanted(
            kind=CertificateKind.VERIFICATION,
            profile=verification_profile(),
            subject=Subject(common_name=code),
            public_key=ec.generate_private_key(ec.SECP256R1()).public_key(),
            cause=cause,
        )
        return wanted, Signer(name=name, issuer=issuer)

    async def check_proved(self, name: str) -> None:
        """See that DPS takes devices of a CA: possession of the topmost CA of its chain that is ours was proved.

        Raises:
            NotFound: the CA does not exist.
            Rejected: a service refuses the proof.
            Deferred: it is being made, or proved.
        """
        anchor = await self.authorities.get((await self.authorities.loaded(name)).anchor_name)
        if not anchor.is_being_proved:
            return
        if anchor.problem is None:
            raise Deferred(f"possession of the CA {anchor.name!r} is being proved", retry_after=BEING_MADE)
        raise Rejected.because(
            f"DPS would refuse every device below {anchor.name!r}, possession of whose key is not proved: "
            f"{anchor.problem}. When that is put right, ask for {anchor.name!r} again as before",
            field="issuer",
        )


def place_of(name: str, certificate: x509.Certificate) -> str:
    """Name the place of a renewed certificate of a CA in a service, beside that of the one before."""
    return f"{name[:55]}-{names.serial_text(certificate.serial_number)[:8]}"


def places_of(record: AuthorityRecord) -> dict[str, x509.Certificate]:
    """Give a CA's certificates that services have, by their places there: the present one, and former ones of a root.

    What others have certified a root with is in no place. The first certificate has the CA's own name.
    """
    present, *further = all_certificates(record)
    if record.place is None:
        return {record.name: present}
    former = [each for each in further if each.issuer == each.subject]
    named = [place_of(record.name, each) for each in former[:-1]]
    return {record.place: present, **dict(zip([*named, record.name], former, strict=False))}


async def check_place(service: CaCertificates, name: str, certificate: x509.Certificate | None) -> None:
    """See that a service has a place for a CA's certificate, or holds it, before anything is made.

    Args:
        service: which is to be shown possession.
        name: of the CA.
        certificate: of the CA; ``None`` for one that is still to be made.

    Raises:
        Conflict: it holds another one under that name.
        Rejected: all its places are taken.
    """
    held = {known.lower(): uploaded for known, uploaded in (await service.held()).items()}
    present = held.get(name.lower())
    if present is not None:
        _check_same(service, name, present, names.thumbprint(certificate) if certificate else "")
    elif len(held) >= PLACES:
        raise Rejected.because(
            f"{service.holder} has {len(held)} CA certificates and takes {PLACES}, so it can't be shown possession of "
            f"{name!r}; delete one there that is not needed any more",
            field="name",
        )


def _check_same(service: CaCertificates, name: str, present: UploadedAuthority, thumbprint: str) -> None:
    # Some answers leave the thumbprint out; then possession of the key, which only the owner can prove, decides.
    if present.thumbprint in {"", thumbprint} and thumbprint:
        return
    raise Conflict.because(
        f"{service.holder} holds another CA certificate named {name!r}, of thumbprint {present.thumbprint}"
        f"{f' and not {thumbprint}' if thumbprint else ''}; delete it there, or give this CA another name",
        field="name",
    )


async def prove(
    service: CaCertificates,
    name: str,
    certificate: x509.Certificate,
    sign: Callable[[str], Awaitable[x509.Certificate]],
) -> None:
    """Upload a CA to a service and prove possession; what is done already is left.

    Args:
        service: the DPS, or a hub.
        name: of the CA.
        certificate: of the CA.
        sign: gives a certificate of the CA whose CN is a code.

    Raises:
        Conflict: the service holds another CA certificate of that name.
        Rejected: it has no place left, or refuses the certificate.
        Deferred: others are at it.
    """
    try:
        uploaded = await _uploaded(service, name, certificate)
        _check_same(service, name, uploaded, names.thumbprint(certificate))
        if not uploaded.verified:
            code, etag = await service.verification_code(name, uploaded.etag)
            uploaded = await service.verify(name, await sign(code), etag)
    except PreconditionFailed as changed:
        # Another worker asked for a code, or proved, in between: whoever comes next finds what it did.
        raise Deferred(f"possession of {name!r} is being proved by others", retry_after=_RETRY) from changed
    if not uploaded.verified:
        raise RuntimeError(f"{service.holder} took the proof of possession of {name!r} and did not verify it")


async def _uploaded(service: CaCertificates, name: str, certificate: x509.Certificate) -> UploadedAuthority:
    present = await service.get(name)
    if present is None:
        try:
            return await service.upload(name, certificate)
        except (Conflict, PreconditionFailed):
            present = await service.get(name)  # by another worker, meanwhile
            if present is None:
                raise
    return present
