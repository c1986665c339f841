"""Which data action of Azure RBAC each operation of a hub's registry needs.

Source: "Control access to IoT Hub by using Microsoft Entra ID", its table of permissions. It does not name queries and
bulk changes: a query gives twins, so it is taken to read them; a bulk change is taken to write identities.
"""

from __future__ import annotations

from emulator.platform.identity.roles import Needed

_METHODS = {"GET": "read", "PUT": "write", "PATCH": "write", "POST": "write", "DELETE": "delete"}
_WITH_ENDING = {
    "methods": "directMethods/invoke/action",
    "commands": "cloudToDeviceMessages/queue/purge/action",
    "query": "twins/read",
}
_HUB = "Microsoft.Devices/IotHubs"


def needed(method: str, path: str) -> Needed:
    """Give what a request needs.

    Args:
        method: of HTTP.
        path: such as ``/twins/press-001``.
    """
    collection, *rest = path.strip("/").split("/")
    if rest and rest[-1] in _WITH_ENDING:
        action = _WITH_ENDING[rest[-1]]
    elif collection == "statistics":
        action = "statistics/read"
    elif collection in {"devices", "modules"}:
        action = f"devices/{_METHODS[method]}"
    else:
        action = f"{collection}/{_METHODS[method]}"
    return Needed.one(f"{_HUB}/{action}", "/hubs")
