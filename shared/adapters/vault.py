"""Key Vault: CA keys that sign inside the vault.

Keys are reached by the synchronous client, because cryptography calls a key's ``sign`` from its own code. Whatever
signs with such a key runs in one of the vault's own threads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.keys import KeyClient, KeyVaultKey, KeyVaultKeyIdentifier
from azure.keyvault.keys.crypto import CryptographyClient, KeyWrapAlgorithm, SignatureAlgorithm

from shared.adapters.breakers import Breaker
from shared.adapters.json_web_keys import algorithm_of, json_web_key, public_key_of
from shared.adapters.observed import ObservedRequests
from shared.adapters.sdk_errors import throttling, unusable_key
from shared.errors import Conflict
from shared.rules.key_algorithms import KeyAlgorithm
from shared.threads import ThreadPool

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from collections.abc import Set as AbstractSet

    from azure.core.credentials import TokenCredential
    from azure.keyvault.keys import KeyProperties

    from shared.ports.vault import PrivateKey, PublicKey

SERVICE, NAME = "key_vault", "Key Vault"
_CALLS_AT_ONCE = 16
READ_SECONDS = 20
"""A signature that got lost is asked for again, which harms nothing."""

OWNER_TAG = "deviceIdentityFactory"
"""Tag of every key and secret that the app has in a vault; its value names the deployment."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Ownership:
    """What is a deployment's own in a vault that others use, too: what has its tag, and what its owner has named.

    Attributes:
        deployment: name of the deployment.
        adopted: names, in lower case, of keys and secrets that were made elsewhere and may be used.
    """

    deployment: str
    adopted: AbstractSet[str] = frozenset()

    @property
    def tags(self) -> dict[str, str]:
        """What its keys and secrets are tagged with."""
        return {OWNER_TAG: self.deployment}

    def has(self, name: str, tags: Mapping[str, str] | None) -> bool:
        """Tell whether something with this name and these tags is the deployment's."""
        return (tags or {}).get(OWNER_TAG) == self.deployment or name.lower() in self.adopted

    def check(self, what: str, name: str, tags: Mapping[str, str] | None) -> None:
        """See that something is the deployment's.

        Args:
            what: ``key`` or ``secret``.
            name: of the thing.
            tags: that it has.

        Raises:
            Conflict: it is another's, or nobody knows whose.
        """
        if self.has(name, tags):
            return
        owner = (tags or {}).get(OWNER_TAG)
        whose = f"is tagged {OWNER_TAG}={owner}" if owner else f"has no tag {OWNER_TAG}"
        raise Conflict.because(
            f"the vault has a {what} {name!r} already, which {whose}, so it may be another's, and is neither used nor "
            f"replaced; take another name, or, if it is meant for this deployment, tag it {OWNER_TAG}="
            f"{self.deployment}, or name it in KEY_VAULT_ADOPTED_NAMES",
            field="name",
        )


class VaultKeys:
    """Keys of certificate authorities: made in the vault, never out of it; only digests and signatures travel.

    Args:
        url: of the vault.
        credential: the app's identity.
        ownership: which of the vault's keys are the deployment's.
        verify_challenge: whether the vault's challenge must name a resource of its own domain.
        in_hsm: whether keys are made in an HSM, which takes a vault of the Premium tier.
        clock: gives the present time, at which a key has to be valid.

    Attributes:
        threads: for calls that sign.
    """

    def __init__(
        self,
        url: str,
        credential: TokenCredential,
        ownership: Ownership,
        *,
        verify_challenge: bool,
        in_hsm: bool = False,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._url = url
        self._clock = clock
        self._ownership = ownership
        self._in_hsm = in_hsm
        self._credential = credential
        self._verify_challenge = verify_challenge
        self._breaker = Breaker(NAME, SERVICE)
        self._client = KeyClient(
            url,
            credential,
            verify_challenge_resource=verify_challenge,
            transport=self._transport(),
        )
        self.threads = ThreadPool("key-vault", _CALLS_AT_ONCE)
        self._signers: dict[str, CryptographyClient] = {}
        self._lock = threading.Lock()

    async def get_or_create(self, name: str, algorithm: str) -> tuple[str, PublicKey]:
        """Find the newest version of a key, or make the key.

        Args:
            name: the key's name: letters, digits and dashes.
            algorithm: such as ``EC-P256``.

        Returns:
            The id of the key's version, and its public key.

        Raises:
            Conflict: a key of that name is there, and not the deployment's, or of another algorithm.
        """
        key = await self._call(name, self._get_or_create, name, algorithm)
        return key.id, public_key_of(key)

    async def _call[**P, T](self, name: str, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with throttling(f"vault key {name!r}"):
            return await self.threads.run(call, *args, **kwargs)

    def _own(self, name: str) -> KeyVaultKey | None:
        """Find the newest version of a key of the deployment's.

        Raises:
            Conflict: there is one, and it is not the deployment's.
        """
        try:
            present = self._client.get_key(name)
        except ResourceNotFoundError:
            return None
        self._ownership.check("key", name, present.properties.tags)
        return present

    def _get_or_create(self, name: str, algorithm: str) -> KeyVaultKey:
        return self._fitting(name, algorithm) or self._create(name, algorithm)

    async def check_free(self, name: str, algorithm: str | None = None) -> None:
        """See that a key's name is free, or the key that has it may be used.

        Args:
            name: of the key.
            algorithm: that it is to have; ``None`` for any.

        Raises:
            Conflict: as :meth:`get_or_create`.
        """
        await self._call(name, self._fitting, name, algorithm)

    async def holds(self, name: str) -> bool:
        """Tell whether a key of the deployment's has a name; another's key of that name is not one."""
        try:
            return await self._call(name, self._own, name) is not None
        except Conflict:
            return False

    async def own_names(self) -> list[str]:
        """Give the names of all keys of the deployment's, in order."""
        return await self._call("*", self._own_names)

    def _own_names(self) -> list[str]:
        own = self._ownership.tags.items()
        return sorted(each.name for each in self._client.list_properties_of_keys() if own <= (each.tags or {}).items())

    async def versions(self, name: str) -> list[tuple[str, PublicKey]]:
        """Give the id and the public half of each version of a key."""
        return await self._call(name, self._versions, name)

    def _versions(self, name: str) -> list[tuple[str, PublicKey]]:
        listed = [each.version for each in self._client.list_properties_of_key_versions(name)]
        return [(key.id, public_key_of(key)) for key in (self._client.get_key(name, each) for each in listed)]

    def _fitting(self, name: str, algorithm: str | None) -> KeyVaultKey | None:
        present = self._own(name)
        if present is None or algorithm is None:
            return present
        if (found := algorithm_of(present)) != algorithm:
            raise Conflict.because(
                f"the vault has a key {name!r} already, and it is {found} and not {algorithm}; take another name, or "
                f"order {found}",
                field="keyAlgorithm",
            )
        return present

    async def problem(self, key_id: str) -> str | None:
        """Tell why a version of a key can't sign: it is gone, disabled, or out of its time; ``None`` if it can.

        Out of its time a key does not sign (Microsoft: "About keys", date-time controlled operations).
        """
        named = KeyVaultKeyIdentifier(key_id)
        try:
            key = await self._call(named.name, self._client.get_key, named.name, named.version)
        except ResourceNotFoundError:
            return f"the vault does not have version {named.version} of the key {named.name!r}; it may be soft-deleted"
        except HttpResponseError as refused:
            if (why := unusable_key(refused)) is None:
                raise
            return why
        return _unusable(key.properties, self._clock())

    async def public_key(self, key_id: str) -> PublicKey:
        """Give the public half of a version of a key.

        Raises:
            ResourceNotFoundError: the vault does not have it.
        """
        named = KeyVaultKeyIdentifier(key_id)
        return public_key_of(await self._call(named.name, self._client.get_key, named.name, named.version))

    async def import_key(self, name: str, key: PrivateKey) -> str:
        """Put a key that was made elsewhere into the vault, unless it is the newest version there.

        Returns:
            The id of the key's version.

        Raises:
            Conflict: a key of that name is there, and not the deployment's.
        """
        return (await self._call(name, self._import, name, key)).id

    def _import(self, name: str, key: PrivateKey) -> KeyVaultKey:
        present = self._own(name)
        if present is not None and public_key_of(present) == key.public_key():
            return present
        return self._client.import_key(
            name, json_web_key(key), hardware_protected=self._in_hsm, tags=self._ownership.tags
        )

    async def wrapping_key(self, name: str) -> str:
        """Find the newest version of the key that wraps others, or make it: RSA of 3072 bits, about AES-128.

        Returns:
            The id of the key's version.
        """
        return (await self._call(name, self._wrapping_key, name)).id

    def _wrapping_key(self, name: str) -> KeyVaultKey:
        return self._own(name) or self._client.create_rsa_key(
            name,
            size=3072,
            key_operations=["wrapKey", "unwrapKey"],
            hardware_protected=self._in_hsm,
            tags=self._ownership.tags,
        )

    async def tags(self, name: str) -> Mapping[str, str] | None:
        """Give the tags of a key's newest version, whoever has made it; ``None`` if it does not exist."""
        try:
            return (await self._call(name, self._client.get_key, name)).properties.tags or {}
        except ResourceNotFoundError:
            return None

    async def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """Give a key's newest version tags, without a new version; make the key, which only verifies, if need be.

        Raises:
            Conflict: a key of that name is there, and not the deployment's.
        """
        await self._call(name, self._tag, name, tags)

    def _tag(self, name: str, tags: Mapping[str, str]) -> None:
        key = self._own(name) or self._client.create_ec_key(name, key_operations=["verify"], tags=self._ownership.tags)
        self._client.update_key_properties(
            name, key.properties.version, tags={**(key.properties.tags or {}), **tags, **self._ownership.tags}
        )

    def wrap(self, key_id: str, content: bytes) -> bytes:
        """Have the vault encrypt a key (RSA-OAEP-256)."""
        with throttling(f"vault key {key_id!r}"):
            return self._signer(key_id).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, content).encrypted_key

    def unwrap(self, key_id: str, content: bytes) -> bytes:
        """Have the vault decrypt a key."""
        with throttling(f"vault key {key_id!r}"):
            return self._signer(key_id).unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, content).key

    def _create(self, name: str, algorithm: str) -> KeyVaultKey:
        common: dict[str, Any] = {
            "key_operations": ["sign", "verify"],
            "hardware_protected": self._in_hsm,
            "tags": self._ownership.tags,
        }
        parameters = KeyAlgorithm(algorithm).parameters
        if parameters.curve_name is not None:
            return self._client.create_ec_key(name, curve=parameters.curve_name, **common)
        return self._client.create_rsa_key(name, size=parameters.bits, **common)

    def sign_digest(self, key_id: str, algorithm: str, digest: bytes) -> bytes:
        """Sign a digest inside the vault.

        Args:
            key_id: id of the key's version.
            algorithm: JWA name (RFC 7518 section 3.1), such as ``ES256``.
            digest: the hash of what is signed.

        Returns:
            The signature in JWA form: r || s for EC keys.
        """
        with throttling(f"vault key {key_id!r}"):
            return self._signer(key_id).sign(SignatureAlgorithm(algorithm), digest).signature

    def _signer(self, key_id: str) -> CryptographyClient:
        with self._lock:
            signer = self._signers.get(key_id)
            if signer is None:
                named = KeyVaultKeyIdentifier(key_id)
                signer = CryptographyClient(
                    # At the vault's present address: a vault that was moved, with its keys, keeps names and versions.
                    f"{self._url}/keys/{named.name}/{named.version}",
                    self._credential,
                    verify_challenge_resource=self._verify_challenge,
                    transport=self._transport(),
                )
                self._signers[key_id] = signer
            return signer

    def _transport(self) -> ObservedRequests:
        return ObservedRequests(SERVICE, self._breaker, read_seconds=READ_SECONDS)

    async def run[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what has the vault sign, wrap or unwrap in between, where it holds up nothing."""
        return await self.threads.run(call, *args, **kwargs)

    async def check(self) -> None:
        """Raise unless the vault answers and lets this identity in."""
        await self.threads.run(lambda: next(iter(self._client.list_properties_of_keys(max_page_size=1)), None))

    async def close(self) -> None:
        """Close all connections."""
        for client in (self._client, *self._signers.values()):
            await self.threads.run(client.close)
        self.threads.close()


def _unusable(properties: KeyProperties, now: datetime) -> str | None:
    begins, ends = properties.not_before, properties.expires_on
    if not properties.enabled:
        why = "is disabled"
    elif begins is not None and now < begins:
        why = f"is not valid before {begins:%Y-%m-%d %H:%M} UTC"
    elif ends is not None and now >= ends:
        why = f"has expired at {ends:%Y-%m-%d %H:%M} UTC"
    else:
        return None
    return f"the key {properties.name!r} {why}"
