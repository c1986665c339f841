"""Every metric that the app has: its name, kind, unit, meaning and attributes. docs/telemetry.md is made from this.

Names and attributes are those of OpenTelemetry's semantic conventions where these have one (``messaging.*``,
``http.client.*``); the app's own begin with ``device_factory.``. Units are UCUM. An attribute that a metric does not
declare never leaves the process, so the id of a device can't become one.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

type Value = str | int | bool
"""Value of an attribute."""

_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_SHORT = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
"""Bounds in seconds that the semantic conventions advise for calls of services."""

_LONG = (1, 2, 5, 10, 30, _MINUTE, 300, 600, 1800, _HOUR, 6 * _HOUR, _DAY, 7 * _DAY)


class Kind(StrEnum):
    """How values are put together."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric.

    Attributes:
        name: as it is exported.
        kind: how its values are put together.
        unit: in UCUM.
        description: what it says.
        attributes: what it is divided by; each has few values.
        bounds: of a histogram's buckets, in its unit.
    """

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    def record(self, value: float, attributes: Mapping[str, Value] | None = None) -> None:
        """Add to a counter, or enter a value of a gauge or histogram; without a receiver it does nothing."""
        if _receiver is not None:
            _receiver.record(self, value, attributes or {})


class Receiver(Protocol):
    """Takes what is recorded."""

    def record(self, metric: Metric, value: float, attributes: Mapping[str, Value]) -> None:
        """Take one value."""
        ...


_receiver: Receiver | None = None


def send_to(receiver: Receiver | None) -> Receiver | None:
    """Have a receiver take what is recorded from now on, ``None`` for nobody; give the one before."""
    global _receiver
    before, _receiver = _receiver, receiver
    return before


def wanted() -> bool:
    """Tell whether anybody receives what is recorded, for what takes effort to measure."""
    return _receiver is not None


@contextmanager
def received(receiver: Receiver) -> Iterator[None]:
    """Have a receiver take what is recorded inside."""
    before = send_to(receiver)
    try:
        yield
    finally:
        send_to(before)


SYSTEM = "azure_storage_queue"
"""Value of ``messaging.system``; the semantic conventions have none for Azure Storage."""

QUEUE = "messaging.destination.name"
SERVER = "server.address"
SERVICE = "device_factory.service"
STATUS = "http.response.status_code"
CAUSE = "device_factory.cause"
STATE = "device_factory.state"
CA = "device_factory.ca"
WHAT = "device_factory.kind"
SWEEP = "device_factory.sweep"
ERROR = "error.type"
OUTCOME = "device_factory.outcome"

ORDERS = Metric(
    "device_factory.order.transitions",
    Kind.COUNTER,
    "{order}",
    "Orders that came into a state.",
    (STATE,),
)
DEVICES = Metric(
    "device_factory.device.transitions",
    Kind.COUNTER,
    "{device}",
    "Devices that came into a state, as the API shows it.",
    (STATE,),
)
REGISTRATION_DURATION = Metric(
    "device_factory.registration.duration",
    Kind.HISTOGRAM,
    "s",
    "Time from the order's acceptance until the device is registered.",
    ("device_factory.register_by",),
    _LONG,
)
REGISTRATION_WAIT = Metric(
    "device_factory.registration.wait",
    Kind.HISTOGRAM,
    "s",
    "Age of a registration at a try that did not finish it. Waiting for a device's own first registration is left out.",
    (),
    _LONG,
)
REVOCATION_DURATION = Metric(
    "device_factory.revocation.duration",
    Kind.HISTOGRAM,
    "s",
    "Time from a revocation, or a deletion, until DPS and the hub keep the device out.",
    (),
    _LONG,
)
UNSETTLED_AGE = Metric(
    "device_factory.unsettled.age",
    Kind.GAUGE,
    "s",
    "Age of the oldest act on a device that DPS and the hub do not follow yet; 0 if there is none.",
)
UNSETTLED_DEVICES = Metric(
    "device_factory.unsettled.devices",
    Kind.GAUGE,
    "{device}",
    "Acts on devices that DPS and the hub do not follow yet.",
)
SIGNATURES = Metric(
    "device_factory.signatures",
    Kind.COUNTER,
    "{signature}",
    "What a CA has signed: certificates, those of OCSP responders among them, and CRLs.",
    (CA, WHAT),
)
CA_REMAINING = Metric(
    "device_factory.ca.remaining",
    Kind.GAUGE,
    "d",
    "Days until the certificate of a CA ends which signs for an enrollment group, or stands above one that does.",
    (CA,),
)
CRL_AGE = Metric(
    "device_factory.crl.age",
    Kind.GAUGE,
    "s",
    "Age of the newest CRL of an active CA.",
    (CA,),
)
REJECTIONS = Metric(
    "device_factory.rejections",
    Kind.COUNTER,
    "{message}",
    "Messages that were refused (rejected), or set aside since every try failed (poison).",
    (QUEUE, WHAT),
)
WAITS = Metric(
    "device_factory.waits",
    Kind.COUNTER,
    "{wait}",
    "Messages that were put back: not yet (deferred), a service fails (outage), a role is missing (role_missing).",
    (QUEUE, CAUSE),
)
ROLE_DENIALS = Metric(
    "device_factory.role.denials",
    Kind.COUNTER,
    "{denial}",
    "Times that a service did not let the app's identity in. Each is a role that is missing, or taken away.",
    (SERVICE, SERVER),
)
QUEUE_AGE = Metric(
    "device_factory.queue.age",
    Kind.GAUGE,
    "s",
    "Age of a message that a function could take now, at the front of the queue; 0 if there is none.",
    (QUEUE,),
)
APPROVALS_WAITING = Metric(
    "device_factory.approvals.waiting",
    Kind.GAUGE,
    "{approval}",
    "Acts that wait for a second person.",
)
LIMITED = Metric(
    "device_factory.limited",
    Kind.COUNTER,
    "{request}",
    "Requests that were refused (429), since their caller made too many: requests, denied ones, or public ones.",
    (WHAT,),
)
THROTTLED = Metric(
    "device_factory.throttled",
    Kind.COUNTER,
    "{response}",
    "Answers of a service that say it has had too many requests (429).",
    (SERVICE, SERVER),
)
THROTTLE_WAIT = Metric(
    "device_factory.throttle.wait",
    Kind.HISTOGRAM,
    "s",
    "Time that a service asks to wait (Retry-After) when it has had too many requests.",
    (SERVICE, SERVER),
    _LONG,
)
CALLS_REFUSED = Metric(
    "device_factory.calls.refused",
    Kind.COUNTER,
    "{call}",
    "Calls that were not made, since the service had not answered the ones before.",
    (SERVICE,),
)
DRIFT = Metric(
    "device_factory.drift",
    Kind.COUNTER,
    "{finding}",
    "Differences between the ledger and the services that were found anew, by kind.",
    (WHAT,),
)
NOT_COMPARED = Metric(
    "device_factory.reconciliation.unread",
    Kind.GAUGE,
    "{subject}",
    "What the last pass over everything could not look at; 0 before one has ended.",
)
DPS_OPERATIONS = Metric(
    "device_factory.dps.operations",
    Kind.COUNTER,
    "{operation}",
    "Operations of the DPS that count against its quotas of 1,000 a minute: registration, or service (its API).",
    (WHAT,),
)
SWEEP_DURATION = Metric(
    "device_factory.sweep.duration",
    Kind.HISTOGRAM,
    "s",
    "Duration of a timer's work. Of one that failed the error's type is given.",
    (SWEEP, ERROR),
    _LONG,
)
PROCESS_DURATION = Metric(
    "messaging.process.duration",
    Kind.HISTOGRAM,
    "s",
    "Duration of one try to carry out a message.",
    ("messaging.system", "messaging.operation.name", QUEUE, OUTCOME, ERROR),
    _SHORT,
)
SENT_MESSAGES = Metric(
    "messaging.client.sent.messages",
    Kind.COUNTER,
    "{message}",
    "Messages that the app put into queues, events among them.",
    ("messaging.system", "messaging.operation.name", QUEUE),
)
CALL_DURATION = Metric(
    "http.client.request.duration",
    Kind.HISTOGRAM,
    "s",
    "Duration of one request to a service, each repetition by itself.",
    ("http.request.method", SERVICE, SERVER, STATUS, ERROR),
    _SHORT,
)

METRICS: tuple[Metric, ...] = tuple(each for each in globals().values() if isinstance(each, Metric))
"""All of them."""
