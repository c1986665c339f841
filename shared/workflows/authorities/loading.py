"""All CAs, as others use them: their records, and what signs, opened once in each worker."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.domain.authorities import SERVING, AuthorityState
from shared.domain.authority_acts import check_signs
from shared.errors import Deferred
from shared.pki import names
from shared.pki.extensions import DistributionPoints
from shared.pki.issuers import Issuer
from shared.workflows.authorities.changes import authority_of
from shared.workflows.authorities.keys import told
from shared.workflows.authorities.records import all_certificates, certificates_of, signer_of
from shared.workflows.turns import Turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from datetime import datetime

    from cryptography import x509

    from shared.domain.authorities import AuthorityRecord
    from shared.ledger.authorities import Authorities
    from shared.settings import Settings
    from shared.workflows.authorities.keys import AuthorityKeys
    from shared.workflows.epochs import Epochs
    from shared.workflows.intake.outbox import Clock

BEING_MADE = timedelta(seconds=1)
_AWAITED = timedelta(minutes=10)
_CHECK_HOLDS = timedelta(minutes=1)
"""So long a key that was found is not asked for again, however often readiness is."""
_SEEN_FOR = timedelta(seconds=5)
_LOADED_FOR = timedelta(hours=1)
"""So long a worker goes on with the certificates that it has read: a renewed one counts then at the latest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedAuthority:
    """A CA ready for use.

    Attributes:
        name: what it is called here; the CN of an imported one may be another.
        issuer: signs; its chain goes up to the root.
        anchor: the certificate of its chain whose possession is proved to DPS: the topmost CA of which the key is ours.
        anchor_name: what that CA is called here.
        deleted: whether it was deleted: then it signs nothing, and its certificate is still part of chains.
    """

    name: str
    issuer: Issuer
    anchor: x509.Certificate
    anchor_name: str
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The record of a CA, as it was read at a time."""

    record: AuthorityRecord
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateAuthorities:
    """Finds CAs, and loads them for signing."""

    records: Authorities
    keys: AuthorityKeys
    settings: Settings
    clock: Clock
    epochs: Epochs | None = None
    _loaded: dict[str, LoadedAuthority] = field(default_factory=dict)
    _loaded_at: dict[str, datetime] = field(default_factory=dict)
    _loading: Turns = field(default_factory=Turns)
    _checked: dict[str, datetime] = field(default_factory=dict)
    """When the key of each CA was last found in its place."""
    _seen: dict[str, _Seen] = field(default_factory=dict)

    async def load(self, name: str) -> Issuer:
        """Give a CA for signing: its certificate, its key, and its chain up to the root.

        Raises:
            NotFound: the CA does not exist.
            Deferred: it is being made, or waits for its certificate.
        """
        return (await self.loaded(name)).issuer

    async def certificate(self, name: str) -> x509.Certificate:
        """Give a CA's certificate, whatever has become of its key; errors are those of :meth:`load`."""
        return _certificate_of(await self.get(name))

    async def thumbprints(self, name: str) -> frozenset[str]:
        """Give the SHA-256 of all its certificates: one that was renewed has several.

        Raises:
            NotFound: the CA does not exist.
        """
        return frozenset(names.sha256_thumbprint(each) for each in all_certificates(await self.get(name)))

    async def chain(self, name: str) -> tuple[x509.Certificate, ...]:
        """Give it with those above it up to its root, likewise."""
        record = await self.get(name)
        return _chain_of(record, await self.chain(record.parent) if record.parent else ())

    async def loaded(self, name: str) -> LoadedAuthority:
        """Give a CA for signing, and what DPS knows of its chain; errors are those of :meth:`load`."""
        if self._is_stale(name):
            async with self._loading.of(name):  # a burst on a cold worker opens each key once
                if self._is_stale(name):
                    self._loaded[name] = await self._load(name)
                    self._loaded_at[name] = self.clock()
        return self._loaded[name]

    def _is_stale(self, name: str) -> bool:
        return name not in self._loaded or self.clock() - self._loaded_at[name] > _LOADED_FOR

    async def check_signs(self, name: str) -> None:
        """See that a CA signs certificates now.

        What one worker has seen counts for some seconds. Whoever signs later than :data:`DECISION_HOLDS` after it was
        asked for looks again, and a CA that is to be deleted waits for longer than both together.

        Raises:
            NotFound: the CA does not exist.
            Deferred: it is disabled.
            LedgerBehind: the ledger is older than it was.
            Conflict: it is retired, revoked or deleted.
        """
        await self.check_ledger()
        seen = self._seen.get(name)
        if seen is None or self.clock() - seen.at > _SEEN_FOR:
            seen = self._seen[name] = _Seen(record=await self.get(name), at=self.clock())
        check_signs(seen.record)

    async def check_ledger(self) -> None:
        """See that the ledger is whole, and not an older one: nothing is signed by what it says otherwise.

        Raises:
            LedgerBehind: it is not.
        """
        if self.epochs is not None:
            await self.epochs.check()

    async def _load(self, name: str) -> LoadedAuthority:
        record = await self.get(name)
        certificate = _certificate_of(record)
        key = await self.keys.open(record)
        parent = await self.loaded(record.parent) if record.parent else None
        chain = _chain_of(record, parent.issuer.chain if parent else ())
        issuer = Issuer(certificate=certificate, signing_key=key, chain=chain)
        anchor, anchor_name = (parent.anchor, parent.anchor_name) if parent else (certificate, name)
        return LoadedAuthority(
            name=name,
            issuer=issuer,
            anchor=anchor,
            anchor_name=anchor_name,
            deleted=record.state is AuthorityState.DELETED,
        )

    async def check(self) -> None:
        """Load every CA that is in use, so that one that can't sign is known before it is needed.

        Raises:
            ExceptionGroup: some can't: the key is gone, disabled, expired or another, or the chain may not sign.
        """
        known = [record async for record in self.records.list() if record.state in SERVING]
        outcomes = await asyncio.gather(*map(self._check_one, known), return_exceptions=True)
        failed = [
            (each.name, error) for each, error in zip(known, outcomes, strict=True) if isinstance(error, Exception)
        ]
        if failed:
            raise ExceptionGroup("; ".join(f"{name}: {error}" for name, error in failed), [each for _, each in failed])

    async def _check_one(self, record: AuthorityRecord) -> None:
        """See that a CA can sign: its chain once, its key again and again, since a vault's keys can be taken away."""
        issuer = await self.load(record.name)
        checked_at = self._checked.get(record.name)
        if checked_at is not None and self.clock() - checked_at < _CHECK_HOLDS:
            return
        await self.keys.check_usable(record)
        key = await self.keys.open(record)
        Issuer(certificate=issuer.certificate, signing_key=key, chain=issuer.chain)  # refuses a key that is another
        self._checked[record.name] = self.clock()

    async def signing[**P, T](self, issuer: Issuer, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what signs with a CA's key, where it holds up nothing."""
        return await told(issuer.name, self.keys.signing(issuer.signing_key, call, *args, **kwargs))

    async def computing[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what computes long, where it holds up nothing."""
        return await self.keys.compute(call, *args, **kwargs)

    # --- records ---

    async def get(self, name: str) -> AuthorityRecord:
        """Read the record of a CA.

        Raises:
            NotFound: it does not exist.
        """
        return (await authority_of(self.records, name)).record

    def list(self) -> AsyncIterator[AuthorityRecord]:
        """List all CAs."""
        return self.records.list()

    async def above(self, name: str) -> str | None:
        """Find the CA that signed a CA, by its certificate; ``None`` for a root, or if it is not here with its key.

        Raises:
            NotFound: the CA does not exist.
            Deferred: it is being made, or waits for its certificate.
        """
        return await signer_of(await self.chain(name), self.records)

    def distribution_points(self, authority: LoadedAuthority) -> DistributionPoints:
        """Give the URLs that go into certificates signed by a CA: its certificate, its CRL and its OCSP responder."""
        base, name = self.settings.public_base_url, authority.name
        if base is None:
            return DistributionPoints()
        return DistributionPoints(
            crl_url=f"{base}/api/crl/{name}.crl" if authority.issuer.may_sign_crls else None,
            ca_issuers_url=f"{base}/api/ca/{name}.cer",
            ocsp_url=f"{base}/api/ocsp/{name}",
        )


def _certificate_of(record: AuthorityRecord) -> x509.Certificate:
    if record.state is AuthorityState.AWAITING_CERTIFICATE:
        raise Deferred(
            f"the certificate authority {record.name!r} waits for its certificate: have its signing request signed, "
            "and install the certificate",
            retry_after=_AWAITED,
        )
    if record.certificate is None:
        raise being_made(record.name)
    return next(all_certificates(record))


def _chain_of(record: AuthorityRecord, above: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate, ...]:
    return (_certificate_of(record), *certificates_of(record.certificates_above), *above)


def being_made(name: str) -> Deferred:
    """Say that a CA is being made."""
    return Deferred(f"the certificate authority {name!r} is being made", retry_after=BEING_MADE)
