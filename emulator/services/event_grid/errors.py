"""Refusals of a custom topic: ``{"error": {"code", "message", "details": [{"code", "message"}]}}``.

The form is that of "Post to custom topic for Azure Event Grid" (azure/event-grid/post-to-custom-topic), which names
400, 401, 404 and 413.
"""

from __future__ import annotations

from emulator.protocols.wire import WireError


def refusal(status: int, code: str, message: str) -> WireError:
    """Give a refusal."""
    return WireError(
        status, {"error": {"code": code, "message": message, "details": [{"code": code, "message": message}]}}
    )


def bad_request(message: str) -> WireError:
    """400: the events do not have the form that the topic takes.

    The words follow what the service says of another schema (Azure/azure-sdk-for-python#16055).
    """
    return refusal(400, "BadRequest", f"This resource is configured for 'CloudEventV10' schema. {message}")


def unauthorized(reason: str) -> WireError:
    """401: the token is not one for Event Grid."""
    return refusal(401, "Unauthorized", f"The request authorization token is not valid: {reason}.")


def no_role(topic_id: str) -> WireError:
    """401, not 403: the identity has no role that lets it send (Azure/azure-sdk-for-net#22831 quotes it)."""
    return refusal(
        401,
        "Unauthorized",
        "The principal associated with access token presented with the incoming request does not have permission to "
        f"send data to {topic_id}.",
    )


def too_large(size: int, limit: int) -> WireError:
    """413: a batch, or an event, is over the limit."""
    return refusal(413, "RequestEntityTooLarge", f"The maximum size ({limit}) has been exceeded: it has {size} bytes.")


def not_delivered(queue: str, reason: str) -> WireError:
    """503: the subscribed queue did not take an event. It is this emulator's own: the service would try again."""
    return refusal(503, "ServiceUnavailable", f"The emulator can't deliver to {queue}: {reason}.")
