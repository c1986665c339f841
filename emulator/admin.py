"""The admin port: what a test or a developer asks of the emulator itself, apart from every emulated protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from aiohttp import web

from emulator.platform.faults import FaultError
from emulator.platform.identity.tokens import (
    DPS_AUDIENCE,
    EVENT_GRID_AUDIENCE,
    IOT_HUB_AUDIENCE,
    KEY_VAULT_AUDIENCE,
    MANAGEMENT_AUDIENCE,
)
from emulator.platform.throttling import ThrottlingError
from emulator.platform.variants import VariantError
from emulator.protocols.wire import WireError, json_body
from emulator.services import sign_in
from emulator.services.dps.state import checked_seconds
from emulator.services.iot_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from emulator.platform.context import Context
    from emulator.services.dps.state import Provisioning
    from emulator.services.event_grid.topic import Topic

AUDIENCE_OF: Mapping[str, str] = {
    "dps": DPS_AUDIENCE,
    "iot_hub": IOT_HUB_AUDIENCE,
    "key_vault": KEY_VAULT_AUDIENCE,
    "management": MANAGEMENT_AUDIENCE,
    "event_grid": EVENT_GRID_AUDIENCE,
}


class Hub(Protocol):
    """What is asked of an IoT hub here."""

    def telemetry(self, device_id: str) -> list[dict[str, Any]]:
        """The device's latest messages, oldest first."""
        ...

    async def send(self, device_id: str, message: Any) -> dict[str, Any]:
        """Queue a cloud-to-device message."""
        ...


class Listener(Protocol):
    """What is asked of an MQTT listener here."""

    @property
    def connections(self) -> Collection[object]:
        """The open connections."""
        ...


@dataclass(frozen=True, slots=True)
class Admin:
    """Answers at the admin port; the README lists them."""

    context: Context
    provisioning: Provisioning
    hubs: Mapping[str, Hub]
    listeners: Sequence[Listener]
    topic: Topic
    endpoints: Mapping[str, Any]

    def routes(self) -> list[web.RouteDef]:
        """All routes of the admin port."""
        return [
            web.get("/health", self.health),
            web.get("/endpoints", self.show_endpoints),
            web.get("/faults", self.show_faults),
            web.put("/faults", self.plan_faults),
            web.delete("/faults", self.clear_faults),
            web.get("/throttling", self.show_throttling),
            web.put("/throttling", self.set_throttling),
            web.get("/assigning", self.show_assigning),
            web.put("/assigning", self.set_assigning),
            web.get("/linked-hubs", self.show_linked),
            web.put("/linked-hubs", self.link),
            web.get("/roles", self.show_roles),
            web.put("/roles", self.withhold_roles),
            web.post("/tokens", self.issue_token),
            web.get("/variants", self.show_variants),
            web.put("/variants", self.set_variants),
            web.get("/telemetry", self.telemetry),
            web.post("/messages", self.send_message),
            web.get("/connections", self.connections),
            web.get("/events", self.events),
        ]

    async def health(self, _: web.Request) -> web.Response:
        """Up, and what time it is here."""
        return web.json_response({"status": "ok", "time": self.context.clock().isoformat()})

    async def show_endpoints(self, _: web.Request) -> web.Response:
        """The readiness line once more."""
        return web.json_response(self.endpoints)

    async def show_faults(self, _: web.Request) -> web.Response:
        """The plan and what came of it."""
        return web.json_response(self.context.faults.to_json())

    async def plan_faults(self, request: web.Request) -> web.Response:
        """Replace the plan."""
        try:
            self.context.faults.plan(await json_body(request, on_error=_refusal))
        except FaultError as error:
            raise _refusal(str(error)) from None
        return web.json_response(self.context.faults.to_json())

    async def clear_faults(self, _: web.Request) -> web.Response:
        """No more faults."""
        self.context.faults.clear()
        return web.Response(status=204)

    async def show_throttling(self, _: web.Request) -> web.Response:
        """Whether rates are enforced, and how many calls each has refused."""
        return web.json_response(self.context.throttling.to_json())

    async def set_throttling(self, request: web.Request) -> web.Response:
        """Switch it, or scale it."""
        try:
            self.context.throttling.set(await json_body(request, on_error=_refusal))
        except ThrottlingError as error:
            raise _refusal(str(error)) from None
        return await self.show_throttling(request)

    async def show_assigning(self, _: web.Request) -> web.Response:
        """For how long registrations are ``assigning``."""
        return web.json_response({"seconds": self.provisioning.assigning_seconds})

    async def set_assigning(self, request: web.Request) -> web.Response:
        """Change that, for registrations from now on."""
        body = await json_body(request, on_error=_refusal)
        try:
            self.provisioning.assigning_seconds = checked_seconds(body["seconds"])
        except (TypeError, KeyError):
            raise _refusal('The body must be {"seconds": number}.') from None
        except ValueError as error:
            raise _refusal(str(error)) from None
        return await self.show_assigning(request)

    async def show_linked(self, _: web.Request) -> web.Response:
        """Which hubs are linked to the DPS."""
        return web.json_response({"iotHubs": self.provisioning.linked})

    async def link(self, request: web.Request) -> web.Response:
        """Link these hubs to the DPS, and no others."""
        body = await json_body(request, on_error=_refusal)
        named = body.get("iotHubs") if isinstance(body, dict) else None
        if not isinstance(named, list):
            raise _refusal('The body must be {"iotHubs": [host name, ...]}.')
        try:
            self.provisioning.link([str(each) for each in named])
        except ValueError as error:
            raise _refusal(f"{error}.") from None
        return await self.show_linked(request)

    async def show_roles(self, _: web.Request) -> web.Response:
        """At which services the identities have no role."""
        withheld = self.context.tokens.withheld_roles()
        return web.json_response({"withheld": [name for name, audience in AUDIENCE_OF.items() if audience in withheld]})

    async def withhold_roles(self, request: web.Request) -> web.Response:
        """Replace that list."""
        services = _services(await json_body(request, on_error=_refusal))
        self.context.tokens.withhold_roles([AUDIENCE_OF[name] for name in services])
        return await self.show_roles(request)

    async def issue_token(self, request: web.Request) -> web.Response:
        """Issue a token for a user or an app, in the place of a sign-in."""
        return web.json_response(sign_in.issued(self.context, await json_body(request, on_error=_refusal)))

    async def show_variants(self, _: web.Request) -> web.Response:
        """What holds where public sources differ."""
        return web.json_response(self.context.variants.to_json())

    async def set_variants(self, request: web.Request) -> web.Response:
        """Change those that the body names."""
        try:
            self.context.variants.set(await json_body(request, on_error=_refusal))
        except VariantError as error:
            raise _refusal(str(error)) from None
        return await self.show_variants(request)

    async def telemetry(self, request: web.Request) -> web.Response:
        """What a hub received from a device; ``hub`` may be left out when the first one is meant."""
        hub = self._hub(request.query.get("hub"))
        device = request.query.get("device")
        if not device:
            raise _refusal("The query has no 'device'; name the device id, e.g. /telemetry?device=thermostat-1.")
        return web.json_response({"messages": hub.telemetry(device)})

    async def send_message(self, request: web.Request) -> web.Response:
        """Send a cloud-to-device message, as a service would over AMQP."""
        body = await json_body(request, on_error=_refusal)
        if not isinstance(body, dict) or not isinstance(body.get("device"), str):
            raise _refusal('The body must be {"device": device id, "body": text, ...}.')
        message = {name: value for name, value in body.items() if name not in {"device", "hub"}}
        try:
            queued = await self._hub(body.get("hub")).send(body["device"], message)
        except HubError as error:
            raise error.on_the_wire() from None
        return web.json_response(queued, status=202)

    def _hub(self, name: str | None) -> Hub:
        wanted = name or self.context.configuration.host_name
        if wanted not in self.hubs:
            raise _refusal(f"The hub {wanted!r} does not exist; the hubs are {', '.join(self.hubs)}.")
        return self.hubs[wanted]

    async def events(self, request: web.Request) -> web.Response:
        """The latest events of the topic, oldest first; of one type if the query names it."""
        return web.json_response({"events": self.topic.events(request.query.get("type"))})

    async def connections(self, _: web.Request) -> web.Response:
        """How many devices are connected over MQTT."""
        return web.json_response({"count": sum(len(listener.connections) for listener in self.listeners)})


def _services(body: Any) -> list[str]:
    services = body.get("withheld") if isinstance(body, dict) else None
    if not isinstance(services, list) or not set(map(str, services)) <= set(AUDIENCE_OF):
        raise _refusal(f'The body must be {{"withheld": [...]}} with services out of {", ".join(AUDIENCE_OF)}.')
    return services


def _refusal(message: str) -> WireError:
    return WireError(400, {"error": {"code": "BadRequest", "message": message}})
