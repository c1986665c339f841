"""OCSP responders: certificates of a CA that sign its answers, so that the CA's own key need not (RFC 6960 4.2.2.2).

Where one app does everything, a worker makes a responder of its own for each CA that it is asked about, and its key
never leaves memory. Where the public zone is apart, it reaches no CA key: the issuing zone makes one responder for each
CA, and its short-lived key waits in the ledger, wrapped under a key of the vault that the public zone may unwrap with
(docs/decisions/0006).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Protocol

from shared.domain.authorities import SERVING
from shared.domain.certificates import InternalKind
from shared.domain.responders import ResponderRecord
from shared.errors import Deferred, Rejected
from shared.pki import names
from shared.pki.ocsp import Responder
from shared.pki.profiles import ocsp_responder_profile
from shared.pki.readable import load_certificates
from shared.pki.signing_keys import KeyAlgorithm, generate_key
from shared.pki.subjects import Subject
from shared.pki.wrapped_keys import WrappedKey, unwrap_key, wrap_key
from shared.workflows.authorities.issuance import Signer, Wanted
from shared.workflows.turns import Turns

if TYPE_CHECKING:
    from datetime import datetime

    from shared.ledger.responders import ResponderRows
    from shared.pki.issuers import Issuer
    from shared.ports.vault import VaultKeys
    from shared.workflows.authorities.issuance import Issuance
    from shared.workflows.authorities.loading import CertificateAuthorities, LoadedAuthority
    from shared.workflows.intake.outbox import Clock

WRAPPING_KEY = "ocsp-key-wrapping"
"""Name of the vault's key that wraps those of responders."""

IN_MEMORY = timedelta(days=14)
"""Life of a responder whose key never leaves memory."""

IN_LEDGER = timedelta(days=4)
"""Life of one whose key waits in the ledger. It is renewed after half of it, so issuing may be down for two days."""

_NAME_LIMIT = 64
_LOOK_AGAIN = timedelta(minutes=1)


class Responders(Protocol):
    """Who signs the answers of each CA."""

    async def of(self, authority: LoadedAuthority, now: datetime) -> Responder:
        """Give the responder of a CA.

        Raises:
            Rejected: nothing may speak for this CA: it has expired, or may not have a responder.
            Deferred: there is none at the moment.
        """
        ...


async def _made(issuance: Issuance, authority: LoadedAuthority, life: timedelta) -> Responder:
    """Make a responder of a CA.

    Raises:
        Rejected: the CA has expired, or may not have a responder.
    """
    key = generate_key(KeyAlgorithm.EC_P256)
    wanted = Wanted(
        kind=InternalKind.OCSP_RESPONDER,
        profile=ocsp_responder_profile(life),
        subject=Subject(f"OCSP {authority.name}"[:_NAME_LIMIT]),
        public_key=key.public_key(),
        cause="ocsp",
    )
    return Responder(await issuance.issue(wanted, Signer(name=authority.name, issuer=authority.issuer)), key)


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnResponders:
    """Responders that this worker has made for itself."""

    issuance: Issuance
    _present: dict[str, Responder] = field(default_factory=dict)
    _making: Turns = field(default_factory=Turns)

    async def of(self, authority: LoadedAuthority, now: datetime) -> Responder:
        """Give the responder of a CA; make it if there is none. Errors are those of :class:`Responders`."""
        async with self._making.of(authority.name):  # of a burst one makes it, and the others wait
            present = self._present.get(authority.name)
            if present is not None and now < _used_until(present, authority.issuer):
                return present
            made = self._present[authority.name] = await _made(self.issuance, authority, IN_MEMORY)
            return made


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    responder: Responder
    looked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResponders:
    """Responders that the issuing zone has made, and whose keys wait in the ledger."""

    rows: ResponderRows
    vault: VaultKeys
    _opened: dict[str, _Opened] = field(default_factory=dict)
    _opening: Turns = field(default_factory=Turns)

    async def of(self, authority: LoadedAuthority, now: datetime) -> Responder:
        """Give the responder of a CA. Errors are those of :class:`Responders`.

        One past half its life is still good, and its successor is looked for once a minute.
        """
        if authority.issuer.certificate.not_valid_after_utc < now:
            raise Rejected.because(f"{authority.issuer.quoted_name} has expired")
        async with self._opening.of(authority.name):
            opened = self._opened.get(authority.name)
            if opened is None or _is_to_be_replaced(opened, authority.issuer, now):
                responder = await self._open(authority.name)
                opened = self._opened[authority.name] = _Opened(responder=responder, looked_at=now)
        if opened.responder.certificate.not_valid_after_utc < now:
            raise _none_there(authority.name)
        return opened.responder

    async def check(self, authorities: CertificateAuthorities) -> None:
        """Raise unless the key of a responder can be unwrapped. A new CA's own is about to be made."""
        missing: Deferred | None = None
        for name in [record.name async for record in authorities.list() if record.state in SERVING]:
            try:
                await self._open(name)
            except Deferred as deferred:
                missing = deferred
            else:
                return
        if missing is not None:
            raise missing

    async def _open(self, name: str) -> Responder:
        row = await self.rows.get(name)
        if row is None:
            raise _none_there(name)
        record = row.record
        wrapped = WrappedKey.from_text(record.wrapped_key)
        unwrap = partial(self.vault.unwrap, wrapped.wrapping_key)
        key = await self.vault.run(unwrap_key, wrapped, name=_bound_name(name), unwrap=unwrap)
        return Responder(load_certificates(record.certificate.encode())[0], key)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponderUpkeep:
    """Has a responder ready for each CA, for the public zone, which can't make one.

    Attributes:
        vault: with the key that wraps; ``None`` where no public zone is apart, which leaves nothing to do.
    """

    authorities: CertificateAuthorities
    issuance: Issuance
    rows: ResponderRows
    vault: VaultKeys | None
    clock: Clock

    async def check(self) -> None:
        """Raise unless the vault answers and lets this identity read the key that wraps."""
        if self.vault is not None:
            await self.vault.holds(WRAPPING_KEY)

    async def run(self) -> int:
        """Make the responders that are missing or past half their life.

        Returns:
            How many were made.

        Raises:
            ExceptionGroup: some could not be made; every CA was tried.
        """
        if self.vault is None:
            return 0
        made, failures = 0, list[Exception]()
        for name in [record.name async for record in self.authorities.list() if record.state in SERVING]:
            try:
                made += await self._renew(name, self.vault)
            except Rejected:
                continue  # it has expired, or may not have a responder
            except Exception as error:  # noqa: BLE001 - the other CAs come first, then it is raised
                failures.append(RuntimeError(f"the OCSP responder of {name!r}: {error}"))
        if failures:
            raise ExceptionGroup("OCSP responders could not be made", failures)
        return made

    async def _renew(self, name: str, vault: VaultKeys) -> bool:
        row = await self.rows.get(name)
        if row is not None and self.clock() < row.record.renewed_at:
            return False
        authority = await self.authorities.loaded(name)
        responder = await _made(self.issuance, authority, IN_LEDGER)
        wrapping_key = await vault.wrapping_key(WRAPPING_KEY)
        wrapped = await vault.run(
            wrap_key,
            responder.key,
            name=_bound_name(name),
            wrapping_key=wrapping_key,
            wrap=partial(vault.wrap, wrapping_key),
        )
        record = ResponderRecord(
            issuer=name,
            certificate=names.pem(responder.certificate),
            wrapped_key=wrapped.to_text(),
            renewed_at=_used_until(responder, authority.issuer),
        )
        return await self.rows.renew(row, record)  # another worker's is as good, and this one's key is forgotten


def _bound_name(name: str) -> str:
    """Give what a responder's wrapped key is bound to: it opens as no CA's key, nor as another CA's responder."""
    return f"ocsp responder of {name}"


def _none_there(name: str) -> Deferred:
    return Deferred(f"the OCSP responder of {name!r} is about to be made", retry_after=_LOOK_AGAIN)


def _is_to_be_replaced(opened: _Opened, issuer: Issuer, now: datetime) -> bool:
    return now >= _used_until(opened.responder, issuer) and now - opened.looked_at >= _LOOK_AGAIN


def _used_until(responder: Responder, issuer: Issuer) -> datetime:
    """Use a responder for half its life; or for all of it, where another one would not live longer."""
    begin, end = responder.certificate.not_valid_before_utc, responder.certificate.not_valid_after_utc
    return end if end == issuer.ends_first.not_valid_after_utc else begin + (end - begin) / 2
