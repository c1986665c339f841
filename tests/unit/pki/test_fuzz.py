"""Bad input: over 11,000 generated ones, the same in every run; ``make fuzz`` goes on from there."""

from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, pkcs12
from cryptography.x509.oid import ExtensionOID, NameOID
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.errors import Rejected
from shared.pki.authority_files import authority_from_pem, authority_from_pfx
from shared.pki.chains import check_chain
from shared.pki.requests import requested_key
from shared.pki.signing_keys import KeyAlgorithm
from shared.rules.registration_ids import canonical_registration_id
from tests.pki.hierarchy import NOW, spare_key
from tests.unit.pki import inputs, seeds
from tests.unit.pki import properties as holds
from tests.unit.pki.cases import Case, Tally, cases
from tests.unit.pki.mutations import parsed, signed
from tests.unit.pki.pfx_files import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.filterwarnings("ignore:Parsed a serial number"),
    pytest.mark.filterwarnings("ignore:Attribute's length must be:UserWarning"),  # a damaged country, when it is read
    pytest.mark.filterwarnings("ignore:PKCS#12 bundle could not be parsed as DER:UserWarning"),
]

CASES = cases()
HANG = 2000
"""Milliseconds that no single input may take; they take about one."""


@cache
def tally_of(case: Case) -> Tally:
    """Run a property's inputs, and count what really ran to its end."""
    tally = Tally()

    @settings(
        max_examples=case.examples,
        deadline=HANG,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.tuples(*case.inputs))
    def run(given_input: tuple[Any, ...]) -> None:
        tally.add(given_input, case.check(*given_input))

    run()
    return tally


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES])
def test_the_property_holds(case: Case) -> None:
    """Whatever is put in, nothing but the documented errors comes out, in no time; and enough comes to each rule."""
    outcomes = tally_of(case).outcomes
    assert sum(outcomes.values()) >= case.examples
    missed = {outcome: outcomes[outcome] for outcome, least in case.reached.items() if outcomes[outcome] < least}
    assert missed == {}, f"too few inputs came to these outcomes, of {case.reached}"


def test_ten_thousand_inputs_are_tried() -> None:
    """So many different inputs really ran, and not only were asked for."""
    assert sum(len(tally_of(case).distinct) for case in CASES) >= 10_000


def test_what_is_damaged_is_good_before() -> None:
    """Every seed is taken as it is, by the property that its damaged forms are for: else they would prove nothing."""
    for seed in seeds.requests():
        for form in range(holds.TEXT_THAT_IS_NO_REQUEST):
            assert holds.a_request_is_taken_or_rejected(seed.der, form) == "taken"
    leaf, line, factory, root = (seed.der for seed in seeds.chain())
    whole = holds.Sent((leaf, line, factory, root), (line,), (root,))
    assert holds.a_chain_with_damage_is_judged(whole) == "accepted"
    assert holds.an_issuer_is_made_or_refused((line, factory, root)) == "made"
    for encrypted in (False, True):
        parts = inputs.whole_authority(encrypted=encrypted)
        assert holds.a_pfx_is_imported_or_rejected(parts.to_pfx(), PASSWORD) == "imported"
        assert holds.a_pem_is_imported_or_rejected(parts.to_pem(), PASSWORD) == "imported"
        assert holds.an_answer_is_taken_or_rejected(parts.to_answer()) == "imported"
    assert holds.an_ocsp_request_is_read_or_refused(seeds.ocsp_request()) == "read"


def test_what_is_signed_anew_is_the_seed_again() -> None:
    """A seed's own content, signed by its own key, is the seed, octet by octet: so are its signatures wherever it is."""
    for seed in (*seeds.requests(), *seeds.chain(), *seeds.owned_chain()):
        assert signed(seed.content, seed.key) == seed.der


def test_the_seeds_are_the_same_in_every_run() -> None:
    """Made once more from nothing, every seed is the same: what breaks a property breaks it on each machine."""
    before = seeds.donors(), inputs.whole_authority(encrypted=True).to_pfx()
    for made_once in (seeds.fixed_key, seeds.world, seeds.owned, seeds.chain, seeds.owned_chain, seeds.requests):
        made_once.cache_clear()
    seeds.donors.cache_clear()
    inputs.whole_authority.cache_clear()
    assert (seeds.donors(), inputs.whole_authority(encrypted=True).to_pfx()) == before


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
    """Give the seconds that a call took, and the peak of new memory, in bytes: Python's, or the whole process's."""
    tracemalloc.start()
    resident = _resident(anew=True)
    try:
        began = time.process_time()
        call()
        seconds = time.process_time() - began
        return seconds, max(tracemalloc.get_traced_memory()[1], _resident() - resident)
    finally:
        tracemalloc.stop()


def _resident(*, anew: bool = False) -> int:
    """Give the process's peak of memory in bytes, native code's included; 0 where Linux does not tell (proc(5)).

    Args:
        anew: let the peak begin here.
    """
    process = Path("/proc/self")
    try:
        if anew:
            (process / "clear_refs").write_text("5")
        lines = (process / "status").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def test_memory_of_native_code_is_measured() -> None:
    """What OpenSSL takes, and Python's own accounting does not see, counts as well."""
    if not _resident():
        pytest.skip("there is no /proc")
    cost_of_32_mib = 128 * 8 * (32 << 10)
    scrypt = Scrypt(salt=b"salt", length=32, n=32 << 10, r=8, p=1)
    assert cost(lambda: scrypt.derive(b"password"))[1] > 0.9 * cost_of_32_mib


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
    content = inputs.whole_authority(encrypted=True).to_pem() + build(60_000)
    seconds, peak = cost(lambda: holds.a_pem_is_imported_or_rejected(content, PASSWORD))
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


def test_a_key_whose_public_half_is_no_point_is_refused() -> None:
    """OpenSSL reads such a PFX, and cryptography then fails with an error that it calls its own."""
    parts = inputs.whole_authority(encrypted=False)
    nodes = parsed(parts.key)
    assert nodes
    for leaf in nodes[0].leaves():
        if leaf.tag == 0x03:
            leaf.content = b"\0\0"  # the point at infinity (SEC 1 section 2.3.3)
    pfx = replace(parts, key=nodes[0].encoded()).to_pfx()
    with pytest.raises(Rejected) as caught:
        authority_from_pfx(pfx, PASSWORD, now=NOW)
    assert str(caught.value) == "pfx: it can't be opened: the password is wrong, or it is not PKCS#12"


def certificate_with(der: bytes) -> x509.Certificate:
    """Make a device certificate whose alternative names are these octets."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "press-001")])
    key = spare_key(KeyAlgorithm.EC_P256)
    life = (NOW, NOW + timedelta(days=365))
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, *life)
    extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, der)
    return builder.add_extension(extension, critical=False).sign(key, hashes.SHA256())


X400_NAME = bytes.fromhex("3002a300")
X400_MESSAGE = "its extension subjectAltName (2.5.29.17) is damaged, or of a form that is not supported"


def test_a_name_of_a_kind_that_nobody_reads_is_refused_in_a_chain() -> None:
    """An X.400 address is well-formed and read by no one here: the chain is judged, and said to be unreadable."""
    found = check_chain(
        [certificate_with(X400_NAME)],
        registration_id="press-001",
        group_certificates=[],
        verified_authorities=[],
        now=NOW,
    )
    assert [finding.message for finding in found] == [f"certificate 1 of the chain can't be read: {X400_MESSAGE}"]


def test_a_name_of_a_kind_that_nobody_reads_is_refused_in_a_request() -> None:
    """The same in a request is a rejection."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "press-001")])
    extension = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, X400_NAME)
    builder = x509.CertificateSigningRequestBuilder(name).add_extension(extension, critical=False)
    request = builder.sign(spare_key(KeyAlgorithm.EC_P256), hashes.SHA256())
    with pytest.raises(Rejected) as caught:
        requested_key(request.public_bytes(Encoding.PEM), registration_id="press-001")
    assert str(caught.value) == "csr: the CSR asks for extensions that can't be read: " + X400_MESSAGE.removeprefix(
        "its extension "
    )


def test_what_is_damaged_in_dps_is_named_when_a_chain_is_refused() -> None:
    """Damaged certificates of the group or of DPS stop no good chain, and are named beside what they may have caused."""
    world, damage = seeds.world(), certificate_with(X400_NAME)
    chain = [world.device(), *world.line.issuer.chain]
    root, line = world.root.certificate, world.line.certificate

    def found(group: list[x509.Certificate], verified: list[x509.Certificate]) -> list[str]:
        judged = check_chain(
            chain, registration_id="press-001", group_certificates=group, verified_authorities=verified, now=NOW
        )
        return [finding.message for finding in judged]

    assert found([damage, line], [damage, root]) == []
    assert found([damage], [root, damage])[1:] == [
        f"certificate 1 of the enrollment group can't be read: {X400_MESSAGE}",
        f"certificate 2 of the CAs verified in DPS can't be read: {X400_MESSAGE}",
    ]


def test_no_message_is_as_long_as_a_name_that_someone_made() -> None:
    """A CN of thousands of characters is named by its beginning."""
    nodes = parsed(seeds.chain()[0].der)
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
