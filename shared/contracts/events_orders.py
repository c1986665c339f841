"""What is told of orders."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from shared.contracts.base import Contract, Told, with_example
from shared.domain.orders import EndState, OrderState
from shared.domain.words import EventType


class OrderAccepted(Told):
    """An order was taken in, and its devices are on their way."""

    event_type = EventType.ORDER_ACCEPTED
    model_config = with_example({"orderId": "order-1", "enrollmentGroup": "line-1", "deviceCount": 1})

    order_id: str = Field(description="of the order")
    enrollment_group: str = Field(description="that its devices come into")
    device_count: int = Field(description="how many devices it has")


class OrderProgress(Contract):
    """The lines of an order by state; ``total`` counts all."""

    total: int = Field(description="all lines")
    ordered: int = Field(description="still to be done")
    issued: int = Field(description="with a certificate, and not in a hub yet")
    registered: int = Field(description="in a hub")
    failed: int = Field(description="that could not be carried out")
    cancelled: int = Field(default=0, description="that were cancelled before they were done")


class OrderProgressed(Told):
    """Lines of an order are done, as many as it wanted to be told of; ``finished`` counts them."""

    event_type = EventType.ORDER_PROGRESSED
    model_config = with_example(
        {
            "orderId": "order-1",
            "enrollmentGroup": "line-1",
            "state": "processing",
            "finished": 1000,
            "progress": {
                "total": 5000,
                "ordered": 4000,
                "issued": 0,
                "registered": 998,
                "failed": 2,
                "cancelled": 0,
            },
        }
    )

    order_id: str = Field(description="of the order")
    enrollment_group: str = Field(description="that its devices come into")
    state: Literal[OrderState.PROCESSING, OrderState.WAITING] = Field(description="of the order")
    finished: int = Field(description="lines that are done")
    progress: OrderProgress = Field(description="its lines, by state")


class FailedLine(Contract):
    """A line of an order that failed."""

    line: int = Field(description="counted from 0")
    registration_id: str = Field(description="as it was asked for")
    reason: str = Field(description="why")


class OrderCompleted(Told):
    """The last line of an order is done.

    ``failed`` names the lines that failed, as many as fit; ``failedNotListed`` says how many more there are.
    ``results`` is the URL of a blob with all lines, in CSV, and ``resultsJson`` that of one in JSON. ``actor`` has
    ordered the devices or, of a cancelled order, cancelled it.
    """

    event_type = EventType.ORDER_COMPLETED
    model_config = with_example(
        {
            "orderId": "order-1",
            "enrollmentGroup": "line-1",
            "state": "completed",
            "progress": {"total": 1, "ordered": 0, "issued": 0, "registered": 1, "failed": 0, "cancelled": 0},
            "failed": [],
            "failedNotListed": 0,
            "results": "https://factory.blob.core.windows.net/results/order-1.csv",
            "resultsJson": "https://factory.blob.core.windows.net/results/order-1.json",
        }
    )

    order_id: str = Field(description="of the order")
    enrollment_group: str = Field(description="that its devices came into")
    state: EndState = Field(description="how it has ended")
    progress: OrderProgress = Field(description="its lines, by state")
    failed: list[FailedLine] = Field(description="lines that failed, as many as fit")
    failed_not_listed: int = Field(description="how many more there are")
    results: str = Field(description="URL of a blob with all lines, in CSV")
    results_json: str = Field(description="URL of a blob with all lines, in JSON")
