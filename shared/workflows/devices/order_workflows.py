"""What sees to orders, put together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.workflows.devices.order_answers import OrderAnswers
from shared.workflows.devices.order_blobs import OrderBlobs
from shared.workflows.devices.order_bundles import OrderBundles
from shared.workflows.devices.order_dispatch import OrderDispatch
from shared.workflows.devices.order_endings import OrderEndings
from shared.workflows.devices.order_progress import OrderProgressEvents
from shared.workflows.devices.order_requests import OrderRequests
from shared.workflows.devices.order_results import OrderResults
from shared.workflows.devices.order_uploads import OrderUploads
from shared.workflows.devices.ordered_devices import OrderedDevices
from shared.workflows.devices.orders import DeviceOrders
from shared.workflows.devices.registrations import Registrations
from shared.workflows.devices.retention import Retention

if TYPE_CHECKING:
    from shared.ledger.requests import Requests
    from shared.ledger.stores import Ledger
    from shared.ports.blobs import Blobs
    from shared.ports.hubs import IotHubRegistries
    from shared.settings import Settings
    from shared.threads import ThreadPool
    from shared.workflows.devices.assignments import Assignments
    from shared.workflows.devices.bundles import Bundles
    from shared.workflows.devices.convergence import DeviceConverger
    from shared.workflows.devices.directory import DeviceDirectory
    from shared.workflows.devices.failures import Failures
    from shared.workflows.devices.issuing import DeviceCertificates
    from shared.workflows.devices.orders import OrderTrail
    from shared.workflows.devices.places import Places
    from shared.workflows.devices.usable_groups import UsableGroups
    from shared.workflows.intake.outbox import Clock, Outbox


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderWorkflows:
    """What takes orders in and sees them through, carries out the messages of their lines, and keeps their lists.

    Attributes:
        answers: shows orders.
        bundles: hands out their bundles.
        requests: carries out what operators ask of them.
        retention: deletes what was kept long enough.
    """

    answers: OrderAnswers
    bundles: OrderBundles
    requests: OrderRequests
    device_orders: DeviceOrders
    registrations: Registrations
    uploads: OrderUploads
    retention: Retention


def order_workflows(
    ledger: Ledger,
    *,
    places: Places,
    requests: Requests,
    directory: DeviceDirectory,
    groups: UsableGroups,
    device_certificates: DeviceCertificates,
    bundles: Bundles,
    assignments: Assignments,
    failures: Failures,
    converger: DeviceConverger,
    hubs: IotHubRegistries,
    order_lists: Blobs,
    outbox: Outbox,
    settings: Settings,
    clock: Clock,
    threads: ThreadPool,
    trail: OrderTrail,
) -> OrderWorkflows:
    """Put together what sees to orders and their lines."""
    orders, devices = ledger.orders, ledger.devices
    ordered_devices = OrderedDevices(
        orders=orders,
        devices=devices,
        changes=ledger.changes,
        certificates=ledger.certificates,
        device_certificates=device_certificates,
        bundles=bundles,
        assignments=assignments,
        failures=failures,
        converger=converger,
        hubs=hubs,
        places=places,
        outbox=outbox,
        clock=clock,
    )
    registrations = Registrations(
        orders=orders, groups=groups, ordered_devices=ordered_devices, outbox=outbox, places=places, clock=clock
    )
    lists = OrderBlobs(blobs=order_lists, settings=settings, threads=threads)
    device_orders = DeviceOrders(
        orders=orders,
        groups=groups,
        lists=lists,
        dispatch=OrderDispatch(
            orders=orders, lists=lists, failures=failures, outbox=outbox, clock=clock, threads=threads
        ),
        endings=OrderEndings(
            orders=orders, requests=requests, devices=devices, failures=failures, outbox=outbox, clock=clock
        ),
        results=OrderResults(orders=orders, blobs=order_lists, settings=settings),
        progress=OrderProgressEvents(orders=orders, outbox=outbox),
        outbox=outbox,
        clock=clock,
        trail=trail,
    )
    uploads = OrderUploads(blobs=order_lists, settings=settings, threads=threads)
    retention = Retention(
        requests=requests,
        rejections=ledger.rejections,
        orders=orders,
        lists=order_lists,
        settings=settings,
        clock=clock,
    )
    answers = OrderAnswers(orders=orders)
    return OrderWorkflows(
        answers=answers,
        bundles=OrderBundles(answers=answers, devices=devices, directory=directory, clock=clock),
        requests=OrderRequests(requests=requests, orders=orders, device_orders=device_orders, clock=clock),
        device_orders=device_orders,
        registrations=registrations,
        uploads=uploads,
        retention=retention,
    )
