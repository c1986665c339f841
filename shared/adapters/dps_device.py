"""The DPS device API: registers a device as the device itself would, with its certificate, over MQTT."""

from __future__ import annotations

import asyncio
import logging
import re
from contextlib import suppress
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from azure.iot.device import X509
from azure.iot.device.aio import ProvisioningDeviceClient
from azure.iot.device.exceptions import ClientError, ServiceError

from shared.adapters.held_files import held
from shared.errors import Deferred
from shared.ports.registrar import Assignment, AssignmentFailed, RegistrationRefused
from shared.telemetry import metrics
from shared.telemetry.spans import SpanKind, span

if TYPE_CHECKING:
    from azure.iot.device import RegistrationResult

    from shared.ports.registrar import ClientCredentials

_SERVICE = "dps_device"
_log = logging.getLogger(__name__)
_STATUS = re.compile(r"status code (?:of )?(\d{3})")
_NO_HUB = "failed registration status"  # azure-iot-device 2.14 has no other sign of it, and no reason
_SHUTDOWN_SECONDS = 10
_OVERTAKEN = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.PRECONDITION_FAILED})
"""What DPS may say of an operation when the device has begun another one meanwhile."""

_OVERTAKEN_RETRY = timedelta(seconds=5)


class DeviceRegistrar:
    """Registers devices at one DPS.

    Args:
        host: the DPS device endpoint.
        id_scope: its id scope.
        timeout: for one registration, all polling included.
    """

    def __init__(self, host: str, id_scope: str, *, timeout: timedelta) -> None:
        self._host = host
        self._id_scope = id_scope
        self._timeout = timeout.total_seconds()

    async def register(self, registration_id: str, credentials: ClientCredentials) -> Assignment:
        """Register a device and wait until a hub is assigned to it.

        Raises:
            Rejected: DPS refuses the device (4xx).
            Deferred: DPS is throttling, or still assigning, or another registration of the device has taken this one's
                place.
            AssignmentFailed: DPS knows the device, and found no hub for it.
            ServiceError, ClientError: the network or the service failed.
        """
        with held(credentials.pem) as path:  # the SDK takes certificates as files; the key in it stays encrypted
            client = ProvisioningDeviceClient.create_from_x509_certificate(
                provisioning_host=self._host,
                registration_id=registration_id,
                id_scope=self._id_scope,
                x509=X509(path, path, credentials.password),
            )
            metrics.DPS_OPERATIONS.record(1, {metrics.WHAT: "registration"})
            with span(
                "register dps",
                SpanKind.CLIENT,
                {metrics.SERVICE: _SERVICE, metrics.SERVER: self._host, "network.protocol.name": "mqtt"},
            ):
                return await self._registered(registration_id, client)

    async def _registered(self, registration_id: str, client: ProvisioningDeviceClient) -> Assignment:
        result: RegistrationResult | None = None
        try:
            async with asyncio.timeout(self._timeout):
                result = await client.register()
        except TimeoutError:
            raise Deferred(
                f"DPS did not finish the registration of {registration_id!r} within {self._timeout:.0f} s",
                retry_after=timedelta(seconds=self._timeout),
            ) from None
        except (ServiceError, ClientError) as error:
            if (said := _translated(registration_id, error)) is not None:
                raise said from error
            raise
        finally:
            if result is None or result.status != "assigned":
                await _shut_down(client)
        if result is None or result.status != "assigned" or result.registration_state is None:
            raise AssignmentFailed(f"DPS ended the registration of {registration_id!r} as {result and result.status}")
        state = result.registration_state
        return Assignment(assigned_hub=state.assigned_hub, device_id=state.device_id)


def _translated(registration_id: str, error: Exception) -> Exception | None:
    """Read the status out of the SDK's message, the only place that has it; ``None`` for an outage.

    The SDK raises an answer of the service as ClientError("Unexpected failure"), caused by a ServiceError.
    """
    said = f"{error} {error.__cause__}"
    if _NO_HUB in said:
        return AssignmentFailed(f"DPS found no hub for {registration_id!r}")
    found = _STATUS.search(said)
    status = int(found[1]) if found else 0
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        metrics.THROTTLED.record(1, {metrics.SERVICE: _SERVICE})
        return Deferred(f"DPS is throttling the registration of {registration_id!r}", retry_after=timedelta(seconds=30))
    if status in _OVERTAKEN:
        # Two deliveries of one message may register it at once: DPS keeps the later operation, and that one succeeds.
        return Deferred(
            f"DPS does not know the registration of {registration_id!r} that was begun (status {status}): another one "
            "has taken its place, or the id scope is wrong",
            retry_after=_OVERTAKEN_RETRY,
        )
    if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return RegistrationRefused(
            f"DPS refused to register {registration_id!r} with status {status}: its enrollment group is disabled or "
            "deleted, the device is shut out by an individual enrollment, or the root is no longer verified there",
            status=status,
        )
    return None


async def _shut_down(client: ProvisioningDeviceClient) -> None:
    """End the client's connection and threads, which it does by itself only after a success.

    Its public interface offers nothing for that (azure-iot-sdk-python issue 1037), hence the inner pipeline.
    """
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def finished(**_: Any) -> None:
        loop.call_soon_threadsafe(done.set)

    with suppress(Exception):
        client._pipeline.shutdown(callback=finished)  # noqa: SLF001
        async with asyncio.timeout(_SHUTDOWN_SECONDS):
            await done.wait()
            return
    _log.warning("a DPS client did not shut down within %d s", _SHUTDOWN_SECONDS)
