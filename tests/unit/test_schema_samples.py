"""What any version of the app wrote is read by this one, and what this one writes is known beforehand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from pydantic.alias_generators import to_camel

from shared.contracts.messages import Queue, read_message
from shared.contracts.parsing import parse
from shared.domain.devices import DeviceRecord
from shared.domain.requests import RequestRecord
from shared.evidence.head import Head
from shared.evidence.verify import NotProved
from tests.unit import schema_samples
from tests.unit.schema_samples import (
    MESSAGES,
    digest,
    from_json,
    how_to_mend,
    kept,
    kinds,
    present,
    record_sample,
    released,
)
from triggers.asyncapi import document

if TYPE_CHECKING:
    from pathlib import Path

SAMPLES = kept()
PRESENT = present()
WHERE = (
    "MESSAGES in tests/unit/schema_samples/__init__.py, then run `python -m tests.unit.schema_samples`, and commit it"
)
VERSION = PRESENT["DueNotice"][0]
"""Of a kind of record that the tests of the guard itself change."""

ROWS = [(version, name) for version, samples in SAMPLES.items() for name in samples if name != "messages"]
SENT = [(version, index) for version, samples in SAMPLES.items() for index in range(len(samples.get("messages", ())))]


def columns_of(sample: dict[str, Any]) -> dict[str, Any]:
    return {name: from_json(value) for name, value in sample["columns"].items()}


# --- reading ---


@pytest.mark.parametrize(("version", "name"), ROWS)
def test_a_row_of_any_version_is_read_and_written_back_without_loss(version: int, name: str) -> None:
    """One of an earlier version is written as one of the present; each column that it had stays as it was."""
    before = columns_of(SAMPLES[version][name])
    after = kinds()[name].from_columns({"PartitionKey": "p", "RowKey": "r", **before}).columns()
    assert {column: after.get(column) for column in before} == {**before, "schemaVersion": after["schemaVersion"]}


@pytest.mark.parametrize("name", [each for each in PRESENT if each != "messages"])
def test_a_row_of_the_next_version_is_written_back_with_what_this_one_does_not_know(name: str) -> None:
    """So a newer app may be rolled back. What is new is a column, and a field in each part of a document."""
    version, sample = PRESENT[name]
    columns = {**columns_of(sample), "schemaVersion": version + 1, "newColumn": "new"}
    for column in map(to_camel, kinds()[name].documents):
        columns[column] = json.dumps(with_new_fields(json.loads(columns[column])), separators=(",", ":"))
    assert kinds()[name].from_columns({"PartitionKey": "p", "RowKey": "r", **columns}).columns() == columns


def with_new_fields(document: Any) -> Any:
    """Give a document as a later version may write it."""
    if isinstance(document, list):
        return [with_new_fields(each) for each in document]
    if isinstance(document, dict) and document.keys() == {"primary", "secondary"}:
        return document  # DPS's own caReferences, which are checked as a request's: a row with more of them waits
    if isinstance(document, dict) and len(document) > 1:
        return {**{name: with_new_fields(each) for name, each in document.items()}, "newField": "new"}
    return document


@pytest.mark.parametrize(("version", "name"), ROWS)
def test_every_word_that_any_version_wrote_is_read(version: int, name: str) -> None:
    """A state, a reason or a kind that is no longer given still stands in rows."""
    sample = SAMPLES[version][name]
    for place, words in sample["values"].items():
        for word in words:
            kinds()[name].from_columns(with_word(columns_of(sample), place.split("."), word))


def with_word(columns: dict[str, Any], place: list[str], word: str) -> dict[str, Any]:
    """Give a row with another word at a place, which may be inside a document."""
    column, *inside = place
    if not inside and not str(columns[column]).startswith("["):
        return {**columns, column: word}
    document = json.loads(columns[column])
    part = document[0] if isinstance(document, list) else document
    for each in inside[:-1]:
        part = part[each][0] if isinstance(part[each], list) else part[each]
    if inside:
        assert inside[-1] in part
        part[inside[-1]] = word
    return {**columns, column: json.dumps(document)}


@pytest.mark.parametrize(("version", "index"), SENT)
def test_a_message_of_any_version_is_read_without_loss(version: int, index: int) -> None:
    """It may still be in its queue after an upgrade, or after a rollback."""
    sample = SAMPLES[version]["messages"][index]
    contract = next(each.contract for each in MESSAGES if each.contract.__name__ == sample["contract"])
    read = parse(contract, read_message(json.dumps(sample["message"])).data)
    again = read.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert {field: again.get(field) for field in sample["message"]["data"]} == sample["message"]["data"]


def test_the_head_of_the_log_that_any_version_wrote_is_read_and_goes_on() -> None:
    """It is a blob, which every batch of entries replaces: what is in it decides what the log continues."""
    files = sorted(schema_samples.FOLDER.glob("head-*"))
    assert [each.name for each in files] == ["head-1"]
    for each in files:
        content = each.read_bytes()
        head = Head.from_bytes(content)
        assert (head.origin, head.size, head.written, head.turns) == ("factory.example.com/log", 259, 256, 7)
        assert head.entries == (b'{"type":"act","v":1}', b'{"type":"crl","v":1}', b'{"type":"key","v":1}')
        assert head.projected == ("0a1b", "2c3d")
        assert [len(level) for level in head.edge] == [1]
        assert head.tree.root.hex() == "baa12f58e0aaa08086bb3a7e3ce6e410b28d3e1c24d888eaeaed38a75a85ed86"
        assert head.to_bytes() == content, "what is written today is as it was"
        assert head.appended([b"another"]).size == 260


def test_a_head_of_a_later_version_is_not_written_over() -> None:
    """An app that was rolled back would leave out what it does not know."""
    content = (schema_samples.FOLDER / "head-1").read_bytes().replace(b'"schema": 1', b'"schema": 2')
    with pytest.raises(NotProved, match=r"^the head of the log is of version 2, and this app reads 1: upgrade it$"):
        Head.from_bytes(content)


# --- what is written today has a sample ---


@pytest.mark.parametrize("name", PRESENT)
def test_what_is_written_today_is_as_in_the_sample_of_its_version(name: str) -> None:
    """Whoever adds a column, a field, a word or a kind of record writes its sample; the message says how."""
    version, sample = PRESENT[name]
    assert SAMPLES.get(version, {}).get(name) == sample, how_to_mend(name, version)


def test_a_sample_of_a_version_that_was_released_never_changes() -> None:
    """Rows and messages as in it are out there."""
    changed = [
        f"{name}, version {version}"
        for name, versions in released().items()
        for version, known in versions.items()
        if digest(SAMPLES[int(version)][name]) != known
    ]
    assert changed == []


def test_a_sample_has_every_field() -> None:
    """Of rows and, taken together, of each kind of message."""
    for name, kind in kinds().items():
        assert len(PRESENT[name][1]["columns"]) == len(kind.model_fields) + 1, name
    for sent in MESSAGES:
        fields = {field.alias for field in sent.contract.model_fields.values()}
        given = {field for body in sent.bodies for field in body}
        missing = fields - sent.never_has - given
        assert not missing, f"give {missing} in a body of {sent.contract.__name__} in {WHERE}"
        assert given <= fields, sent.contract.__name__


def test_every_kind_of_record_is_among_them() -> None:
    assert {"DeviceRecord", "OrderLine", "AuthorityRecord", "DeviceIdClaim", "UnsettledRecord"} <= set(PRESENT)
    assert len(PRESENT) >= 18


def test_every_message_that_a_queue_takes_is_among_them() -> None:
    """As the AsyncAPI document names them; that of an order shows the fields of its devices."""
    channels = document()["channels"]
    taken = {
        (queue.value, name.removesuffix("Schema"))
        for queue in set(Queue) - {Queue.PROVISIONING_EVENTS}
        for name in channels[queue]["messages"]
    }
    assert len(taken) >= 10
    known = {(each.queue.value, each.contract.__name__) for each in MESSAGES}
    assert not taken - known, f"add {taken - known} to {WHERE}"
    assert known == taken


# --- the guard itself ---


def test_a_column_more_is_found() -> None:
    class LaterRequest(RequestRecord):
        urgency: int = 0

    assert record_sample(LaterRequest)["columns"].keys() - record_sample(RequestRecord)["columns"].keys() == {"urgency"}


def test_a_field_more_in_a_document_is_found() -> None:
    held = json.loads(record_sample(DeviceRecord)["columns"]["held"])[0]
    assert held["changedIn"] == 7
    assert held["purpose"] == "renewal"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Samples of their own: those of today, of which an app was released."""
    monkeypatch.setattr(schema_samples, "FOLDER", tmp_path)
    monkeypatch.setattr(schema_samples, "RELEASED", tmp_path / "released.json")
    (tmp_path / "released.json").write_text("{}")
    assert schema_samples.write() == []
    return tmp_path


def without_a_column(folder: Path) -> Path:
    """Take a column out of a sample, as if the class had got it since."""
    path = folder / f"{VERSION}.json"
    written = json.loads(path.read_text())
    del written["DueNotice"]["columns"]["subject"]
    path.write_text(json.dumps(written))
    return path


def test_the_sample_of_an_unreleased_version_is_written_anew(folder: Path) -> None:
    path = without_a_column(folder)
    assert schema_samples.write() == []
    assert "subject" in json.loads(path.read_text())["DueNotice"]["columns"]
    assert how_to_mend("DueNotice", VERSION) == (
        f"DueNotice: it is not as in its sample. Version {VERSION} is not released yet: run "
        "`python -m tests.unit.schema_samples`, and commit it"
    )


def test_the_sample_of_a_released_version_is_not_written_anew(folder: Path) -> None:
    """It says instead that the version has to be raised."""
    schema_samples.release()
    path = without_a_column(folder)
    (refused,) = schema_samples.write()
    assert refused.startswith(
        f"DueNotice: an app that was released writes version {VERSION}, and it is changed now. Raise "
        f"DueNotice.schema_version to {VERSION + 1}, run `python -m tests.unit.schema_samples`, and commit "
        f"{VERSION + 1}.json."
    )
    assert "subject" not in json.loads(path.read_text())["DueNotice"]["columns"]
