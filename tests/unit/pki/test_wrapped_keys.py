"""A wrapped CA key opens for its own CA, as it was written, and for nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap, aes_key_wrap

from shared.pki.signing_keys import KeyAlgorithm
from shared.pki.wrapped_keys import WrappedKey, WrappedKeyError, unwrap_key, wrap_key
from tests.pki.hierarchy import spare_key

VAULT_KEY = bytes(range(32))
KEY = spare_key(KeyAlgorithm.EC_P256)


def wrap(content: bytes) -> bytes:
    return aes_key_wrap(VAULT_KEY, content)


def unwrap(content: bytes) -> bytes:
    return aes_key_unwrap(VAULT_KEY, content)


def wrapped(name: str = "line-1", wrapping_key: str = "https://vault/keys/wrap/1") -> WrappedKey:
    return wrap_key(KEY, name=name, wrapping_key=wrapping_key, wrap=wrap)


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.EC_P256, KeyAlgorithm.RSA_2048])
def test_a_key_comes_back_as_it_was(algorithm: KeyAlgorithm) -> None:
    """Wrapped, written to the ledger's text, read and unwrapped, it is the same key."""
    key = spare_key(algorithm)
    text = wrap_key(key, name="line-1", wrapping_key="https://vault/keys/wrap/1", wrap=wrap).to_text()
    opened = unwrap_key(WrappedKey.from_text(text), name="line-1", unwrap=unwrap)
    assert opened.private_numbers() == key.private_numbers()


def test_no_two_wrappings_are_alike() -> None:
    """Encryption key and nonce are drawn anew each time."""
    first, second = wrapped(), wrapped()
    assert len({first.nonce, second.nonce}) == len({first.wrapped, second.wrapped}) == 2
    assert len(first.nonce) == 12


def flipped(octets: bytes) -> bytes:
    return octets[:-1] + bytes([octets[-1] ^ 1])


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        (wrapped(), "line-2"),
        (replace(wrapped(), wrapping_key="https://vault/keys/wrap/2"), "line-1"),
        (replace(wrapped(), ciphertext=wrapped().ciphertext), "line-1"),
        (replace(wrapped(), wrapped=wrapped().wrapped), "line-1"),
        (replace(wrapped(), ciphertext=flipped(wrapped().ciphertext)), "line-1"),
        (replace(wrapped(), nonce=bytes(12)), "line-1"),
    ],
    ids=["another CA's", "another vault key", "another's content", "another's key", "changed", "another nonce"],
)
def test_a_wrapped_key_that_was_moved_or_changed_does_not_open(stored: WrappedKey, name: str) -> None:
    """A key is bound to its CA's name and to the vault's key, so none can be put in another's place."""
    with pytest.raises(WrappedKeyError) as caught:
        unwrap_key(stored, name=name, unwrap=unwrap)
    assert str(caught.value) == f"the wrapped key of {name!r} was changed, or is another CA's"


def test_a_key_that_is_no_cas_is_refused() -> None:
    """What opens and is neither EC nor RSA can't be a CA's key."""
    other = wrap_key(ed25519.Ed25519PrivateKey.generate(), name="line-1", wrapping_key="w", wrap=wrap)  # type: ignore[arg-type]
    with pytest.raises(WrappedKeyError, match=r"^the wrapped key of 'line-1' is not the key of a CA$"):
        unwrap_key(other, name="line-1", unwrap=unwrap)


def test_no_secret_is_in_its_text() -> None:
    """What is printed of a wrapped key names the vault's key and nothing else."""
    assert repr(wrapped()) == "WrappedKey(wrapping_key='https://vault/keys/wrap/1')"
