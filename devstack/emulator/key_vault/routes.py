"""Wire of the vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp import web

    from devstack.emulator.context import Context


def routes(context: Context) -> list[web.RouteDef]:
    """None yet."""
    del context
    return []
