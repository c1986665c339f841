"""What was prepared can't be changed, and what its extensions say is read before anything is signed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import TYPE_CHECKING

import pytest
from cryptography import x509

from shared.pki import profiles
from shared.pki.extensions import DistributionPoints
from shared.pki.issuance import new_serial_number, prepare
from shared.pki.issuers import Issuer
from shared.pki.profiles import ProfileError, device_profile, issuing_profile, root_profile, verification_profile
from shared.pki.subjects import Subject
from tests.pki.foreign import KEY
from tests.pki.hierarchy import NOW, hierarchy

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.pki.issuance import Prepared
    from shared.pki.profiles import Profile


def prepared(profile: Profile, *, name: str = "press-001") -> Prepared:
    is_root = profile == root_profile()
    above = hierarchy().root if profile.is_ca else hierarchy().issuing
    # A new one each time: it keeps what it has encoded.
    issuer = None if is_root else Issuer(above.certificate, above.signing_key, above.chain)
    return prepare(
        profile,
        subject=Subject(name),
        public_key=KEY.public_key(),
        issuer=issuer,
        signing_key=KEY if is_root else None,
        serial_number=new_serial_number(),
        now=NOW,
        urls=DistributionPoints(),
    )


def test_nothing_of_what_was_prepared_can_be_changed() -> None:
    """A device's token signs no CA's certificate, nor by another key or a second time."""
    token, other = prepared(device_profile()), prepared(issuing_profile(), name="evil")
    for field in ("_to_be_signed", "_issuer", "_signing_key", "_parameters", "_once"):
        with pytest.raises(FrozenInstanceError):
            setattr(token, field, getattr(other, field))
    assert "key" not in repr(token).lower()


def misread(self: Profile) -> x509.UnrecognizedExtension:
    """Give a key usage as octets, which come back as a key usage."""
    del self
    return x509.UnrecognizedExtension(x509.KeyUsage.oid, bytes.fromhex("03020780"))


def test_an_extension_that_reads_otherwise_is_found_before_signing(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was meant is compared with what cryptography reads, and not octets with themselves."""
    monkeypatch.setattr(profiles.Profile, "key_usage", misread)
    with pytest.raises(ProfileError, match="the extensions of the profile are not read as they are meant"):
        prepared(device_profile())


def doubled(self: Profile) -> x509.BasicConstraints:
    del self
    # cryptography gives this for the key usage: the same extension twice.
    return x509.BasicConstraints(ca=True, path_length=None)


@pytest.mark.parametrize("make", [device_profile, issuing_profile, root_profile, verification_profile])
def test_an_extension_that_is_there_twice_is_found_before_signing(
    make: Callable[[], Profile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the profile, its extensions are read back when they are written, and never get as far as a signature."""
    monkeypatch.setattr(profiles.Profile, "key_usage", doubled)
    with pytest.raises(
        ProfileError,
        match=r"the extensions of the profile can't be read: basicConstraints \(2\.5\.29\.19\) is there twice",
    ):
        prepared(make())
