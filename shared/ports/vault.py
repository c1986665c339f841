"""A key vault, as workflows need it: keys of CAs that never leave it, and passwords of bundles as secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.asymmetric import ec, rsa

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class KeyTags(Protocol):
    """Tags of keys, which say something to whoever looks, and which the vault makes no version of."""

    async def tags(self, name: str) -> Mapping[str, str] | None:
        """Give the tags of a key's newest version; ``None`` if it does not exist."""
        ...

    async def tag(self, name: str, tags: Mapping[str, str]) -> None:
        """Give a key's newest version tags, without a new version; make the key, which signs nothing, if need be.

        Raises:
            Conflict: a key of that name is there, and not the deployment's.
        """
        ...


class VaultKeys(KeyTags, Protocol):
    """Keys of certificate authorities: made in the vault, never out of it; only digests and signatures travel."""

    async def get_or_create(self, name: str, algorithm: str) -> tuple[str, PublicKey]:
        """Find the newest version of a key, or make the key.

        Returns:
            The id of the key's version, and its public half.

        Raises:
            Conflict: a key of that name is there, of another algorithm or not the deployment's.
        """
        ...

    async def check_free(self, name: str, algorithm: str | None = None) -> None:
        """See that a key's name is free, or the key that has it may be used.

        Raises:
            Conflict: as :meth:`get_or_create`.
        """
        ...

    async def holds(self, name: str) -> bool:
        """Tell whether a key of the deployment's has a name."""
        ...

    async def own_names(self) -> list[str]:
        """Give the names of all keys of the deployment's, in order."""
        ...

    async def versions(self, name: str) -> list[tuple[str, PublicKey]]:
        """Give the id and the public half of each version of a key that is there."""
        ...

    async def problem(self, key_id: str) -> str | None:
        """Tell why a version of a key can't sign: it is gone, disabled, or out of its time; ``None`` if it can."""
        ...

    async def public_key(self, key_id: str) -> PublicKey:
        """Give the public half of a version of a key."""
        ...

    async def import_key(self, name: str, key: PrivateKey) -> str:
        """Put a key that was made elsewhere into the vault, unless it is the newest version there; give its id.

        Raises:
            Conflict: a key of that name is there, and not the deployment's.
        """
        ...

    async def wrapping_key(self, name: str) -> str:
        """Find the newest version of the key that wraps others, or make it; give its id."""
        ...

    async def run[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run what has the vault sign, wrap or unwrap in between, where it holds up nothing."""
        ...

    def wrap(self, key_id: str, content: bytes) -> bytes:
        """Have the vault encrypt a key (RSA-OAEP-256)."""
        ...

    def unwrap(self, key_id: str, content: bytes) -> bytes:
        """Have the vault decrypt a key."""
        ...

    def sign_digest(self, key_id: str, algorithm: str, digest: bytes) -> bytes:
        """Sign a digest; give the signature in JWA form (RFC 7518 section 3.1): r || s for EC keys."""
        ...


class VaultSecrets(Protocol):
    """Passwords of bundles."""

    async def put(self, name: str, value: str, *, tags: Mapping[str, str], ends: datetime) -> None:
        """Store a secret, as a new version if the name exists; from ``ends`` on nobody is to use it.

        Raises:
            Conflict: a secret of that name is there, and not the deployment's.
        """
        ...

    async def get(self, name: str) -> str | None:
        """Read a secret's newest version, ``None`` if it does not exist."""
        ...

    async def page(self, *, continuation: str | None) -> tuple[Mapping[str, Mapping[str, str]], str | None]:
        """List one page of the deployment's secrets with their tags, by name, and the continuation of the next page."""
        ...

    async def delete(self, name: str) -> None:
        """Delete a secret with all its versions; one that is not there, or not the deployment's, is left."""
        ...
