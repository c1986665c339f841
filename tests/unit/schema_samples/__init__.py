"""Samples of everything that two versions of the app exchange: the rows of the ledger, and the app's own messages.

``<n>.json`` holds a full sample of each kind of record whose schema had version n, and of the messages of version n. A
later app must read all of them. ``released.json`` says which of them an app that was released has written: these never
change again. ``python -m tests.unit.schema_samples`` writes the samples of what is not released yet anew.

``head-<n>`` is the head of a log, a blob, as an app wrote it. It is written by hand, and never changes.
"""

from __future__ import annotations

import json
import types
from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Any, TypeAliasType, Union, get_args, get_origin

from pydantic.alias_generators import to_camel

import shared.domain
import shared.ledger
from shared.contracts.authorities import AuthorityAct
from shared.contracts.certificates import CertificateRequest
from shared.contracts.devices import (
    AuthorityRevocation,
    CertificateRenewal,
    GroupRenewal,
    MemberRevocation,
    RenewalRequest,
    RevocationRequest,
)
from shared.contracts.groups import EnrollmentGroupRequest
from shared.contracts.messages import SCHEMA_VERSION, Queue, command
from shared.contracts.orders import DeviceOrder, DeviceRegistration, OrderAct, OrderWatch
from shared.contracts.parsing import parse
from shared.domain.certificates import RevocationChange
from shared.domain.record import Part, Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from shared.contracts.base import Contract

FOLDER = Path(__file__).parent
RELEASED = FOLDER / "released.json"
COMMAND = "python -m tests.unit.schema_samples"
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
_CSR = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n"
_DATE, _BINARY = "Edm.DateTime", "Edm.Binary"

NOT_IN_A_ROW = {RevocationChange}
"""Records that are put together of others when they are read, and written nowhere."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A kind of message that the app sends to itself, with full samples of what is in it.

    Attributes:
        queue: that it goes through.
        contract: that reads it.
        bodies: together they have each of its fields, of which some exclude each other.
        never_has: fields of its contract that the app leaves out.
    """

    queue: Queue
    contract: type[Contract]
    bodies: tuple[Mapping[str, Any], ...]
    never_has: frozenset[str] = frozenset()


_TWIN = {"tags": {"plant": "Bremen"}, "properties": {"desired": {"interval": 30}}}
MESSAGES = (
    Sent(Queue.DEVICE_REGISTRATIONS, DeviceRegistration, ({"orderId": "order-1", "line": 20, "lines": 20},)),
    Sent(Queue.DEVICE_ORDERS, OrderWatch, ({"orderId": "order-1", "watch": "2026-05-01T12:00:00Z"},)),
    Sent(
        Queue.DEVICE_ORDERS,
        DeviceOrder,
        (
            {
                "orderId": "order-1",
                "enrollmentGroup": "line-1",
                "devices": [{"registrationId": "press-1", "tags": {"plant": "Bremen"}, "initialTwin": _TWIN}],
                "registerBy": "device",
                "validityDays": 90,
                "progressEvents": {"every": 1000},
            },
            {
                "orderId": "order-2",
                "enrollmentGroup": "line-1",
                "devicesUrl": "https://example.blob.core.windows.net/orders/list.csv",
            },
        ),
    ),
    Sent(
        Queue.DEVICE_ORDERS,
        OrderAct,
        ({"requestId": "cancel-1", "orderId": "order-1", "action": "cancel", "issued": "revoke"},),
    ),
    Sent(
        Queue.REVOCATION_REQUESTS,
        MemberRevocation,
        (
            {
                "requestId": "revocation-1",
                "registrationId": "press-1",
                "action": "revoke",
                "reason": "keyCompromise",
                "part": "0" * 64,
            },
        ),
        never_has=frozenset({"registrationIds", "serialNumber", "enrollmentGroup", "orderId", "devices", "perMinute"}),
    ),
    Sent(
        Queue.REVOCATION_REQUESTS,
        AuthorityRevocation,
        (
            {
                "requestId": "revocation-7",
                "issuer": "line-1-ca1",
                "action": "revoke",
                "reason": "keyCompromise",
                "perMinute": 60,
            },
        ),
        never_has=frozenset(
            {"registrationId", "registrationIds", "serialNumber", "enrollmentGroup", "orderId", "devices"}
        ),
    ),
    Sent(
        Queue.REVOCATION_REQUESTS,
        RevocationRequest,
        (
            {
                "requestId": "revocation-2",
                "registrationId": "press-1",
                "action": "reinstate",
                "reason": "certificateHold",
            },
            {"requestId": "revocation-3", "serialNumber": "4a" * 20, "action": "revoke", "reason": "superseded"},
            {
                "requestId": "revocation-4",
                "enrollmentGroup": "line-1",
                "action": "revoke",
                "reason": "cessationOfOperation",
                "devices": 1200,
            },
            {
                "requestId": "revocation-5",
                "registrationIds": ["press-1", "press-2"],
                "action": "revoke",
                "reason": "keyCompromise",
                "perMinute": 60,
            },
            {"requestId": "revocation-6", "orderId": "order-1", "action": "revoke", "reason": "keyCompromise"},
        ),
    ),
    Sent(
        Queue.RENEWAL_REQUESTS,
        RenewalRequest,
        ({"requestId": "renewal-1", "registrationId": "press-1", "csr": _CSR},),
    ),
    Sent(
        Queue.RENEWAL_REQUESTS,
        CertificateRenewal,
        ({"requestId": "renewal-2", "registrationId": "press-1", "replaces": "4a" * 20},),
        never_has=frozenset({"csr"}),
    ),
    Sent(
        Queue.RENEWAL_REQUESTS,
        GroupRenewal,
        ({"requestId": "renewal-3", "enrollmentGroup": "line-1", "perMinute": 300, "onlyIssuer": "line-1-ca1"},),
    ),
    Sent(
        Queue.ENROLLMENT_GROUP_REQUESTS,
        AuthorityAct,
        (
            {
                "requestId": "ca-2",
                "name": "line-1-ca1",
                "action": "revoke",
                "reason": "keyCompromise",
                "comment": "ticket 4711",
                "devices": 12,
                "perMinute": 60,
            },
            {"requestId": "ca-3", "name": "dpsCa", "action": "renew", "key": "same", "validityDays": 3650},
            {"requestId": "ca-4", "name": "line-1-ca1", "action": "crossSign", "issuer": "corporate"},
        ),
    ),
    Sent(
        Queue.CERTIFICATE_REQUESTS,
        CertificateRequest,
        (
            {
                "requestId": "ca-1",
                "kind": "intermediate",
                "name": "factory-1",
                "issuer": "dpsCa",
                "keyAlgorithm": "EC-P384",
                "validityDays": 1825,
                "pathLength": 1,
                "custody": "wrapped",
                "externallySigned": False,
            },
            {
                "requestId": "ca-2",
                "kind": "intermediate",
                "name": "factory-2",
                "externallySigned": True,
                "rootThumbprint": "AB" * 32,
            },
            {"requestId": "device-1", "kind": "device", "name": "press-1", "issuer": "line-1", "csr": _CSR},
            {
                "requestId": "proof-1",
                "kind": "verification",
                "name": "code",
                "issuer": "dpsCa",
                "verificationCode": "AB12",
            },
        ),
    ),
    Sent(
        Queue.ENROLLMENT_GROUP_REQUESTS,
        EnrollmentGroupRequest,
        (
            {
                "requestId": "group-1",
                "enrollmentGroup": "line-1",
                "action": "put",
                "issuer": "factory-1",
                "custody": "vault",
                "allocationPolicy": "custom",
                "customAllocation": {"webhookUrl": "https://example.com/allocate", "apiVersion": "2021-10-01"},
                "iotHubs": ["hub-1.azure-devices.net"],
                "initialTwin": _TWIN,
                "reprovisionPolicy": {"updateHubAssignment": True, "migrateDeviceData": True},
                "iotEdge": False,
                "renewAutomatically": True,
                "ifMatch": '"1"',
                "ifNoneMatch": '"2"',
            },
            {
                "requestId": "group-2",
                "enrollmentGroup": "line-2",
                "action": "create",
                "issuer": "factory-1",
                "caReferences": {"primary": "corporate", "secondary": "corporate-2"},
            },
        ),
    ),
)


# --- what the app writes today ---


def kinds() -> dict[str, type[Record]]:
    """Give every kind of record that the ledger keeps, by its name."""
    for package in (shared.domain, shared.ledger):
        for each in iter_modules(package.__path__, f"{package.__name__}."):
            import_module(each.name)
    found = {each for each in Record.__subclasses__() if each.__module__.startswith("shared.")}
    return {each.__name__: each for each in sorted(found - NOT_IN_A_ROW, key=lambda kind: kind.__name__)}


def record_sample(kind: type[Record]) -> dict[str, Any]:
    """Make a sample of a kind of record: a row in which each column is filled in, and each value of its enums."""
    row = kind.model_validate({name: _value(name, field.annotation) for name, field in kind.model_fields.items()})
    values: dict[str, list[str]] = {}
    for place, words in _values(kind):
        values.setdefault(place, []).extend(words)
    return {"columns": {name: to_json(value) for name, value in row.columns().items()}, "values": values}


def message_samples() -> list[dict[str, Any]]:
    """Make a sample of each kind of message, as it stands in its queue."""
    return [
        {
            "contract": sent.contract.__name__,
            "message": json.loads(command(sent.queue, parse(sent.contract, body), at=NOW, traceparent=None)),
        }
        for sent in MESSAGES
        for body in sent.bodies
    ]


def _value(name: str, annotation: Any, around: tuple[type, ...] = ()) -> Any:
    """Make a value of a field: one that is not its default. What may hold one of its own kind holds one, and no more."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, TypeAliasType):
        return _value(name, annotation.__value__, around)
    if origin in {Annotated, Union, types.UnionType}:
        return _value(name, next(each for each in arguments if each is not type(None)), around)
    if origin in {tuple, list}:
        return [_value(name, arguments[0], around)]
    if origin is dict:
        return {"name": _value(name, arguments[1], around)}
    return _PLAIN[annotation](name) if annotation in _PLAIN else _of_ours(annotation, around)


def _of_ours(annotation: type, around: tuple[type, ...]) -> Any:
    if issubclass(annotation, Part):
        around = (*around, annotation)
        fields = {name: field.annotation for name, field in annotation.model_fields.items()}
        return {name: _value(name, kind, around) for name, kind in fields.items() if not _is_held(kind, around)}
    words = [each.value for each in annotation] if issubclass(annotation, Enum) else []
    return _CHOSEN.get(annotation.__name__, words[-1])


_CHOSEN = {"CertificateState": "revoked"}
"""Values of enums for which the record has all its columns: one that is not revoked has no reason."""

_PLAIN: Mapping[Any, Callable[[str], Any]] = {
    str: lambda name: name.replace("_", "-"),
    int: lambda _: 7,
    bool: lambda _: True,
    bytes: lambda name: name.encode(),
    datetime: lambda _: NOW,
    timedelta: lambda _: timedelta(days=365),
    Any: lambda name: name,
}


def _is_held(annotation: Any, around: tuple[type, ...]) -> bool:
    """Tell whether what a field holds is held by another one of its kind already."""
    return any(around.count(each) > 1 for each in _classes(annotation))


def _values(kind: type[Part], path: str = "", around: tuple[type, ...] = ()) -> Iterator[tuple[str, list[str]]]:
    """Give each place in a record that holds one of some words, and these words."""
    around = (*around, kind)
    for name, field in kind.model_fields.items():
        for found in _classes(field.annotation) if not _is_held(field.annotation, around) else ():
            place = f"{path}{to_camel(name)}"
            if issubclass(found, Enum):
                yield place, [each.value for each in found]
            elif issubclass(found, Part):
                yield from _values(found, f"{place}.", around)


def _classes(annotation: Any) -> Iterator[type]:
    if isinstance(annotation, TypeAliasType):
        annotation = annotation.__value__
    if isinstance(annotation, type) and not get_args(annotation):
        yield annotation
    for each in get_args(annotation):
        yield from _classes(each)


# --- what is kept of it ---


def to_json(value: Any) -> Any:
    """Give a column's value in JSON, with its type where JSON does not have it (Azure Tables: ``@odata.type``)."""
    if isinstance(value, datetime):
        return {_DATE: value.isoformat().replace("+00:00", "Z")}
    if isinstance(value, bytes):
        return {_BINARY: b64encode(value).decode()}
    return value.value if isinstance(value, Enum) else value


def from_json(value: Any) -> Any:
    """Give a column's value as a table gives it."""
    if isinstance(value, dict) and _DATE in value:
        return datetime.fromisoformat(value[_DATE])
    if isinstance(value, dict) and _BINARY in value:
        return b64decode(value[_BINARY])
    return value


def kept() -> dict[int, dict[str, Any]]:
    """Read all samples, by version."""
    return {int(path.stem): json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("[0-9]*.json")}


def released() -> dict[str, dict[str, str]]:
    """Read which samples are of a released app: version and digest by name, ``messages`` for those of the messages."""
    read: dict[str, dict[str, str]] = json.loads(RELEASED.read_text(encoding="utf-8"))
    return read


def digest(sample: Any) -> str:
    """Give what a sample is known by."""
    return sha256(json.dumps(sample, sort_keys=True).encode()).hexdigest()


def present() -> dict[str, tuple[int, Any]]:
    """Make the samples of what the app writes today, with the version of each, by name."""
    records = {name: (kind.schema_version, record_sample(kind)) for name, kind in kinds().items()}
    return {**records, "messages": (SCHEMA_VERSION, message_samples())}


def is_released(name: str, version: int) -> bool:
    """Tell whether an app that was released writes this version."""
    return str(version) in released().get(name, {})


def write() -> list[str]:
    """Write the samples of what is not released yet anew; give what can't be, since it is."""
    samples = kept()
    refused = []
    for name, (version, sample) in present().items():
        before = samples.setdefault(version, {}).get(name)
        if before != sample and is_released(name, version):
            refused.append(how_to_mend(name, version))
        else:
            samples[version][name] = sample
    for version, by_name in samples.items():
        text = json.dumps(dict(sorted(by_name.items())), indent=2, ensure_ascii=False)
        (FOLDER / f"{version}.json").write_text(f"{text}\n", encoding="utf-8")
    return refused


def release() -> None:
    """Note that the app that writes the present samples is released."""
    noted = released()
    for name, (version, sample) in present().items():
        noted.setdefault(name, {}).setdefault(str(version), digest(sample))
    RELEASED.write_text(f"{json.dumps(dict(sorted(noted.items())), indent=2)}\n", encoding="utf-8")


def how_to_mend(name: str, version: int) -> str:
    """Say what whoever has changed a kind of record or a message has to do."""
    what = "SCHEMA_VERSION in shared/contracts/messages.py" if name == "messages" else f"{name}.schema_version"
    if is_released(name, version):
        return (
            f"{name}: an app that was released writes version {version}, and it is changed now. Raise {what} to "
            f"{version + 1}, run `{COMMAND}`, and commit {version + 1}.json. What is new must have a default, and an app "
            f"of version {version} must keep what it does not know"
        )
    return f"{name}: it is not as in its sample. Version {version} is not released yet: run `{COMMAND}`, and commit it"
