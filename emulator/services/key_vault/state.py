"""The vault's rules for keys and secrets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from emulator.services.key_vault import algorithms, errors
from emulator.services.key_vault.objects import KEY, SECRET, VersionedObjects, parse_attributes, parse_tags

if TYPE_CHECKING:
    from collections.abc import Mapping

    from emulator.platform.context import Context
    from emulator.services.key_vault.objects import Version

SECRET_LIMIT = 25_000
CONTENT_TYPE_LIMIT = 255
LOADED_KEYS = 512
ENDLESS_OPERATIONS = ("decrypt", "verify", "unwrapKey")  # also outside a key's nbf and exp


class Keys(VersionedObjects):
    """Keys; their private parts stay in the store, and leave it only to be used here."""

    def __init__(self, context: Context) -> None:
        super().__init__(KEY, context.store, context.clock)
        self._loaded: dict[str, algorithms.PrivateKey] = {}

    async def create(self, name: str, body: Mapping[str, Any]) -> Version:
        """Make a key, as a new version if the name exists.

        Args:
            name: of the key.
            body: kty, crv or key_size, key_ops, attributes, tags.

        Raises:
            WireError: a field breaks its rule (400), or the name belongs to a deleted key (409).
        """
        self.check_free(name)
        if body.get("release_policy") is not None:
            raise errors.bad_parameter("release_policy: this vault makes no exportable keys.")
        kty = body.get("kty")
        if not isinstance(kty, str):
            raise errors.bad_parameter(f"kty is {kty!r}; it must be one of {', '.join(algorithms.KEY_TYPES)}.")
        if body.get("public_exponent") not in (None, algorithms.RSA_EXPONENT):
            raise errors.bad_parameter(
                f"public_exponent is {body['public_exponent']!r}; {algorithms.RSA_EXPONENT} is used."
            )
        operations = _operations(body.get("key_ops"), kty)
        attributes, tags = parse_attributes(body.get("attributes")), parse_tags(body.get("tags")) or {}
        key = await _generated(kty, body.get("crv"), body.get("key_size"))
        return self.add(name, _content(kty, key, operations), attributes, tags)

    def import_key(self, name: str, body: Mapping[str, Any]) -> Version:
        """Take in a key made elsewhere.

        Args:
            name: of the key.
            body: key (JSON Web Key with its private part), Hsm, attributes, tags.

        Raises:
            WireError: a field breaks its rule (400), or the name belongs to a deleted key (409).
        """
        key = algorithms.from_jwk(body.get("key"))
        jwk: Mapping[str, Any] = body["key"]
        kty = jwk["kty"].removesuffix("-HSM") + ("-HSM" if body.get("Hsm") or jwk["kty"].endswith("-HSM") else "")
        operations = _operations(jwk.get("key_ops"), kty)
        attributes, tags = parse_attributes(body.get("attributes")), parse_tags(body.get("tags")) or {}
        return self.add(name, _content(kty, key, operations), attributes, tags)

    async def rotate(self, name: str) -> Version:
        """Make the next version, of the same type, size, operations and tags.

        Raises:
            WireError: the key does not exist (404).
        """
        newest = self.get(name, "")
        old = self._private(newest)
        kty = newest.content["kty"]
        key = await _generated(kty, newest.content["public"].get("crv"), old.key_size)
        return self.add(newest.name, _content(kty, key, newest.content["key_ops"]), {}, newest.tags)

    def update(self, name: str, version: str, body: Mapping[str, Any]) -> Version:
        """Change operations, attributes, tags.

        Raises:
            WireError: the version does not exist (404), or a field breaks its rule (400).
        """
        found = self.get(name, version)
        content = {}
        if body.get("key_ops") is not None:
            content["key_ops"] = _operations(body["key_ops"], found.content["kty"])
        attributes, tags = parse_attributes(body.get("attributes")), parse_tags(body.get("tags"))
        return self.change(name, version, attributes=attributes, tags=tags, content=content)

    def usable(self, name: str, version: str, operation: str) -> tuple[Version, algorithms.PrivateKey]:
        """Find a key version for an operation that it permits now.

        Raises:
            WireError: it does not exist (404); it is disabled, out of its time, or not made for this (403).
        """
        found = self.get(name, version)
        if not found.attributes["enabled"]:
            raise errors.disabled("key", operation)
        if operation not in found.content["key_ops"]:
            raise errors.operation_not_permitted(operation)
        if operation not in ENDLESS_OPERATIONS:
            now = self.now()
            if now < found.attributes.get("nbf", now):
                raise errors.not_yet_valid(operation)
            if now >= found.attributes.get("exp", now + 1):
                raise errors.expired(operation)
        return found, self._private(found)

    def _private(self, version: Version) -> algorithms.PrivateKey:
        """The private key, kept ready: reading it takes longer than signing with it."""
        key = self._loaded.get(version.version)
        if key is None:
            if len(self._loaded) >= LOADED_KEYS:
                self._loaded.clear()
            key = self._loaded[version.version] = algorithms.from_pem(version.content["pem"])
        return key


class Secrets(VersionedObjects):
    """Secrets: texts of up to 25 kB."""

    def __init__(self, context: Context) -> None:
        super().__init__(SECRET, context.store, context.clock)

    def set(self, name: str, body: Mapping[str, Any]) -> Version:
        """Store a value, as a new version if the name exists.

        Args:
            name: of the secret.
            body: value, contentType, attributes, tags.

        Raises:
            WireError: a field breaks its rule (400), or the name belongs to a deleted secret (409).
        """
        value = body.get("value")
        if not isinstance(value, str):
            raise errors.bad_parameter("value is missing or no text; a secret's value is a text.")
        if len(value.encode(errors="surrogatepass")) > SECRET_LIMIT:
            raise errors.bad_parameter(
                f"value has {len(value.encode(errors='surrogatepass'))} bytes; at most {SECRET_LIMIT} are allowed."
            )
        content = {"value": value, **_content_type(body)}
        return self.add(name, content, parse_attributes(body.get("attributes")), parse_tags(body.get("tags")) or {})

    def read(self, name: str, version: str) -> Version:
        """Find a version whose value may be given out.

        Raises:
            WireError: it does not exist (404), or it is disabled (403).
        """
        found = self.get(name, version)
        if not found.attributes["enabled"]:
            raise errors.disabled("secret", "get")
        return found

    def update(self, name: str, version: str, body: Mapping[str, Any]) -> Version:
        """Change content type, attributes, tags; a value is never changed.

        Raises:
            WireError: the version does not exist (404), or a field breaks its rule (400).
        """
        attributes, tags = parse_attributes(body.get("attributes")), parse_tags(body.get("tags"))
        return self.change(name, version, attributes=attributes, tags=tags, content=_content_type(body))


def _content(kty: str, key: algorithms.PrivateKey, operations: list[str]) -> dict[str, Any]:
    return {"kty": kty, "key_ops": operations, "public": algorithms.public_jwk(key), "pem": algorithms.to_pem(key)}


async def _generated(kty: str, curve: Any, size: Any) -> algorithms.PrivateKey:
    if kty.startswith("EC"):
        return algorithms.generate(kty, curve=curve, size=None)
    return await asyncio.to_thread(algorithms.generate, kty, curve=None, size=size)


def _operations(wanted: Any, kty: str) -> list[str]:
    possible = algorithms.EC_OPERATIONS if kty.startswith("EC") else algorithms.RSA_OPERATIONS
    if not wanted:
        return list(possible)
    if not isinstance(wanted, list) or not set(map(str, wanted)) <= set(possible):
        raise errors.bad_parameter(f"key_ops is {wanted!r}; a key of type {kty} has: {', '.join(possible)}.")
    return wanted


def _content_type(body: Mapping[str, Any]) -> dict[str, str]:
    content_type = body.get("contentType")
    if content_type is None:
        return {}
    if not isinstance(content_type, str) or len(content_type) > CONTENT_TYPE_LIMIT:
        raise errors.bad_parameter(f"contentType must be a text of at most {CONTENT_TYPE_LIMIT} characters.")
    return {"contentType": content_type}
