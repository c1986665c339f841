"""What is told of orders."""

from __future__ import annotations

from typing import Literal

from shared.contracts.base import Contract, Told, with_example


class OrderAccepted(Told):
    """An order was taken in, and its devices are on their way."""

    model_config = with_example({"orderId": "order-1", "enrollmentGroup": "line-1", "deviceCount": 1})

    order_id: str
    enrollment_group: str
    device_count: int


class OrderProgress(Contract):
    """The lines of an order by state; ``total`` counts all."""

    total: int
    ordered: int
    issued: int
    registered: int
    failed: int
    cancelled: int = 0


class OrderProgressed(Told):
    """Lines of an order are done, as many as it wanted to be told of; ``finished`` counts them."""

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

    order_id: str
    enrollment_group: str
    state: Literal["processing", "waiting"]
    finished: int
    progress: OrderProgress


class FailedLine(Contract):
    """A line of an order that failed."""

    line: int
    registration_id: str
    reason: str


class OrderCompleted(Told):
    """The last line of an order is done.

    ``failed`` names the lines that failed, as many as fit; ``failedNotListed`` says how many more there are.
    ``results`` is the URL of a blob with all lines, in CSV, and ``resultsJson`` that of one in JSON.
    """

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

    order_id: str
    enrollment_group: str
    state: Literal["completed", "completedWithFailures", "cancelled"]
    progress: OrderProgress
    failed: list[FailedLine]
    failed_not_listed: int
    results: str
    results_json: str
