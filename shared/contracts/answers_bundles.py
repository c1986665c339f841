"""What an archive of an order's bundles says of its devices."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from shared.contracts.answers import Serial
from shared.contracts.base import Contract, with_example
from shared.domain.orders import OrderState

BundleFormat = Literal["pem", "pfx"]

_BUNDLE = {
    "registrationId": "press-1",
    "state": "included",
    "file": "press-1.pfx",
    "serialNumber": "1f7d1b3c5a6e4f8091a2b3c4d5e6f70819203142",
    "passwordSecret": "https://vault.vault.azure.net/secrets/bundle-1f7d1b3c5a6e4f8091a2b3c4d5e6f70819203142",
    "reason": None,
}


class BundleState(StrEnum):
    """What became of a device's bundle.

    ``ownKey``: the device made its key, so its PEM holds certificates alone and a PFX does not exist. ``handedOut``: to
    somebody else, or so long ago that its key is deleted. ``notReady``: the certificate is not issued, or its key is
    still needed to register the device. ``notMade``: the line failed or was cancelled. ``outOfService``: the device is
    revoked, deleted or expired. ``ofAnotherOrder``: the device was ordered again.
    """

    INCLUDED = "included"
    OWN_KEY = "ownKey"
    HANDED_OUT = "handedOut"
    NOT_READY = "notReady"
    NOT_MADE = "notMade"
    OUT_OF_SERVICE = "outOfService"
    OF_ANOTHER_ORDER = "ofAnotherOrder"


class ArchivedBundle(Contract):
    """A device in an archive. ``file`` is in the archive; the password is in the vault, at ``passwordSecret``."""

    model_config = with_example(_BUNDLE)

    registration_id: str
    state: BundleState
    file: str | None = None
    serial_number: Serial | None = None
    password_secret: str | None = None
    reason: str | None = None


class ArchiveManifest(Contract):
    """``manifest.json`` of an archive: each device of the page, in the order's own order."""

    model_config = with_example(
        {"orderId": "order-1", "state": "completed", "format": "pfx", "devices": [_BUNDLE], "isMore": False}
    )

    order_id: str
    state: OrderState
    format: BundleFormat
    devices: list[ArchivedBundle]
    is_more: bool
