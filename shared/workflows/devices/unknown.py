"""What is said of a device, an order or a certificate that does not exist, wherever it is asked for."""

from __future__ import annotations

from shared.errors import NotFound


def unknown_device(registration_id: str) -> NotFound:
    """Tell that a device does not exist."""
    return NotFound.because(f"the device {registration_id!r} does not exist", field="registrationId")


def unknown_order(order_id: str) -> NotFound:
    """Tell that an order does not exist."""
    return NotFound.because(f"the order {order_id!r} does not exist", field="orderId")


def unknown_certificate(serial_number: str) -> NotFound:
    """Tell that no certificate has a serial number."""
    return NotFound.because(f"a certificate with serial number {serial_number} does not exist", field="serialNumber")
