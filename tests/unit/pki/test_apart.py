"""Opening a stranger's file in a process of its own: with the same outcome, and an end."""

from __future__ import annotations

import resource

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.pki import der
from shared.pki.apart import key_opened_apart, pfx_opened_apart
from shared.pki.opened_files import CanNotOpen, open_key, open_pfx
from tests.pki.foreign import KEY, authority
from tests.unit.pki.pfx_files import PASSWORD, encrypted_safe_of, pfx_of, safe_of, shrouded

SECRET = PASSWORD.encode()
PKCS8 = KEY.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
CERTIFICATE = authority("top")


def test_a_file_is_opened_apart_as_here() -> None:
    """Keys and certificates of a PFX, and the key of a PEM, come back whole."""
    pfx = pfx_of(safe_of(shrouded(PKCS8), [CERTIFICATE.public_bytes(Encoding.DER)], encrypted=True))
    opened = pfx_opened_apart(pfx, SECRET)
    assert [*map(public_half, opened.keys)] == [*map(public_half, open_pfx(pfx, SECRET).keys)] == [KEY.public_key()]
    assert opened.certificates == (CERTIFICATE,)
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    assert [*map(public_half, key_opened_apart(pem, PKCS8, None).keys)] == [KEY.public_key()]


def public_half(key: object) -> object:
    return key.public_key()  # type: ignore[attr-defined]


def test_what_does_not_open_is_refused_in_the_same_words() -> None:
    """A wrong password is said alike, here and apart."""
    pfx = pfx_of(safe_of(shrouded(PKCS8), [], encrypted=True))
    for opener in (open_pfx, pfx_opened_apart):
        with pytest.raises(CanNotOpen, match=r"^it can't be opened: the password is wrong, or it is not PKCS#12$"):
            opener(pfx, b"guess")
    pem = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
    for key_opener in (open_key, key_opened_apart):
        with pytest.raises(CanNotOpen, match=r"^its private key can't be opened: the password is wrong"):
            key_opener(pem, b"0\0", b"guess")


@pytest.mark.long
def test_rounds_that_nobody_can_count_end_with_the_time() -> None:
    """A key with 2,000,000,000 rounds inside of an encrypted safe is computed no longer than is allowed."""
    endless = encrypted_safe_of(shrouded(PKCS8, claimed=2_000_000_000))
    before = computed_by_children()
    with pytest.raises(CanNotOpen) as caught:
        pfx_opened_apart(pfx_of(endless), SECRET, seconds=1.5)
    assert str(caught.value) == (
        "to open it takes more than 1.5 seconds: it asks for too many rounds of key derivation; write it anew with fewer"
    )
    assert computed_by_children() - before < 5


def computed_by_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_time_is_the_processors() -> None:
    """What passes until the process has begun, as on a busy machine, is not counted: that alone takes longer here."""
    pfx = pfx_of(safe_of(shrouded(PKCS8), [], encrypted=True))
    assert [*map(public_half, pfx_opened_apart(pfx, SECRET, seconds=0.06).keys)] == [KEY.public_key()]


def test_several_keys_are_all_opened() -> None:
    """Of a PFX with two keys both come out, each as it is, in DER and in BER of indefinite length."""
    safe = safe_of(shrouded(PKCS8), [CERTIFICATE.public_bytes(Encoding.DER)], encrypted=True)
    bags = next(der.parts(safe))
    twice = der.sequence(bags, bags)
    assert [*map(public_half, open_pfx(pfx_of(twice), SECRET).keys)] == [KEY.public_key()] * 2
    assert [*map(public_half, open_pfx(indefinite(pfx_of(twice)), SECRET).keys)] == [KEY.public_key()] * 2


def indefinite(encoded: bytes) -> bytes:
    """Write DER as Bouncy Castle does: outer values without their length, octet strings in pieces."""
    content = b"".join(der.parts(encoded))
    version, data, mac = der.parts(encoded)
    kind, explicit = der.parts(data)
    (octets,) = der.parts(explicit)
    text = der.content(octets)
    pieces = b"".join(der.octet_string(text[at : at + 100]) for at in range(0, len(text), 100))
    inner = b"\x24\x80" + pieces + b"\0\0"
    assert content
    return b"\x30\x80" + version + b"\x30\x80" + kind + b"\xa0\x80" + inner + b"\0\0\0\0" + mac + b"\0\0"
