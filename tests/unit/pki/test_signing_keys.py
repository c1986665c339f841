"""Keys: one table of algorithms, and CA keys that sign far away."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.pki import der
from shared.pki.signing_keys import (
    KeyAlgorithm,
    PrivateKey,
    SignatureAlgorithm,
    UnsupportedKey,
    WrongSignature,
    algorithm_of,
    generate_key,
    remote_key,
)
from tests.pki.hierarchy import spare_key, vault_of

if TYPE_CHECKING:
    from collections.abc import Callable

SUPPORTED = "supported are EC-P256, EC-P384, RSA-2048, RSA-3072, RSA-4096"
EC_KEY = spare_key(KeyAlgorithm.EC_P256)
RSA_KEY = spare_key(KeyAlgorithm.RSA_2048)
ECDSA = ec.ECDSA(hashes.SHA256())


def far(key: PrivateKey, sign: Callable[[SignatureAlgorithm, bytes], bytes] | None = None) -> Any:
    return remote_key(key.public_key(), sign or vault_of(key))


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.EC_P384, KeyAlgorithm.RSA_2048])
def test_a_made_key_is_what_was_asked_for(algorithm: KeyAlgorithm) -> None:
    """A key is recognised as the algorithm it was made for."""
    assert algorithm_of(generate_key(algorithm).public_key()) is algorithm


def test_every_algorithm_says_all_that_is_asked_of_it() -> None:
    """A curve with its name in a vault or a size, and the identifier of RFC 5758 and RFC 4055 for its signatures."""
    for algorithm in KeyAlgorithm:
        entry = algorithm.parameters
        assert (entry.curve is None) == (entry.curve_name is None) != (entry.bits is None)
        digest = {"sha256": 2, "sha384": 3}[entry.digest.name]
        assert entry.signature_identifier == (
            der.sequence(der.object_identifier(f"1.2.840.113549.1.1.{9 + digest}"), der.NULL)
            if entry.curve is None
            else der.sequence(der.object_identifier(f"1.2.840.10045.4.3.{digest}"))
        )


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (ec.generate_private_key(ec.SECP521R1()), f"the key is EC secp521r1; {SUPPORTED}"),
        (ed25519.Ed25519PrivateKey.generate(), f"the key is Ed25519; {SUPPORTED}"),
        (rsa.generate_private_key(65537, 1024), f"the key is RSA with 1024 bits; {SUPPORTED}"),  # noqa: S505 - weak on purpose
        (
            rsa.generate_private_key(3, 2048),
            "the RSA key has the public exponent 3; an odd one from 65537 to 2^256 - 1 is needed",
        ),
    ],
)
def test_other_keys_are_refused_by_name(key: Any, message: str) -> None:
    """A key of another algorithm, size or exponent is refused, and so is one in a vault."""
    with pytest.raises(UnsupportedKey) as caught:
        algorithm_of(key.public_key())
    assert str(caught.value) == message
    with pytest.raises(UnsupportedKey):
        remote_key(key.public_key(), lambda _algorithm, _digest: b"")


@pytest.mark.parametrize(
    ("algorithm", "name", "size"),
    [
        (KeyAlgorithm.EC_P256, SignatureAlgorithm.ES256, 32),
        (KeyAlgorithm.EC_P384, SignatureAlgorithm.ES384, 48),
    ],
)
def test_only_the_digest_travels_to_a_vault(algorithm: KeyAlgorithm, name: SignatureAlgorithm, size: int) -> None:
    """An EC key's vault gets the JWA name and the digest, and its answer comes back as DER."""
    key, seen = spare_key(algorithm), []

    def sign(wanted: SignatureAlgorithm, digest: bytes) -> bytes:
        seen.append((wanted, len(digest)))
        return vault_of(key)(wanted, digest)

    digest = algorithm.parameters.digest
    signature = far(key, sign).sign(b"content" * 1000, ec.ECDSA(digest))
    key.public_key().verify(signature, b"content" * 1000, ec.ECDSA(digest))  # type: ignore[arg-type, call-arg]
    assert seen == [(name, size)]


@pytest.mark.parametrize(
    ("digest", "name"),
    [
        (hashes.SHA256(), SignatureAlgorithm.RS256),
        (hashes.SHA384(), SignatureAlgorithm.RS384),
        (hashes.SHA512(), SignatureAlgorithm.RS512),
    ],
)
def test_an_rsa_key_in_a_vault_signs_with_the_hash_of_its_name(
    digest: hashes.HashAlgorithm, name: SignatureAlgorithm
) -> None:
    """An RSA key's vault gets the JWA name that belongs to the hash."""
    seen = []

    def sign(wanted: SignatureAlgorithm, content: bytes) -> bytes:
        seen.append(wanted)
        return RSA_KEY.sign(content, padding.PKCS1v15(), utils.Prehashed(digest))  # type: ignore[call-arg, arg-type]

    signature = far(RSA_KEY, sign).sign(b"content", padding.PKCS1v15(), digest)
    RSA_KEY.public_key().verify(signature, b"content", padding.PKCS1v15(), digest)  # type: ignore[call-arg, arg-type]
    assert seen == [name]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (bytes(63), "the vault gave a signature of 63 bytes instead of 64"),
        (bytes(64), "the signature that the vault gave does not fit the key that was meant"),
        (b"\1" * 64, "the signature that the vault gave does not fit the key that was meant"),
    ],
)
def test_a_wrong_answer_of_a_vault_is_no_signature(answer: bytes, message: str) -> None:
    """What comes back from a vault is verified before anything is made of it."""
    with pytest.raises(WrongSignature) as caught:
        far(EC_KEY, lambda _algorithm, _digest: answer).sign(b"content", ECDSA)
    assert str(caught.value) == message


def test_a_wrong_answer_of_an_rsa_vault_is_no_signature() -> None:
    """An RSA key's vault that signs with another key is found out."""
    other = vault_of(rsa.generate_private_key(65537, 2048))
    with pytest.raises(WrongSignature, match="the signature that the vault gave does not fit the key that was meant"):
        far(RSA_KEY, other).sign(b"content", padding.PKCS1v15(), hashes.SHA256())


@pytest.mark.parametrize(
    "algorithm", [ec.ECDSA(hashes.SHA384()), ec.ECDSA(utils.Prehashed(hashes.SHA256()))], ids=["hash", "prehashed"]
)
def test_an_ec_key_in_a_vault_signs_with_the_hash_of_its_curve(algorithm: ec.ECDSA) -> None:
    """Another hash than the curve's is refused before anything travels."""
    with pytest.raises(TypeError, match="a vault's secp256r1 key signs content with sha256 only"):
        far(EC_KEY).sign(b"content", algorithm)


@pytest.mark.parametrize(
    ("scheme", "digest"),
    [
        (padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256()),
        (padding.PKCS1v15(), utils.Prehashed(hashes.SHA256())),
    ],
    ids=["pss", "prehashed"],
)
def test_an_rsa_key_in_a_vault_signs_as_certificates_are_signed(scheme: Any, digest: Any) -> None:
    """Another padding, or a digest in place of the content, is refused before anything travels."""
    with pytest.raises(TypeError, match=r"a vault's RSA key signs content with PKCS #1 v1\.5 here"):
        far(RSA_KEY).sign(b"content", scheme, digest)


@pytest.mark.parametrize("key", [EC_KEY, RSA_KEY], ids=["EC", "RSA"])
def test_a_key_in_a_vault_stays_there(key: PrivateKey) -> None:
    """Whatever would need the private key here is refused, and a copy is the same key."""
    distant = far(key)
    refusal = "the private key is in the vault and does not leave it"
    with pytest.raises(NotImplementedError, match=refusal):
        distant.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(NotImplementedError, match=refusal):
        distant.private_numbers()
    uses = {
        "exchange": (ec.ECDH(), EC_KEY.public_key()),
        "decrypt": (bytes(256), padding.PKCS1v15()),
    }
    for use in uses.keys() & {*dir(distant)}:
        with pytest.raises(NotImplementedError, match=refusal):
            getattr(distant, use)(*uses[use])
    assert copy.copy(distant) is distant
    assert copy.deepcopy(distant) is distant
    assert distant.public_key() == key.public_key()
    assert distant.key_size == key.key_size
