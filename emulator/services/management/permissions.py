"""Which action of Azure RBAC each operation on a DPS or a hub as a resource needs.

Source: "Azure permissions for Internet of Things", Microsoft.Devices.
"""

from __future__ import annotations

from emulator.platform.identity.roles import Needed

_METHODS = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
_PLACES = {"provisioningservices": "/dps", "iothubs": "/hubs"}


def needed(method: str, path: str) -> Needed:
    """Give what a request needs.

    Args:
        method: of HTTP.
        path: ``/subscriptions/.../providers/Microsoft.Devices/{kind}[/{name}[/certificates[/{name}[/{verb}]]]]``.
    """
    kind, *below = path.partition("/providers/Microsoft.Devices/")[2].strip("/").split("/")
    collection = below[1::2]  # after the resource's name
    verb = below[-1] if method == "POST" else None
    parts = [kind, *(each for each in collection if each != verb)]
    parts.append(f"{verb}/action" if verb else _METHODS[method])
    return Needed.one("Microsoft.Devices/" + "/".join(parts), _PLACES.get(kind.lower(), f"/{kind}"))
