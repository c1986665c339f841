"""What a finding keeps of an identity in a hub."""

from __future__ import annotations

from shared.domain.record import Part


class IdentitySeen(Part):
    """An identity in a hub that is not where the ledger has a device, as it was seen.

    Attributes:
        device_id: as its hub has it; hubs know case.
        thumbprints: of the certificates that it takes, upper-case hexadecimal.
    """

    device_id: str
    thumbprints: tuple[str, ...] = ()
