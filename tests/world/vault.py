"""A key vault in memory, with the semantics that the app relies on; each call is a step.

``tests/contract/in_memory/test_vault.py`` holds it against the app's adapter over the emulator. What is from where:
names have any case, a version is made by importing over a key (Microsoft: "About Azure Key Vault keys, secrets and
certificates", object identifiers and versioning); a name that was deleted can't be used again until it is purged
("Azure Key Vault soft-delete overview"); a key that is disabled signs nothing ("About keys", and the vault's answer in
Azure/azure-sdk-for-python#45342); tags are replaced without a new version (REST API, "Update Key").
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from shared.errors import Conflict
from shared.pki import names
from shared.pki.signing_keys import KeyAlgorithm, SignatureAlgorithm, algorithm_of, generate_key
from tests.pki.hierarchy import vault_of
from tests.world.conductor import Conductor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.pki.signing_keys import PrivateKey, PublicKey

OWNER = {"deviceIdentityFactory": "here"}
"""Tags of whatever the deployment has made."""

_IDS = "https://vault.example/keys/"


@cache
def _wrapping() -> rsa.RSAPrivateKey:
    """Make one for all vaults of a process: it takes its time, and nothing is encrypted with it here."""
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Threads:
    """Runs what signs with a key of the vault: one step; notes the certificates that were signed."""

    conductor: Conductor
    signed: Counter[str] = field(default_factory=Counter)

    async def run(self, call: Callable[..., Any], *args: Any, **named: Any) -> Any:
        async with self.conductor.step("vault.sign"):
            made = call(*args, **named)
            if isinstance(made, x509.Certificate):
                self.signed[names.serial_text(made.serial_number)] += 1
            return made


@dataclass
class Vault:
    """A vault: a key is made once under its name, whatever its case; it wraps by adding the key's id.

    Attributes:
        keys: the newest version of each, by name in lower case, as all of these are.
        former: versions before it, the oldest first.
        written: the name as it was first written, where that differs.
        tagged: tags of the newest version, but for the owner's.
        disabled: names of keys that may not be used.
        foreign: names of keys that are others'.
        deleted: names of keys that were deleted and can still be recovered.
        silent: names of keys that sign nothing: they are there to be tagged, or to wrap others.
    """

    conductor: Conductor = field(default_factory=Conductor)
    keys: dict[str, PrivateKey] = field(default_factory=dict)
    former: dict[str, tuple[PrivateKey, ...]] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)
    tagged: dict[str, dict[str, str]] = field(default_factory=dict)
    disabled: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.threads: Any = Threads(self.conductor)

    async def run[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        made: T = await self.threads.run(call, *args, **kwargs)
        return made

    def copied(self, twin: Vault) -> None:
        """Give a twin, which is empty, what is here."""
        for name in ("keys", "former", "written", "tagged", "disabled", "foreign", "deleted", "silent"):
            getattr(twin, name).update(getattr(self, name))

    # --- what others do in it ---

    def delete(self, name: str) -> None:
        """Delete a key with all its versions, which its owner can recover."""
        for each in (self.keys, self.former, self.written, self.tagged):
            each.pop(name.lower(), None)
        self.deleted.add(name.lower())

    # --- keys ---

    def _own(self, name: str) -> PrivateKey | None:
        """Find the newest version of a key of the deployment's.

        Raises:
            Conflict: it is another's.
        """
        if name.lower() in self.foreign:
            raise Conflict.because(f"the vault has a key {name!r} already", field="name")
        return self.keys.get(name.lower())

    def _fitting(self, name: str, algorithm: str | None) -> PrivateKey | None:
        present = self._own(name)
        if present is not None and algorithm is not None and (found := algorithm_of(present.public_key())) != algorithm:
            raise Conflict.because(
                f"the vault has a key {name!r} already, and it is {found} and not {algorithm}", field="keyAlgorithm"
            )
        return present

    def _add(self, name: str, key: PrivateKey) -> str:
        lower = name.lower()
        if lower in self.deleted:
            raise _refusal(ResourceExistsError, 409, "Conflict", "ObjectIsDeletedButRecoverable", f"{_IDS}{name}")
        if name != lower:
            self.written.setdefault(lower, name)
        before = self.keys.get(lower)
        if before is not None:
            self.former[lower] = (*self.former.get(lower, ()), before)
        self.keys[lower] = key
        return self._id(name)

    def _id(self, name: str) -> str:
        lower = name.lower()
        return f"{_IDS}{self.written.get(lower, lower)}/{len(self.former.get(lower, ())) + 1}"

    def _version(self, key_id: str) -> tuple[str, PrivateKey]:
        """Find a version by its id: gives its name, and the key."""
        name, _, number = key_id.removeprefix(_IDS).partition("/")
        lower, place = name.lower(), int(number) - 1
        newest = self.keys.get(lower)
        versions = (*self.former.get(lower, ()), newest) if newest is not None else ()
        if place >= len(versions):
            raise _refusal(ResourceNotFoundError, 404, "KeyNotFound", None, key_id)
        return name, versions[place]

    async def check_free(self, name: str, algorithm: str | None = None) -> None:
        async with self.conductor.step("vault.check_free"):
            self._fitting(name, algorithm)

    async def get_or_create(self, name: str, algorithm: str) -> tuple[str, PublicKey]:
        async with self.conductor.step("vault.get_or_create"):
            present = self._fitting(name, algorithm)
            key = present or generate_key(KeyAlgorithm(algorithm))
            return self._id(name) if present else self._add(name, key), key.public_key()

    async def holds(self, name: str) -> bool:
        async with self.conductor.step("vault.holds"):
            return name.lower() in self.keys and name.lower() not in self.foreign

    async def own_names(self) -> list[str]:
        async with self.conductor.step("vault.own_names"):
            return sorted(self.written.get(each, each) for each in self.keys if each not in self.foreign)

    async def versions(self, name: str) -> list[tuple[str, PublicKey]]:
        async with self.conductor.step("vault.versions"):
            newest, lower = self._id(name), name.lower()
            if lower not in self.keys:
                raise _refusal(ResourceNotFoundError, 404, "KeyNotFound", None, newest)
            stem = newest.rpartition("/")[0]
            held = (*self.former.get(lower, ()), self.keys[lower])
            return [(f"{stem}/{number}", key.public_key()) for number, key in enumerate(held, 1)]

    async def problem(self, key_id: str) -> str | None:
        async with self.conductor.step("vault.problem"):
            try:
                name, _ = self._version(key_id)
            except ResourceNotFoundError:
                name, _, number = key_id.removeprefix(_IDS).partition("/")
                return f"the vault does not have version {number} of the key {name!r}; it may be soft-deleted"
            return f"the key {name!r} is disabled" if name.lower() in self.disabled else None

    async def public_key(self, key_id: str) -> PublicKey:
        async with self.conductor.step("vault.public_key"):
            return self._version(key_id)[1].public_key()

    async def import_key(self, name: str, key: PrivateKey) -> str:
        async with self.conductor.step("vault.import_key"):
            present = self._own(name)
            same = present is not None and present.public_key() == key.public_key()
            return self._id(name) if same else self._add(name, key)

    async def wrapping_key(self, name: str) -> str:
        async with self.conductor.step("vault.wrapping_key"):
            if self._own(name) is not None:
                return self._id(name)
            self.silent.add(name.lower())
            return self._add(name, _wrapping())

    async def tags(self, name: str) -> Mapping[str, str] | None:
        async with self.conductor.step("vault.tags"):
            tags = self.tagged.get(name.lower(), {})
            return {**OWNER, **tags} if name.lower() in self.keys else None

    async def tag(self, name: str, tags: Mapping[str, str]) -> None:
        async with self.conductor.step("vault.tag"):
            if self._own(name) is None:
                self.silent.add(name.lower())
                self._add(name, ec.generate_private_key(ec.SECP256R1()))
            self.tagged[name.lower()] = {**self.tagged.get(name.lower(), {}), **tags}

    def wrap(self, key_id: str, content: bytes) -> bytes:
        self._version(key_id)
        return b"wrapped by %s " % key_id.encode() + content

    def unwrap(self, key_id: str, content: bytes) -> bytes:
        self._version(key_id)
        prefix = b"wrapped by %s " % key_id.encode()
        if not content.startswith(prefix):
            raise _refusal(HttpResponseError, 400, "BadParameter", None, key_id)
        return content.removeprefix(prefix)

    def sign_digest(self, key_id: str, algorithm: str, digest: bytes) -> bytes:
        name, key = self._version(key_id)
        if name.lower() in self.disabled:
            raise _refusal(HttpResponseError, 403, "Forbidden", "KeyDisabled", key_id)
        if name.lower() in self.silent:
            raise _refusal(HttpResponseError, 403, "Forbidden", "KeyOperationForbidden", key_id)
        return vault_of(key)(SignatureAlgorithm(algorithm), digest)

    async def check(self) -> None:
        pass

    async def close(self) -> None:
        pass


def _refusal(
    kind: type[HttpResponseError], status: int, code: str, inner: str | None, key_id: str
) -> HttpResponseError:
    """Give what the SDK raises for an answer of the vault (Microsoft: "Azure Key Vault REST API error codes")."""
    error: dict[str, Any] = {"code": code, "message": f"{inner or code} {key_id}"}
    if inner is not None:
        error["innererror"] = {"code": inner}
    body = json.dumps({"error": error})
    response: Any = SimpleNamespace(
        status_code=status, reason=code, headers={}, text=lambda *_: body, request=SimpleNamespace(url=key_id)
    )
    return kind(message=error["message"], response=response)
