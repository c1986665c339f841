"""The rules by which exchanges are held against the descriptions, one row each."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no annotations

from emulator.tests.api_descriptions.validation import Description, Exchange, contradictions, descriptions

GROUP = {"enrollmentGroupId": "g", "attestation": {"type": "x509"}}
READ = Exchange(
    service="dps",
    method="GET",
    path="/enrollmentGroups/g",
    query={"api-version": "2021-10-01"},
    status=200,
    response_body=GROUP,
)
WRITTEN = replace(READ, method="PUT", request_body=GROUP)
BULK = replace(READ, method="POST", path="/enrollmentGroups", request_body={"enrollmentGroups": [], "mode": "create"})
QUERY = replace(READ, method="POST", path="/enrollments/query", request_body={"query": "*"}, response_body=[])
ERROR = {"errorCode": 404201, "message": "no such group"}
BODY = "(EnrollmentGroup_Get, DPS service API 2021-10-01)"
REMOVED = Exchange(
    service="management",
    method="DELETE",
    path="/subscriptions/s/resourceGroups/r/providers/Microsoft.Devices/provisioningServices/d/certificates/c",
    query={"api-version": "2022-12-12"},
    status=204,
)


@pytest.mark.parametrize(
    "exchange",
    [
        READ,
        WRITTEN,
        QUERY,
        replace(WRITTEN, request_headers={"if-match": "*"}),
        replace(READ, status=404, response_body=ERROR, response_headers={"x-ms-error-code": "404201"}),
        replace(WRITTEN, request_body={"wrong": True}, query={}, status=400, response_body=ERROR),
        replace(READ, response_body=GROUP | {"createdDateTimeUtc": "2025-10-01T17:42:04.7612345Z"}),
        replace(READ, status=501, response_body={"error": "any"}),
        replace(READ, service="unknown", path="/enrollmentGroups/g/certificates", status=501),
        replace(READ, service="key_vault", path="/keys/k"),
        replace(REMOVED, request_headers={"if-match": "e"}),
    ],
    ids=str,
)
def test_what_is_as_documented(exchange: Exchange) -> None:
    """Nothing is said about what is right, was refused as documented, is not offered, or has no description."""
    assert contradictions(exchange) == []


@pytest.mark.parametrize(
    ("exchange", "said"),
    [
        (
            replace(READ, path="/enrollmentGroups/g/members"),
            "GET /enrollmentGroups/g/members -> 200: no such operation is documented",
        ),
        (
            replace(READ, status=202),
            f"GET /enrollmentGroups/g -> 202 {BODY}: the status is not one of the documented 200",
        ),
        (
            replace(READ, query={}),
            f"GET /enrollmentGroups/g -> 200 {BODY}: the required query parameter api-version is missing",
        ),
        (
            replace(READ, query={"api-version": "2021-10-01", "force": "1"}),
            f"GET /enrollmentGroups/g -> 200 {BODY}: the query parameter force is not documented",
        ),
        (
            replace(READ, response_body=GROUP | {"etag": 5}),
            f"GET /enrollmentGroups/g -> 200 {BODY}: response body $.etag: 5 is not of type 'string'",
        ),
        (
            replace(READ, response_body=GROUP | {"eTag": "5"}),
            f"GET /enrollmentGroups/g -> 200 {BODY}: response body $: "
            "Additional properties are not allowed ('eTag' was unexpected)",
        ),
        (
            replace(READ, response_body=GROUP | {"createdDateTimeUtc": "2025-10-01 17:42"}),
            f"GET /enrollmentGroups/g -> 200 {BODY}: response body $.createdDateTimeUtc: "
            "'2025-10-01 17:42' is not a 'date-time'",
        ),
        (
            replace(READ, status=404, response_body={"error": {}}),
            f"GET /enrollmentGroups/g -> 404 {BODY}: response body $: "
            "Additional properties are not allowed ('error' was unexpected)",
        ),
        (
            replace(
                BULK, request_body={"enrollmentGroups": [], "mode": "upsert"}, response_body={"isSuccessful": True}
            ),
            "POST /enrollmentGroups -> 200 (EnrollmentGroup_RunBulkOperation, DPS service API 2021-10-01): "
            "request body $.mode: 'upsert' is not one of ['create', 'update', 'updateIfMatchETag', 'delete']",
        ),
        (
            replace(BULK, response_body={"errors": []}),
            "POST /enrollmentGroups -> 200 (EnrollmentGroup_RunBulkOperation, DPS service API 2021-10-01): "
            "response body $: 'isSuccessful' is a required property",
        ),
        (
            replace(QUERY, response_headers={"x-ms-max-item-count": "many"}),
            "POST /enrollments/query -> 200 (IndividualEnrollment_Query, DPS service API 2021-10-01): "
            "response header x-ms-max-item-count $: 'many' is not of type 'integer'",
        ),
        (
            REMOVED,
            f"DELETE {REMOVED.path} -> 204 (DpsCertificate_Delete, DPS management API (certificates of the resource) "
            "2026-11-01): the required request header If-Match is missing",
        ),
        (
            replace(REMOVED, request_headers={"if-match": "e"}, response_body={}),
            f"DELETE {REMOVED.path} -> 204 (DpsCertificate_Delete, DPS management API (certificates of the resource) "
            "2026-11-01): response body: there is one, and none is documented",
        ),
    ],
    ids=lambda value: value.rpartition(": ")[2][:40] if isinstance(value, str) else "",
)
def test_what_is_not_as_documented(exchange: Exchange, said: str) -> None:
    """A contradiction is told with the call, the operation and its source's version."""
    assert contradictions(exchange) == [said]


def test_a_line_of_the_log_is_read() -> None:
    """An exchange has what its line in the log has."""
    line = {"service": "dps", "method": "GET", "path": "/x", "status": 200, "requestHeaders": {"etag": "e"}}
    assert Exchange.parse(json.dumps(line)) == Exchange(
        service="dps", method="GET", path="/x", status=200, request_headers={"etag": "e"}
    )


@pytest.mark.parametrize("description", descriptions().values(), ids=lambda each: each.service)
def test_a_description_is_whole(description: Description) -> None:
    """Each schema is JSON Schema, each reference leads somewhere, and no two operations have one name or one path."""
    schemas: dict[str, Any] = description.content["schemas"]
    text = json.dumps(description.content)
    used = {part.partition('"')[0] for part in text.split("#/schemas/")[1:]}
    operations = description.operations
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    assert used == set(schemas)
    assert len({each["id"] for each in operations}) == len(operations)
    assert len({(each["method"], each["path"]) for each in operations}) == len(operations)
