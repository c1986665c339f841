"""A group and a device's own entry that others have changed to symmetric keys in the emulated DPS: found, and mended."""

from __future__ import annotations

import base64
import hashlib
import hmac
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import requests
from azure.iot.device import ProvisioningDeviceClient
from azure.iot.device.exceptions import ClientError

from tests.end_to_end.conftest import running
from tests.end_to_end.test_api import booted, ordered
from tests.end_to_end.test_owner_pki import create_group
from tests.end_to_end.test_planted_drift import LARGE_HUBS, Operator, compared, listed

if TYPE_CHECKING:
    from pathlib import Path

    from devstack.outside import World
    from devstack.stack import Stack

GROUP, OURS, THEIRS = "keyed-line", "pinned", "intruder"
BY_KEY = {"type": "symmetricKey"}
"""DPS makes the keys."""


def derived(keys: dict[str, str], registration_id: str) -> str:
    """Give a device's key of a group (Microsoft, "Symmetric key attestation")."""
    secret = base64.b64decode(keys["primaryKey"])
    return base64.b64encode(hmac.digest(secret, registration_id.encode(), hashlib.sha256)).decode()


def lets_in(stack: Stack, registration_id: str, key: str) -> bool:
    """Register with a symmetric key by Microsoft's SDK, and tell whether DPS has let it in.

    Raises:
        ClientError: it says something else than 401.
    """
    client = ProvisioningDeviceClient.create_from_symmetric_key(
        stack.endpoints.dps_device_host, registration_id, stack.endpoints.id_scope, key
    )
    try:
        result = client.register()
    except ClientError as error:
        client._pipeline.shutdown(callback=lambda **_: None)  # noqa: SLF001 - the SDK ends by itself after a success only
        if "401" not in str(error.__cause__):
            raise
        return False
    return result is not None and result.status == "assigned"


def mended(world: World, finding: dict[str, Any]) -> None:
    answer = world.post(f"findings/{finding['id']}/mend")
    assert answer.status_code == requests.codes.ok, (finding["kind"], answer.text)


def test_entries_that_others_have_changed_to_symmetric_keys_are_found_and_accept_certificates_again(
    tmp_path: Path,
) -> None:
    """Whoever had the keys has registered with them by then: in their hub they are found too, and let in no more."""
    with running(tmp_path, settings=LARGE_HUBS) as (stack, world), ExitStack() as opened:
        operator = Operator(stack, world, opened)
        groups, entries = operator.dps.enrollment_group, operator.dps.enrollment
        create_group(world, GROUP)
        ordered(world, OURS, group=GROUP)
        assert world.request("PUT", f"enrollments/{OURS}", json={}).status_code == requests.codes.created
        device = booted(world, OURS)
        assert compared(world) == set()
        before = {"group": groups.get(GROUP), "entry": entries.get(OURS)}

        operator.group(GROUP, attestation=BY_KEY)
        operator.change_entry(OURS, attestation=BY_KEY)
        group_keys = groups.get_attestation_mechanism(GROUP)["symmetricKey"]
        entry_key = entries.get_attestation_mechanism(OURS)["symmetricKey"]["primaryKey"]
        assert lets_in(stack, THEIRS, derived(group_keys, THEIRS))
        assert lets_in(stack, OURS, entry_key)
        assert operator.registry.get_device(OURS).authentication.type == "sas"
        assert device.refused_by_dps()

        assert compared(world) == {
            ("groupCertificates", GROUP),
            ("enrollmentForeign", OURS),
            ("identityAuthentication", OURS),
            ("unknownDevice", THEIRS),
        }
        found = {each["kind"]: each for each in listed(world)}
        assert found["groupCertificates"]["service"] == "it accepts a symmetric key"
        assert found["enrollmentForeign"]["service"] == "its individual enrollment accepts a symmetric key"
        assert found["unknownDevice"]["service"].endswith(", with a symmetric key")
        mended(world, found["groupCertificates"])
        mended(world, found["enrollmentForeign"])
        assert compared(world) == {("unknownDevice", THEIRS)}

        after = {"group": groups.get(GROUP), "entry": entries.get(OURS)}
        assert {kind: each["attestation"] for kind, each in after.items()} == {
            kind: each["attestation"] for kind, each in before.items()
        }
        assert "symmetricKey" not in groups.get_attestation_mechanism(GROUP)
        authentication = operator.registry.get_device(OURS).authentication
        assert (authentication.type, authentication.symmetric_key.primary_key) == ("selfSigned", None)
        assert not lets_in(stack, THEIRS, derived(group_keys, THEIRS))
        assert not lets_in(stack, OURS, entry_key)
        assert device.register()[1] == OURS
        mended(world, found["unknownDevice"])
        assert compared(world) == set()
