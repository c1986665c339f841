"""What services have places for, and how many of these are used."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.domain.authorities import ProofOfPossession
from shared.domain.words import DeviceState
from shared.workflows.authorities.possession import PLACES
from shared.workflows.groups.checks import GROUP_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.contracts.answers_devices import DeviceCounts
    from shared.domain.authorities import AuthorityRecord
    from shared.ports.ca_certificates import CaCertificates
    from shared.services import Services

REGISTRATION_LIMIT = 1_000_000
"""Device registrations of one DPS (Microsoft: "Azure subscription and service limits", IoT Hub DPS limits)."""

_SECONDS = 5
_FULL_PERCENT = 80
_REGISTERED = (DeviceState.REGISTERED, DeviceState.RENEWING)
_PROVED = frozenset({ProofOfPossession.VERIFIED, ProofOfPossession.BY_HAND})


@dataclass(frozen=True, slots=True)
class Used:
    """How many places of one kind are used.

    Attributes:
        what: the kind, and whose places they are.
        count: how many are used; ``None`` if that is not known.
        limit: how many there are.
        source: who says so, or why nobody can.
    """

    what: str
    count: int | None
    limit: int
    source: str

    @property
    def percent(self) -> int | None:
        """How full it is."""
        return None if self.count is None else min(100, 100 * self.count // self.limit)

    @property
    def is_short(self) -> bool:
        """Whether somebody should look at it."""
        return self.percent is not None and self.percent >= _FULL_PERCENT


async def places_used(services: Services, records: Iterable[AuthorityRecord]) -> list[Used]:
    """Count the places for CA certificates that are used, as each service says; otherwise as the ledger has it."""
    asked = services.possession.services
    if asked:
        return [*await asyncio.gather(*map(_places_of, asked))]
    proved = sum(each.proof_of_possession in _PROVED for each in records)
    return [Used("CA certificates of DPS", proved, PLACES, "those of this app, by the ledger")]


async def _places_of(service: CaCertificates) -> Used:
    what = f"CA certificates of {service.holder}"
    try:
        async with asyncio.timeout(_SECONDS):
            return Used(what, len(await service.held()), PLACES, "all, as the service says")
    except TimeoutError:
        return Used(what, None, PLACES, f"it did not answer within {_SECONDS} s")
    except Exception as error:  # noqa: BLE001 - whatever it is, the page shows it, and the rest of itself
        return Used(what, None, PLACES, f"{type(error).__name__}: {' '.join(str(error).split())[:200]}")


def quotas_used(counts: DeviceCounts, groups: int) -> list[Used]:
    """Count what the ledger knows of other quotas of DPS.

    Args:
        counts: of devices, as :meth:`DeviceDirectory.counts` gives them.
        groups: that exist.
    """
    registered = sum(counts.states.get(each, 0) for each in _REGISTERED)
    return [
        Used("Enrollment groups of DPS", groups, GROUP_LIMIT, "those of this app, by the ledger"),
        Used("Registrations of DPS", registered, REGISTRATION_LIMIT, "devices in service, by the ledger"),
    ]
