"""Bad input: over 11,000 generated ones, the same in every run; ``make fuzz`` goes on from there."""

from __future__ import annotations

import time
import tracemalloc
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12
from cryptography.x509.oid import ExtensionOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import Rejected
from shared.pki.authority_files import authority_from_pem, authority_from_pfx
from shared.pki.chains import check_chain
from shared.pki.requests import requested_key
from shared.pki.signing_keys import KeyAlgorithm
from shared.registration_ids import canonical_registration_id
from tests.unit.pki import properties as holds
from tests.unit.pki.cases import Case, cases
from tests.unit.pki.hierarchy import NOW, spare_key
from tests.unit.pki.mutations import parsed

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.filterwarnings("ignore:Parsed a serial number"),
    pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning"),  # a damaged country, when it is read
]

CASES = cases()
HANG = 2000
"""Milliseconds that no single input may take; they take about one."""


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_the_property_holds(case: Case) -> None:
    """Whatever is put in, nothing but the documented errors comes out, in no time."""

    @settings(
        max_examples=case.examples,
        deadline=HANG,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.tuples(*case.inputs))
    def run(given_input: tuple[Any, ...]) -> None:
        case.check(*given_input)

    run()


def test_ten_thousand_inputs_are_tried() -> None:
    """The run is no smaller than promised."""
    assert sum(case.examples for case in CASES) >= 10_000


TEN_MEGABYTES = 10_000_000
RUBBISH = {
    "zeros": bytes(TEN_MEGABYTES),
    "sequences": b"\x30" * TEN_MEGABYTES,
    "armour": b"-----BEGIN CERTIFICATE-----\n" * (TEN_MEGABYTES // 28),
    "request armour": b"-----BEGIN CERTIFICATE REQUEST-----\n" * (TEN_MEGABYTES // 36),
    "key armour": b"-----BEGIN PRIVATE KEY-----\n" * (TEN_MEGABYTES // 28),
    "dashes": b"-" * TEN_MEGABYTES,
    "base64": b"MIIB" * (TEN_MEGABYTES // 4),
}


def cost(call: Callable[[], object]) -> tuple[float, int]:
    """Give the seconds and the peak of new memory, in bytes, that a call took."""
    tracemalloc.start()
    try:
        began = time.process_time()
        call()
        return time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refuse(call: Callable[[bytes], object], error: type[Exception], content: bytes) -> None:
    with pytest.raises(error) as caught:
        call(content)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("kind", RUBBISH)
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda content: requested_key(content, registration_id="press-001"), Rejected),
        (lambda content: requested_key(content.decode("ascii"), registration_id="press-001"), Rejected),
        (lambda content: authority_from_pem(content, None, now=NOW), Rejected),
        (lambda content: canonical_registration_id(content.decode("ascii")), Rejected),
    ],
    ids=["request", "request as text", "authority", "registration id"],
)
def test_ten_megabytes_of_rubbish_are_refused_at_once(
    call: Callable[[bytes], object], error: type[Exception], kind: str
) -> None:
    """Rubbish of 10 MB is refused within a second, with no more memory than a small multiple of it."""
    content = RUBBISH[kind]
    seconds, peak = cost(lambda: refuse(call, error, content))
    assert seconds < 1
    assert peak < 4 * len(content)


@pytest.mark.parametrize(
    "build",
    [
        lambda size: holds.armoured(b"\x30" * size, "CERTIFICATE"),
        lambda size: b"-----BEGIN CERTIFICATE-----\n" * (size // 28),
        lambda size: b"-----BEGIN A PRIVATE KEY-----\n" * (size // 30),
        lambda size: b"-----BEGIN " + b"A" * size,
    ],
    ids=["one block", "certificates that do not end", "keys that do not end", "a label that does not end"],
)
def test_time_is_in_proportion_to_what_is_read(build: Callable[[int], bytes]) -> None:
    """No bundle below the size limit takes the square of its length to search."""
    content = holds.whole_bundle() + build(60_000)
    seconds, peak = cost(lambda: holds.a_pem_is_imported_or_rejected(content, "sesame"))
    assert seconds < 2
    assert peak < 20 * len(content)


def with_more_rounds(der: bytes) -> bytes:
    """Write 2,097,152 for 2,048, everywhere."""
    nodes = parsed(der)
    assert nodes
    for parent in nodes[0].parents():
        for child in parent.children:
            if child.content == b"\x08\x00":
                child.content = b"\x20\x00\x00"
    return nodes[0].encoded()


def test_a_file_does_not_decide_how_long_it_takes() -> None:
    """A key or a PFX that asks for millions of rounds is refused before one is computed."""
    key = spare_key(KeyAlgorithm.EC_P256)
    rule = "it asks for {} rounds of key derivation; at most 1000000 are computed: write it anew with fewer"
    pkcs8 = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame"))
    certificate = certificate_with(b"\x30\x00")
    pem = holds.armoured(with_more_rounds(pkcs8), "ENCRYPTED PRIVATE KEY") + certificate.public_bytes(Encoding.PEM)
    with pytest.raises(Rejected) as caught:
        authority_from_pem(pem, "sesame", now=NOW)
    assert str(caught.value) == f"pem: {rule.format(2_097_152)}"
    pfx = pkcs12.serialize_key_and_certificates(None, key, None, None, BestAvailableEncryption(b"sesame"))
    with pytest.raises(Rejected) as caught:
        authority_from_pfx(with_more_rounds(pfx), "sesame", now=NOW)
    assert str(caught.value) == f"pfx: {rule.format(2_097_152 + 20_000)}"


def test_every_seed_is_good_before_it_is_damaged() -> None:
    """What the mutations start from is taken by the engine: else they would prove nothing."""
    for form in range(len(holds.FORMS) - 1):
        for seed in holds.seeds()["requests"]:
            assert requested_key(holds.FORMS[form](seed), registration_id="press-001")
    for seed in (*holds.seeds()["leaves"], *holds.seeds()["authorities"]):
        assert x509.load_der_x509_certificate(seed).extensions


def test_mutations_reach_behind_the_parser() -> None:
    """Enough damaged certificates still load: the engine's own rules are what is tried, not cryptography's parser."""
    outcomes = {"loaded": 0, "refused": 0}

    @settings(max_examples=500)
    @given(holds.damaged("leaves"))
    def count(der: bytes) -> None:
        outcomes["loaded" if holds.loaded(der) else "refused"] += 1

    count()
    assert outcomes["loaded"] > 100


def certificate_with(der: bytes) -> x509.Certificate:
    """Make a device certificate whose alternative names are these octets."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "press-001")])
    key = spare_key(KeyAlgorithm.EC_P256)
    life = (NOW, NOW + timedelta(days=365))
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, *life)
    extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, der)
    return builder.add_extension(extension, critical=False).sign(key, hashes.SHA256())


X400_NAME = bytes.fromhex("3002a300")
X400_MESSAGE = "x400Address/EDIPartyName are not supported types"


def test_a_name_of_a_kind_that_nobody_reads_is_refused_in_a_chain() -> None:
    """An X.400 address is well-formed and read by no one here: the chain is judged, and said to be unreadable."""
    found = check_chain(
        [certificate_with(X400_NAME)],
        registration_id="press-001",
        group_certificates=[],
        verified_authorities=[],
        now=NOW,
    )
    assert [finding.message for finding in found] == [f"certificate 1 of the chain is damaged: {X400_MESSAGE}"]


def test_a_name_of_a_kind_that_nobody_reads_is_refused_in_a_request() -> None:
    """The same in a request is a rejection."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "press-001")])
    extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, X400_NAME)
    builder = x509.CertificateSigningRequestBuilder(name).add_extension(extension, critical=False)
    request = builder.sign(spare_key(KeyAlgorithm.EC_P256), hashes.SHA256())
    with pytest.raises(Rejected) as caught:
        requested_key(request.public_bytes(Encoding.PEM), registration_id="press-001")
    assert str(caught.value) == (
        f"csr: the CSR can't be read as PKCS#10 in PEM: {X400_MESSAGE}; it begins with "
        "'-----BEGIN CERTIFICATE REQUEST-----'"
    )


def test_what_is_damaged_in_dps_is_named_when_a_chain_is_refused() -> None:
    """Damaged certificates of the group or of DPS stop no good chain, and are named beside what they may have caused."""
    world, damage = holds.deep(), certificate_with(X400_NAME)
    chain = [world.device("press-001"), *world.issuing.chain]
    root, line = world.root.certificate, world.issuing.certificate

    def found(group: list[x509.Certificate], verified: list[x509.Certificate]) -> list[str]:
        judged = check_chain(
            chain, registration_id="press-001", group_certificates=group, verified_authorities=verified, now=NOW
        )
        return [finding.message for finding in judged]

    assert found([damage, line], [damage, root]) == []
    assert found([damage], [root, damage])[1:] == [
        f"certificate 1 of the enrollment group is damaged: {X400_MESSAGE}",
        f"certificate 2 of the CAs verified in DPS is damaged: {X400_MESSAGE}",
    ]


def test_no_message_is_as_long_as_a_name_that_someone_made() -> None:
    """A CN of thousands of characters is named by its beginning."""
    nodes = parsed(holds.seeds()["leaves"][0])
    assert nodes
    for parent in nodes[0].parents():
        for child in parent.children:
            if child.content == b"press-001":
                child.content = b"x" * 5000
    leaf = holds.loaded(nodes[0].encoded())
    assert leaf
    found = check_chain(
        [leaf], registration_id="press-001", group_certificates=[], verified_authorities=[], now=NOW + timedelta(days=1)
    )
    assert found[0].message == (
        f"the leaf's CN is '{'x' * 140}...' and the registration id 'press-001'; they must be the same"
    )
    assert all(len(finding.message) < 500 for finding in found)
