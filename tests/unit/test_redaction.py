"""Secrets are found by their look and by their names, and a mark stands in their place."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode, urlsafe_b64encode
from functools import cache
from time import process_time
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, mldsa, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    pkcs12,
)
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.certificates import AuthorityImport
from shared.contracts.orders import DeviceOrder, DeviceRequest
from shared.contracts.parsing import parse
from shared.errors import Reason, Rejected
from shared.redaction import has_private_key, is_marked, private_keys, without_secrets, without_secrets_in
from tests.pki.hierarchy import hierarchy

KEY = "[a private key was here, and is not kept]"
WORD = "[a password was here, and is not kept]"
ACCESS = "[a secret key was here, and is not kept]"
SIGNED = "[a shared access signature was here, and is not kept]"
TOKEN = "[a token was here, and is not kept]"


@cache
def keys() -> dict[str, Any]:
    return {
        "P-256": ec.generate_private_key(ec.SECP256R1()),
        "P-521": ec.generate_private_key(ec.SECP521R1()),
        "RSA-1024": rsa.generate_private_key(65537, 1024),  # noqa: S505 - it is to be found, whatever it is worth
        "RSA-2048": rsa.generate_private_key(65537, 2048),
        "Ed25519": ed25519.Ed25519PrivateKey.generate(),
        "Ed448": ed448.Ed448PrivateKey.generate(),
        "X25519": x25519.X25519PrivateKey.generate(),
        "DSA": dsa.generate_private_key(1024),  # noqa: S505 - as above
        "ML-DSA": mldsa.MLDSA65PrivateKey.generate(),
    }


NAMES = ("P-256", "P-521", "RSA-1024", "RSA-2048", "Ed25519", "Ed448", "X25519", "DSA", "ML-DSA")
FORMS = [
    *((name, "PKCS8", protected) for name in NAMES for protected in (False, True)),
    *((name, "TraditionalOpenSSL", False) for name in ("P-256", "P-521", "RSA-1024", "RSA-2048", "DSA")),
]


def encoded(name: str, form: str, protected: bool, encoding: Encoding) -> bytes:  # noqa: FBT001 - a row of FORMS
    protection = BestAvailableEncryption(b"word") if protected else NoEncryption()
    content: bytes = keys()[name].private_bytes(encoding, getattr(PrivateFormat, form), protection)
    return content


def lines(text: str, end: str) -> str:
    return end.join(text[start : start + 64] for start in range(0, len(text), 64))


@pytest.mark.parametrize(("name", "form", "protected"), FORMS)
def test_a_private_key_is_found_in_whatever_form(name: str, form: str, protected: bool) -> None:  # noqa: FBT001
    """PEM, and DER in hexadecimal and in both alphabets of base64, in one line or many, within JSON or within words."""
    pem = encoded(name, form, protected, Encoding.PEM).decode()
    der = encoded(name, form, protected, Encoding.DER)
    assert without_secrets(f"before {pem}after") == f"before {KEY}\nafter"
    assert without_secrets_in(der) == KEY.encode()
    bare = b64encode(der).decode()
    for text in (bare, urlsafe_b64encode(der).decode(), lines(bare, "\n"), lines(bare, "\r\n"), lines(bare, "\\n")):
        assert without_secrets(f"before {text} after it") == f"before {KEY} after it"
        assert json.loads(without_secrets(json.dumps({"csr": text, "id": "a"}))) == {"csr": KEY, "id": "a"}
        assert has_private_key(text)
    assert without_secrets(f"'{bare[:60]}' is not a valid id") == f"'{KEY}' is not a valid id"
    for text in (
        der.hex(),
        der.hex().upper(),
        der.hex(":"),
        der.hex(" "),
        lines(der.hex(), "\n"),
        der.hex()[:48],
        lines(der.hex(), " " * 399),
    ):
        assert without_secrets(f"before {text}, after it") == f"before {KEY}, after it"
        assert has_private_key(text)
    wrapped = b64encode(pem.encode()).decode()
    assert without_secrets(f'{{"csr": "{wrapped}"}}') == f'{{"csr": "{KEY}"}}'


def test_a_pfx_is_found() -> None:
    """It holds a key, whatever its password."""
    key = keys()["P-256"]
    for protection in (NoEncryption(), BestAvailableEncryption(b"word")):
        pfx = pkcs12.serialize_key_and_certificates(b"n", key, None, None, protection)
        text = b64encode(pfx).decode()
        assert without_secrets(f"before {text} after") == f"before {KEY} after"
        assert without_secrets_in(pfx) == KEY.encode()


@pytest.mark.parametrize(
    "label", ["RSA PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY", "ANY PRIVATE KEY"]
)
def test_every_label_of_pem_is_found_whole_or_cut(label: str) -> None:
    """A key that lost its end, its dashes or its line ends is a key."""
    pem = f"-----BEGIN {label}-----\nQUJDREVGR0g=\n-----END {label}-----"
    assert without_secrets(pem) == KEY
    assert without_secrets(pem[:-30]) == KEY
    assert without_secrets(f"'{pem[:60]!s}' is it") == f"'{KEY}' is it"
    assert without_secrets(pem.replace("\n", "\\n")) == KEY
    assert without_secrets(pem.replace("\n", "")) == KEY
    assert without_secrets(pem.strip("-")) == KEY
    assert without_secrets_in(pem.encode("utf-16")) == KEY.encode()
    assert without_secrets_in(b"\xff\xfc " + pem.encode()) == b"\xff\xfc " + KEY.encode()


@cache
def public_texts() -> dict[str, str]:
    chain = hierarchy()
    leaf = chain.device()
    key = keys()["RSA-2048"].public_key()
    request = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=press-1"],
        capture_output=True, check=True,
    ).stdout.decode()  # fmt: skip
    return {
        "certificate": leaf.public_bytes(Encoding.PEM).decode(),
        "certificate in base64": b64encode(leaf.public_bytes(Encoding.DER)).decode(),
        "request": request,
        "request in base64": "".join(request.splitlines()[1:-1]),
        "public key": key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
        "public key of PKCS#1": b64encode(key.public_bytes(Encoding.DER, PublicFormat.PKCS1)).decode(),
        "words about a key": "it begins with '-----BEGIN PRIVATE KEY-----'; the password is wrong",
        "an order": json.dumps({"orderId": "1", "devices": [{"registrationId": "a", "keyAlgorithm": "ec-p256"}]}),
        "a public JWK": json.dumps({"kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"}),
        "a member named d": json.dumps({"d": "monday", "k": 5}),
        "directions": json.dumps({"n": "1.5", "e": "2.5", "d": "0.1"}),
        "a curve": json.dumps({"crv": "steep", "d": 5}),
        "no JSON": "{ no JSON ü",
    }


@pytest.mark.parametrize("name", public_texts())
def test_what_is_public_stays_as_it_is(name: str) -> None:
    """Certificates, requests and public keys are not secrets, and a text without any is the same to the byte."""
    text = public_texts()[name]
    assert without_secrets(text) == text
    assert without_secrets_in(text.encode()) == text.encode()
    assert not has_private_key(text)


@pytest.mark.parametrize(
    ("given_body", "kept"),
    [
        ({"password": "hunter2", "user": "a"}, {"password": WORD, "user": "a"}),
        ({"clientSecret": "x", "client_secret": 5, "PFX-Password": ["a", {"b": "c"}]},
         {"clientSecret": WORD, "client_secret": WORD, "PFX-Password": [WORD, {"b": WORD}]}),
        ({"key": "k", "primaryKey": "k", "keyAlgorithm": "ec-p256", "publicKey": "p"},
         {"key": ACCESS, "primaryKey": ACCESS, "keyAlgorithm": "ec-p256", "publicKey": "p"}),
        ({"pfx": "MIIC", "authorization": "x", "accessToken": "t"}, {"pfx": KEY, "authorization": TOKEN, "accessToken": TOKEN}),
        ({"password": None, "secret": "", "key": True}, {"password": None, "secret": "", "key": True}),
        ({"csr": {"kty": "EC", "crv": "P-256", "x": "AA", "d": "c2VjcmV0"}},
         {"csr": {"kty": "EC", "crv": "P-256", "x": "AA", "d": KEY}}),
        ({"csr": '{"kty":"RSA","n":"AA","d":"c2VjcmV0","p":"AA"}'},
         {"csr": json.dumps({"kty": "RSA", "n": "AA", "d": KEY, "p": KEY})}),
        ({"jwk": {"crv": "P-256", "d": "c2VjcmV0" * 5}}, {"jwk": {"crv": "P-256", "d": KEY}}),
        ({"csr": {"kty": "oct", "k": "c2VjcmV0"}}, {"csr": {"kty": "oct", "k": KEY}}),
        ({"devicesUrl": "https://a.b/o/l.csv?sv=1&sig=abc%2Fd%3D&se=2"}, {"devicesUrl": f"https://a.b/o/l.csv?sv=1&sig={SIGNED}&se=2"}),
        ({"a": "HostName=h;SharedAccessKeyName=n;SharedAccessKey=abc=="}, {"a": f"HostName=h;SharedAccessKeyName=n;SharedAccessKey={ACCESS}"}),
        ({"a": "AccountName=n;AccountKey=abc/d==;EndpointSuffix=e"}, {"a": f"AccountName=n;AccountKey={ACCESS};EndpointSuffix=e"}),
        ({"a": "SharedAccessSignature sr=h&sig=abc%3D&se=1"}, {"a": f"SharedAccessSignature sr=h&sig={SIGNED}&se=1"}),
        ({"a": "Bearer abcdefghijklmnopqrstu.x"}, {"a": f"Bearer {TOKEN}"}),
        ({"a": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.c2ln"}, {"a": TOKEN}),
        ({"a": "https://f.azurewebsites.net/api/x?code=abc123=="}, {"a": f"https://f.azurewebsites.net/api/x?code={ACCESS}"}),
        ({"a": "https://user:word@host/x"}, {"a": f"https://user:{WORD}@host/x"}),
        ({"a": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}, {"a": f"whsec_{ACCESS}"}),
        ({"a": "user=x password=hunter2 port=1"}, {"a": f"user=x password={WORD} port=1"}),
    ],
)  # fmt: skip
def test_secrets_are_found_by_name_and_by_look(given_body: dict[str, Any], kept: dict[str, Any]) -> None:
    """The mark names what stood there, and the rest of the message is what it was."""
    text = without_secrets(json.dumps(given_body))
    assert json.loads(text) == kept
    assert without_secrets(text) == text


def test_secrets_are_found_in_what_is_no_json() -> None:
    """A body that was cut, or that is written with mistakes, is looked through as text."""
    cut = '{"orderId": "1", "password": "hunter2", "key" : "k", "jwk": {"d": "c2VjcmV0c2VjcmV0c2VjcmV0", "x": [ '
    assert without_secrets(cut) == (
        f'{{"orderId": "1", "password": "{WORD}", "key" : "{ACCESS}", "jwk": {{"d": "{KEY}", "x": [ '
    )
    assert without_secrets("<password>hunter2</password>") == f"<password>{WORD}</password>"
    twice = '{"password": "hunter2", "password": null}'
    assert without_secrets(twice) == f'{{"password": "{WORD}", "password": null}}'
    deep = "[" * 90 + '{"password": "hunter2"}' + "]" * 90
    assert without_secrets(deep) == deep.replace("hunter2", WORD)


def test_data_in_base64_is_looked_into() -> None:
    """A CloudEvent may carry its data so."""
    event = {"specversion": "1.0", "data_base64": b64encode(b'{"password": "hunter2"}').decode()}
    expected = b64encode(json.dumps({"password": WORD}).encode()).decode()
    assert json.loads(without_secrets(json.dumps(event))) == {**event, "data_base64": expected}


def test_data_in_base64_that_is_none_stays_as_it_is() -> None:
    """What its sender got wrong is refused elsewhere, with its own value."""
    event = {"specversion": "1.0", "data_base64": {"password": 1}}
    assert json.loads(without_secrets(json.dumps(event))) == event


def test_a_key_of_putty_is_found() -> None:
    """PuTTY has a form of its own: a header, and the private half in lines of base64 at its end."""
    text = (
        "PuTTY-User-Key-File-3: ssh-ed25519\nEncryption: none\nComment: press\nPublic-Lines: 1\n"
        "AAAAC3NzaC1lZDI1NTE5AAAAIAkX\nPrivate-Lines: 1\nAAAAIE4X7kqf0wTqVgR1c2VjcmV0c2VjcmV0\nPrivate-MAC: 6a2b\n"
    )
    left = without_secrets(f"before {text}")
    assert KEY in left
    assert "c2VjcmV0" not in left


@pytest.mark.parametrize(
    "part",
    ["BEGIN ", "-----BEGIN PRIVATE KEY-----A", "M", "MIIB", "LS0tLS1CRUdJTi", "a", "eyJ", '"a":"', "://a:", "END ", "[", "{", "'",
     "/u3+7QA", "b3BlbnNzaC1rZXktdjEA", "Bearer ", "\\n", "\\", "30", "30 " * 22 + "g", "30\n\n\n", "-----BEGIN PRIVATE KEY-----A\\\\\\\\", "-"],
)  # fmt: skip
def test_the_search_takes_no_longer_than_its_text(part: str) -> None:
    """A hostile message of 64 KiB holds the worker for a fraction of a second."""
    before = process_time()
    without_secrets(part * (65_536 // len(part)))
    has_private_key(part * (65_536 // len(part)))
    assert process_time() - before < 1.0


@given(st.text() | st.binary().map(lambda content: b64encode(content).decode()))
def test_any_text_can_be_looked_through(text: str) -> None:
    """Whatever comes, the search ends, and a second one finds no more."""
    once = without_secrets(text)
    assert without_secrets(once) == once
    without_secrets_in(text.encode(errors="replace"))
    list(private_keys([text, {text: text}]))


@given(st.binary(max_size=200))
def test_any_octets_can_be_looked_through(content: bytes) -> None:
    """What is not text at all is looked through, too."""
    without_secrets_in(content)
    without_secrets_in(b"\x30" + content)


# --- where it stands ---


def refusals(call: Any) -> list[str]:
    with pytest.raises(Rejected) as caught:
        call()
    return [str(reason) for reason in caught.value.reasons]


def test_a_reason_repeats_no_secret() -> None:
    """Whoever writes a message need not think of it: answers, events, rows and the log get it from here."""
    pem = encoded("P-256", "PKCS8", protected=False, encoding=Encoding.PEM).decode()
    assert str(Reason("csr", f"can't be read; it is {pem[:140]!r}")) == f"csr: can't be read; it is '{KEY}'"
    assert str(Reason(pem, "is not known")) == f"{KEY}\n: is not known"


LEAKED = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n"
ANYWHERE = "there is a private key in it; a private key is not sent here, and one that was sent is no longer secret"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"csr": LEAKED + "x" * 20_000}, ["devices[3].csr: a private key comes with the CSR; it must stay in the device"]),
        ({"csr": '{"kty": "EC", "d": "AA"}'}, ["devices[3].csr: a private key comes with the CSR; it must stay in the device"]),
        ({"csr": {"kty": "EC", "d": "AA"}}, ["devices[3].csr: a private key comes with the CSR; it must stay in the device"]),
        ({"tags": {"a": [{"b": LEAKED}]}, "x": LEAKED}, [f"devices[3].tags.a[0].b: {ANYWHERE}", f"devices[3].x: {ANYWHERE}"]),
    ],
)  # fmt: skip
def test_a_private_key_is_refused_wherever_it_stands(body: dict[str, Any], expected: list[str]) -> None:
    """Its place is named, and nothing else is said of the device."""
    assert refusals(lambda: parse(DeviceRequest, {"registrationId": "a", **body}, field="devices[3]")) == expected


def test_a_ca_comes_with_its_key() -> None:
    """The one body that is to hold a private key may."""
    assert parse(AuthorityImport, {"pem": LEAKED}).pem is not None


@pytest.mark.parametrize(
    "url",
    ["https://a.b/orders/l.csv?sv=1&sig=c2VjcmV0", "https://u:word@a.b/orders/l.csv", "https://a.b/orders/l.csv?"],
)
def test_a_url_with_a_signature_is_refused_unread(url: str) -> None:
    """The app reads by its own identity; the URL is not repeated."""
    order = {"orderId": "1", "enrollmentGroup": "g", "devicesUrl": url}
    assert refusals(lambda: parse(DeviceOrder, order)) == [
        "devicesUrl: the URL has a query ('?'), such as a shared access signature, or a password; leave it out: the app reads "
        "the blob by its own identity. A '?' in the name is '%3F'"
    ]


def test_a_twin_that_lost_a_secret_is_not_carried_out() -> None:
    """A refused order is kept with marks, and its replay must not put a mark into a device's twin."""
    device = json.loads(without_secrets(json.dumps({"registrationId": "a", "tags": {"wifi": {"password": "hunter2"}}})))
    assert is_marked(device)
    assert refusals(lambda: parse(DeviceRequest, device)) == [
        "tags: a secret was taken out of it when it was refused; send it anew, with what belongs there"
    ]


def test_a_csr_that_was_a_key_is_not_carried_out_and_one_beside_a_key_is() -> None:
    """A replay of a refused order is refused in words, or goes on with what was left of it."""
    assert refusals(lambda: parse(DeviceRequest, {"registrationId": "a", "csr": without_secrets(LEAKED)})) == [
        "csr: a secret was taken out of it when it was refused; send it anew, with what belongs there; it is "
        f"{KEY + chr(10)!r}"
    ]
    request = public_texts()["request"]
    left = without_secrets(request + LEAKED)
    assert parse(DeviceRequest, {"registrationId": "a", "csr": left}).csr == f"{request}{KEY}\n"


def test_as_many_reasons_are_kept_as_can_be_recorded() -> None:
    """A body with thousands of mistakes is refused with the first ones and the number of the others."""
    body = {"orderId": "1", "enrollmentGroup": "g", "devices": [{}], **{f"field{index}": 1 for index in range(3500)}}
    reasons = refusals(lambda: parse(DeviceOrder, body))
    assert reasons[0].startswith("field0: is not a known field; known are ")
    assert reasons[-1] == f"and {3500 - len(reasons) + 1} more; mend these first, then send it again"
    assert len(json.dumps(reasons)) < 13_000
    with pytest.raises(Rejected) as caught:
        parse(DeviceOrder, body)
    kept = caught.value.documented()
    assert Rejected(*(Reason(**each) for each in kept)).documented() == kept
    assert len(str(Reason("f" * 5000, "m" * 5000))) < 2000
