"""The app of a trust zone, with the zone's functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import azure.functions as func

from triggers import console_pages, http_api, queues, timers
from triggers.zones import blueprints_of

if TYPE_CHECKING:
    from shared.rules.zones import Zone

MODULES = (http_api, console_pages, queues, timers)
"""They put their functions into the blueprints of their zones when they are imported."""


def app_of(zone: Zone, *, entra: bool = False) -> func.FunctionApp:
    """Make the app of a zone.

    Args:
        zone: the zone.
        entra: whether App Service authentication signs callers in. Then the host must let in whoever has no function
            key (Azure/azure-functions-host#11394), and the app asks it about keys by itself.
    """
    level = func.AuthLevel.ANONYMOUS if entra else func.AuthLevel.FUNCTION
    app = func.FunctionApp(http_auth_level=level)
    for blueprint in blueprints_of(zone):
        app.register_functions(blueprint)
    return app
