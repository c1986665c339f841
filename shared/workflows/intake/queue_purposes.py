"""What a queue is not for: acts that its messages can't ask for, since a right on the queue is meant for less.

Who may put an order does not get to revoke devices that way, and who may set up groups does not get to end CAs. Over
HTTP such an act needs a role of its own, and a signature where a secret is set. The call takes the request's id before
its message is sent, so the request's row says that it came that way, and a message alone can't.
"""

from __future__ import annotations

from typing import Any

from shared.contracts.authorities import AuthorityAct
from shared.contracts.devices import AuthorityRevocation
from shared.contracts.messages import Queue
from shared.contracts.orders import OrderAct
from shared.domain.authorities import AuthorityAction
from shared.domain.callers import Actor, CallerKind
from shared.domain.words import IssuedDevices
from shared.errors import Forbidden


def check_purpose(request: Any, asked_by: Actor | None) -> None:
    """See that a request may be asked for by a message alone, if it was.

    Args:
        request: its content.
        asked_by: who asked, as the request's row has it; ``None`` for the app itself.

    Raises:
        Forbidden: it may not.
    """
    if asked_by is None or asked_by.kind is not CallerKind.QUEUE:
        return
    match request:
        case OrderAct(issued=IssuedDevices.REVOKE):
            raise Forbidden.because(
                f"a message in {Queue.DEVICE_ORDERS.value} can't have devices revoked: cancel the order with issued "
                f"'keep' and revoke its devices by {Queue.REVOCATION_REQUESTS.value}, or send POST "
                f"/api/device-orders/{request.order_id}/cancel, which needs the role Devices.Revoke",
                field="issued",
            )
        case AuthorityRevocation():
            raise Forbidden.because(
                f"a message in {Queue.REVOCATION_REQUESTS.value} can't have the devices of a CA revoked: revoke the CA "
                f"with POST /api/certificate-authorities/{request.issuer}/revoke, which needs the role "
                "CertificateAuthorities.Manage",
                field="issuer",
            )
        case AuthorityAct():
            raise Forbidden.because(
                f"a message in {Queue.ENROLLMENT_GROUP_REQUESTS.value} can't {request.action.value} a CA: it is for "
                f"groups; send {_call(request)}, which needs the role CertificateAuthorities.Manage",
                field="action",
            )


def _call(act: AuthorityAct) -> str:
    path = f"/api/certificate-authorities/{act.name}"
    if act.action is AuthorityAction.DELETE:
        return f"DELETE {path}"
    return f"POST {path}/{'cross-sign' if act.action is AuthorityAction.CROSS_SIGN else act.action.value}"
