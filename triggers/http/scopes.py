"""The enrollment group that an operation is about: somebody whose role is given for single groups needs one of those.

The ledger says which group it is, or the body of what is new. That is looked at only for somebody who has the role for
single groups: what does not exist, or belongs to no group, is refused to them like what belongs to another one.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from shared.contracts.ids import path_value
from shared.errors import NotFound, Rejected
from shared.reading.json_text import read_json
from shared.workflows.intake.following import KINDS
from triggers import callers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    import azure.functions as func

    from shared.domain.callers import Caller, Role
    from shared.services import Services

    type Scope = Callable[[Services, func.HttpRequest], Awaitable[str | None]]
    """Finds the group that a request is about; ``None`` if it is about none, or about all."""


async def permit(services: Services, request: func.HttpRequest, caller: Caller, role: Role, scope: Scope) -> None:
    """Check that a caller has the role that an operation needs, for what it is about.

    Raises:
        Forbidden: they have not.
    """
    if not caller.has(role):
        raise callers.lacking(role)
    if scope is nothing or caller.groups(role) is None:
        return
    if scope is everything:
        raise callers.lacking(role, of_all=True)
    group = None
    with suppress(Rejected):
        group = await scope(services, request)
    if not caller.may(role, group):
        parameter = _PARAMETERS.get(scope)
        raise callers.lacking(role, of_all=parameter is not None and group is None, parameter=parameter)


async def everything(_services: Services, _request: func.HttpRequest) -> str | None:
    """It is about all groups, or about what belongs to none."""
    return None


async def nothing(_services: Services, _request: func.HttpRequest) -> str | None:
    """It says nothing of any group: who has the role for a single one may do it."""
    return None


async def by_group(services: Services, request: func.HttpRequest) -> str | None:
    """It lists what belongs to a group."""
    return await _in_query(services, request, "group")


async def by_enrollment_group(services: Services, request: func.HttpRequest) -> str | None:
    """It lists what belongs to a group."""
    return await _in_query(services, request, "enrollmentGroup")


_PARAMETERS: Mapping[Scope, str] = {by_group: "group", by_enrollment_group: "enrollmentGroup"}
"""Parameters that limit a list to a group."""


async def _in_query(_services: Services, request: func.HttpRequest, name: str) -> str | None:
    given = request.params.get(name)
    return path_value("enrollmentGroup", given) if given else None


async def of_group(_services: Services, request: func.HttpRequest) -> str | None:
    """It is about the group in the path."""
    return path_value("enrollmentGroup", request.route_params["id"])


async def of_device(services: Services, request: func.HttpRequest) -> str | None:
    """It is about the device in the path."""
    return await group_of_device(services, request.route_params["registrationId"])


async def of_order(services: Services, request: func.HttpRequest) -> str | None:
    """It is about the order in the path."""
    return await group_of_order(services, request.route_params["orderId"])


async def of_new_order(_services: Services, request: func.HttpRequest) -> str | None:
    """It is about the group that the order names, in its body or in the query."""
    # That of the query counts for a list in CSV alone, and is refused with an order in JSON.
    group = request.params.get("enrollmentGroup") or _body(request).get("enrollmentGroup")
    return path_value("enrollmentGroup", group) if isinstance(group, str) else None


async def of_body(_services: Services, request: func.HttpRequest) -> str | None:
    """It is about the group that the body names."""
    group = _body(request).get("enrollmentGroup")
    return path_value("enrollmentGroup", group) if isinstance(group, str) else None


async def of_authority(services: Services, request: func.HttpRequest) -> str | None:
    """It is about the CA in the path, which may be a group's."""
    return await group_of_authority(services, request.route_params["name"])


async def of_certificate(services: Services, request: func.HttpRequest) -> str | None:
    """It is about the certificate in the path."""
    return await group_of_certificate(services, request.route_params["serialNumber"])


async def of_new_certificate(services: Services, request: func.HttpRequest) -> str | None:
    """It is about the CA that the body names as issuer, which may be a group's, and a device that is in no other."""
    body = _body(request)
    issuer, name = body.get("issuer"), body.get("name")
    if not (isinstance(issuer, str) and isinstance(name, str)):
        return None
    group = await group_of_authority(services, issuer)
    return group if await group_of_device(services, name) in {None, group} else None


async def of_finding(services: Services, request: func.HttpRequest) -> str | None:
    """It is about the finding in the path, which may be of a group or one of its devices."""
    return (await services.reconciler.describe_finding(request.route_params["id"])).enrollment_group


async def of_approval(services: Services, request: func.HttpRequest) -> str | None:
    """It is about the approval in the path, which may be of a group or of what belongs to it."""
    return await services.approvals.group_of(request.route_params["id"][:64])


async def of_revocation(services: Services, request: func.HttpRequest) -> str | None:
    """It is about the device, the certificate, the group, the order or the devices that the body names."""
    body = _body(request)
    named = body.get("registrationIds")
    if isinstance(named, list):
        groups = {await group_of_device(services, each) if isinstance(each, str) else None for each in named}
        return groups.pop() if len(groups) == 1 else None
    for name, find in (
        ("registrationId", group_of_device),
        ("serialNumber", group_of_certificate),
        ("enrollmentGroup", _group_itself),
        ("orderId", group_of_order),
    ):
        if isinstance(body.get(name), str):
            return await find(services, body[name])
    return None


async def of_request(services: Services, request: func.HttpRequest) -> str | None:
    """It is about what the request in the path is about."""
    identifier = path_value("requestId", request.route_params["requestId"])
    kind = next((each for each in KINDS if each == request.params.get("kind")), None)
    shown = await services.following.describe(identifier, kind)
    return await group_of_path(services, shown.about)


# --- the ledger's word ---


async def group_of_path(services: Services, path: str | None) -> str | None:
    """Give the group of what has a path of the API, as in ``/api/devices/press-1``."""
    match (path or "").split("/"):
        case ["", "api", "devices", name]:
            return await group_of_device(services, name)
        case ["", "api", "enrollment-groups", name]:
            return name
        case ["", "api", "device-orders", name]:
            return await group_of_order(services, name)
        case ["", "api", "certificate-authorities", name]:
            return await group_of_authority(services, name)
    return None


async def group_of_device(services: Services, registration_id: str) -> str | None:
    """Give the group of a device; ``None`` if it has none, or does not exist."""
    return await services.devices.group_of(path_value("registrationId", registration_id))


async def group_of_order(services: Services, order_id: str) -> str | None:
    """Give the group of an order; ``None`` if it does not exist."""
    with suppress(NotFound):
        return (await services.order_answers.order(path_value("orderId", order_id))).enrollment_group
    return None


async def group_of_authority(services: Services, name: str) -> str | None:
    """Give the group of a CA; ``None`` if it has none, or does not exist."""
    with suppress(NotFound):
        return (await services.authorities.get(path_value("name", name))).enrollment_group
    return None


async def group_of_certificate(services: Services, serial_number: str) -> str | None:
    """Give the group of a certificate; ``None`` if it has none, or does not exist."""
    with suppress(NotFound):
        return (
            await services.certificate_requests.describe(path_value("serialNumber", serial_number))
        ).enrollment_group
    return None


async def _group_itself(_services: Services, group: str) -> str | None:
    return path_value("enrollmentGroup", group)


def _body(request: func.HttpRequest) -> dict[str, Any]:
    try:
        body = read_json(request.get_body())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
