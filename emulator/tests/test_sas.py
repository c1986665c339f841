"""Shared access signatures."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote

import pytest

from emulator.platform.identity.errors import Unauthenticated
from emulator.platform.identity.sas import verify_sas

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = int(NOW.timestamp()) + 60
KEY = bytes(range(32))
RESOURCE = "localhost:8443/enrollmentgroups/thermostats"


def signature(resource: str, expiry: int | str = LATER, *, key: bytes = KEY) -> str:
    """What the service's SDKs compute."""
    encoded = quote(resource, safe="")
    digest = hmac.digest(key, f"{encoded}\n{expiry}".encode(), hashlib.sha256)
    return f"SharedAccessSignature sr={encoded}&sig={quote(base64.b64encode(digest), safe='')}&se={expiry}&skn=owner"


@pytest.mark.parametrize(
    "scope",
    ["localhost:8443", "localhost", "https://LOCALHOST:8443/", "localhost:8443/enrollmentGroups", RESOURCE],
)
def test_a_signature_covers_what_lies_below_it(scope: str) -> None:
    """A signature for a host, with or without its port, or for a parent path, lets its holder in."""
    verify_sas(signature(scope), resource=RESOURCE, keys={"owner": KEY}, now=NOW)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("Bearer abc", "the value does not start with 'SharedAccessSignature'"),
        ("SharedAccessSignature sr=a&se=1", "the shared access signature has no field 'sig'"),
        (signature("localhost") + "x", "the shared access policy 'ownerx' does not exist"),
        (
            signature("localhost:8443/enrollmentgroups/thermo"),
            f"the signature is for 'localhost:8443/enrollmentgroups/thermo', which does not cover '{RESOURCE}'",
        ),
        (
            signature("localhost:9443"),
            f"the signature is for 'localhost:9443', which does not cover '{RESOURCE}'",
        ),
        (signature("localhost", "soon"), "the signature's expiry 'se' is 'soon'; Unix seconds are expected"),
        (signature("localhost", int(NOW.timestamp())), "the signature expired at 2026-11-23T12:00:00Z"),
        (signature("localhost", key=b"another key"), "the signature does not match the policy's key"),
        (signature("localhost").replace("sig=", "sig=%C3%A9"), "the signature is not base64 text"),
    ],
)
def test_anything_else_is_refused_in_words(header: str, reason: str) -> None:
    """Form, policy, resource, expiry and HMAC each have to hold; the text names the one that doesn't."""
    with pytest.raises(Unauthenticated) as refusal:
        verify_sas(header, resource=RESOURCE, keys={"owner": KEY}, now=NOW)
    assert refusal.value.reason == reason
