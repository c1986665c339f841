"""What every service of the emulator is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from emulator.platform.identity.roles import Roles
from emulator.platform.throttling import Throttling
from emulator.platform.variants import Variants

if TYPE_CHECKING:
    from collections.abc import Callable

    from emulator.platform.configuration import Configuration
    from emulator.platform.faults import Faults
    from emulator.platform.identity.sas import SasKeys
    from emulator.platform.identity.tokens import Tokens
    from emulator.platform.store import Store


@dataclass(frozen=True, slots=True)
class Context:
    """The parts that the services share.

    Attributes:
        configuration: with the ports that are really bound.
        store: where all state is kept.
        clock: the present moment, aware, UTC.
        tokens: checks bearer tokens.
        sas_keys: keys of the shared access policies.
        faults: what is planned to go wrong; the MQTT sessions ask it themselves.
        throttling: the rates that hold.
        variants: what holds where public sources differ.
        roles: what identities may do.
    """

    configuration: Configuration
    store: Store
    clock: Callable[[], datetime]
    tokens: Tokens
    sas_keys: SasKeys
    faults: Faults
    throttling: Throttling = field(default_factory=Throttling)
    variants: Variants = field(default_factory=Variants)
    roles: Roles = field(default_factory=Roles)

    def throttled(self, *rates: str, subject: str = "") -> int | None:
        """Count a call; give the seconds to wait if it goes over a rate, else None."""
        return self.throttling.admit(rates, self.clock(), subject)


def utc_now() -> datetime:
    """The clock of an emulator that was given no other."""
    return datetime.now(UTC)
