"""What a path names: ids of devices, orders, groups and the like, each in its canonical form."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from shared.contracts.ids import path_value
from shared.errors import NotFound

if TYPE_CHECKING:
    import azure.functions as func

_DIGEST = re.compile(r"[0-9a-f]{32}")
_PASS_ID = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{6}-[0-9a-f]{8}")


def registration_id_of(request: func.HttpRequest) -> str:
    """Give the path's registration id, in canonical form."""
    return path_value("registrationId", request.route_params["registrationId"])


def order_id_of(request: func.HttpRequest) -> str:
    """Give the path's order."""
    return path_value("orderId", request.route_params["orderId"])


def rejection_id_of(request: func.HttpRequest) -> str:
    """Give the path's rejection."""
    return path_value("id", request.route_params["id"])


def authority_name_of(request: func.HttpRequest) -> str:
    """Give the path's certificate authority."""
    return path_value("name", request.route_params["name"])


def group_id_of(request: func.HttpRequest) -> str:
    """Give the path's enrollment group."""
    return path_value("enrollmentGroup", request.route_params["id"])


def finding_id_of(request: func.HttpRequest) -> str:
    """Give the path's finding; see :func:`_made_here`."""
    return _made_here(request, _DIGEST, "finding")


def approval_id_of(request: func.HttpRequest) -> str:
    """Give the path's approval; see :func:`_made_here`."""
    return _made_here(request, _DIGEST, "approval")


def reconciliation_id_of(request: func.HttpRequest) -> str:
    """Give the path's pass of reconciliation; see :func:`_made_here`."""
    return _made_here(request, _PASS_ID, "reconciliation")


def _made_here(request: func.HttpRequest, pattern: re.Pattern[str], what: str) -> str:
    """Give an id that only the app makes.

    Raises:
        NotFound: it can't be one.
    """
    identifier = str(request.route_params["id"])
    if not pattern.fullmatch(identifier):
        raise NotFound.because(f"the {what} {identifier[:64]!r} does not exist", field="id")
    return identifier
