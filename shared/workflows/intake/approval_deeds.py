"""What a request would do, and to how many, where the settings have it wait for a second person."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.contracts.authorities import AuthorityAct
from shared.contracts.certificates import CertificateRequest
from shared.contracts.devices import AuthorityRevocation, MemberRevocation, RevocationAction, RevocationRequest
from shared.contracts.groups import EnrollmentGroupRequest, GroupAction
from shared.contracts.orders import OrderAct, OrderAction
from shared.domain.approvals import ApprovalAct, Deed
from shared.domain.audit_entries import SubjectKind
from shared.domain.authorities import AuthorityAction
from shared.domain.words import CertificateKind, IssuedDevices
from shared.rules.number_words import number_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    type Find = Callable[[str], Awaitable[str | None]]
    type Count = Callable[[str], Awaitable[int]]

_WHAT = 300
"""Characters of what is said of devices that are named one by one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deeds:
    """Finds what requests would do.

    Attributes:
        wanted: the acts that need a second person, and how many devices each may concern without one.
        devices_of_group: counts the devices of a group that can be revoked.
        devices_of_authority: counts those that have a certificate of a CA, or of one below it.
        devices_of_order: counts the devices of an order, and finds its group.
        group_of_device: finds the group of a device.
        group_of_certificate: finds that of a certificate.
        group_of_authority: finds that of a CA.
        is_decided: tells whether what a request wants of a CA is decided, as it is of those below a revoked one.
    """

    wanted: Mapping[ApprovalAct, int]
    devices_of_group: Count
    devices_of_authority: Count
    devices_of_order: Callable[[str], Awaitable[tuple[int, str | None]]]
    group_of_device: Find
    group_of_certificate: Find
    group_of_authority: Find
    is_decided: Callable[[str, str], Awaitable[bool]]

    async def of(self, request: Any) -> Deed | None:
        """Tell what a request would do; ``None`` if no act of its kind needs a second person."""
        if not self.wanted or isinstance(request, MemberRevocation | AuthorityRevocation):
            return None  # they are asked for by what was let through
        match request:
            case CertificateRequest(kind=CertificateKind.ROOT):
                what = f"make the root {request.name!r}"
                found = self._plain(ApprovalAct.CREATE_ROOT, what, SubjectKind.AUTHORITY, request.name)
            case EnrollmentGroupRequest(action=GroupAction.DELETE):
                found = await self._deletion(request.enrollment_group)
            case AuthorityAct(action=AuthorityAction.REVOKE):
                found = await self._authority(request)
            case OrderAct(action=OrderAction.CANCEL, issued=IssuedDevices.REVOKE):
                found = await self._cancellation(request.order_id)
            case RevocationRequest(action=RevocationAction.REINSTATE):
                found = await self._reinstatement(request)
            case RevocationRequest(action=RevocationAction.REVOKE) if request.is_of_many:
                found = await self._many(request)
            case _:
                found = None
        return found

    def _plain(
        self, act: ApprovalAct, what: str, kind: SubjectKind, subject: str, group: str | None = None
    ) -> Deed | None:
        if act not in self.wanted:
            return None
        return Deed(act=act, what=what, kind=kind, subject=subject, group=group)

    async def _deletion(self, group: str) -> Deed | None:
        if ApprovalAct.DELETE_GROUP not in self.wanted:
            return None
        return Deed(
            act=ApprovalAct.DELETE_GROUP,
            what=f"delete the enrollment group {group!r}",
            kind=SubjectKind.GROUP,
            subject=group,
            group=group,
            devices=await self.devices_of_group(group),
        )

    async def _many(self, request: RevocationRequest) -> Deed | None:
        allowed = self.wanted.get(ApprovalAct.REVOKE_DEVICES)
        if allowed is None:
            return None
        what, kind, subject, group, devices = await self._of_many(request)
        return Deed(
            act=ApprovalAct.REVOKE_DEVICES,
            what=f"revoke {what}, for {request.reason.value}{_pace_of(request)}",
            kind=kind,
            subject=subject,
            group=group,
            devices=devices,
            is_needed=devices > allowed,
        )

    async def _of_many(self, request: RevocationRequest) -> tuple[str, SubjectKind, str, str | None, int]:
        """Give of a request about many devices: what it is about in words and by its id, its group, and how many."""
        if request.enrollment_group is not None:
            group = request.enrollment_group
            what = f"all devices of the enrollment group {group!r}"
            return what, SubjectKind.GROUP, group, group, await self.devices_of_group(group)
        if request.order_id is not None:
            devices, of_order = await self.devices_of_order(request.order_id)
            return (
                f"all devices of the order {request.order_id!r}",
                SubjectKind.ORDER,
                request.order_id,
                of_order,
                devices,
            )
        named = tuple(dict.fromkeys(request.registration_ids or ()))
        return (
            f"{len(named)} devices: {', '.join(named)}"[:_WHAT],
            SubjectKind.REQUEST,
            request.request_id,
            None,
            len(named),
        )

    async def _cancellation(self, order_id: str) -> Deed | None:
        allowed = self.wanted.get(ApprovalAct.REVOKE_DEVICES)
        if allowed is None:
            return None
        devices, group = await self.devices_of_order(order_id)
        return Deed(
            act=ApprovalAct.REVOKE_DEVICES,
            what=f"cancel the order {order_id!r} and revoke its devices",
            kind=SubjectKind.ORDER,
            subject=order_id,
            group=group,
            devices=devices,
            is_needed=devices > allowed,
        )

    async def _authority(self, request: AuthorityAct) -> Deed | None:
        always, allowed = ApprovalAct.REVOKE_AUTHORITY in self.wanted, self.wanted.get(ApprovalAct.REVOKE_DEVICES)
        if (not always and allowed is None) or await self.is_decided(request.name, request.request_id):
            return None
        devices = await self.devices_of_authority(request.name)
        return Deed(
            act=ApprovalAct.REVOKE_AUTHORITY if always else ApprovalAct.REVOKE_DEVICES,
            what=f"revoke the CA {request.name!r} and all devices with a certificate of it, for {request.reason}"
            f"{_pace_of(request)}",
            kind=SubjectKind.AUTHORITY,
            subject=request.name,
            group=await self.group_of_authority(request.name),
            devices=devices,
            is_needed=always or (allowed is not None and devices > allowed),
        )

    async def _reinstatement(self, request: RevocationRequest) -> Deed | None:
        if ApprovalAct.REINSTATE_DEVICE not in self.wanted:
            return None
        act = ApprovalAct.REINSTATE_DEVICE
        if request.is_of_many:
            whose, kind, subject, group, _ = await self._of_many(request)
            return self._plain(act, f"undo the holds of {whose}", kind, subject, group)
        if request.registration_id is not None:
            device = request.registration_id
            what = f"undo the hold of the device {device!r}"
            return self._plain(act, what, SubjectKind.DEVICE, device, await self.group_of_device(device))
        serial = request.serial_number or ""
        what = f"undo the hold of the certificate {serial}"
        return self._plain(act, what, SubjectKind.CERTIFICATE, serial, await self.group_of_certificate(serial))


def _pace_of(request: RevocationRequest | AuthorityAct) -> str:
    return f", {number_of(request.per_minute, 'device')} a minute" if request.per_minute else ""
