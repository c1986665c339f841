"""Who calls the service's side of a hub: the owner's signature, or an identity's token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emulator.platform.identity.sas import SCHEME, verify_sas
from emulator.platform.identity.tokens import IOT_HUB_AUDIENCE

if TYPE_CHECKING:
    from emulator.platform.context import Context
    from emulator.platform.identity.roles import Needed
    from emulator.services.iot_hub.state import IotHub


def verify_caller(
    context: Context, hub: IotHub, header: str | None, *, host: str, needed: Needed | None = None
) -> None:
    """Check a caller's signature or token.

    Args:
        context: of the emulator.
        hub: the one that is called.
        header: as in ``Authorization``; None when there is none.
        host: what the caller calls the hub, as ``host[:port]``.
        needed: what an identity needs for it; None for no more than a token.

    Raises:
        Unauthenticated: it does not hold.
        Forbidden: it holds, and the identity has no role at the hub.
    """
    if header is not None and header.startswith(f"{SCHEME} "):
        verify_sas(header, resource=host, keys=context.sas_keys.hubs[hub.host_name], now=context.clock())
    else:
        caller = context.tokens.verify(header, IOT_HUB_AUDIENCE)
        if needed is not None:
            context.roles.check(caller, needed)
