"""Whether a hub lets a device in, by its certificate or by a signature with its key: the same over every transport."""

from __future__ import annotations

import base64
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import quote

from emulator.platform.certificates import sha1_thumbprint, sha256_thumbprint
from emulator.platform.identity.errors import Refusal
from emulator.platform.identity.sas import verify_sas
from emulator.protocols.path_validation import ChainRefused, check_leaf, check_life, climb
from emulator.services.iot_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography import x509

    from emulator.platform.context import Context
    from emulator.services.iot_hub.state import IotHub


class Denied(Exception):
    """The device is not let in; the text says why.

    Attributes:
        is_known: whether the hub has such a device, and has it enabled.
    """

    def __init__(self, reason: str, *, is_known: bool = True) -> None:
        super().__init__(reason)
        self.is_known = is_known


def admit(
    context: Context, hub: IotHub, device_id: str, *, chain: Sequence[x509.Certificate], signature: str | None
) -> None:
    """Let a device in by its certificate's thumbprint or the CA above it, or by a signature with its key.

    Args:
        context: of the emulator.
        hub: which it wants to reach.
        device_id: who it says it is.
        chain: its certificates as TLS got them, leaf first.
        signature: ``SharedAccessSignature sr=...``; None if it has shown none.

    Raises:
        Denied: it is not let in.
    """
    try:
        identity = hub.get(device_id)
    except HubError:
        reason = f"IotHub {hub.host_name!r} does not contain the specified device {device_id!r}"
        raise Denied(reason, is_known=False) from None
    if identity["status"] == "disabled":
        raise Denied(f"device {device_id!r} is disabled: {identity['statusReason']}", is_known=False)
    authentication = identity["authentication"]
    if authentication["type"] == "none":
        raise Denied(f"device {device_id!r} has nothing to authenticate with")
    if authentication["type"] == "sas":
        _check_signature(context, hub, device_id, authentication["symmetricKey"], signature)
        return
    if not chain:
        raise Denied(f"device {device_id!r} sent no certificate")
    try:
        if authentication["type"] == "selfSigned":
            _check_thumbprint(chain[0], authentication["x509Thumbprint"])
            check_life(chain[0], context.clock())
        else:
            check_leaf(chain[0], device_id, context.clock())
            climb(chain, list(hub.ca_certificates.verified.values()), context.clock())
    except ChainRefused as refused:
        raise Denied(f"device {device_id!r}: {refused}") from None


def _check_thumbprint(leaf: x509.Certificate, configured: Mapping[str, str | None]) -> None:
    """See that a leaf is the one of the identity; only a thumbprint of its own makes it so, whoever signed it."""
    sha1, sha256 = sha1_thumbprint(leaf), sha256_thumbprint(leaf)
    if not {sha1, sha256} & {value.upper() for value in configured.values() if value}:
        raise ChainRefused(
            f"Thumbprint does not match configuration: Thumbprint: SHA1Hash={sha1}, SHA2Hash={sha256};"
            f" Configuration: PrimaryThumbprint={configured['primaryThumbprint']},"
            f" SecondaryThumbprint={configured['secondaryThumbprint']}"
        )


def _check_signature(
    context: Context, hub: IotHub, device_id: str, keys: Mapping[str, str], signature: str | None
) -> None:
    reasons = []
    # The SDK for C# encodes the id before it encodes all of what it signs for.
    for key, spelled in product(keys.values(), dict.fromkeys((device_id, quote(device_id, safe="")))):
        resource = f"{hub.host_name}/devices/{spelled}"
        try:
            verify_sas(signature or "", resource=resource, keys={"": base64.b64decode(key)}, now=context.clock())
        except Refusal as refusal:
            reasons.append(refusal.reason)
        else:
            return
    raise Denied(f"the signature of {device_id!r} is refused: {reasons[-1]}")
