"""The vault, driven by the unmodified clients of Key Vault, and by plain requests where no client would go."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.keyvault.keys import JsonWebKey, KeyClient, KeyCurveName, KeyType, KeyVaultKey
from azure.keyvault.keys.aio import KeyClient as AsyncKeyClient
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm, SignatureAlgorithm
from azure.keyvault.keys.crypto.aio import CryptographyClient as AsyncCryptographyClient
from azure.keyvault.secrets import SecretClient
from azure.keyvault.secrets.aio import SecretClient as AsyncSecretClient
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from emulator.tests.running import emulator_in_thread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from azure.identity import ManagedIdentityCredential
    from azure.identity.aio import ManagedIdentityCredential as AsyncManagedIdentityCredential

    from emulator.tests.running import RunningEmulator

CURVES: Mapping[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
    "P-256K": ec.SECP256K1(),
}
API = {"api-version": "7.5"}


@pytest.fixture
def keys(emulator: RunningEmulator, managed_identity: ManagedIdentityCredential) -> Iterator[KeyClient]:
    """Microsoft's client for keys."""
    url = emulator.endpoints["keyVaultUrl"]
    with KeyClient(
        url, managed_identity, verify_challenge_resource=False, connection_verify=emulator.ca_file
    ) as client:
        yield client


@pytest.fixture
def secrets(emulator: RunningEmulator, managed_identity: ManagedIdentityCredential) -> Iterator[SecretClient]:
    """Microsoft's client for secrets."""
    url = emulator.endpoints["keyVaultUrl"]
    with SecretClient(
        url, managed_identity, verify_challenge_resource=False, connection_verify=emulator.ca_file
    ) as client:
        yield client


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"name-{uuid.uuid4().hex}"


def public_key(key: KeyVaultKey) -> ec.EllipticCurvePublicKey | rsa.RSAPublicKey:
    """The public key that the vault gave out."""
    jwk: Any = key.key
    if jwk.crv:
        x, y = int.from_bytes(jwk.x), int.from_bytes(jwk.y)
        return ec.EllipticCurvePublicNumbers(x, y, CURVES[jwk.crv]).public_key()
    return rsa.RSAPublicNumbers(int.from_bytes(jwk.e), int.from_bytes(jwk.n)).public_key()


@pytest.mark.parametrize(
    ("curve", "algorithm", "digest"),
    [
        ("P-256", "ES256", hashes.SHA256()),
        ("P-384", "ES384", hashes.SHA384()),
        ("P-521", "ES512", hashes.SHA512()),
        ("P-256K", "ES256K", hashes.SHA256()),
    ],
)
def test_an_ec_key_signs_in_the_vault(
    keys: KeyClient,
    emulator: RunningEmulator,
    managed_identity: ManagedIdentityCredential,
    name: str,
    *,
    curve: str,
    algorithm: str,
    digest: hashes.HashAlgorithm,
) -> None:
    """A signature made by the vault is verified with the public key that it gave out."""
    key = keys.create_ec_key(name, curve=KeyCurveName(curve))
    octets = hashlib.new(digest.name, b"to be signed").digest()
    with CryptographyClient(
        key, managed_identity, verify_challenge_resource=False, connection_verify=emulator.ca_file
    ) as client:
        result = client.sign(SignatureAlgorithm(algorithm), octets)
    half = len(result.signature) // 2
    encoded = utils.encode_dss_signature(
        int.from_bytes(result.signature[:half]), int.from_bytes(result.signature[half:])
    )
    public = public_key(key)
    assert isinstance(public, ec.EllipticCurvePublicKey)
    public.verify(encoded, octets, ec.ECDSA(utils.Prehashed(digest)))
    assert result.key_id == key.id
    assert half == (public.key_size + 7) // 8


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
def test_an_rsa_key_signs_in_the_vault(
    keys: KeyClient, emulator: RunningEmulator, managed_identity: ManagedIdentityCredential, algorithm: str
) -> None:
    """RSA signatures of both paddings are verified with the public key that the vault gave out."""
    key = shared_rsa_key(keys)
    digest: hashes.HashAlgorithm = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}[
        algorithm[2:]
    ]
    octets = hashlib.new(digest.name, b"to be signed").digest()
    with CryptographyClient(
        key, managed_identity, verify_challenge_resource=False, connection_verify=emulator.ca_file
    ) as client:
        signature = client.sign(SignatureAlgorithm(algorithm), octets).signature
    public = public_key(key)
    assert isinstance(public, rsa.RSAPublicKey)
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
    public.verify(signature, octets, pss if algorithm.startswith("PS") else padding.PKCS1v15(), utils.Prehashed(digest))


def shared_rsa_key(keys: KeyClient) -> KeyVaultKey:
    """One RSA key for all tests that only use it: making one is slow."""
    try:
        return keys.get_key("shared-rsa")
    except ResourceNotFoundError:
        return keys.create_rsa_key("shared-rsa", size=2048)


def test_the_vault_unwraps_what_was_wrapped_with_its_public_key(
    keys: KeyClient, emulator: RunningEmulator, managed_identity: ManagedIdentityCredential
) -> None:
    """A key wrapped by the client's own library with the public half comes back out of the vault."""
    key = shared_rsa_key(keys)
    secret = os.urandom(32)
    with CryptographyClient(
        key, managed_identity, verify_challenge_resource=False, connection_verify=emulator.ca_file
    ) as client:
        wrapped = client.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, secret)
        assert client.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key).key == secret
        encrypted = client.encrypt(EncryptionAlgorithm.rsa_oaep_256, secret)
        assert client.decrypt(EncryptionAlgorithm.rsa_oaep_256, encrypted.ciphertext).plaintext == secret


def post(emulator: RunningEmulator, http: requests.Session, path: str, body: Any) -> requests.Response:
    """Post to the vault with a good token."""
    token = emulator.token("https://vault.azure.net")
    headers = {"Authorization": f"Bearer {token}"}
    return http.post(f"{emulator.https_url}{path}", params=API, json=body, headers=headers, timeout=10)


def base64url(octets: bytes) -> str:
    """RFC 4648 section 5, without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_the_vault_verifies_and_wraps_by_itself(
    keys: KeyClient, emulator: RunningEmulator, http: requests.Session, name: str, kind: str
) -> None:
    """Verifying and wrapping, which Microsoft's clients do locally, work on the wire for clients that don't."""
    key, algorithm = (keys.create_ec_key(name), "ES256") if kind == "EC" else (shared_rsa_key(keys), "RS256")
    path = f"/keys/{key.name}/{key.properties.version}"
    digest = base64url(hashlib.sha256(b"to be signed").digest())
    other = base64url(hashlib.sha256(b"something else").digest())
    signed = post(emulator, http, f"{path}/sign", {"alg": algorithm, "value": digest}).json()
    for body, expected in (
        ({"alg": algorithm, "digest": digest, "value": signed["value"]}, True),
        ({"alg": algorithm, "digest": other, "value": signed["value"]}, False),
        ({"alg": algorithm, "digest": digest, "value": base64url(b"rubbish")}, False),
    ):
        assert post(emulator, http, f"{path}/verify", body).json() == {"value": expected}
    if kind == "RSA":
        wrapped = post(emulator, http, f"{path}/wrapkey", {"alg": "RSA-OAEP", "value": base64url(b"inner key")}).json()
        unwrapped = post(emulator, http, f"{path}/unwrapkey", {"alg": "RSA-OAEP", "value": wrapped["value"]}).json()
        assert unwrapped == {"kid": key.id, "value": base64url(b"inner key")}


def test_a_key_has_versions(keys: KeyClient, name: str) -> None:
    """Creating under the same name and rotating make versions; the newest answers to the bare name, the old stay."""
    first = keys.create_ec_key(name, curve=KeyCurveName.p_384, tags={"purpose": "test"})
    second = keys.create_ec_key(name.upper(), curve=KeyCurveName.p_384, tags={"purpose": "again"})
    third = keys.rotate_key(name)
    assert keys.get_key(name).id == third.id
    assert public_key(keys.get_key(name, first.properties.version)) == public_key(first)
    assert public_key(third).key_size == 384
    assert third.properties.tags == {"purpose": "again"}
    listed = [properties.version for properties in keys.list_properties_of_key_versions(name)]
    assert listed == sorted(str(key.properties.version) for key in (first, second, third))


def test_an_hsm_key_says_so(keys: KeyClient, name: str) -> None:
    """A hardware-protected key keeps its type, and works as any other."""
    key = keys.create_ec_key(name, hardware_protected=True)
    assert key.key_type == KeyType.ec_hsm
    assert key.properties.recovery_level == "Recoverable+Purgeable"
    assert key.properties.recoverable_days == 90


def jwk_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> JsonWebKey:
    """A private key in the form in which it is imported."""

    def octets(number: int) -> bytes:
        return number.to_bytes((number.bit_length() + 7) // 8)

    if isinstance(key, ec.EllipticCurvePrivateKey):
        private = key.private_numbers()
        public = private.public_numbers
        return JsonWebKey(
            kty="EC",
            crv="P-256",
            x=public.x.to_bytes(32),
            y=public.y.to_bytes(32),
            d=private.private_value.to_bytes(32),
        )
    numbers = key.private_numbers()
    return JsonWebKey(
        kty="RSA",
        n=octets(numbers.public_numbers.n),
        e=octets(numbers.public_numbers.e),
        d=octets(numbers.d),
        p=octets(numbers.p),
        q=octets(numbers.q),
        dp=octets(numbers.dmp1),
        dq=octets(numbers.dmq1),
        qi=octets(numbers.iqmp),
    )


@pytest.mark.parametrize(
    "made", [ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(public_exponent=65537, key_size=2048)]
)
def test_an_imported_key_signs_and_stays(
    keys: KeyClient,
    emulator: RunningEmulator,
    managed_identity: ManagedIdentityCredential,
    name: str,
    made: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
) -> None:
    """A key made elsewhere can be imported and signs; its private half does not come out again."""
    imported = keys.import_key(name, jwk_of(made))
    assert public_key(imported) == made.public_key()
    for member in ("d", "p", "q", "dp", "dq", "qi"):
        assert getattr(keys.get_key(name).key, member) is None
    digest = hashlib.sha256(b"to be signed").digest()
    algorithm = SignatureAlgorithm.es256 if isinstance(made, ec.EllipticCurvePrivateKey) else SignatureAlgorithm.rs256
    with CryptographyClient(
        imported.id, managed_identity, verify_challenge_resource=False, connection_verify=emulator.ca_file
    ) as client:
        signature = client.sign(algorithm, digest).signature
        assert client.verify(algorithm, digest, signature).is_valid


def test_properties_change_and_hold(keys: KeyClient, name: str) -> None:
    """Operations, times, tags and the enabled flag can be changed, and come back as they were set."""
    keys.create_ec_key(name)
    expires = datetime(2030, 1, 1, tzinfo=UTC)
    keys.update_key_properties(name, key_operations=["verify"], expires_on=expires, tags={"a": "b"}, enabled=False)
    changed = keys.get_key(name)
    assert changed.key_operations == ["verify"]
    assert changed.properties.expires_on == expires
    assert changed.properties.tags == {"a": "b"}
    assert changed.properties.enabled is False


@pytest.mark.parametrize(
    ("properties", "message"),
    [
        ({"enabled": False}, "Operation sign is not allowed on a disabled key."),
        ({"key_operations": ["verify"]}, "Operation sign is not permitted on this key."),
        ({"expires_on": datetime(2020, 1, 1, tzinfo=UTC)}, "Operation sign is not allowed on an expired key."),
        (
            {"not_before": datetime(2100, 1, 1, tzinfo=UTC)},
            "Operation sign is not allowed on a key that is not yet valid.",
        ),
    ],
)
def test_a_key_refuses_what_it_may_not_do(
    keys: KeyClient,
    emulator: RunningEmulator,
    http: requests.Session,
    name: str,
    *,
    properties: dict[str, Any],
    message: str,
) -> None:
    """A key that is disabled, out of its time or not made for signing answers 403."""
    keys.create_ec_key(name, **properties)
    body = {"alg": "ES256", "value": base64url(bytes(32))}
    answer = post(emulator, http, f"/keys/{name}//sign", body)  # an empty version stands for the newest
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "Forbidden"
    assert answer.json()["error"]["message"] == message


INCOMPATIBLE = (
    "Key and signing algorithm are incompatible. The key is of type EC on P-256, and algorithm 'RS256' can only be "
    "used with a key of type RSA."
)
ALGORITHMS = "ES256, ES384, ES512, ES256K, RS256, RS384, RS512, PS256, PS384, PS512"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"alg": "RS256", "value": base64url(bytes(32))}, INCOMPATIBLE),
        ({"alg": "none", "value": base64url(bytes(32))}, f"alg is 'none'; it must be one of {ALGORITHMS}."),
        ({"alg": ["ES256"], "value": ""}, "alg is missing or no text."),
        ({"alg": "ES256", "value": base64url(bytes(20))}, "value has 20 bytes; ES256 signs a digest of 32 bytes."),
        ({"alg": "ES256", "value": "?"}, "value is not base64url text (RFC 4648 section 5)."),
        ({"alg": "ES256"}, "value is missing or no text."),
        ([], "The request body is not a JSON object."),
    ],
)
def test_what_can_not_be_signed_is_refused_in_words(
    emulator: RunningEmulator, http: requests.Session, keys: KeyClient, body: Any, message: str
) -> None:
    """A wrong algorithm or digest gets a 400 that names what is wrong and what would be right."""
    keys.create_ec_key("refusing-key")
    answer = post(emulator, http, "/keys/refusing-key//sign", body)
    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": "BadParameter", "message": message}}


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/keys/a/create", {"kty": "oct"}, "kty is 'oct'; it must be one of EC, EC-HSM, RSA, RSA-HSM."),
        ("/keys/a/create", {}, "kty is None; it must be one of EC, EC-HSM, RSA, RSA-HSM."),
        ("/keys/a/create", {"kty": "EC", "crv": "P-1"}, "crv is 'P-1'; it must be one of P-256, P-384, P-521, P-256K."),
        ("/keys/a/create", {"kty": "RSA", "key_size": 1024}, "key_size is 1024; it must be one of 2048, 3072, 4096."),
        (
            "/keys/a/create",
            {"kty": "EC", "key_ops": ["wrapKey"]},
            "key_ops is ['wrapKey']; a key of type EC has: sign, verify.",
        ),
        (
            "/keys/a/create",
            {"kty": "EC", "attributes": {"exp": "soon"}},
            "attributes.exp is 'soon'; it must be a time in Unix seconds.",
        ),
        ("/keys/a/create", {"kty": "EC", "tags": {"a": 1}}, "tags is not an object whose values are texts."),
        (
            "/keys/a_b/create",
            {"kty": "EC"},
            "The request URI contains an invalid name: 'a_b'; a name has 1 to 127 letters, digits and dashes.",
        ),
    ],
)
def test_a_key_that_can_not_be_is_refused_in_words(
    emulator: RunningEmulator, http: requests.Session, path: str, body: Any, message: str
) -> None:
    """Type, curve, size, operations, attributes, tags and name each have their rule, which the 400 states."""
    answer = post(emulator, http, path, body)
    assert answer.status_code == 400
    assert answer.json() == {"error": {"code": "BadParameter", "message": message}}


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff\xff", b'{"kty": NaN}', b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_bad_parameter(
    emulator: RunningEmulator, http: requests.Session, raw: bytes
) -> None:
    """Rubbish gets the vault's 400 and no 500."""
    headers = {"Authorization": f"Bearer {emulator.token('https://vault.azure.net')}"}
    url = f"{emulator.https_url}/keys/rubbish/create"
    answer = http.post(url, params=API, data=raw, headers=headers, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "BadParameter"


def test_deleting_takes_two_steps(keys: KeyClient, name: str) -> None:
    """A deleted key is out of use but can be recovered; its name can't be taken until it is purged."""
    original = keys.create_ec_key(name)
    deleted = keys.begin_delete_key(name).result()
    assert deleted.recovery_id == f"{keys.vault_url}/deletedkeys/{name}"
    assert deleted.scheduled_purge_date
    assert deleted.deleted_date
    assert deleted.scheduled_purge_date - deleted.deleted_date == timedelta(days=90)
    with pytest.raises(ResourceNotFoundError, match=rf"A key with \(name/id\) {name} was not found in this key vault"):
        keys.get_key(name)
    refused = f"Key {name} is currently in a deleted but recoverable state, and its name cannot be reused"
    with pytest.raises(ResourceExistsError, match=refused):
        keys.create_ec_key(name)
    assert keys.get_deleted_key(name).id == original.id
    assert name in [deleted_key.name for deleted_key in keys.list_deleted_keys()]
    keys.begin_recover_deleted_key(name).result()
    assert keys.get_key(name).id == original.id
    keys.begin_delete_key(name).result()
    keys.purge_deleted_key(name)
    with pytest.raises(ResourceNotFoundError, match=f"Deleted Key not found: {name}"):
        keys.get_deleted_key(name)
    assert keys.create_ec_key(name).id != original.id


def test_a_deleted_object_is_gone_when_its_retention_ends(tmp_path: Path) -> None:
    """After 90 days a deleted secret has purged itself and its name is free again."""
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    with emulator_in_thread(tmp_path, clock=lambda: now[0]) as emulator:
        from_the_first_day = vault_call(emulator, "PUT", "/secrets/old", {"value": "x"})
        assert from_the_first_day.status_code == 200
        assert vault_call(emulator, "DELETE", "/secrets/old").status_code == 200
        now[0] += timedelta(days=90, seconds=-1)
        assert vault_call(emulator, "GET", "/deletedsecrets/old").status_code == 200
        now[0] += timedelta(seconds=1)
        assert vault_call(emulator, "GET", "/deletedsecrets/old").status_code == 404
        assert vault_call(emulator, "GET", "/deletedsecrets").json()["value"] == []
        assert vault_call(emulator, "PUT", "/secrets/old", {"value": "y"}).status_code == 200


def vault_call(emulator: RunningEmulator, method: str, path: str, body: Any = None) -> requests.Response:
    """Call the vault with a good token."""
    headers = {"Authorization": f"Bearer {emulator.token('https://vault.azure.net')}"}
    with requests.Session() as session:
        session.trust_env = False
        session.verify = emulator.ca_file
        return session.request(
            method, f"{emulator.https_url}{path}", params=API, json=body, headers=headers, timeout=10
        )


def test_a_secret_comes_back(secrets: SecretClient, name: str) -> None:
    """Value, content type, tags and times of a secret come back as they were set; versions are kept apart."""
    expires = datetime(2030, 1, 1, tzinfo=UTC)
    first = secrets.set_secret(name, "päss\U0001f511", content_type="text/plain", tags={"a": "b"}, expires_on=expires)
    second = secrets.set_secret(name, "second")
    assert secrets.get_secret(name).value == "second"
    kept = secrets.get_secret(name, first.properties.version)
    assert kept.value == "päss\U0001f511"
    assert kept.properties.content_type == "text/plain"
    assert kept.properties.tags == {"a": "b"}
    assert kept.properties.expires_on == expires
    listed = {properties.version for properties in secrets.list_properties_of_secret_versions(name)}
    assert listed == {first.properties.version, second.properties.version}


def test_a_disabled_secret_is_not_given_out(secrets: SecretClient, name: str) -> None:
    """A disabled version answers 403; enabled again it gives its value."""
    secrets.set_secret(name, "hidden")
    secrets.update_secret_properties(name, enabled=False)
    with pytest.raises(HttpResponseError, match=r"Operation get is not allowed on a disabled secret\.") as refusal:
        secrets.get_secret(name)
    assert refusal.value.status_code == 403
    secrets.update_secret_properties(name, enabled=True)
    assert secrets.get_secret(name).value == "hidden"


def test_a_secret_is_deleted_recovered_and_purged(secrets: SecretClient, name: str) -> None:
    """A deleted secret keeps its name and value until it is purged."""
    secrets.set_secret(name, "kept")
    secrets.begin_delete_secret(name).result()
    with pytest.raises(ResourceExistsError, match=f"Secret {name} is currently in a deleted but recoverable state"):
        secrets.set_secret(name, "other")
    assert name in [deleted.name for deleted in secrets.list_deleted_secrets()]
    secrets.begin_recover_deleted_secret(name).wait()
    assert secrets.get_secret(name).value == "kept"
    secrets.begin_delete_secret(name).result()
    secrets.purge_deleted_secret(name)
    with pytest.raises(ResourceNotFoundError, match=f"Deleted Secret not found: {name}"):
        secrets.get_deleted_secret(name)


def test_a_secret_has_a_limit(secrets: SecretClient, name: str) -> None:
    """25,000 bytes are taken, one more is refused with both numbers."""
    assert secrets.set_secret(name, "x" * 25_000).value == "x" * 25_000
    message = "value has 25001 bytes; at most 25000 are allowed."
    with pytest.raises(HttpResponseError, match=re.escape(message)):
        secrets.set_secret(name, "x" * 25_001)


def test_lists_come_in_pages(fresh_emulator: RunningEmulator) -> None:
    """Sixty secrets come in three pages, each once and in order, and no list shows a value."""
    for number in range(60):
        assert vault_call(fresh_emulator, "PUT", f"/secrets/s-{number:02}", {"value": "hidden"}).status_code == 200
    seen: list[str] = []
    pages = 0
    path: str | None = "/secrets"
    while path:
        answer = vault_call(fresh_emulator, "GET", path)
        assert "hidden" not in answer.text
        seen += [item["id"].rpartition("/")[2] for item in answer.json()["value"]]
        path = (answer.json()["nextLink"] or "").removeprefix(fresh_emulator.https_url) or None
        pages += 1
    assert seen == [f"s-{number:02}" for number in range(60)]
    assert pages == 3


async def test_the_asynchronous_clients_do_the_same(
    emulator: RunningEmulator, async_managed_identity: AsyncManagedIdentityCredential, name: str
) -> None:
    """The aio clients for keys, cryptography and secrets work against the vault."""
    settings: dict[str, Any] = {"verify_challenge_resource": False, "connection_verify": emulator.ca_file}
    url = emulator.endpoints["keyVaultUrl"]
    digest = hashlib.sha256(b"to be signed").digest()
    async with AsyncKeyClient(url, async_managed_identity, **settings) as keys:
        key = await keys.create_ec_key(name)
        async with AsyncCryptographyClient(key, async_managed_identity, **settings) as client:
            signature = (await client.sign(SignatureAlgorithm.es256, digest)).signature
            assert (await client.verify(SignatureAlgorithm.es256, digest, signature)).is_valid
    async with AsyncSecretClient(url, async_managed_identity, **settings) as secrets:
        await secrets.set_secret(name, "value")
        assert [item.name async for item in secrets.list_properties_of_secrets() if item.name == name] == [name]


CHALLENGE = (
    'Bearer authorization="https://login.microsoftonline.com/7b9f36a2-5a0c-4c0e-9d58-3d1c6ef1b0a4", '
    'resource="https://vault.azure.net"'
)


@pytest.mark.parametrize(
    ("audience", "expired", "reason"),
    [
        (None, False, "the request has no Authorization header"),
        (
            "https://management.azure.com",
            False,
            "the token's audience is 'https://management.azure.com'; 'https://vault.azure.net' is expected",
        ),
        ("https://vault.azure.net", True, "the token expired at "),
    ],
)
def test_nobody_gets_in_without_a_good_token(
    emulator: RunningEmulator, http: requests.Session, audience: str | None, *, expired: bool, reason: str
) -> None:
    """No token, another service's or an expired one gets the challenge with tenant and resource, and no effect."""
    lifetime = timedelta(seconds=-1) if expired else timedelta(hours=1)
    headers = {}
    if audience is not None:
        headers["Authorization"] = f"Bearer {emulator.context.tokens.issue(audience, lifetime=lifetime).token}"
    url = f"{emulator.https_url}/secrets/untouched"
    answer = http.put(url, params=API, json={"value": "x"}, headers=headers, timeout=10)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == CHALLENGE
    assert answer.json()["error"]["code"] == "Unauthorized"
    assert answer.json()["error"]["message"].startswith(f"The request was not authenticated: {reason}")
    assert vault_call(emulator, "GET", "/secrets/untouched").status_code == 404


def test_the_sdk_checks_the_challenge_unless_told_otherwise(
    emulator: RunningEmulator, managed_identity: ManagedIdentityCredential
) -> None:
    """With its default setting the client refuses the local vault, as it would any host outside vault.azure.net."""
    with (
        KeyClient(emulator.https_url, managed_identity, connection_verify=emulator.ca_file) as client,
        pytest.raises(ValueError, match="does not match the requested domain"),
    ):
        client.get_key("any")


def test_every_request_names_its_api_version(emulator: RunningEmulator, http: requests.Session) -> None:
    """A request without api-version is refused, as the real vault does."""
    headers = {"Authorization": f"Bearer {emulator.token('https://vault.azure.net')}"}
    answer = http.get(f"{emulator.https_url}/secrets", headers=headers, timeout=10)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "api-version must be specified, e.g. ?api-version=7.5"


def test_what_the_vault_lacks_is_named(emulator: RunningEmulator, keys: KeyClient, name: str) -> None:
    """An operation that the emulator does not have answers 501 with the operation's name."""
    keys.create_ec_key(name)
    answer = vault_call(emulator, "POST", f"/keys/{name}/backup")
    assert answer.status_code == 501
    assert answer.json() == {
        "error": {"code": "NotImplemented", "message": "The emulator does not offer Key Vault's backup of keys."}
    }
    with pytest.raises(HttpResponseError, match="does not offer Key Vault's backup of keys"):
        keys.backup_key(name)


class FixedToken:
    """A credential that has one token and no other."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *_scopes: str, **_options: Any) -> AccessToken:
        return AccessToken(self._token, int(datetime.now(UTC).timestamp()) + 3600)


def test_a_stale_token_reaches_the_user_as_authentication_error(emulator: RunningEmulator) -> None:
    """Microsoft's client answers the challenge once more and then reports the 401 with the vault's reason."""
    stale = emulator.context.tokens.issue("https://vault.azure.net", lifetime=timedelta(seconds=-1)).token
    with (
        KeyClient(
            emulator.https_url,
            FixedToken(stale),
            verify_challenge_resource=False,
            connection_verify=emulator.ca_file,
        ) as client,
        pytest.raises(ClientAuthenticationError, match="The request was not authenticated: the token expired at "),
    ):
        client.get_key("any")


def test_an_identity_without_a_role_is_forbidden(
    emulator: RunningEmulator, keys: KeyClient, http: requests.Session
) -> None:
    """With the role withheld at the admin port, a good token gets 403; given back, it gets in again."""
    keys.create_ec_key("role-key")
    roles = f"{emulator.admin_url}/roles"
    assert requests.put(roles, json={"withheld": ["key_vault"]}, timeout=10).json() == {"withheld": ["key_vault"]}
    try:
        message = "Caller is not authorized to perform action on resource: the identity has no role at this service."
        with pytest.raises(HttpResponseError, match=re.escape(message)) as refusal:
            keys.get_key("role-key")
        assert refusal.value.status_code == 403
        assert http.get(emulator.https_url + "/keys", params=API, timeout=10).status_code == 401
    finally:
        requests.put(roles, json={"withheld": []}, timeout=10)
    assert keys.get_key("role-key").name == "role-key"
    refused = requests.put(roles, json={"withheld": ["vault"]}, timeout=10)
    assert refused.status_code == 400
    assert refused.json()["error"]["message"] == (
        'The body must be {"withheld": [...]} with services out of dps, iot_hub, key_vault, management, event_grid.'
    )


@pytest.mark.parametrize("name", ["%ED%A0%80", "%00", "..%2F..", "%E2%98%83", "a" * 2000])
def test_an_odd_name_is_no_defect(emulator: RunningEmulator, name: str) -> None:
    """Whatever stands in the path, reading finds nothing and writing is refused; neither is a 500."""
    assert vault_call(emulator, "GET", f"/secrets/{name}").status_code == 404
    assert vault_call(emulator, "PUT", f"/secrets/{name}", {"value": "x"}).status_code == 400
