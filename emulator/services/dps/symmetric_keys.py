"""Attestation by a symmetric key: which keys an entry holds, which of them are a device's, and whether it has one.

Rules: Microsoft, "Symmetric key attestation" (keys of 16 to 64 bytes in base64, 64 where DPS makes them; a device of a
group holds ``HMAC-SHA256(group's key, registration id)``, and a group's own key lets nobody in; the signature is for
``{id scope}/registrations/{registration id}``) and "How to use symmetric keys over HTTPS without an SDK" (the same key
lets the device into its hub). ``skn`` is ``registration`` in that page and in the SDKs for C# and Node; Python's
azure-iot-device sends none.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Any

from emulator.platform.identity.errors import Refusal
from emulator.platform.identity.sas import verify_sas
from emulator.services.dps import errors
from emulator.services.dps.attestation import SYMMETRIC_KEY, Match

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from emulator.services.dps.attestation import Knowledge

POLICY = "registration"
_NAMES = ("primaryKey", "secondaryKey")
_SIZES = range(16, 65)
_MADE_SIZE = 64


def checked_keys(given: Any) -> dict[str, str]:
    """Read the keys of an entry; one that is left out is made at random.

    In recordings of its tests azure-iot-deviceprovisioning (Azure/azure-sdk-for-python) sends null for a key that DPS
    is to make; azure-iot-cli-extension leaves it out, and that SDK's README leaves out both with what holds them.

    Args:
        given: a ``SymmetricKeyAttestation`` as JSON value; None if it is left out.

    Raises:
        ProvisioningError: 400, one of them can't be a key.
    """
    if not isinstance(given, dict | None):
        raise errors.bad_request("attestation.symmetricKey is not an object.")
    return {name: _checked_key(name, (given or {}).get(name)) for name in _NAMES}


def _checked_key(name: str, given: Any) -> str:
    if given is None:
        return base64.b64encode(secrets.token_bytes(_MADE_SIZE)).decode()
    try:
        size = len(base64.b64decode(given, validate=True))
    except (binascii.Error, TypeError, ValueError):
        size = 0
    if size not in _SIZES:
        raise errors.bad_request(f"attestation.symmetricKey.{name} is not base64 of {_SIZES[0]} to {_SIZES[-1]} bytes.")
    return str(given)


def device_keys(match: Match, registration_id: str) -> dict[str, str]:
    """Give the keys that a device of an entry holds, primary and secondary: its hub knows it by the same.

    The primary one in the hub is witnessed by azure-iot-cli-extension's tests of ``az iot device registration``, the
    secondary one is assumed.

    Args:
        match: the entry, which has symmetric keys.
        registration_id: in lower case; so "Symmetric key attestation" has it where it derives a key.
    """
    keys: Mapping[str, str] = match.entry["attestation"][SYMMETRIC_KEY]
    if match.group_id is None:
        return dict(keys)
    return {name: _derived(key, registration_id) for name, key in keys.items()}


def _derived(key: str, registration_id: str) -> str:
    digest = hmac.digest(base64.b64decode(key), registration_id.encode(), hashlib.sha256)
    return base64.b64encode(digest).decode()


def decide(signature: str, id_scope: str, registration_id: str, known: Knowledge, now: datetime) -> Match:
    """Find the entry that decides about a device which shows a signature.

    The individual enrollment decides alone if there is one, as about certificates ("How to disenroll or revoke a
    device"). A signature names no group: it is of the one whose derived key it was made with. Either key is good at
    any time: so the tests of azure-iot-cli-extension change from one to the other. In 2020 the other one was refused
    for half an hour (Azure/azure-iot-sdk-node#721).

    Args:
        signature: ``SharedAccessSignature sr=...``.
        id_scope: of the provisioning service.
        registration_id: what the device registers as, in lower case.
        known: what the service knows.
        now: the present time, UTC.

    Raises:
        ProvisioningError: the device is not let in.
    """
    matches = (
        [Match(group, group["enrollmentGroupId"]) for group in known.groups]
        if known.enrollment is None
        else [Match(known.enrollment, None)]
    )
    reason = "no entry for it has symmetric keys"
    for match in matches:
        if match.attestation_type != SYMMETRIC_KEY:
            continue
        for key in device_keys(match, registration_id).values():
            secret = base64.b64decode(key)
            try:
                verify_sas(
                    signature,
                    resource=f"{id_scope}/registrations/{registration_id}",
                    keys={POLICY: secret, "": secret},
                    now=now,
                )
            except Refusal as refusal:
                reason = refusal.reason
            else:
                return _enabled(match)
    raise errors.unauthorized(errors.UNAUTHORIZED, hint=reason)


def _enabled(match: Match) -> Match:
    if match.entry.get("provisioningStatus") == "disabled":
        raise errors.unauthorized(errors.DISABLED, hint=f"the entry of {match.group_id or 'the device'} is disabled")
    return match
