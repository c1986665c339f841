"""Where the keys of CAs are: in the vault, or wrapped by a key of it and in memory while a worker lives."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cryptography import x509

from shared.domain.authorities import AuthorityState
from shared.domain.checkpoints import is_log_key
from shared.domain.words import KeyCustody
from shared.errors import Conflict, Misconfigured
from shared.pki.readable import load_certificates
from shared.pki.signing_keys import (
    KeyAlgorithm,
    RemoteEllipticCurveKey,
    RemoteRsaKey,
    generate_key,
    remote_key,
)
from shared.pki.wrapped_keys import WrappedKey, unwrap_key, wrap_key
from shared.rules.zones import SIGNING
from shared.telemetry.metrics import CA, SIGNATURES, WHAT
from shared.telemetry.spans import span

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from shared.domain.authorities import AuthorityRecord
    from shared.pki.signing_keys import PrivateKey, PublicKey
    from shared.ports.vault import VaultKeys
    from shared.settings import Settings
    from shared.threads import ThreadPool

WRAPPING_KEY = "ca-key-wrapping"
"""Name of the vault's key that wraps others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityKey:
    """A CA's key, ready to sign.

    Attributes:
        signing_key: in the form that cryptography signs with.
        place: what the CA's record says of it: ``key_id`` or ``wrapped_key``.
    """

    signing_key: PrivateKey
    place: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityKeys:
    """Makes, takes over and opens the keys of CAs.

    Attributes:
        log_key: name of the vault's key that signs the log, which no CA may have.
    """

    vault: VaultKeys
    computing: ThreadPool
    log_key: str = ""

    async def check_free(self, name: str, algorithm: str, custody: KeyCustody) -> None:
        """See that a CA's key can be made, or is there, before anything is recorded of it.

        Raises:
            Conflict: the vault has a key of that name that is not the deployment's, or of another algorithm; or it is
                the log's.
        """
        self._check_name(name)
        wrapped = custody is KeyCustody.WRAPPED
        await self.vault.check_free(WRAPPING_KEY if wrapped else name, None if wrapped else algorithm)

    async def check_import(self, name: str, custody: KeyCustody) -> None:
        """See that a key that was made elsewhere can be kept; errors are those of :meth:`check_free`."""
        self._check_name(name)
        await self.vault.check_free(WRAPPING_KEY if custody is KeyCustody.WRAPPED else name)

    def _check_name(self, name: str) -> None:
        if self.log_key and is_log_key(name, self.log_key):
            raise Conflict.because(
                f"{name!r} is the name of a key of the vault that signs the log; choose another name", field="name"
            )

    async def holds(self, name: str, custody: KeyCustody) -> bool:
        """Tell whether the vault has a key for a CA that its row does not name yet; a wrapped one is in the row."""
        return custody is KeyCustody.VAULT and await self.vault.holds(name)

    async def create(self, name: str, algorithm: str, custody: KeyCustody) -> AuthorityKey:
        """Make a CA's key. One in the vault is found again by its name; a wrapped one is a new one on every call."""
        if custody is KeyCustody.WRAPPED:
            key = await self.computing.run(generate_key, KeyAlgorithm(algorithm))
            return await self._wrapped(name, key)
        key_id, public_key = await self.vault.get_or_create(name, algorithm)
        return self._in_vault(key_id, public_key)

    async def take_over(self, name: str, key: PrivateKey, custody: KeyCustody) -> AuthorityKey:
        """Keep a key that was made elsewhere."""
        if custody is KeyCustody.WRAPPED:
            return await self._wrapped(name, key)
        return self._in_vault(await self.vault.import_key(name, key), key.public_key())

    def _in_vault(self, key_id: str, public_key: PublicKey) -> AuthorityKey:
        key = remote_key(public_key, partial(self.vault.sign_digest, key_id))
        return AuthorityKey(signing_key=key, place={"custody": KeyCustody.VAULT, "key_id": key_id, "wrapped_key": None})

    async def _wrapped(self, name: str, key: PrivateKey) -> AuthorityKey:
        wrapping_key = await self.vault.wrapping_key(WRAPPING_KEY)
        wrapped = await self.vault.run(
            wrap_key, key, name=name, wrapping_key=wrapping_key, wrap=partial(self.vault.wrap, wrapping_key)
        )
        place = {"custody": KeyCustody.WRAPPED, "key_id": None, "wrapped_key": wrapped.to_text()}
        return AuthorityKey(signing_key=key, place=place)

    async def open(self, record: AuthorityRecord) -> PrivateKey:
        """Give the key of a recorded CA. Its public half comes from where the key is, to be held against certificates.

        A CA that was deleted keeps its certificate, for the chains of others, and signs nothing.

        Raises:
            WrappedKeyError: the ledger's entry was changed.
            RuntimeError: the record names no key.
        """
        if record.state is AuthorityState.DELETED:
            return _withheld(record, _deleted)
        if record.key_id is not None:
            return await self.opened(record.key_id)
        if record.wrapped_key is None:
            raise RuntimeError(f"the record of CA {record.name!r} names no key")
        wrapped = WrappedKey.from_text(record.wrapped_key)
        unwrap = partial(self.vault.unwrap, wrapped.wrapping_key)
        return await self.vault.run(unwrap_key, wrapped, name=record.name, unwrap=unwrap)

    async def check_usable(self, record: AuthorityRecord) -> None:
        """See that the vault would sign with a CA's key now; a wrapped one shows that when it is opened.

        Raises:
            Misconfigured: it would not.
        """
        if problem := await self.problem(record):
            raise Misconfigured(problem)

    async def problem(self, record: AuthorityRecord) -> str | None:
        """Tell why the vault would not sign with a CA's key; ``None`` if it would, or does not have it."""
        return await self.vault.problem(record.key_id) if record.key_id is not None else None

    async def opened(self, key_id: str) -> PrivateKey:
        """Give a version of a key of the vault."""
        return self._in_vault(key_id, await self.vault.public_key(key_id)).signing_key

    async def compute[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what computes long, where it holds up nothing."""
        return await self.computing.run(call, *args, **kwargs)

    async def signing[**P, T](self, key: PrivateKey, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what signs with a key, where it holds up nothing: the vault may take its time, and RSA computes long."""
        if isinstance(key, RemoteEllipticCurveKey | RemoteRsaKey):
            return await self.vault.run(call, *args, **kwargs)
        return await self.computing.run(call, *args, **kwargs)


class WithheldKeys(AuthorityKeys):
    """Stands for the keys of CAs in a trust zone that reaches none: chains are read, nothing is signed."""

    __slots__ = ()

    async def check_free(self, name: str, algorithm: str, custody: KeyCustody) -> None:
        """Leave it to the zone that makes the key: it asks before it makes anything."""

    async def open(self, record: AuthorityRecord) -> PrivateKey:
        """Give what shows a CA's public key, as its certificate has it, and refuses to sign."""
        return _withheld(record, _refuse_to_sign)


def _withheld(record: AuthorityRecord, refuse: Callable[[str, bytes], bytes]) -> PrivateKey:
    certificate, *_ = load_certificates((record.certificate or "").encode())
    return remote_key(certificate.public_key(), refuse)


def authority_keys(settings: Settings, vault: VaultKeys, computing: ThreadPool) -> AuthorityKeys:
    """Give the keys of CAs as a zone has them: to sign with, or to show."""
    kind = AuthorityKeys if settings.zone in SIGNING else WithheldKeys
    return kind(vault=vault, computing=computing, log_key=settings.evidence_key)


def _refuse_to_sign(_algorithm: str, _digest: bytes) -> bytes:
    raise Misconfigured("this trust zone reaches no key of a CA, and was asked to sign with one")


def _deleted(_algorithm: str, _digest: bytes) -> bytes:
    raise RuntimeError("this CA was deleted, and was asked to sign")


async def told[T](ca: str, signing: Awaitable[T]) -> T:
    """Make a signature of a CA a span, and count it."""
    with span("sign", attributes={CA: ca}):
        made = await signing
    SIGNATURES.record(1, {CA: ca, WHAT: "certificate" if isinstance(made, x509.Certificate) else "crl"})
    return made
