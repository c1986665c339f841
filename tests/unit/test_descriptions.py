"""The published descriptions of the API and of the queues: valid by their standards, and true in their examples."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import azure.functions as func
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator  # type: ignore[import-untyped]  # it has no annotations
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import TypeAdapter, ValidationError

from shared.contracts.ids import AuthorityName, EnrollmentGroupId, RegistrationId, RequestId, SerialNumber
from shared.domain.words import EventType
from shared.errors import NotFound
from tests.documented import FORMATS, Documented, faults, resolved
from tests.documented import operations as described
from triggers import asyncapi, http_api, openapi
from triggers.http import operations
from triggers.http.endpoints import published

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]
API: dict[str, Any] = json.loads(json.dumps(openapi.document(published)))
QUEUES: dict[str, Any] = json.loads(json.dumps(asyncapi.document()))
OPERATIONS = [pytest.param(*each, id=each[2]["operationId"]) for each in described(API)]
HOSTS_OWN = {"403", "413", "429"}


def test_the_api_is_described_in_valid_openapi() -> None:
    """The validator of the standard's own schemas takes the document."""
    assert http_api.__all__  # its modules have published their operations
    assert [str(error) for error in OpenAPIV31SpecValidator(API).iter_errors()] == []


def test_the_queues_are_described_in_valid_asyncapi() -> None:
    """The schema that AsyncAPI publishes takes the document, and no document with an unknown action."""
    specification = REPOSITORY / "node_modules" / "@asyncapi" / "specs" / "schemas" / "3.0.0.json"
    validator = Draft7Validator(json.loads(specification.read_text()))
    assert [error.message for error in validator.iter_errors(QUEUES)] == []
    damaged = json.loads(json.dumps(QUEUES))
    damaged["operations"]["send-provisioning-events"]["action"] = "publish"
    assert not validator.is_valid(damaged)


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_an_operation_says_what_it_takes_and_answers(path: str, method: str, operation: dict[str, Any]) -> None:
    """Every answer with JSON has a schema, and an example that is as the schema says; so has every body."""
    answers = {status: resolved(API, answer) for status, answer in operation["responses"].items()}
    assert {"403", "429", "500"} <= set(answers)
    assert ("401" in answers) == ("security" in operation)
    assert ("400" in answers) == bool("{" in path or operation["parameters"] or "requestBody" in operation)
    assert ("411" in answers) == ("413" in answers) == (method != "get")
    assert any(status < "400" for status in answers)
    contents = [answer.get("content", {}) for answer in [*answers.values(), operation.get("requestBody", {})]]
    for media_type, media in [each for content in contents for each in content.items()]:
        if media_type.endswith("json") and media_type != "application/schema+json":
            assert media["schema"]["$ref"].removeprefix("#/components/schemas/") in API["components"]["schemas"]
            assert faults(API, media["schema"], media["example"]) == []
    for status, answer in answers.items():
        if status >= "400" and status not in HOSTS_OWN and "dependencies" not in str(answer):
            assert set(answer["content"]) == {"application/problem+json"}


@pytest.mark.parametrize(("path", "method", "operation"), OPERATIONS)
def test_what_stands_in_a_path_has_a_published_rule(path: str, method: str, operation: dict[str, Any]) -> None:
    """Each id has its pattern, so that a client can check it before it asks."""
    del method
    described = {each["name"]: each["schema"] for each in operation["parameters"] if each["in"] == "path"}
    assert sorted(described) == sorted(re.findall(r"{(\w+)}", path))
    assert all("pattern" in schema for name, schema in described.items() if name != "request")


@pytest.mark.parametrize("name", sorted(QUEUES["components"]["messages"]))
def test_a_message_has_an_example_that_is_as_its_schema_says(name: str) -> None:
    """What is shown to whoever writes or reads messages is taken by what reads them."""
    message = QUEUES["components"]["messages"][name]
    assert [faults(QUEUES, message["payload"], each["payload"]) for each in message["examples"]] == [
        [] for _ in message["examples"]
    ]
    assert faults(QUEUES, message["payload"], {"unknown": 1}) != []


def test_every_queue_is_described() -> None:
    """Those that take messages, and the one with events."""
    assert {name: channel["address"] for name, channel in QUEUES["channels"].items()} == {
        name: name
        for name in (
            "certificate-requests",
            "enrollment-group-requests",
            "device-orders",
            "device-registrations",
            "renewal-requests",
            "revocation-requests",
            "provisioning-events",
        )
    }


@pytest.mark.parametrize("kind", EventType)
def test_an_event_always_has_all_of_its_fields(kind: EventType) -> None:
    """A reader can rely on each field's being there: the published schemas require all of them."""
    schema = QUEUES["components"]["schemas"][kind.rpartition(".")[2]]
    assert sorted(schema["required"]) == sorted(schema["properties"])
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("document", [API, QUEUES], ids=["openapi", "asyncapi"])
def test_every_reference_of_a_document_leads_to_something(document: dict[str, Any]) -> None:
    """Whoever reads it by a program finds each part."""
    found = list(references(document))
    assert len(found) > 50
    assert [each for each in found if not leads(document, each)] == []


def test_a_reference_that_leads_nowhere_is_found() -> None:
    document = {"a": {"$ref": "#/b~1c/0"}, "b/c": [{"$ref": "#/b/1"}], "$ref": "other.json#/a"}
    assert [each for each in references(document) if not leads(document, each)] == ["other.json#/a", "#/b/1"]


@pytest.mark.parametrize("name", sorted({*QUEUES["components"]["messages"]}))
async def test_a_schema_can_be_downloaded(name: str) -> None:
    """It is JSON Schema 2020-12, stands alone, and takes the example of its message, and not another field."""
    assert name in [each["name"] for each in json.loads((await asked(operations.list_schemas)).get_body())["schemas"]]
    answer = await asked(operations.get_schema, schema=f"{name}.json")
    assert answer.mimetype == "application/schema+json"
    schema = json.loads(answer.get_body())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)
    assert [each for each in references(schema) if not leads(schema, each)] == []
    validator = Draft202012Validator(schema, format_checker=FORMATS)
    (example,) = schema["examples"]
    assert [error.message for error in validator.iter_errors(example)] == []
    assert not validator.is_valid({**example, "unknown": 1})


async def test_a_schema_that_does_not_exist_is_not_found() -> None:
    with pytest.raises(NotFound, match="a schema 'Nothing' does not exist: GET /api/schemas lists them"):
        await asked(operations.get_schema, schema="Nothing.json")


async def asked(route: Any, **params: str) -> func.HttpResponse:
    """Have a route answer that asks no service."""
    request = func.HttpRequest("GET", "https://host/api/schemas", route_params=params, body=b"")
    answer: func.HttpResponse = await route(None, request)
    return answer


def references(part: Any) -> Iterator[str]:
    match part:
        case dict():
            if isinstance(part.get("$ref"), str):
                yield part["$ref"]
            for each in part.values():
                yield from references(each)
        case list():
            for each in part:
                yield from references(each)


def leads(document: Any, reference: str) -> bool:
    """Tell whether a reference leads to a part of its own document (RFC 6901)."""
    if not reference.startswith("#/"):
        return False
    found = document
    for part in reference.removeprefix("#/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        try:
            found = found[int(name) if isinstance(found, list) else name]
        except (KeyError, IndexError, ValueError):
            return False
    return True


@pytest.mark.parametrize("kind", [RegistrationId, EnrollmentGroupId, AuthorityName, RequestId])
@given(text=st.text(st.sampled_from("aZ09-._: ü"), max_size=8))
def test_a_published_pattern_is_the_rule(kind: Any, text: str) -> None:
    """What fits the pattern is an id, and what does not is refused."""
    adapter = TypeAdapter(kind)
    assert is_taken(adapter, text) == (re.search(adapter.json_schema()["pattern"], text) is not None)


@given(text=st.text(st.sampled_from("0x1fF: g"), max_size=8))
def test_every_serial_number_fits_its_published_pattern(text: str) -> None:
    """The pattern leaves one thing to the reader: that a serial number is not zero."""
    adapter = TypeAdapter(SerialNumber)
    fits = re.search(adapter.json_schema()["pattern"], text) is not None
    assert is_taken(adapter, text) == (fits and bool(re.search("[1f]", text, re.IGNORECASE)))


def is_taken(adapter: TypeAdapter[str], text: str) -> bool:
    try:
        adapter.validate_python(text)
    except ValidationError:
        return False
    return True


# --- what holds answers against the documents, in the end-to-end tests ---


@pytest.fixture
def documented() -> Documented:
    return Documented(lambda name: {"openapi.json": API, "asyncapi.json": QUEUES}[name])


ALIVE = ("GET", "http://host/api/health/live?x=1", 200, "application/json; charset=utf-8", b'{"status": "ok"}')


def test_a_documented_answer_is_taken(documented: Documented) -> None:
    """And one of a path that is not the app's is not looked at."""
    documented.check_answer(*ALIVE)
    documented.check_answer("GET", "http://host/api/nothing", 404, "", b"")
    documented.check_answer("GET", "http://host/api/ocsp/dpsCa/a/b", 404, "application/problem+json", PROBLEM)
    assert {("GET", "/api/health/live", 200), ("GET", "/api/ocsp/{issuer}/{request}", 404)} == documented.checked


PROBLEM = b'{"type": "about:blank", "title": "Not Found", "status": 404, "detail": "no"}'


@pytest.mark.parametrize(
    ("place", "value"),
    [(2, 418), (3, "text/plain"), (4, b'{"status": "fine"}'), (4, b"{}"), (4, b'{"status": "ok", "more": 1}')],
    ids=["status", "kind", "value", "missing", "unknown"],
)
def test_an_answer_that_is_not_documented_is_found(documented: Documented, place: int, value: Any) -> None:
    """Its status, its kind and its shape."""
    answer: Any = [*ALIVE[:place], value, *ALIVE[place + 1 :]]
    with pytest.raises(AssertionError):
        documented.check_answer(*answer)


def test_an_event_that_is_not_documented_is_found(documented: Documented) -> None:
    """A missing field, one that is unknown, a time that is none."""
    event = QUEUES["components"]["messages"]["OrderAccepted"]["examples"][0]["payload"]
    documented.check_event(event)
    damages: tuple[dict[str, Any], ...] = ({"subject": ""}, {"more": 1}, {"time": "noon"}, {"data": {}})
    for damaged in damages:
        with pytest.raises(AssertionError):
            documented.check_event({**event, **damaged})
