"""Which data action of Azure RBAC each operation of the DPS needs.

Source: "Control access to Azure IoT Hub Device Provisioning Service by using Microsoft Entra ID", its table of
permissions. That a query reads, and that a bulk operation writes, follows from the names.
"""

from __future__ import annotations

from emulator.platform.identity.roles import Needed

_KINDS = {"enrollmentgroups": "enrollmentGroups", "enrollments": "enrollments", "registrations": "registrationStates"}
_METHODS = {"GET": "read", "PUT": "write", "DELETE": "delete"}
_DPS = "Microsoft.Devices/provisioningServices"


def needed(method: str, path: str) -> Needed:
    """Give what a request needs.

    Args:
        method: of HTTP.
        path: such as ``/enrollments/press-001``.
    """
    collection, *rest = path.strip("/").split("/")
    if method != "POST":
        action = f"{_KINDS[collection.lower()]}/{_METHODS[method]}"
    elif rest and rest[-1] == "attestationmechanism":
        action = "attestationmechanism/details/action"
    else:
        action = f"{_KINDS[collection.lower()]}/{'read' if rest and rest[-1] == 'query' else 'write'}"
    return Needed.one(f"{_DPS}/{action}", "/dps")
