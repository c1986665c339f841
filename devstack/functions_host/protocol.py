"""What the worker library expects of the host's protocol: plain objects in the place of generated protobuf classes."""

from __future__ import annotations

import json
from typing import Any


class Message:
    """A message: its fields are attributes."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class TypedData(Message):
    """A value with its kind, one of ``http``, ``string``, ``bytes``, ``json``, ``int``, ``double``."""

    def WhichOneof(self, _name: str) -> str | None:  # noqa: N802 - protobuf's spelling
        """Name the kind."""
        return next(iter(self.__dict__), None)


class ParameterBinding(Message):
    """One argument of a function."""

    def WhichOneof(self, _name: str) -> str:  # noqa: N802 - protobuf's spelling
        """Say that it is given by value, not through shared memory."""
        return "data"


class BindingInfo(Message):
    """One binding as the worker indexed it."""

    out, inout = 1, 2
    undefined, string, binary, stream = 0, 1, 2, 3


setattr(BindingInfo, "in", 0)


class SameSite:
    """Where a browser sends a cookie (FunctionRpc.proto: RpcHttpCookie.SameSite)."""

    Lax, Strict, ExplicitNone = 1, 2, 3


setattr(SameSite, "None", 0)


class RpcHttpCookie(Message):
    """A cookie of an answer; what may be missing is a message with a ``value``, or ``None``."""

    SameSite = SameSite


class StatusResult(Message):
    """How something went."""

    Failure, Success = 0, 1


def json_data(value: Any) -> TypedData:
    """Give a value as JSON."""
    return TypedData(json=json.dumps(value))


class Protos:
    """The names that the worker library looks up."""

    BindingInfo = BindingInfo
    StatusResult = StatusResult
    TypedData = TypedData
    ParameterBinding = ParameterBinding
    FunctionLoadResponse = Message
    FunctionMetadataResponse = Message
    InvocationResponse = Message
    NullableBool = Message
    NullableDouble = Message
    NullableString = Message
    NullableTimestamp = Message
    RpcException = Message
    RpcFunctionMetadata = Message
    RpcHttp = Message
    RpcHttpCookie = RpcHttpCookie
    RpcRetryOptions = Message
    WorkerInitResponse = Message
    WorkerMetadata = Message
