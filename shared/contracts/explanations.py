"""Why a device is as it is: what can be asked by, and the answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from shared.contracts.answers import Serial, Thumbprint
from shared.contracts.base import Contract, with_example
from shared.contracts.ids import RegistrationId
from shared.contracts.messages import MESSAGE_LIMIT
from shared.domain.certificates import CertificateState
from shared.domain.explanations.certificates import Relation
from shared.domain.explanations.parts import DoorKind, DoorState, Kind, Method, MomentSource
from shared.domain.words import DeviceState

_CALL = {"method": "POST", "path": "/api/devices/press-1/enable", "body": None}
_CAUSE = {
    "code": "identityDisabled",
    "kind": "fault",
    "text": "its identity in hub-1.azure-devices.net is disabled, and this app did not do that: the hub refuses the "
    "device",
}
_LOG_LINE = {
    "line": 3,
    "text": "ServiceError: Connection Refused: not authorised.",
    "code": "hubNotAuthorized",
    "meaning": "the hub refused the connection",
    "source": "Azure/azure-iot-sdk-python issue 324",
}


class Question(Contract):
    """Body of ``POST /explanations``: what somebody has at hand, and the device that it is said to be of.

    ``certificate`` is the chain in PEM as the device sends it, ``thumbprint`` SHA-1 or SHA-256, ``log`` lines of a
    device's log: one of them.
    """

    model_config = with_example({"registrationId": "press-1", "log": "Connection Refused: not authorised."})

    registration_id: RegistrationId | None = None
    certificate: Annotated[str, StringConstraints(min_length=1, max_length=MESSAGE_LIMIT)] | None = None
    thumbprint: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    log: Annotated[str, StringConstraints(min_length=1, max_length=MESSAGE_LIMIT)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(each is not None for each in (self.certificate, self.thumbprint, self.log)) != 1:
            raise PydanticCustomError("one_of", "give one of certificate, thumbprint and log")
        return self


class ExplanationCall(Contract):
    """A call of this app that does what is to be done; ``body`` is its JSON, if it needs one."""

    method: Method
    path: str
    body: dict[str, Any] | None


class ToDo(Contract):
    """The one thing to do; ``call`` is ``null`` where it is done elsewhere."""

    text: str
    call: ExplanationCall | None


class ExplanationCause(Contract):
    """A cause.

    ``fault``: the device is not as it should be. ``unknown``: it can't be told now. ``wanted``: somebody decided so.
    ``due``: something has to be done soon. ``waiting``: it is on its way. ``healthy``: nothing was found.
    """

    code: str
    kind: Kind
    text: str


class FurtherCause(ExplanationCause):
    """A cause beside the first, less grave."""

    what_to_do: ToDo


class ExplanationDoor(Contract):
    """A door, as it is now: ``dps``, ``hub`` or ``revocationStatus``."""

    door: DoorKind
    name: str
    state: DoorState
    why: str


class ExplanationMoment(Contract):
    """A line of the timeline."""

    at: datetime
    source: MomentSource
    text: str


class ExplainedCertificate(Contract):
    """The certificate that was given, and what it is to its device; ``state`` is ``null`` if the ledger lacks it."""

    serial_number: Serial
    thumbprint: Thumbprint
    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    relation: Relation
    state: CertificateState | None


class ExplainedLine(Contract):
    """A line of the log that says something. ``source`` is where its text is documented."""

    line: int
    text: str
    code: str
    meaning: str
    source: str


class Explanation(Contract):
    """Why a device is as it is.

    ``asItShouldBe`` is ``null`` if nothing was found and not everything could be looked at. ``registrationId`` and
    ``state`` are ``null`` if no device of the ledger is meant.
    """

    model_config = with_example(
        {
            "registrationId": "press-1",
            "state": "registered",
            "asItShouldBe": False,
            "cause": _CAUSE,
            "whatToDo": {"text": "Enable it, if it is to connect.", "call": _CALL},
            "further": [],
            "doors": [
                {"door": "dps", "name": "DPS", "state": "open", "why": "the enrollment group 'line-1' lets it in"},
                {
                    "door": "hub",
                    "name": "hub-1.azure-devices.net",
                    "state": "shut",
                    "why": "its identity is disabled",
                },
            ],
            "timeline": [{"at": "2026-05-01T12:00:03Z", "source": "ledger", "text": "registered"}],
            "certificate": None,
            "log": [_LOG_LINE],
        }
    )

    registration_id: str | None
    state: DeviceState | None
    as_it_should_be: bool | None
    cause: ExplanationCause
    what_to_do: ToDo
    further: list[FurtherCause]
    doors: list[ExplanationDoor]
    timeline: list[ExplanationMoment]
    certificate: ExplainedCertificate | None
    log: list[ExplainedLine]
