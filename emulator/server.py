"""The emulator put together; reads from top to bottom."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from aiohttp import web

from emulator import admin
from emulator.platform import exchanges, faults
from emulator.platform.configuration import ConfigurationError
from emulator.platform.context import Context, utc_now
from emulator.platform.identity import sas
from emulator.platform.identity.roles import Roles
from emulator.platform.identity.tokens import Tokens
from emulator.platform.store import PRIVATE, Store
from emulator.platform.throttling import Throttling
from emulator.platform.tls import TlsFiles, ensure_tls
from emulator.platform.variants import Variants
from emulator.protocols import listeners, paths, wire
from emulator.protocols.amqp.connection import Connection as AmqpConnection
from emulator.protocols.amqp.listener import AmqpListener
from emulator.protocols.mqtt import Connection as MqttConnection
from emulator.protocols.mqtt import MqttListener
from emulator.protocols.secured import server_context
from emulator.protocols.websockets import AMQP, MQTT, Websockets
from emulator.services import amqp_clients, managed_identity, sign_in
from emulator.services.dps import device as dps_device
from emulator.services.dps import device_routes
from emulator.services.dps import routes as dps_routes
from emulator.services.dps.device_api import DeviceApi
from emulator.services.dps.state import Provisioning
from emulator.services.event_grid import routes as event_grid_routes
from emulator.services.event_grid.topic import Topic
from emulator.services.iot_hub import device as hub_device
from emulator.services.iot_hub import device_routes as hub_device_routes
from emulator.services.iot_hub import routes as hub_routes
from emulator.services.iot_hub.state import IotHubs
from emulator.services.key_vault import routes as key_vault_routes
from emulator.services.management import routes as management_routes

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import TextIO

    from emulator.platform.configuration import Configuration
    from emulator.protocols.amqp.links import Service
    from emulator.protocols.mqtt import Acceptor, Connect, Session
    from emulator.services.iot_hub.state import IotHub

    type ServeHub = Callable[[IotHub], Callable[[AmqpConnection], Service]]
    """Gives what makes the service behind an AMQP connection at a hub's address."""

STORE_FILE = "emulator.sqlite3"


class Emulator:
    """All services in one process and on one event loop.

    Attributes:
        context: what the services share; there after ``start``.
        endpoints: what a client needs, as the readiness line gives it; there after ``start``.
    """

    context: Context
    endpoints: Mapping[str, Any]

    def __init__(self, configuration: Configuration, *, clock: Callable[[], datetime] = utc_now) -> None:
        self._configuration = configuration
        self._clock = clock
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Bind, open the state, serve.

        Raises:
            ConfigurationError: the exchange log can't be opened.
            PortTaken: a port can't be listened on.
            StoreInUse: another emulator has the state directory.
        """
        async with AsyncExitStack() as running:
            await self._start(running)
            self._running = running.pop_all()

    async def stop(self) -> None:
        """Stop serving, then close the state."""
        await self._running.aclose()

    async def _start(self, running: AsyncExitStack) -> None:
        configuration, sockets = _bind(self._configuration, running)
        tls = ensure_tls(configuration.tls_dir, ["localhost", *configuration.addresses])
        context = _context(configuration, self._clock, running)
        header = managed_identity.kept_identity_header(context.store)

        hubs = IotHubs(context)
        provisioning = Provisioning(context, hubs)
        topic = Topic(context, tls.ca_file)
        api = DeviceApi(context, provisioning)
        accept = _acceptor(context, api, hubs)
        serve = partial(amqp_clients.server, context, api)
        websockets = _websockets(hubs, serve, accept)
        services = {
            "key_vault": key_vault_routes.routes(context),
            "dps": dps_routes.routes(context, provisioning),
            "management": management_routes.routes(context, [_dps_resource(configuration, provisioning)]),
            "iot_hub_management": management_routes.routes(context, _hub_resources(configuration, hubs)),
            "iot_hub": hub_routes.routes(context, hubs),
            "iot_hub_device": hub_device_routes.routes(context, hubs),
            "dps_device": device_routes.routes(context, api),
            "websocket": websockets.routes(),
            "event_grid": event_grid_routes.routes(context, topic),
        }
        mqtt = await _start_mqtt(configuration, tls, accept, running)
        await _start_amqp(hubs, serve, sockets.amqp, tls, running)
        endpoints = _endpoints(context, tls, header)

        controls = admin.Admin(context, provisioning, hubs, (*mqtt, websockets), topic, endpoints)
        public = _application(context, services, _recorded_in(configuration, running))
        public.on_shutdown.append(websockets.end)
        for application, bound, secured in (
            (public, sockets.https, server_context(tls.certificate_file, tls.key_file)),
            (
                _application(
                    context, {"identity": [*managed_identity.routes(context, header), *sign_in.routes(context)]}
                ),
                sockets.identity,
                None,
            ),
            (_application(context, {"admin": controls.routes()}), sockets.admin, None),
        ):
            site = await listeners.serve(application, bound, secured)
            running.push_async_callback(site.stop)
        self.context = context
        self.endpoints = endpoints


@dataclass(frozen=True, slots=True)
class _Sockets:
    """What is listened on, AMQP once for each address; MQTT binds by itself."""

    https: Sequence[socket.socket]
    amqp: Sequence[socket.socket]
    identity: Sequence[socket.socket]
    admin: Sequence[socket.socket]


def _bind(given: Configuration, running: AsyncExitStack) -> tuple[Configuration, _Sockets]:
    """Bind everything, and settle the ports that were left open.

    Raises:
        PortTaken: a port can't be listened on.
    """

    def bound(addresses: Sequence[str], port: int | None, option: str) -> Sequence[socket.socket]:
        return () if port is None else _closed_with(running, listeners.bind(addresses, port, option))

    https = bound(given.addresses, given.https_port, "--https-port")
    websocket = bound(given.addresses, given.websocket_port, "--websocket-port")
    amqp = bound(given.addresses, given.amqp_port, "--amqp-port")
    identity = bound([given.address], given.identity_port, "--identity-port")
    administration = bound([given.address], given.admin_port, "--admin-port")
    configuration = given.on_ports(
        https=listeners.port_of(https),
        websocket=listeners.port_of(websocket) if websocket else None,
        mqtt=listeners.free_port(given.addresses, given.mqtt_port, "--mqtt-port"),
        amqp=listeners.port_of(amqp) if amqp else None,
        identity=listeners.port_of(identity),
        admin=listeners.port_of(administration),
    )
    return configuration, _Sockets((*https, *websocket), amqp, identity, administration)


def _closed_with(running: AsyncExitStack, sockets: Sequence[socket.socket]) -> Sequence[socket.socket]:
    for listener in sockets:
        running.callback(listener.close)
    return sockets


def _context(configuration: Configuration, clock: Callable[[], datetime], running: AsyncExitStack) -> Context:
    store = Store(configuration.state_dir / STORE_FILE)
    running.callback(store.close)
    return Context(
        configuration=configuration,
        store=store,
        clock=clock,
        tokens=Tokens(store, tenant_id=configuration.tenant_id, clock=clock),
        sas_keys=sas.kept_sas_keys(store, configuration),
        faults=faults.Faults(),
        throttling=Throttling(enabled=configuration.throttling is not None, scale=configuration.throttling or 1.0),
        variants=Variants(configuration.variants),
        roles=Roles(configuration.roles),
    )


def _recorded_in(configuration: Configuration, running: AsyncExitStack) -> TextIO | None:
    """Open the exchange log.

    Raises:
        ConfigurationError: it can't be opened.
    """
    path = configuration.exchange_log
    if path is None:
        return None
    try:
        path.touch(PRIVATE)
        return running.enter_context(path.open("a", encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"--exchange-log {str(path)!r} can't be opened: {error.strerror}") from None


def _application(
    context: Context, services: Mapping[str, Iterable[web.RouteDef]], exchange_log: TextIO | None = None
) -> web.Application:
    """One HTTP application; middlewares from the outside in."""
    called: dict[web.AbstractRoute, tuple[str, str]] = {}

    def service(request: web.Request) -> str:
        return called.get(request.match_info.route, ("unknown", ""))[0]

    def operation(request: web.Request) -> str:
        return f"{request.method} {called.get(request.match_info.route, ('', request.path))[1]}"

    planned = [] if "admin" in services else [faults.middleware(context.faults, service, operation)]
    recorded = [] if exchange_log is None else [exchanges.middleware(exchange_log, service)]
    application = web.Application(
        client_max_size=wire.REQUEST_LIMIT, middlewares=[wire.request_ids, *planned, *recorded, wire.errors]
    )
    for name, routes in services.items():
        for route in routes:
            spelled = web.RouteDef(route.method, paths.pattern(route.path), route.handler, route.kwargs)
            for added in application.router.add_routes([spelled]):
                called[added] = name, paths.plain(route.path)
    return application


def _dps_resource(configuration: Configuration, provisioning: Provisioning) -> management_routes.Resource:
    """The provisioning service as Azure Resource Manager shows it."""
    return management_routes.Resource(
        resource_id=configuration.dps_resource_id,
        kind="ProvisioningServices",
        properties=lambda: {
            "state": "Active",
            "provisioningState": "Succeeded",
            "serviceOperationsHostName": configuration.authority,
            "deviceProvisioningHostName": configuration.host_name,
            "idScope": configuration.id_scope,
            "allocationPolicy": "Hashed",
            "iotHubs": [{"name": each, "location": "local"} for each in provisioning.linked],
        },
        certificates=provisioning.ca_certificates,
        created_status=200,
    )


def _hub_resources(configuration: Configuration, hubs: IotHubs) -> list[management_routes.Resource]:
    """The hubs as Azure Resource Manager shows them."""
    return [
        management_routes.Resource(
            resource_id=hub.resource_id,
            kind="IotHubs",
            properties=partial(_hub_properties, hub.host_name),
            certificates=hubs[hub.host_name].ca_certificates,
            created_status=201,
        )
        for hub in configuration.hubs
    ]


def _hub_properties(host_name: str) -> Mapping[str, Any]:
    return {"state": "Active", "provisioningState": "Succeeded", "hostName": host_name}


def _acceptor(context: Context, api: DeviceApi, hubs: IotHubs) -> Acceptor:
    """The user name tells a registration at DPS from a device of a hub."""
    to_dps = dps_device.acceptor(context, api)
    to_hub = hub_device.acceptor(context, hubs)
    registration = f"{context.configuration.id_scope}/registrations/"

    async def accept(connect: Connect, connection: MqttConnection) -> Session:
        chosen = to_dps if connect.username.startswith(registration) else to_hub
        return await chosen(connect, connection)

    return accept


def _websockets(hubs: IotHubs, serve: ServeHub, accept: Acceptor) -> Websockets:
    def amqp(request: web.Request) -> AmqpConnection:
        hub = hubs.called(request.host)
        return AmqpConnection(hub.host_name, serve(hub), set())

    return Websockets({MQTT: lambda _: MqttConnection(accept, set()), AMQP: amqp})


async def _start_mqtt(
    configuration: Configuration, tls: TlsFiles, accept: Acceptor, running: AsyncExitStack
) -> Sequence[MqttListener]:
    """Listen on every address: devices know a hub by its address, and the port is the same for all."""
    started = []
    for address in configuration.addresses:
        listener = MqttListener(
            address=address,
            port=configuration.mqtt_port,
            certificate_file=tls.certificate_file,
            key_file=tls.key_file,
            accept=accept,
        )
        await listener.start()
        running.push_async_callback(listener.stop)
        started.append(listener)
    return started


async def _start_amqp(
    hubs: IotHubs, serve: ServeHub, sockets: Sequence[socket.socket], tls: TlsFiles, running: AsyncExitStack
) -> None:
    """Listen with AMQP on the address of every hub, unless it is left out."""
    secured = server_context(tls.certificate_file, tls.key_file)
    for hub, bound in zip(hubs.values(), sockets, strict=False):
        listener = AmqpListener(secured, hub.host_name, serve(hub))
        await listener.start([bound])
        running.push_async_callback(listener.stop)


def _endpoints(context: Context, tls: TlsFiles, identity_header: str) -> Mapping[str, Any]:
    configuration = context.configuration
    dps_key = context.sas_keys.dps[sas.DPS_POLICY]
    hub_strings = [
        sas.connection_string(
            hub.authority,
            sas.IOT_HUB_POLICY,
            context.sas_keys.hubs[hub.host_name][sas.IOT_HUB_POLICY],
        )
        for hub in configuration.hubs
    ]
    return {
        "httpsUrl": configuration.https_url,
        "identityEndpoint": f"http://{configuration.address}:{configuration.identity_port}{managed_identity.PATH}",
        "identityHeader": identity_header,
        "idScope": configuration.id_scope,
        "dpsResourceId": configuration.dps_resource_id,
        "dpsServiceUrl": configuration.https_url,
        "dpsDeviceHost": configuration.host_name,
        "dpsDeviceUrl": configuration.https_url,
        "mqttPort": configuration.mqtt_port,
        "amqpPort": configuration.amqp_port,
        "websocketPort": configuration.websocket_port or configuration.https_port,
        "iotHubs": [
            {"hostName": hub.host_name, "serviceUrl": hub.service_url, "resourceId": hub.resource_id}
            for hub in configuration.hubs
        ],
        "keyVaultUrl": configuration.https_url,
        "armUrl": configuration.https_url,
        "eventTopicUrl": f"{configuration.https_url}{event_grid_routes.PATH}",
        "dpsConnectionString": sas.connection_string(configuration.authority, sas.DPS_POLICY, dps_key),
        "iotHubConnectionStrings": hub_strings,
        "adminUrl": f"http://{configuration.address}:{configuration.admin_port}",
        "tlsCaFile": str(tls.ca_file),
    }
