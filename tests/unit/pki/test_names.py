"""Names of certificates, as other tools write them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from shared.pki import names
from tests.pki.hierarchy import hierarchy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.mark.parametrize(("option", "name"), [("-sha1", names.thumbprint), ("-sha256", names.sha256_thumbprint)])
def test_thumbprints_are_those_of_openssl(option: str, name: Callable[[x509.Certificate], str], tmp_path: Path) -> None:
    """A thumbprint is OpenSSL's fingerprint, without the colons."""
    certificate = hierarchy().device()
    (tmp_path / "device.pem").write_text(names.pem(certificate))
    shown = subprocess.run(
        ["openssl", "x509", "-in", "device.pem", "-noout", "-fingerprint", option],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert name(certificate) == shown.strip().partition("=")[2].replace(":", "")


def test_a_serial_number_is_written_with_40_digits() -> None:
    """A serial number keeps its leading zeros."""
    assert names.serial_text(0xABC) == "0" * 37 + "abc"


def test_a_name_with_no_or_several_cns_has_none() -> None:
    """Only a single CN counts."""
    one = x509.NameAttribute(NameOID.COMMON_NAME, "one")
    assert names.common_name(x509.Name([one])) == "one"
    assert names.common_name(x509.Name([])) == ""
    assert names.common_name(x509.Name([one, one])) == ""


def test_messages_stay_short_whatever_a_certificate_says() -> None:
    """A name is cut and escaped, and a number of thousands of digits is told by its size."""
    with pytest.warns(UserWarning, match="Attribute's length"):
        long = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "n\n" * 5000, _validate=False)])
    assert names.quoted(long) == repr("n\n" * 70 + "...")
    assert names.number(-5) == "-5"
    assert names.number(1 << 20_000) == "one of 20001 bits"
