"""Refusals of Azure Resource Manager: ``{"error": {"code", "message"}}``."""

from __future__ import annotations

from devstack.emulator.wire import WireError


def refusal(status: int, code: str, message: str) -> WireError:
    """Give a refusal."""
    return WireError(status, {"error": {"code": code, "message": message}})


def bad_request(message: str) -> WireError:
    """400: the request breaks a rule."""
    return refusal(400, "BadRequest", message)


def not_found(what: str) -> WireError:
    """404: there is no such resource."""
    return refusal(404, "ResourceNotFound", f"{what} was not found.")


def precondition_failed() -> WireError:
    """412: the ETag is another."""
    return refusal(412, "PreconditionFailed", "The ETag of If-Match is not the present one.")
