"""The app's vault adapter against the emulated vault: which key a CA gets."""

from __future__ import annotations

import asyncio
import re
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ManagedIdentityCredential
from azure.identity.aio import ManagedIdentityCredential as AsyncCredential
from azure.keyvault.keys import KeyClient
from azure.keyvault.secrets import SecretClient
from cryptography.hazmat.primitives.asymmetric import ec

from emulator.tests.iot_hub_clients import PATIENCE
from emulator.tests.running import RunningEmulator, emulator_in_thread
from shared.adapters import vault_secrets
from shared.adapters.observed import ObservedTransport
from shared.adapters.sdk_errors import role_missing, unusable_key
from shared.adapters.vault import Ownership, VaultKeys
from shared.adapters.vault_secrets import VaultSecrets
from shared.errors import Conflict, Deferred

if TYPE_CHECKING:
    from collections.abc import Iterator

ENDS = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    with emulator_in_thread(tmp_path_factory.mktemp("vault")) as running, pytest.MonkeyPatch.context() as environment:
        environment.setenv("IDENTITY_ENDPOINT", running.endpoints["identityEndpoint"])
        environment.setenv("IDENTITY_HEADER", running.endpoints["identityHeader"])
        environment.setenv("REQUESTS_CA_BUNDLE", running.endpoints["tlsCaFile"])
        yield running


@contextmanager
def clients(emulator: RunningEmulator, *, in_hsm: bool = False) -> Iterator[tuple[VaultKeys, KeyClient]]:
    """Give the adapter, and Microsoft's client for what others do in the vault."""
    url = emulator.endpoints["keyVaultUrl"]
    with (
        ManagedIdentityCredential() as credential,
        KeyClient(url, credential, verify_challenge_resource=False) as others,
    ):
        yield VaultKeys(url, credential, Ownership("here"), verify_challenge=False, in_hsm=in_hsm), others


NOT_OURS = (
    "name: the vault has a {} {!r} already, which {}, so it may be another's, and is neither used nor replaced; take another "
    "name, or, if it is meant for this deployment, tag it deviceIdentityFactory=here, or name it in "
    "KEY_VAULT_ADOPTED_NAMES"
)
UNTAGGED, ELSEWHERE = "has no tag deviceIdentityFactory", "is tagged deviceIdentityFactory=elsewhere"


async def test_a_key_of_others_is_neither_used_nor_replaced(emulator: RunningEmulator) -> None:
    """Whether it would be made, imported, wrap others, or only be looked at; the owner says otherwise by its name."""
    key = ec.generate_private_key(ec.SECP256R1())
    with clients(emulator) as (keys, others):
        for name, tags, whose in (
            ("shop-tls", None, UNTAGGED),
            ("shop-signing", {"deviceIdentityFactory": "elsewhere"}, ELSEWHERE),
        ):
            theirs = others.create_ec_key(name, curve="P-256", tags=tags)
            for call in (
                keys.get_or_create(name, "EC-P256"),
                keys.import_key(name, key),
                keys.wrapping_key(name),
                keys.check_free(name),
            ):
                with pytest.raises(Conflict) as refused:
                    await call
                assert str(refused.value) == NOT_OURS.format("key", name, whose)
            assert others.get_key(name).id == theirs.id
        await keys.close()
        adopting = VaultKeys(
            emulator.endpoints["keyVaultUrl"],
            keys._credential,  # noqa: SLF001 - the same identity
            Ownership("here", {"shop-tls"}),
            verify_challenge=False,
        )
        assert (await adopting.get_or_create("Shop-TLS", "EC-P256"))[0] == others.get_key("shop-tls").id
        await adopting.close()


async def test_every_key_that_is_made_has_the_deployments_tag(emulator: RunningEmulator) -> None:
    """Made, imported, or for wrapping: another deployment that shares the vault keeps away from it."""
    with clients(emulator) as (keys, others):
        await keys.get_or_create("tagged-made", "EC-P256")
        await keys.import_key("tagged-imported", ec.generate_private_key(ec.SECP256R1()))
        await keys.wrapping_key("tagged-wrapping")
        for name in ("tagged-made", "tagged-imported", "tagged-wrapping"):
            assert others.get_key(name).properties.tags == {"deviceIdentityFactory": "here"}
            await keys.check_free(name)
        await keys.close()


async def test_a_key_is_tagged_without_a_new_version(emulator: RunningEmulator) -> None:
    """The ledger's epoch is raised for years: PATCH changes the tags of the version that is there (Update Key)."""
    with clients(emulator) as (keys, others):
        assert await keys.tags("epoch") is None
        await keys.tag("epoch", {"epoch": "1", "reachedAt": "then"})
        version = others.get_key("epoch").properties.version
        await keys.tag("epoch", {"epoch": "2"})
        assert await keys.tags("epoch") == {"deviceIdentityFactory": "here", "epoch": "2", "reachedAt": "then"}
        assert [each.version for each in others.list_properties_of_key_versions("epoch")] == [version]
        assert others.get_key("epoch").key_operations == ["verify"]


async def test_the_deployments_keys_are_known_by_their_tag(emulator: RunningEmulator) -> None:
    with clients(emulator) as (keys, others):
        others.create_ec_key("of-others", tags={"deviceIdentityFactory": "elsewhere"})
        others.create_ec_key("untagged")
        await keys.get_or_create("own", "EC-P256")
        names = await keys.own_names()
        assert "own" in names
        assert not {"of-others", "untagged"} & set(names)


async def test_each_version_of_a_key_is_given_with_its_id(emulator: RunningEmulator) -> None:
    """A CA's row names a version: a key that was made or imported anew does not take the place of that one."""
    with clients(emulator) as (keys, others):
        first, second = await keys.get_or_create("twice", "EC-P256"), others.create_ec_key("twice")
        found = dict(await keys.versions("twice"))
        assert set(found) == {first[0], second.id}
        assert found[first[0]] == first[1]


@pytest.mark.parametrize(
    ("properties", "said", "refused"),
    [
        ({"enabled": False}, "is disabled", "is disabled"),
        ({"not_before": ENDS}, "is not valid before 2030-01-01 00:00 UTC", "is not valid yet"),
        ({"expires_on": datetime(2020, 1, 1, tzinfo=UTC)}, "has expired at 2020-01-01 00:00 UTC", "has expired"),
    ],
)
async def test_a_key_that_does_not_sign_is_named_and_its_refusal_is_not_a_missing_role(
    emulator: RunningEmulator, properties: dict[str, Any], said: str, refused: str
) -> None:
    """Before it is needed, by its properties; and when it is needed, by the vault's answer."""
    name = f"unusable-{refused.replace(' ', '-')}"
    with clients(emulator) as (keys, others):
        key_id, _ = await keys.get_or_create(name, "EC-P256")
        assert await keys.problem(key_id) is None
        others.update_key_properties(name, **properties)
        assert await keys.problem(key_id) == f"the key {name!r} {said}"
        with pytest.raises(HttpResponseError) as error:
            await keys.threads.run(keys.sign_digest, key_id, "ES256", bytes(32))
        assert unusable_key(error.value) == f"the key {name!r} of Key Vault {refused}"
        assert not role_missing(error.value)
        await keys.close()


async def test_a_key_is_imported_once(emulator: RunningEmulator) -> None:
    """Delivered again, an import finds its key and makes no second version; another key becomes the newest one."""
    with clients(emulator) as (keys, _):
        key = ec.generate_private_key(ec.SECP256R1())
        first = await keys.import_key("imported-once", key)
        assert await keys.import_key("imported-once", key) == first
        assert await keys.import_key("imported-once", ec.generate_private_key(ec.SECP256R1())) != first
        await keys.close()


async def test_a_secret_of_others_is_neither_read_nor_overlaid(
    emulator: RunningEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of this deployment gets new versions, has an end, and can be deleted; what the settings name is read."""
    url = emulator.endpoints["keyVaultUrl"]
    trusting = partial(ObservedTransport, connection_verify=emulator.ca_file)  # aiohttp reads no REQUESTS_CA_BUNDLE
    monkeypatch.setattr(vault_secrets, "ObservedTransport", trusting)
    with (
        ManagedIdentityCredential() as credential,
        SecretClient(url, credential, verify_challenge_resource=False) as others,
    ):
        others.set_secret("shop-password", "theirs")
        others.set_secret("webhook", "shared")
        async with AsyncCredential() as identity:
            secrets = VaultSecrets(url, identity, Ownership("here", {"webhook"}), verify_challenge=False)
            for call in (secrets.put("shop-password", "ours", tags={}, ends=ENDS), secrets.get("shop-password")):
                with pytest.raises(Conflict) as refused:
                    await call
                assert str(refused.value) == NOT_OURS.format("secret", "shop-password", UNTAGGED)
            assert await secrets.get("webhook") == "shared"
            for value in ("first", "second"):
                await secrets.put("bundle", value, tags={"registrationId": "press-1"}, ends=ENDS)
                assert await secrets.get("bundle") == value
            assert await secrets.get("none") is None
            kept = others.get_secret("bundle").properties
            listed, _ = await secrets.page(continuation=None)
            assert sorted(listed) == ["bundle", "webhook"]
            for name in ("bundle", "none", "shop-password"):
                await secrets.delete(name)
            assert await secrets.get("bundle") is None
            await secrets.close()
        assert others.get_secret("shop-password").value == "theirs"
        assert kept.tags == {"registrationId": "press-1", "deviceIdentityFactory": "here"}
        assert kept.expires_on == ENDS
        assert others.get_deleted_secret("bundle").name == "bundle"


@contextmanager
def throttled(emulator: RunningEmulator) -> Iterator[None]:
    """Have the vault answer 429 to everything."""
    rule = {"service": "key_vault", "operation": "*", "status": 429, "retryAfterSeconds": 0}
    requests.put(f"{emulator.admin_url}/faults", json={"rules": [rule]}, timeout=PATIENCE).raise_for_status()
    try:
        yield
    finally:
        requests.delete(f"{emulator.admin_url}/faults", timeout=PATIENCE).raise_for_status()


async def test_a_key_that_is_there_is_used_if_it_is_of_the_algorithm(emulator: RunningEmulator) -> None:
    """A key that its owner made for this deployment becomes the CA's; of another algorithm it is refused by both names."""
    with clients(emulator) as (keys, others):
        made = others.create_rsa_key("ceremony", size=3072, tags={"deviceIdentityFactory": "here"})
        key_id, public_key = await keys.get_or_create("ceremony", "RSA-3072")
        assert key_id == made.id
        assert public_key == await keys.public_key(key_id)
        with pytest.raises(Conflict) as refused:
            await keys.get_or_create("ceremony", "EC-P256")
        await keys.close()
    assert str(refused.value) == (
        "keyAlgorithm: the vault has a key 'ceremony' already, and it is RSA-3072 and not EC-P256; take another name, or "
        "order RSA-3072"
    )


async def test_a_vault_that_throttles_is_asked_again_later(emulator: RunningEmulator) -> None:
    """What 429 comes of does not use up a message's deliveries: signatures, keys, wrapping."""
    with clients(emulator) as (keys, _):
        key_id, _ = await keys.get_or_create("throttled", "EC-P256")
        wrapping = await keys.wrapping_key("throttled-wrapping")
        with throttled(emulator):
            # At the same time, since the SDK tries each call four times and waits ever longer in between.
            refused = await asyncio.gather(
                keys.public_key(key_id),
                keys.get_or_create("throttled", "EC-P256"),
                keys.threads.run(keys.sign_digest, key_id, "ES256", bytes(32)),
                keys.threads.run(keys.wrap, wrapping, bytes(32)),
                return_exceptions=True,
            )
        assert [type(each) for each in refused] == [Deferred] * 4
        for each in refused:
            assert re.match(r"vault key .*throttled.*: \(429\) A planned fault of the emulator", str(each))
        await keys.close()


async def test_the_public_half_is_that_of_the_version(emulator: RunningEmulator) -> None:
    """A key that was rotated is another one; a version that is not there is not found."""
    with clients(emulator) as (keys, others):
        key_id, public_key = await keys.get_or_create("rotated", "EC-P384")
        newer = others.rotate_key("rotated")
        assert newer.id is not None
        assert await keys.public_key(key_id) == public_key
        assert await keys.public_key(newer.id) != public_key
        with pytest.raises(ResourceNotFoundError):
            await keys.public_key(key_id[:-1] + ("0" if key_id[-1] != "0" else "1"))
        await keys.close()


async def test_a_key_is_found_after_its_vault_has_moved(emulator: RunningEmulator) -> None:
    """Ids in the ledger name the address that the vault had then; name and version are what counts."""
    with clients(emulator) as (keys, _):
        key_id, public_key = await keys.get_or_create("moved", "EC-P256")
        _, _, path = key_id.partition("/keys/")
        before = f"https://elsewhere.vault.azure.net/keys/{path}"
        assert await keys.public_key(before) == public_key
        assert len(await keys.threads.run(keys.sign_digest, before, "ES256", bytes(32))) == 64
        await keys.close()


@pytest.mark.parametrize("in_hsm", [False, True])
async def test_keys_are_made_where_the_settings_say(emulator: RunningEmulator, in_hsm: bool) -> None:  # noqa: FBT001
    """In an HSM or not: EC and RSA keys, and the one that wraps others."""
    with clients(emulator, in_hsm=in_hsm) as (keys, others):
        names = [f"{name}-{in_hsm}" for name in ("ec", "rsa", "wrapping")]
        await keys.get_or_create(names[0], "EC-P256")
        await keys.get_or_create(names[1], "RSA-2048")
        await keys.wrapping_key(names[2])
        kinds = [str(others.get_key(name).key_type).rpartition(".")[2] for name in names]
        await keys.close()
    suffix = "_HSM" if in_hsm else ""
    assert kinds == [f"EC{suffix}", f"RSA{suffix}", f"RSA{suffix}"]
