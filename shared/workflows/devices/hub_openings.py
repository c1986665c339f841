"""Lets a device in at its hub, and nobody else as that device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.domain.devices import IN_ITS_HUB
from shared.domain.hub_authentication import SELF_SIGNED, takes_only
from shared.ledger.table import Stale
from shared.pki import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography import x509

    from shared.domain.devices import DeviceRecord
    from shared.ports.hubs import HubIdentity, IotHubRegistries


async def open_hub(
    hubs: IotHubRegistries,
    record: DeviceRecord,
    seen: HubIdentity,
    leaves: Sequence[x509.Certificate],
    *,
    enable: bool,
    reason: str,
) -> None:
    """Have an identity take a device's own certificates alone, and then let the device in, if that is wanted.

    While it was shut, or since, others may have given it keys, or a certificate of theirs. An identity that would let
    in whoever has a key, and of whose certificates nothing is known, is not enabled. A device that has not registered
    with its new certificate yet keeps the thumbprints of before: when they change, that tells that it has.

    Args:
        hubs: where it is.
        record: of the device.
        seen: its identity, as it was read before the record was.
        leaves: the certificates that it may come with.
        enable: whether a disabled identity is enabled; else it stays as it is.
        reason: kept with the identity.

    Raises:
        Stale: the identity has changed since it was seen.
    """
    hub, present = record.assigned_hub or "", seen
    own = {*map(names.sha256_thumbprint, leaves)}
    if record.unseen:  # the hub's own word is all that is known of the certificate
        own |= {*record.sha256_thumbprints}
    stays = present.authentication == SELF_SIGNED and record.state not in IN_ITS_HUB
    if own and not stays and not takes_only(present, {*own, *map(names.thumbprint, leaves)}):
        present = _as_seen(await hubs.set_thumbprints(hub, present, sorted(own), reason=reason), record)
    if enable and present.authentication == SELF_SIGNED:
        _as_seen(await hubs.let_in(hub, present, reason=reason), record)


def _as_seen(written: HubIdentity | None, record: DeviceRecord) -> HubIdentity:
    if written is None:
        raise Stale(record.registration_id)
    return written
