"""The managed identity endpoint and the tokens it issues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jwt

if TYPE_CHECKING:
    from azure.identity import ManagedIdentityCredential

    from tests.contract.emulator.running import RunningEmulator


def test_the_sdk_gets_a_token_with_the_claims_of_an_application(
    emulator: RunningEmulator, managed_identity: ManagedIdentityCredential
) -> None:
    """azure-identity gets a day-long token whose audience is the resource asked for."""
    token = managed_identity.get_token("https://vault.azure.net/.default").token
    claims = jwt.decode(token, options={"verify_signature": False})
    assert claims["aud"] == "https://vault.azure.net"
