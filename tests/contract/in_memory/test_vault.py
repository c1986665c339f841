"""The vault: what holds of keys and secrets in memory holds of the emulator through the app's adapters, and vice versa."""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsynchronousCredential
from azure.keyvault.keys import KeyClient
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from shared.adapters.sdk_errors import role_missing, unusable_key
from shared.adapters.vault import Ownership, VaultKeys
from shared.adapters.vault_secrets import VaultSecrets
from shared.errors import Conflict
from tests.world import services
from tests.world.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from emulator.tests.running import RunningEmulator
    from shared.ports import vault

ENDS = datetime(2030, 1, 1, tzinfo=UTC)
DIGEST = sha256(b"what is signed").digest()
ALGORITHM = "EC-P256"
PLACES = ("in memory", "emulator")


@dataclass
class Place:
    """The keys of a vault, and what others do there.

    Attributes:
        make: makes a key of others.
        disable: disables a key's newest version.
        delete: deletes a key, as its owner does.
        name: one that no other test has; it has letters of both cases.
    """

    keys: vault.VaultKeys
    make: Callable[[str], object]
    disable: Callable[[str], object]
    delete: Callable[[str], object]
    name: str = field(default_factory=lambda: f"Line-{uuid.uuid4().hex[:8]}")

    async def made(self) -> str:
        key_id, _ = await self.keys.get_or_create(self.name, ALGORITHM)
        return key_id

    async def sign(self, key_id: str) -> bytes:
        signature: bytes = await self.keys.run(self.keys.sign_digest, key_id, "ES256", DIGEST)
        return signature


def in_memory() -> Place:
    kept = Vault()

    def make(name: str) -> None:
        kept.keys[name.lower()] = ec.generate_private_key(ec.SECP256R1())
        kept.foreign.add(name.lower())

    return Place(kept, make, lambda name: kept.disabled.add(name.lower()), kept.delete)


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "in memory":
        yield in_memory()
        return
    async with in_emulator(request.getfixturevalue("emulator")) as found:
        yield found


@asynccontextmanager
async def in_emulator(running: RunningEmulator) -> AsyncIterator[Place]:
    url = running.endpoints["keyVaultUrl"]
    with (
        ManagedIdentityCredential() as credential,
        KeyClient(url, credential, verify_challenge_resource=False) as others,
    ):
        keys = VaultKeys(url, credential, Ownership("here"), verify_challenge=False)
        yield Place(
            keys,
            partial(others.create_ec_key, tags={"deviceIdentityFactory": "elsewhere"}),
            partial(others.update_key_properties, enabled=False),
            lambda name: others.begin_delete_key(name).wait(),
        )
        await keys.close()


@pytest.fixture(params=PLACES)
async def secrets(request: pytest.FixtureRequest) -> AsyncIterator[vault.VaultSecrets]:
    if request.param == "in memory":
        yield services.Secrets()
        return
    running: RunningEmulator = request.getfixturevalue("emulator")
    async with AsynchronousCredential() as credential:
        held = VaultSecrets(running.endpoints["keyVaultUrl"], credential, Ownership("here"), verify_challenge=False)
        yield held
        await held.close()


@pytest.fixture(params=["marks", *PLACES])
async def marks(request: pytest.FixtureRequest) -> AsyncIterator[vault.KeyTags]:
    """Give what has tags: the vault, and what stands for it where nothing else of it is needed."""
    if request.param != "emulator":
        yield services.Marks() if request.param == "marks" else in_memory().keys
        return
    async with in_emulator(request.getfixturevalue("emulator")) as found:
        yield found.keys


# --- keys ---


async def test_a_key_is_made_once_under_its_name_whatever_its_case(place: Place) -> None:
    """It is listed by the name that it was first given, and has the deployment's tag."""
    assert not await place.keys.holds(place.name)
    first, public_key = await place.keys.get_or_create(place.name, ALGORITHM)
    assert await place.keys.get_or_create(place.name.upper(), ALGORITHM) == (first, public_key)
    assert await place.keys.holds(place.name.lower())
    assert [each for each in await place.keys.own_names() if each.lower() == place.name.lower()] == [place.name]
    assert await place.keys.versions(place.name) == [(first, public_key)]
    assert await place.keys.public_key(first) == public_key
    assert await place.keys.tags(place.name) == {"deviceIdentityFactory": "here"}
    assert await place.keys.problem(first) is None


async def test_keys_are_listed_in_the_order_of_their_names(place: Place) -> None:
    own = [f"{place.name}-{each}" for each in ("B", "a", "c")]
    for name in own:
        await place.keys.get_or_create(name, ALGORITHM)
    assert [each for each in await place.keys.own_names() if each.startswith(place.name)] == sorted(own)


async def test_a_key_of_another_algorithm_is_not_used(place: Place) -> None:
    """Its name is not free for another, and is for the same one, and for who asks for none."""
    await place.keys.check_free(place.name, ALGORITHM)
    made = await place.made()
    for call in (place.keys.get_or_create, place.keys.check_free):
        with pytest.raises(Conflict) as refused:
            await call(place.name, "EC-P384")
        assert [each.field for each in refused.value.reasons] == ["keyAlgorithm"]
    await place.keys.check_free(place.name, ALGORITHM)
    await place.keys.check_free(place.name)
    assert await place.made() == made


async def test_a_key_of_others_is_left(place: Place) -> None:
    """It is not used, and not one of ours."""
    place.make(place.name)
    key = ec.generate_private_key(ec.SECP256R1())
    for call in (
        place.keys.get_or_create(place.name, ALGORITHM),
        place.keys.check_free(place.name),
        place.keys.import_key(place.name, key),
        place.keys.wrapping_key(place.name),
        place.keys.tag(place.name, {"a": "1"}),
    ):
        with pytest.raises(Conflict) as refused:
            await call
        assert [each.field for each in refused.value.reasons] == ["name"]
    assert not await place.keys.holds(place.name)
    assert place.name not in await place.keys.own_names()


async def test_a_key_signs_in_the_vault(place: Place) -> None:
    """An EC signature is r || s (RFC 7518 section 3.4)."""
    key_id, public_key = await place.keys.get_or_create(place.name, ALGORITHM)
    signature = await place.sign(key_id)
    assert len(signature) == 64
    encoded = utils.encode_dss_signature(int.from_bytes(signature[:32]), int.from_bytes(signature[32:]))
    assert isinstance(public_key, ec.EllipticCurvePublicKey)
    public_key.verify(encoded, DIGEST, ec.ECDSA(utils.Prehashed(SHA256())))


async def test_a_key_that_was_imported_is_the_newest_version(place: Place) -> None:
    """The one before stays under its id and signs; imported again, the same key makes no version."""
    first, before = await place.keys.get_or_create(place.name, ALGORITHM)
    key = ec.generate_private_key(ec.SECP256R1())
    second = await place.keys.import_key(place.name, key)
    assert second != first
    assert await place.keys.import_key(place.name, key) == second
    assert dict(await place.keys.versions(place.name)) == {first: before, second: key.public_key()}
    assert await place.keys.get_or_create(place.name, ALGORITHM) == (second, key.public_key())
    assert await place.keys.public_key(first) == before
    assert len(await place.sign(first)) == 64
    third = await place.keys.import_key(f"{place.name}-other", key)
    assert (await place.keys.public_key(third), third != second) == (key.public_key(), True)


async def test_a_disabled_key_signs_nothing(place: Place) -> None:
    """It is there, and the vault's answer is not taken for a role that is missing."""
    key_id, public_key = await place.keys.get_or_create(place.name, ALGORITHM)
    place.disable(place.name)
    assert await place.keys.problem(key_id) == f"the key {place.name!r} is disabled"
    with pytest.raises(HttpResponseError) as refused:
        await place.sign(key_id)
    assert unusable_key(refused.value) == f"the key {place.name!r} of Key Vault is disabled"
    assert not role_missing(refused.value)
    assert await place.keys.get_or_create(place.name, ALGORITHM) == (key_id, public_key)
    assert await place.keys.public_key(key_id) == public_key
    assert await place.keys.holds(place.name)


async def test_a_deleted_key_is_gone_and_its_name_is_not_free(place: Place) -> None:
    """Its owner can recover it, so none can be made in its place."""
    key_id = await place.made()
    place.delete(place.name)
    assert (await place.keys.holds(place.name), await place.keys.tags(place.name)) == (False, None)
    assert place.name not in await place.keys.own_names()
    assert str(await place.keys.problem(key_id)).endswith(f"of the key {place.name!r}; it may be soft-deleted")
    with pytest.raises(ResourceNotFoundError):
        await place.keys.public_key(key_id)
    with pytest.raises(ResourceNotFoundError):
        await place.sign(key_id)
    for call in (
        place.keys.get_or_create(place.name, ALGORITHM),
        place.keys.import_key(place.name, ec.generate_private_key(ec.SECP256R1())),
        place.keys.wrapping_key(place.name),
        place.keys.tag(place.name, {"a": "1"}),
    ):
        with pytest.raises(ResourceExistsError):
            await call


async def test_a_version_that_never_was_is_not_found(place: Place) -> None:
    """Though its key has another."""
    key_id = await place.made()
    other = key_id[:-1] + ("2" if key_id[-1] != "2" else "3")
    assert await place.keys.problem(other) is not None
    with pytest.raises(ResourceNotFoundError):
        await place.keys.public_key(other)


async def test_a_key_wraps_others_and_signs_nothing(place: Place) -> None:
    """It is made once, and is one of the deployment's keys; another does not open what it has wrapped."""
    key_id = await place.keys.wrapping_key(place.name)
    assert await place.keys.wrapping_key(place.name) == key_id
    assert await place.keys.holds(place.name)
    assert place.name in await place.keys.own_names()
    wrapped = await place.keys.run(place.keys.wrap, key_id, b"a key")
    assert wrapped != b"a key"
    assert await place.keys.run(place.keys.unwrap, key_id, wrapped) == b"a key"
    other = await place.keys.wrapping_key(f"{place.name}-other")
    with pytest.raises(HttpResponseError):
        await place.keys.run(place.keys.unwrap, other, wrapped)
    with pytest.raises(HttpResponseError) as refused:
        await place.keys.run(place.keys.sign_digest, key_id, "RS256", DIGEST)
    assert refused.value.status_code == 403


async def test_tags_make_a_key_that_signs_nothing(place: Place) -> None:
    """It is the deployment's, and tags make no version."""
    await place.keys.tag(place.name, {"epoch": "1"})
    assert await place.keys.holds(place.name)
    assert place.name in await place.keys.own_names()
    [(key_id, _)] = await place.keys.versions(place.name)
    await place.keys.tag(place.name, {"epoch": "2"})
    assert [each for each, _ in await place.keys.versions(place.name)] == [key_id]
    with pytest.raises(HttpResponseError) as refused:
        await place.sign(key_id)
    assert refused.value.status_code == 403


# --- tags ---


async def test_tags_are_added_to_those_that_are_there(marks: vault.KeyTags) -> None:
    """One that is given again is replaced; what was never tagged has none."""
    name = f"mark-{uuid.uuid4().hex[:8]}"
    assert await marks.tags(name) is None
    await marks.tag(name, {"epoch": "1", "reachedAt": "then"})
    await marks.tag(name, {"epoch": "2"})
    held: dict[str, Any] = dict(await marks.tags(name) or {})
    assert held == {"deviceIdentityFactory": "here", "epoch": "2", "reachedAt": "then"}


# --- secrets ---


async def test_a_secret_is_its_newest_version(secrets: vault.VaultSecrets) -> None:
    """One that does not exist is not there."""
    assert await secrets.get("bundle-1") is None
    for value in ("first", "second"):
        await secrets.put("bundle-1", value, tags={"registrationId": "press-1"}, ends=ENDS)
        assert await secrets.get("bundle-1") == value


async def test_secrets_are_listed_page_by_page_with_their_tags(secrets: vault.VaultSecrets) -> None:
    """A page has 25 at most."""
    wanted = {f"listed-{number:02}": str(number) for number in range(26)}
    for name, number in wanted.items():
        await secrets.put(name, "a password", tags={"registrationId": number}, ends=ENDS)
    found, continuation = dict[str, str](), None
    while True:
        page, continuation = await secrets.page(continuation=continuation)
        assert len(page) <= 25
        found |= {name: tags["registrationId"] for name, tags in page.items() if name in wanted}
        if continuation is None:
            break
    assert found == wanted


async def test_a_secret_that_was_deleted_is_gone_and_deleting_it_again_does_nothing(
    secrets: vault.VaultSecrets,
) -> None:
    """Nor does it harm that there never was one. Its name is not free until its owner purges it."""
    await secrets.put("bundle-2", "a password", tags={}, ends=ENDS)
    for _ in range(2):
        await secrets.delete("bundle-2")
        assert await secrets.get("bundle-2") is None
    with pytest.raises(ResourceExistsError):
        await secrets.put("bundle-2", "another", tags={}, ends=ENDS)
