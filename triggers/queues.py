"""Queue triggers: one for each inbound queue, and one for each of their poison queues."""

from __future__ import annotations

import os
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import azure.functions as func  # noqa: TC002 - the worker reads the annotations

from shared.acting import acting
from shared.contracts.authorities import AuthorityAct
from shared.contracts.certificates import CertificateRequest
from shared.contracts.devices import GroupRenewal, renewal_request, revocation_request
from shared.contracts.groups import EnrollmentGroupRequest
from shared.contracts.messages import INBOUND_QUEUES, Queue
from shared.contracts.orders import DeviceOrder, DeviceRegistration, OrderAct, OrderWatch
from shared.contracts.parsing import parse
from shared.reading.queue_settings import connection_of
from triggers import outcomes, poison
from triggers.zones import blueprint_of

if TYPE_CHECKING:
    from datetime import datetime

    from shared.services import Services


async def _certificate_request(services: Services, body: Any, _asked_at: datetime) -> None:
    await services.certificate_requests.carry_out(parse(CertificateRequest, body))


async def _enrollment_group_request(services: Services, body: Any, asked_at: datetime) -> None:
    # An act on a CA names the CA. It does not come by the other queue: the app of intake may put messages there.
    if isinstance(body, dict) and "name" in body and "enrollmentGroup" not in body:
        await services.authority_workflows.acts.carry_out(parse(AuthorityAct, body))
    else:
        await services.groups.requests.carry_out(parse(EnrollmentGroupRequest, body), asked_at=asked_at)


async def _device_order(services: Services, body: Any, asked_at: datetime) -> None:
    if isinstance(body, dict) and "watch" in body:
        await services.device_orders.watch(parse(OrderWatch, body))
    elif isinstance(body, dict) and "action" in body:
        await services.order_requests.carry_out(parse(OrderAct, body), asked_at=asked_at)
    else:
        order = parse(DeviceOrder, body)
        asked = await services.following.order_asked_by(order.order_id, order.fingerprint)
        with acting(asked.actor, asked.comment) if asked else nullcontext():
            await services.device_orders.advance(order)


async def _device_registration(services: Services, body: Any, _asked_at: datetime) -> None:
    await services.registrations.register(parse(DeviceRegistration, body))


async def _renewal_request(services: Services, body: Any, _asked_at: datetime) -> None:
    wanted = renewal_request(body)
    if isinstance(wanted, GroupRenewal):
        await services.lifetimes.group_renewals.carry_out(wanted)
    else:
        await services.renewals.carry_out(wanted)


async def _revocation_request(services: Services, body: Any, _asked_at: datetime) -> None:
    await services.revocations.carry_out(revocation_request(body))


_WORKFLOWS: dict[Queue, outcomes.Workflow] = {
    Queue.CERTIFICATE_REQUESTS: _certificate_request,
    Queue.ENROLLMENT_GROUP_REQUESTS: _enrollment_group_request,
    Queue.DEVICE_ORDERS: _device_order,
    Queue.DEVICE_REGISTRATIONS: _device_registration,
    Queue.RENEWAL_REQUESTS: _renewal_request,
    Queue.REVOCATION_REQUESTS: _revocation_request,
}


def _name(queue: str) -> str:
    return queue.replace("-", "_")


def listen(queue: Queue) -> None:
    """Register the triggers of a queue and of its poison queue."""
    name, given_up = _name(queue.value), _name(queue.poison)
    home, home_of_given_up = blueprint_of(name), blueprint_of(given_up)
    # The host has the settings of a connection by its name, and looks for the poison queue in the same account.
    connection = connection_of(queue.value, os.environ)

    @home.function_name(name)
    @home.queue_trigger(arg_name="message", queue_name=queue.value, connection=connection)
    async def carry_out(message: func.QueueMessage) -> None:
        await outcomes.settle_and_follow(queue, message, _WORKFLOWS[queue])

    @home_of_given_up.function_name(given_up)
    @home_of_given_up.queue_trigger(arg_name="message", queue_name=queue.poison, connection=connection)
    async def set_aside(message: func.QueueMessage) -> None:
        await poison.set_aside(queue, message)


for _queue in INBOUND_QUEUES:
    listen(_queue)
