"""The AsyncAPI document (3.0): the queues, what is taken from them, and the events that are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic.json_schema import models_json_schema

from shared.contracts.authorities import AuthorityAct
from shared.contracts.base import SOURCE, example_of
from shared.contracts.certificates import CertificateRequest
from shared.contracts.devices import (
    AuthorityRevocation,
    CertificateRenewal,
    GroupRenewal,
    MemberRevocation,
    RenewalRequest,
    RevocationRequest,
)
from shared.contracts.events import EVENTS
from shared.contracts.groups import EnrollmentGroupRequest
from shared.contracts.messages import Queue
from shared.contracts.orders import DeviceOrderSchema, DeviceRegistration, OrderAct, OrderWatch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.contracts.base import Contract
    from shared.domain.words import EventType

_TAKEN: Mapping[Queue, tuple[type[Contract], ...]] = {
    Queue.CERTIFICATE_REQUESTS: (CertificateRequest,),
    Queue.ENROLLMENT_GROUP_REQUESTS: (EnrollmentGroupRequest, AuthorityAct),
    Queue.DEVICE_ORDERS: (DeviceOrderSchema, OrderAct, OrderWatch),
    Queue.DEVICE_REGISTRATIONS: (DeviceRegistration,),
    Queue.RENEWAL_REQUESTS: (RenewalRequest, CertificateRenewal, GroupRenewal),
    Queue.REVOCATION_REQUESTS: (RevocationRequest, MemberRevocation, AuthorityRevocation),
}
"""What each queue takes, as CloudEvents or bare."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"
"""Of JSON Schema: the one of OpenAPI 3.1, and the one that pydantic writes."""

_TEXT = {"type": "string", "minLength": 1}
_TIME = {"type": "string", "format": "date-time"}
_TRACE = {"type": "string", "description": "W3C trace context (CloudEvents distributed-tracing extension)"}


def document() -> dict[str, Any]:
    """Compose the document."""
    taken = sorted({model for models in _TAKEN.values() for model in models}, key=lambda model: model.__name__)
    told = sorted({*EVENTS.values()}, key=lambda model: model.__name__)
    _, schemas = models_json_schema(
        [*((model, "validation") for model in taken), *((model, "serialization") for model in told)],
        by_alias=True,
        ref_template="#/components/schemas/{model}",
    )
    events = {_name(kind): _event(kind, model) for kind, model in EVENTS.items()}
    commands = {model.__name__: _command(model) for model in taken}
    sent = [{"$ref": f"#/channels/{Queue.PROVISIONING_EVENTS}/messages/{name}"} for name in events]
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Device identity factory",
            "version": "1.0",
            "description": "Azure Storage queues. A message is base64 text of at most 48 KiB before that; plain JSON "
            "is taken as well: a CloudEvents 1.0 event in structured JSON, or its bare data.",
        },
        "defaultContentType": "application/json",
        "channels": {
            **{queue.value: _channel(queue, [model.__name__ for model in models]) for queue, models in _TAKEN.items()},
            Queue.PROVISIONING_EVENTS.value: _channel(Queue.PROVISIONING_EVENTS, list(events)),
        },
        "operations": {
            **{
                f"receive-{queue}": {"action": "receive", "channel": {"$ref": f"#/channels/{queue}"}}
                for queue in _TAKEN
            },
            f"send-{Queue.PROVISIONING_EVENTS}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{Queue.PROVISIONING_EVENTS}"},
                "messages": sent,
            },
        },
        "components": {"messages": {**commands, **events}, "schemas": schemas["$defs"]},
    }


def json_schemas() -> dict[str, dict[str, Any]]:
    """Give the JSON Schema (2020-12) of the data of each message and each event, by its name; each stands alone."""
    taken = {model.__name__: model.model_json_schema(by_alias=True) for models in _TAKEN.values() for model in models}
    told = {_name(kind): model.model_json_schema(by_alias=True, mode="serialization") for kind, model in EVENTS.items()}
    return {name: {"$schema": DIALECT, **schema} for name, schema in sorted({**taken, **told}.items())}


def _name(kind: EventType) -> str:
    return kind.removeprefix("DeviceProvisioning.")


def _channel(queue: Queue, names: list[str]) -> dict[str, Any]:
    return {
        "address": queue.value,
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in names},
    }


def _command(model: type[Contract]) -> dict[str, Any]:
    data = {"$ref": f"#/components/schemas/{model.__name__}"}
    enveloped = {
        "type": "object",
        "required": ["specversion", "id", "source", "type", "data"],
        "properties": {
            "specversion": {"const": "1.0"},
            "id": _TEXT,
            "source": _TEXT,
            "type": _TEXT,
            "subject": {"type": "string"},
            "time": _TIME,
            "datacontenttype": {"type": "string"},
            "traceparent": _TRACE,
            "data": data,
        },
    }
    example = example_of(model)
    event = {"specversion": "1.0", "id": "1", "source": "/erp", "type": f"Erp.{model.__name__}", "data": example}
    return {
        "name": model.__name__,
        "summary": (model.__doc__ or "").splitlines()[0],
        "payload": {"anyOf": [data, enveloped]},
        "examples": [{"name": "bare", "payload": example}, {"name": "cloudEvent", "payload": event}],
    }


def _event(kind: EventType, model: type[Contract]) -> dict[str, Any]:
    example = {
        "specversion": "1.0",
        "id": f"{_name(kind)}/press-1/order-1",
        "source": SOURCE,
        "type": kind.value,
        "subject": "press-1",
        "time": "2026-05-01T12:00:00Z",
        "datacontenttype": "application/json",
        "correlationid": "order-1",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "data": example_of(model),
    }
    return {
        "name": _name(kind),
        "summary": (model.__doc__ or "").splitlines()[0],
        "payload": {
            "type": "object",
            "required": [name for name in example if name != "traceparent"],
            "additionalProperties": False,
            "properties": {
                "specversion": {"const": "1.0"},
                "id": {**_TEXT, "description": "follows from what happened: an event sent again has the same one"},
                "source": {"const": SOURCE},
                "type": {"const": kind.value},
                "subject": {**_TEXT, "description": "the id concerned"},
                "time": _TIME,
                "datacontenttype": {"const": "application/json"},
                "correlationid": {**_TEXT, "description": "the order or request that caused it"},
                "traceparent": _TRACE,
                "data": {"$ref": f"#/components/schemas/{model.__name__}"},
            },
        },
        "examples": [{"payload": example}],
    }
