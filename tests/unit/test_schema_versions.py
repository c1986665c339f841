"""Two versions of the app on one ledger and one set of queues: each reads what the next one writes, and loses nothing."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from shared.contracts.messages import SCHEMA_VERSION, Queue, command, read_message
from shared.contracts.orders import DeviceRegistration
from shared.contracts.parsing import parse
from shared.domain.record import Part, Record
from shared.errors import Deferred, Rejected
from tests.unit.test_ledger import NOW


class Address(Part):
    town: str


class LaterAddress(Address):
    street: str


class Customer(Record):
    """A record as this version of the app knows it."""

    documents: ClassVar[frozenset[str]] = frozenset({"address"})

    name: str
    address: Address


class LaterCustomer(Record):
    """The same record one version later: with another column, and another field in a document."""

    schema_version: ClassVar[int] = 2
    documents: ClassVar[frozenset[str]] = frozenset({"address", "notes"})

    name: str
    address: LaterAddress
    notes: tuple[str, ...] = ()


LATER = LaterCustomer(name="ERP", address=LaterAddress(town="Ulm", street="Main"), notes=("a",)).columns()


def test_a_row_says_by_which_version_it_was_written() -> None:
    """One without a version is of the first."""
    columns = Customer(name="ERP", address=Address(town="Ulm")).columns()
    assert columns == {"schemaVersion": 1, "name": "ERP", "address": '{"town":"Ulm"}'}
    del columns["schemaVersion"]
    assert Customer.from_columns(columns).name == "ERP"


def test_the_version_before_keeps_what_it_does_not_know() -> None:
    """It changes a row of the next version, and what the next version reads then is whole."""
    known = Customer.from_columns({"PartitionKey": "p", "RowKey": "r", **LATER})
    written = known.changed(name="CRM").columns()
    assert written == {**LATER, "name": "CRM"}
    assert LaterCustomer.from_columns(written).address.street == "Main"


def test_a_row_two_versions_ahead_waits() -> None:
    """It is not an error of whoever asked: an app that knows it will come."""
    message = "a Customer was written by version 3 of its schema, and this app knows version 1: it waits"
    with pytest.raises(Deferred, match=message):
        Customer.from_columns({**LATER, "schemaVersion": 3})


def test_a_row_of_the_next_version_that_can_not_be_read_waits() -> None:
    """One of this version that can't be read is a fault, and is not waited for."""
    changed = {**LATER, "address": '{"city":"Ulm"}'}
    with pytest.raises(Deferred, match="a Customer was written by version 2 of its schema"):
        Customer.from_columns(changed)
    with pytest.raises(ValueError, match="town"):
        Customer.from_columns({**changed, "schemaVersion": 1})


def test_a_column_that_is_left_of_a_former_version_is_left_out() -> None:
    """What no present field reads is not carried on, unless a later version wrote it."""
    old = {"schemaVersion": 1, "name": "ERP", "address": '{"town":"Ulm"}', "gone": "x"}
    assert "gone" not in Customer.from_columns(old).columns()


def test_a_misspelt_field_is_not_taken_for_one_of_a_later_version() -> None:
    """A change names fields that exist."""
    with pytest.raises(TypeError, match="Customer has no nam"):
        Customer(name="ERP", address=Address(town="Ulm")).changed(nam="CRM")


def message(version: int, **data: Any) -> Any:
    line = {"orderId": "o", "line": 0}
    text = command(Queue.DEVICE_REGISTRATIONS, parse(DeviceRegistration, line), at=NOW, traceparent=None)
    event = json.loads(text)
    assert event["schemaversion"] == SCHEMA_VERSION
    return read_message(json.dumps({**event, "schemaversion": version, "data": {**event["data"], **data}})).data


def test_a_message_of_the_next_version_is_read_without_what_is_new_in_it() -> None:
    """The app's own messages only; of anybody else's, and of this version's, an unknown field is refused."""
    assert parse(DeviceRegistration, message(SCHEMA_VERSION + 1, batch=[1])).order_id == "o"
    with pytest.raises(Rejected, match="batch: is not a known field"):
        parse(DeviceRegistration, message(SCHEMA_VERSION, batch=[1]))
