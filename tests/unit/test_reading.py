"""What others send is read in every form it comes in, or refused by name."""

from __future__ import annotations

import codecs
import json
import subprocess
from base64 import b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.contracts.messages import Message, Queue, attempts_of, put_back, read_message
from shared.errors import Rejected
from shared.reading.base64_text import octets
from shared.reading.blob_names import blob_name
from shared.reading.json_text import read_json
from shared.reading.numbers import digits, whole_number
from shared.reading.pem import blocks, certificates
from shared.reading.text import text_of
from shared.reading.times import point_in_time
from tests.pki.hierarchy import NOW

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(Rejected) as caught:
        call()
    return str(caught.value)


# --- base64 ---


@pytest.mark.parametrize("text", ["bmV2ZXI=", "bmV2\nZXI=\n", "bmV2\r\nZXI=", " bmV2 ZXI= ", "\ufeffbmV2ZXI="])
def test_base64_is_read_with_line_ends_and_without(text: str) -> None:
    """MIME, PEM and a shell's pipe put line ends into base64, and mean nothing by it."""
    assert octets("pfx", text) == b"never"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "bm-2",
            "pfx: it is base64url: '-' at position 2; use the standard alphabet, with '+' and '/' (RFC 4648 section 4)",
        ),
        ("bm:2", "pfx: it is not base64: ':' at position 2; use letters, digits, '+', '/' and '=' at the end"),
        ("bmV2ZXI", "pfx: it is not whole base64: it has 7 characters; with '=' at its end it must have 8"),
        ("bm=2ZXI=", "pfx: it is not base64: '=' at position 2 stands before the end"),
        ("bmüü", "pfx: it is not base64: 'ü' at position 2; use letters, digits, '+', '/' and '=' at the end"),
    ],
)
def test_what_is_not_base64_is_told_where(text: str, expected: str) -> None:
    """A foreign character is named with its place, the other alphabet by its name, and missing padding counted."""
    assert refusal(lambda: octets("pfx", text)) == expected


# --- text and JSON ---


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":"\xc3\xbc"}',
        codecs.BOM_UTF8 + b'{"a":"\xc3\xbc"}',
        '\ufeff{"a":"ü"}'.encode("utf-16-le"),
        '\ufeff{"a":"ü"}'.encode("utf-16-be"),
    ],
    ids=["UTF-8", "UTF-8 with its mark", "UTF-16, little end first", "UTF-16, big end first"],
)
def test_a_byte_order_mark_is_no_part_of_a_text(content: bytes) -> None:
    """.NET, PowerShell and Excel write one."""
    assert text_of(content) == '{"a":"ü"}'
    assert read_json(content) == {"a": "ü"}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"a\nM\xfcnchen",
            "the list is not UTF-8: byte 0xFC at position 3, in line 2, begins no character; text in Windows-1252 or "
            "Latin-1 must be saved as UTF-8",
        ),
        (codecs.BOM_UTF32_LE + b"a\0\0\0", "the list is in UTF-32; send it in UTF-8"),
        (
            b"a\0b\0",
            "the list has NULs between its characters, as UTF-16 has; send it in UTF-8, or in UTF-16 with a byte order mark",
        ),
        (
            codecs.BOM_UTF16_LE + b"a",
            "the list begins with the byte order mark of UTF-16 and is not UTF-16: truncated data",
        ),
    ],
)
def test_another_encoding_is_refused_by_name(content: bytes, expected: str) -> None:
    """The message names the octet, its line, and what would be right."""
    assert refusal(lambda: text_of(content, "the list")) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": NaN}', "NaN is not JSON (RFC 8259 section 6)"),
        ('{"a": -Infinity}', "-Infinity is not JSON (RFC 8259 section 6)"),
        ('{"a": 1e999}', "a number is larger than 1.8e308, which no receiver can count on (RFC 8259 section 6)"),
        ('{"a": ' + "9" * 5000 + "}", "a number has 5000 digits; at most 400 are read"),
    ],
)
def test_numbers_that_json_does_not_have_are_refused(text: str, expected: str) -> None:
    """What Python reads beyond JSON could not be written again, and a table or a hub would stumble over it."""
    with pytest.raises(ValueError, match=r".") as caught:
        read_json(text)
    assert str(caught.value) == expected


# --- numbers and times ---


@pytest.mark.parametrize("text", ["0", "1001", "-1", "1.0", "1e2", "", " 7", "٣", "9" * 5000])
def test_a_page_size_that_is_not_one_is_refused(text: str) -> None:
    """Five thousand digits, and digits of other scripts, are refused as a word is."""
    assert refusal(lambda: whole_number(text, 1, 1000, field="pageSize", what="page size")) == (
        f"pageSize: {text[:40]!r} is not a valid page size; give 1 to 1000"
    )
    assert digits("1000") == 1000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-26T10:00:00.1234567+01:00", datetime(2026, 11, 26, 9, 0, 0, 123456, tzinfo=UTC)),
        ("2026-11-26t10:00:00z", datetime(2026, 11, 26, 10, tzinfo=UTC)),
        ("2016-12-31T23:59:60Z", datetime(2016, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("0001-01-01T00:00:00+01:00", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59-11:00", datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_in_utc(text: str, expected: datetime) -> None:
    """Seven digits of .NET, a leap second, and offsets that lead beyond the calendar are times all the same."""
    assert point_in_time(text, field="time") == expected


@pytest.mark.parametrize(
    "text", ["2026-11-26", "1764151200", "10000-01-01T00:00:00Z", "2026-13-01T00:00:00Z", "now", 5]
)
def test_what_is_not_a_time_is_refused(text: object) -> None:
    """The message shows what a time looks like."""
    assert refusal(lambda: point_in_time(text, field="time")) == (
        f"time: {text!r} is not a time; give one as in '2026-01-31T12:00:00Z' (RFC 3339)"
    )


# --- blob names ---

CONTAINER = "https://account.blob.core.windows.net/orders"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("list.csv", "list.csv"),
        ("line%201/M%C3%BCnchen.csv", "line 1/München.csv"),
        ("a+b.csv", "a+b.csv"),
        ("100%25.csv", "100%.csv"),
        ("100%.csv", "100%.csv"),
        ("Liste Ä.csv", "Liste Ä.csv"),
        ("a%2Bb%20c%23d%3Fe.json", "a+b c#d?e.json"),
    ],
)
def test_the_name_of_a_blob_is_what_its_url_stands_for(path: str, name: str) -> None:
    """Blanks, umlauts, percent signs and plus signs are found, encoded as the SDKs do it or not at all."""
    assert blob_name(f"{CONTAINER}/{path}", CONTAINER) == name
    assert blob_name(f"HTTPS://Account.blob.core.windows.net:443/orders/{path}", CONTAINER) == name


NOT_THERE = f"the URL is not in the container '{CONTAINER}/'; put the list there: nothing else is read"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://other.blob.core.windows.net/orders/a.csv", NOT_THERE),
        ("https://account.blob.core.windows.net/ordersx/a.csv", NOT_THERE),
        ("https://user:word@account.blob.core.windows.net/orders/a.csv", NOT_THERE),
        ("https://account.blob.core.windows.net:99999/orders/a.csv", NOT_THERE),
        (f"{CONTAINER}/", "a blob's name has 1 to 1024 characters; this has 0"),
        (f"{CONTAINER}/..%2Fbundles/a.pem", "a part of the name is '.' or '..'; give the blob another name"),
        (
            f"{CONTAINER}/M%FCnchen.csv",
            "the URL's percent-encoding is not that of UTF-8: 'ü' is '%C3%BC', for instance",
        ),
        (f"{CONTAINER}/a#b.csv", "the URL has a '#'; in the name of a blob write it as '%23'"),
        (
            f"{CONTAINER}/a.csv?sv=2024-11-04&sig=c2VjcmV0c2VjcmV0",
            "the URL has a query ('?'), such as a shared access signature; leave it out: the app reads the blob by its own "
            "identity. A '?' in the name is '%3F'",
        ),
    ],
)
def test_a_url_that_names_no_blob_of_the_container_is_refused(url: str, expected: str) -> None:
    """Neither a signature nor a password in it is repeated."""
    assert refusal(lambda: blob_name(url, CONTAINER)) == f"devicesUrl: {expected}"


# --- PEM ---


def openssl(*args: str, data: bytes = b"") -> bytes:
    return subprocess.run(["openssl", *args], input=data, capture_output=True, check=True).stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Make a key, a request, and a certificate in every wrapping that OpenSSL has."""
    folder: Path = tmp_path_factory.mktemp("pem")
    key, certificate = folder / "k.pem", folder / "c.pem"
    key.write_bytes(openssl("ecparam", "-name", "prime256v1", "-genkey"))
    certificate.write_bytes(openssl("req", "-x509", "-key", str(key), "-subj", "/CN=press", "-days", "2"))
    return {
        "certificate": certificate.read_bytes(),
        "key": openssl("pkey", "-in", str(key)),
        "key with parameters": key.read_bytes(),
        "request": openssl("req", "-new", "-key", str(key), "-subj", "/CN=press"),
        "text": openssl("x509", "-in", str(certificate), "-text"),
        "trusted": openssl("x509", "-in", str(certificate), "-trustout", "-addtrust", "clientAuth"),
        "pkcs7": openssl("crl2pkcs7", "-nocrl", "-certfile", str(certificate)),
        "pkcs7 der": openssl("crl2pkcs7", "-nocrl", "-certfile", str(certificate), "-outform", "DER"),
        "der": openssl("x509", "-in", str(certificate), "-outform", "DER"),
        "public": openssl("pkey", "-in", str(key), "-pubout"),
    }


def one_line(pem: bytes) -> bytes:
    return pem.replace(b"\n", b"")


@pytest.mark.parametrize(
    "form",
    [
        lambda made: made["certificate"],
        lambda made: made["certificate"].replace(b"\n", b"\r\n"),
        lambda made: made["certificate"].replace(b"\n", b"\r"),
        lambda made: made["certificate"].replace(b"\n", b"  \n"),
        lambda made: made["certificate"].replace(b"\n", b" "),
        lambda made: made["certificate"].replace(b"\n", b"\\n"),
        lambda made: b"\n".join(b"      " + line for line in made["certificate"].splitlines()),
        lambda made: one_line(made["certificate"]),
        lambda made: codecs.BOM_UTF8 + made["certificate"],
        lambda made: made["certificate"].decode().encode("utf-16"),
        lambda made: made["certificate"].replace(b"CERTIFICATE", b"X509 CERTIFICATE"),
        lambda made: made["text"],
        lambda made: b"subject=CN = press\n" + made["certificate"] + b"---\nServer certificate\n",
    ],
    ids=[
        "plain", "CRLF", "CR", "blanks at the ends", "blanks for line ends", "line ends escaped", "indented", "one line",
        "byte order mark", "UTF-16", "X509 CERTIFICATE", "x509 -text", "text around",
    ],
)  # fmt: skip
def test_a_certificate_is_read_however_it_was_pasted(
    made: dict[str, bytes], form: Callable[[dict[str, bytes]], bytes]
) -> None:
    """Line ends, indentation, text around and marks are not part of it, and two are two."""
    assert certificates(form(made), field="chain") == [made["der"]]
    assert certificates(form(made).decode("utf-16" if form(made)[:2] == codecs.BOM_UTF16_LE else "utf-8"), field="c")
    assert certificates(made["certificate"] + made["certificate"], field="chain") == [made["der"]] * 2


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (lambda made: made["certificate"] + made["key"], "block 2 of the PEM is a private key (PRIVATE KEY); give certificates only"),
        (lambda made: made["key with parameters"], "block 1 of the PEM is EC PARAMETERS: the parameters of a curve"),
        (
            lambda made: made["key"].replace(b"PRIVATE KEY", b"CERTIFICATE"),
            "block 1 of the PEM is a private key (CERTIFICATE); give certificates only",
        ),
        (
            lambda made: made["request"],
            "block 1 of the PEM is CERTIFICATE REQUEST: a certificate signing request (CSR); give the certificate",
        ),
        (
            lambda made: made["trusted"],
            "block 1 of the PEM is TRUSTED CERTIFICATE: OpenSSL's own form, with trust settings; make a plain certificate",
        ),
        (lambda made: made["pkcs7"], "block 1 of the PEM is PKCS#7; make PEM certificates of it: openssl pkcs7"),
        (
            lambda made: made["pkcs7"].replace(b"PKCS7", b"CERTIFICATE"),
            "block 1 of the PEM is PKCS#7; make PEM certificates of it: openssl pkcs7 -in file.p7b -print_certs -out "
            "chain.pem; its label says CERTIFICATE",
        ),
        (lambda made: made["public"], "block 1 of the PEM is PUBLIC KEY: a public key without a certificate"),
        (
            lambda made: b64encode(made["der"]),
            "it is DER in base64, and not PEM: a certificate in PEM begins with '-----BEGIN CERTIFICATE-----', and ends "
            "with '-----END CERTIFICATE-----'",
        ),
        (
            lambda made: b64encode(made["pkcs7 der"]),
            "it is PKCS#7 in base64, and not PEM: PKCS#7; make PEM certificates of it: openssl pkcs7",
        ),
        (
            lambda made: made["certificate"].replace(b"CERTIFICATE", b"OPENSSH THING"),
            "block 1 of the PEM is OPENSSH THING; a certificate begins with '-----BEGIN CERTIFICATE-----'",
        ),
        (lambda _: b"", "it holds no certificates in PEM: a certificate in PEM begins with '-----BEGIN CERTIFICATE-----'"),
        (lambda made: one_line(made["key"])[27:-25], "it holds a private key, and no certificates in PEM"),
        (
            lambda made: made["certificate"].rstrip()[:-8],
            "block 1 of the PEM, CERTIFICATE, has no '-----END CERTIFICATE-----'",
        ),
        (
            lambda made: made["certificate"].replace(b"END CERT", b"END X509 CERT"),
            "block 1 of the PEM begins as CERTIFICATE and ends as X509 CERTIFICATE; both must be the same",
        ),
        (
            lambda made: made["certificate"].replace(b"MII", b"M?I"),
            "block 1 of the PEM, CERTIFICATE, can't be read: between its BEGIN and END there must be base64",
        ),
    ],
)  # fmt: skip
def test_what_is_not_a_certificate_is_named_for_what_it_is(
    made: dict[str, bytes], form: Callable[[dict[str, bytes]], bytes], expected: str
) -> None:
    """The message names the block by number and kind, says what to do, and repeats nothing of it."""
    said = refusal(lambda: certificates(form(made), field="chain"))
    assert said.startswith(f"chain: {expected}")
    assert made["key"].splitlines()[1].decode()[:24] not in said


def test_a_block_reads_back_as_pem(made: dict[str, bytes]) -> None:
    """OpenSSL's older form of an encrypted key keeps the headers that it needs."""
    old = openssl("ec", "-aes128", "-passout", "pass:x", data=made["key with parameters"])
    [block] = blocks(old.replace(b"\n", b"\r\n"), field="pem")
    assert block.is_private_key
    assert block.pem == old
    assert [each.pem for each in blocks(made["certificate"], field="pem")] == [made["certificate"]]
    assert Encoding.PEM is not None


# --- messages ---

ORDER = {"orderId": "o", "enrollmentGroup": "g", "devices": [{"registrationId": "a"}]}
EVENT = {"specversion": "1.0", "id": "1", "source": "/erp", "type": "Order"}


def test_data_in_base64_is_the_events_data() -> None:
    """Microsoft's CloudEvent classes write it so when data is given as bytes (JSON event format section 3.1)."""
    encoded = b64encode(codecs.BOM_UTF8 + json.dumps(ORDER).encode()).decode()
    assert read_message(json.dumps({**EVENT, "data_base64": encoded})).data == ORDER
    assert read_message(json.dumps({**EVENT, "data": ORDER})).data == ORDER


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"data_base64": "e30=", "data": {}}, "data_base64: data and data_base64 can't be given together; give one of them"),
        ({"data_base64": "e3"}, "data_base64: it is not whole base64: it has 2 characters; with '=' at its end it must have 4"),
        ({"data_base64": 5}, "data_base64: must be a text; it is '5'"),
        ({"data_base64": "/w=="}, "data_base64: what it holds is not UTF-8: byte 0xFF at position 0, in line 1, begins no "
         "character; text in Windows-1252 or Latin-1 must be saved as UTF-8"),
        ({"time": "yesterday"}, "time: 'yesterday' is not a time; give one as in '2026-01-31T12:00:00Z' (RFC 3339)"),
        ({"time": "10000-01-01T00:00:00Z"},
         "time: '10000-01-01T00:00:00Z' is not a time; give one as in '2026-01-31T12:00:00Z' (RFC 3339)"),
        ({"time": 1}, "time: must be a text; it is '1'"),
    ],
)  # fmt: skip
def test_a_field_of_an_event_that_can_not_be_read_is_named(more: dict[str, Any], expected: str) -> None:
    """The sender learns which field it was."""
    assert refusal(lambda: read_message(json.dumps({**EVENT, **more}))) == expected


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+01:00", None),
        ("1601-01-01T00:00:00Z", None),
        ("1970-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-11:00", datetime.max.replace(tzinfo=UTC)),
        ("2026-11-26T10:00:00+01:00", datetime(2026, 11, 26, 9, tzinfo=UTC)),
    ],
)
def test_the_time_of_a_clock_that_was_never_set_does_not_count(time: str, expected: datetime | None) -> None:
    """Go's and .NET's zero times mean that the sender gave none; the queue knows when it came."""
    assert read_message(json.dumps({**EVENT, "time": time, "data": {}})).time == expected


@pytest.mark.parametrize("given", [ORDER, {**EVENT, "data": ORDER, "comexampleextension": "kept"}])
def test_a_message_that_waits_says_the_same_and_when_it_was_asked_for(given: dict[str, Any]) -> None:
    """A queue counts its time anew when a message is put back; the message carries the time, its trace and its tries."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    source = given.get("source", "/unknown")
    text = put_back(json.dumps(given), Queue.DEVICE_ORDERS, asked_at=NOW, attempt=3, traceparent=trace)
    assert (read_message(text), attempts_of(text)) == (Message(ORDER, trace, NOW, source), 3)
    again = put_back(text, Queue.DEVICE_ORDERS, asked_at=NOW, attempt=4, traceparent=trace)
    assert (read_message(again), attempts_of(again)) == (Message(ORDER, trace, NOW, source), 4)
    assert ("comexampleextension" in again) == ("comexampleextension" in given)


def test_a_message_without_room_is_put_back_as_it_is() -> None:
    """One that fills its queue to the last byte is not made larger."""
    text = json.dumps({"orderId": "x" * (48 * 1024 - 20)})
    assert put_back(text, Queue.DEVICE_ORDERS, asked_at=NOW, attempt=1, traceparent=None) == text


STRANGE = [
    "", " ", "\ufeff", "\x00", "null", "[]", "0", '"a"', "{", "{}", "[" * 40_000, '{"a":' * 20_000, "\ud800", '{"\ud800":1}',
    '{"a":"\\ud800"}', "9" * 5000, '{"a":' + "9" * 5000 + "}", "NaN", '{"specversion":"1.0"}', '{"specversion":null}',
    '{"specversion":1.0,"id":1,"source":[],"type":{}}', '{"a":1e400}', "x" * 70_000, "\U0001f600" * 20_000,
    json.dumps({**EVENT, "time": "0001-01-01T00:00:00+14:00"}), json.dumps({**EVENT, "time": "9999-12-31T23:59:59-23:59"}),
    json.dumps({**EVENT, "time": "2026-01-01T00:00:00+99:99"}), json.dumps({**EVENT, "time": "2026-02-30T00:00:00Z"}),
    json.dumps({**EVENT, "data_base64": "=" * 9}), json.dumps({**EVENT, "data_base64": "\u00fc"}),
    json.dumps({**EVENT, "data_base64": b64encode(b"[" * 9000).decode()}), json.dumps({**EVENT, "deliveryattempt": 10**300}),
    json.dumps({**EVENT, "deliveryattempt": "x"}), json.dumps({**EVENT, "traceparent": {}}),
    '{"specversion":"1.0","specversion":"1.0"}',
]  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "data",
    "data_base64",
    "traceparent",
    "deliveryattempt",
)
EVENTS = st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=10).map(lambda more: {**EVENT, **more})


@pytest.mark.parametrize("text", STRANGE, ids=range(len(STRANGE)))
def test_strange_messages_are_read_or_rejected(text: str) -> None:
    """Nothing that can stand in a queue raises anything but a rejection."""
    read_or_reject(text)


@settings(deadline=None, max_examples=400)
@given(st.text() | JSON.map(json.dumps) | EVENTS.map(json.dumps))
def test_whatever_stands_in_a_queue_is_read_or_rejected(text: str) -> None:
    """The same for generated texts, JSON and events."""
    read_or_reject(text)


@settings(deadline=None, max_examples=300)
@given(
    st.datetimes().map(lambda at: at.isoformat() + "Z") | st.from_regex(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")
)
def test_whatever_time_an_event_has_is_read_or_rejected(time: str) -> None:
    """A time is a point in UTC that can be compared, or its field is named."""
    read_or_reject(json.dumps({**EVENT, "time": time, "data": {}}))


def read_or_reject(text: str) -> None:
    try:
        message = read_message(text)
    except Rejected as rejection:
        assert rejection.documented()  # noqa: PT017 - either outcome is right
        return
    assert 0 <= attempts_of(text) <= 1000
    if message.time is not None:
        assert message.time >= datetime(2000, 1, 1, tzinfo=UTC)
        assert min(message.time, NOW).tzinfo is UTC
    put_back(text, Queue.DEVICE_ORDERS, asked_at=NOW, attempt=1, traceparent=None)
