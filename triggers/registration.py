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


def app_of(zone: Zone) -> func.FunctionApp:
    """Make the app of a zone."""
    app = func.FunctionApp()
    for blueprint in blueprints_of(zone):
        app.register_functions(blueprint)
    return app
