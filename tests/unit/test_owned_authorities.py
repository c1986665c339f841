"""CAs that are brought along, or signed elsewhere: what can't be used is refused and leaves no trace."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import SecretStr

from shared.acting import acting
from shared.contracts.authorities import AuthorityAct
from shared.contracts.certificates import AuthorityImport
from shared.contracts.parsing import parse
from shared.domain.approvals import ApprovalAct
from shared.domain.authorities import AuthorityState, WantedAuthority
from shared.domain.devices import DeviceRecord
from shared.domain.public_keys import PublicKeyRecord
from shared.domain.words import CertificateKind, DeviceState, KeyCustody
from shared.errors import AwaitsApproval, Conflict, Deferred, PreconditionFailed, Rejected
from shared.ledger.table import Stale
from shared.pki.names import common_name, sha256_thumbprint, thumbprint
from shared.pki.public_keys import fingerprint
from shared.ports.ca_certificates import UploadedAuthority
from shared.threads import ThreadPool
from shared.workflows.authorities.possession import places_of
from shared.workflows.authorities.records import AuthorityDefinition, all_certificates
from tests.pki.foreign import KEY, authority, name_of
from tests.records import authority_record, held_certificate
from tests.unit.authorities import AuthorityScene
from tests.world.approving import ADA, BOB

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.ledger.table import Versioned
    from shared.pki.signing_keys import PrivateKey
    from tests.world.authority_worker import Worker


class CountingPool(ThreadPool):
    calls = 0

    async def run[**P, T](self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        self.calls += 1
        return await super().run(call, *args, **kwargs)


@dataclass
class Scene(AuthorityScene):
    computing: CountingPool = field(default_factory=lambda: CountingPool("computing", 1))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.settings.subject_organization, self.settings.subject_country = "Ex", None

    @property
    def subject(self) -> Worker:
        return self.worker()

    def names(self) -> list[str]:
        return [row for partition, row in self.table.rows if partition == "issuer"]


def brought(*chain: x509.Certificate, key: PrivateKey = KEY, custody: KeyCustody | None = None) -> AuthorityImport:
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return AuthorityImport(pem=SecretStr(plain + written(*chain)), custody=custody)


def written(*chain: x509.Certificate) -> str:
    return "".join(each.public_bytes(Encoding.PEM).decode() for each in chain)


SERVERS = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
LONG = authority("top", x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), bytes(25_000)))
ROOT, RENEWED = authority("corporate"), authority("corporate")


@pytest.mark.parametrize(
    ("chain", "message"),
    [
        ((authority("corporate", days=(-9, -1)),), "pem: 'corporate' expired on 2026-02-28 12:00 UTC"),
        ((authority("corporate", SERVERS),), "pem: the extended key usage of 'corporate' lacks clientAuth"),
        (
            (authority("line", parent=LONG), LONG),
            f"pem: its certificate, or the chain above it, has {len(written(LONG))} characters as PEM; at most 32768 are "
            "kept",
        ),
    ],
    ids=["expired", "for servers alone", "long"],
)
async def test_a_refused_import_leaves_no_trace(chain: tuple[x509.Certificate, ...], message: str) -> None:
    """Neither the name nor the vault is taken, so that the right CA can be imported under that name."""
    scene = Scene()
    with pytest.raises(Rejected) as caught:
        await scene.subject.installation.take_over("corporate", brought(*chain), cause="r1")
    assert str(caught.value) == message
    assert (scene.names(), scene.vault.keys) == ([], {})
    taken = await scene.subject.installation.take_over("corporate", brought(RENEWED), cause="r2")
    assert taken.state is AuthorityState.ACTIVE


async def test_a_ca_is_imported_under_one_name() -> None:
    """The same certificate under another name is refused with the name it has; again under its own changes nothing."""
    scene = Scene()
    first = await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    with pytest.raises(Conflict) as caught:
        await scene.subject.installation.take_over("other", brought(ROOT), cause="r2")
    assert str(caught.value) == (
        "name: this CA is here as 'corporate': what makes a CA the same is its subject and its key; use it, and give it "
        "further certificates, under that name"
    )
    assert scene.names() == ["corporate"]
    assert await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r3") == first
    stranger = ec.generate_private_key(ec.SECP256R1())
    other = authority("corporate", key=stranger, signed_by=stranger)
    with pytest.raises(Conflict, match="'corporate' exists as root CA of another definition; choose another name"):
        await scene.subject.installation.take_over("corporate", brought(other, key=stranger), cause="r4")


async def test_a_ca_that_has_the_key_of_a_device_leaves_no_trace() -> None:
    """The device could sign for others, and others come as the device."""
    scene = Scene()
    named = fingerprint(ROOT.public_key())  # type: ignore[arg-type]
    known = PublicKeyRecord(fingerprint=named, registration_id="press", recorded_at=scene.now)
    await scene.public_keys.claim(known)
    with pytest.raises(Conflict) as caught:
        await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    assert str(caught.value) == (
        f"name: its public key (SHA-256 {named}) is that of device 'press'; a CA needs a key of its own"
    )
    assert (scene.names(), scene.vault.keys) == ([], {})


async def claimed_for_a_device(scene: Scene) -> Versioned[PublicKeyRecord]:
    """Claim the root's key for a device, and don't confirm it."""
    named = fingerprint(ROOT.public_key())  # type: ignore[arg-type]
    claim = PublicKeyRecord(fingerprint=named, registration_id="press", recorded_at=scene.now, is_confirmed=False)
    return await scene.public_keys.claim(claim)


async def test_a_ca_may_have_a_key_that_a_device_has_claimed_in_vain() -> None:
    """The ledger does not know the device by it; whoever still means to confirm the claim finds it gone."""
    scene = Scene()
    claimed = await claimed_for_a_device(scene)
    await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    known = await scene.public_keys.get(claimed.record.fingerprint)
    assert known is not None
    assert known.record.authority == "corporate"
    with pytest.raises(Stale):
        await scene.public_keys.replace(claimed, claimed.record.changed(is_confirmed=True))


@pytest.mark.parametrize("state", [DeviceState.REGISTERED, DeviceState.DELETED])
async def test_a_ca_has_no_key_that_the_ledger_knows_a_device_by(state: DeviceState) -> None:
    """The worker was killed before it confirmed the claim; or the device is deleted, and others may have its key."""
    scene = Scene()
    named = (await claimed_for_a_device(scene)).record.fingerprint
    device = DeviceRecord(
        registration_id="press",
        state=state,
        order_id="o",
        updated_at=scene.now,
        enrollment_group="g",
        held=(held_certificate("01", scene.now, public_key=named),),
    )
    await scene.devices.insert(device)
    with pytest.raises(Conflict, match="is that of device 'press'; a CA needs a key of its own"):
        await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")


async def test_a_ca_has_no_compromised_key() -> None:
    """A device had claimed it in vain, and it is nobody's since."""
    scene = Scene()
    await scene.public_keys.condemn((await claimed_for_a_device(scene)).record)
    with pytest.raises(Conflict, match="is compromised: a certificate with it was revoked for keyCompromise"):
        await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")


async def test_the_keys_of_cas_are_no_devices() -> None:
    """Of a CA that was made here, and of one that was brought along."""
    scene = Scene()
    await scene.root("root")
    await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    made = await scene.records.get("root")
    assert made is not None
    for name, certificate in (("root", next(all_certificates(made.record))), ("corporate", ROOT)):
        known = await scene.public_keys.get(fingerprint(certificate.public_key()))  # type: ignore[arg-type]
        assert known is not None
        assert known.record.authority == name


async def test_an_imported_issuing_ca_is_where_the_deployment_has_such_keys() -> None:
    """Unless the import says otherwise; a root stays in the vault. Said otherwise later, it is refused with what is."""
    scene = Scene()
    scene.settings.issuing_custody = "wrapped"
    line = authority("line", parent=ROOT, length=0)
    root = await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    taken = await scene.subject.installation.take_over("line", brought(line, ROOT), cause="r2")
    assert (root.custody, taken.custody) == (KeyCustody.VAULT, KeyCustody.WRAPPED)
    assert (
        await scene.subject.installation.take_over("line", brought(line, ROOT, custody=KeyCustody.WRAPPED), cause="r3")
        == taken
    )
    with pytest.raises(Conflict) as caught:
        await scene.subject.installation.take_over("line", brought(line, ROOT, custody=KeyCustody.VAULT), cause="r4")
    assert str(caught.value) == (
        "custody: 'line' is here with its key in custody 'wrapped', which does not change; leave custody out, or roll its "
        "group with another custody"
    )


async def test_files_are_opened_beside_the_event_loop() -> None:
    """A thread of its own waits for a file: neither the one that serves everybody nor those that compute."""
    opening = CountingPool("opening", 1)
    scene = Scene(opening=opening)
    await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    assert (opening.calls, scene.computing.calls) == (1, 0)


async def test_the_name_of_a_foreign_issuer_is_shown_though_it_has_no_cn() -> None:
    """A CA below one that is named by its organization only is said to be signed by that, and not by itself."""
    top = authority(x509.Name(name_of("x", "Corp").rdns[:1]))
    record = await Scene().subject.installation.take_over(
        "line", brought(authority("line", parent=top), top), cause="r1"
    )
    assert record.signed_by == "O=Corp"


async def test_a_ca_whose_name_its_issuer_does_not_permit_leaves_no_trace() -> None:
    """An order below a CA that keeps names to itself is refused before a name, a key or a serial number is taken."""
    here = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "device-1")]))
    scene = Scene()
    await scene.subject.installation.take_over(
        "corporate", brought(authority("corporate", x509.NameConstraints([here], None))), cause="r1"
    )
    with pytest.raises(Rejected, match="'line' can't have a certificate of 'corporate', whose chain constrains names"):
        await scene.subject.creation.ensure(
            AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, parent="corporate"), cause="r2"
        )
    assert (scene.names(), [*scene.vault.keys]) == (["corporate"], ["corporate"])


ORDERED = AuthorityDefinition(name="line", kind=CertificateKind.INTERMEDIATE, externally_signed=True)
TOP_KEY = ec.generate_private_key(ec.SECP256R1())
TOP = authority("top", key=TOP_KEY, signed_by=TOP_KEY)


@pytest.mark.parametrize(
    ("organization", "more", "message"),
    [
        (
            "Somebody Else",
            {},
            "certificate: the certificate's subject is 'CN=line,O=Somebody Else'; it must be 'CN=line,O=Ex', as the "
            "signing request says",
        ),
        ("Ex", {"days": (30, 400)}, "certificate: 'line' is valid from 2026-03-31 12:00 UTC"),
    ],
)
async def test_an_answer_that_can_not_be_used_is_not_installed(
    organization: str, more: dict[str, Any], message: str
) -> None:
    """The CA goes on waiting for its certificate, and takes the right one."""
    scene = Scene()
    await scene.subject.creation.ensure(ORDERED, cause="r1")
    key = scene.vault.keys["line"]
    wrong = authority(name_of("line", organization), parent=TOP, key=key, signed_by=TOP_KEY, length=0, **more)
    with pytest.raises(Rejected) as caught:
        await scene.subject.installation.install("line", written(wrong, TOP).encode())
    assert str(caught.value) == message
    assert (await scene.subject.authorities.get("line")).state is AuthorityState.AWAITING_CERTIFICATE
    right = authority(name_of("line", "Ex"), parent=TOP, key=key, signed_by=TOP_KEY, length=0)
    assert (
        await scene.subject.installation.install("line", written(right, TOP).encode())
    ).state is AuthorityState.ACTIVE


async def test_a_ca_that_is_pinned_takes_no_chain_that_ends_at_another_root() -> None:
    """Its first certificate, and each further one: what the owner has written down counts, not who answers."""
    scene = Scene()
    pin = sha256_thumbprint(TOP)
    await scene.subject.creation.ensure(replace(ORDERED, root_thumbprint=pin), cause="r1")
    key, subject = scene.vault.keys["line"], name_of("line", "Ex")
    other_key = ec.generate_private_key(ec.SECP256R1())
    other = authority("top", key=other_key, signed_by=other_key)
    theirs = authority(subject, parent=other, key=key, signed_by=other_key, length=0)
    ours = authority(subject, parent=TOP, key=key, signed_by=TOP_KEY, length=0)
    message = (
        f"certificate: the chain ends at the root with SHA-256 {sha256_thumbprint(other)}, and 'line' is pinned "
        f"to the one with SHA-256 {pin} (rootThumbprint of its request)"
    )
    with pytest.raises(Rejected) as caught:
        await scene.subject.installation.install("line", written(theirs, other).encode())
    assert str(caught.value) == message
    assert (await scene.subject.authorities.get("line")).state is AuthorityState.AWAITING_CERTIFICATE
    record = await scene.subject.installation.install("line", written(ours, TOP).encode())
    assert record.state is AuthorityState.ACTIVE
    with pytest.raises(Rejected) as caught:
        await scene.subject.installation.install("line", written(theirs, other).encode())
    assert str(caught.value) == message


async def test_an_installation_waits_for_a_second_person_who_sees_the_fingerprints() -> None:
    """Nothing of it is kept; sent again after the approval it is installed, and another certificate is not."""
    scene = Scene()
    scene.wanted[ApprovalAct.INSTALL_CERTIFICATE] = 0
    await scene.subject.creation.ensure(ORDERED, cause="r1")
    key, subject = scene.vault.keys["line"], name_of("line", "Ex")
    mine, second = (authority(subject, parent=TOP, key=key, signed_by=TOP_KEY, length=0) for _ in range(2))
    installation, approvals = scene.subject.installation, scene.subject.approvals
    with acting(ADA):
        with pytest.raises(AwaitsApproval) as awaited:
            await installation.install("line", written(mine, TOP).encode())
        assert str(awaited.value).startswith(
            "to install the certificate of the CA 'line': 'CN=line,O=Ex' with SHA-256 "
            f"{sha256_thumbprint(mine)}, whose root has SHA-256 {sha256_thumbprint(TOP)}, which the user "
            "'ada@example.com' asked for, needs a second person"
        )
    assert (await scene.subject.authorities.get("line")).state is AuthorityState.AWAITING_CERTIFICATE
    with acting(BOB):
        await approvals.approve(awaited.value.approval_id)
    with acting(ADA):
        with pytest.raises(AwaitsApproval):
            await installation.install("line", written(second, TOP).encode())
        assert (await installation.install("line", written(mine, TOP).encode())).state is AuthorityState.ACTIVE


async def test_an_import_waits_for_a_second_person_and_leaves_no_trace_before() -> None:
    """Neither a row nor a key: the file is opened, looked at, and forgotten."""
    scene = Scene()
    scene.wanted[ApprovalAct.IMPORT_AUTHORITY] = 0
    wanted = brought(TOP, key=TOP_KEY)
    installation = scene.subject.installation
    with acting(ADA), pytest.raises(AwaitsApproval) as awaited:
        await installation.take_over("corporate", wanted, cause="r1")
    assert (scene.names(), [*scene.vault.keys]) == ([], [])
    with acting(BOB):
        await scene.subject.approvals.approve(awaited.value.approval_id)
        with pytest.raises(AwaitsApproval):  # who approved it has not asked for it
            await installation.take_over("corporate", wanted, cause="r2")
    with acting(ADA):
        record = await installation.take_over("corporate", wanted, cause="r3")
    assert record.thumbprint == thumbprint(TOP)


@dataclass
class FakeService:
    """Takes any proof, as long as it has places; keeps the names of what was uploaded."""

    holder: str = "the DPS"
    uploads: list[str] = field(default_factory=list)
    certificates: dict[str, UploadedAuthority] = field(default_factory=dict)
    refusal: str = ""

    async def get(self, name: str) -> UploadedAuthority | None:
        return self.certificates.get(name)

    async def held(self) -> dict[str, UploadedAuthority]:
        return self.certificates

    async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
        if self.refusal:
            raise Rejected.because(self.refusal)
        self.uploads.append(name)
        self.certificates[name] = UploadedAuthority(verified=True, etag="1", thumbprint=thumbprint(certificate))
        return self.certificates[name]


MIDDLE_KEY = ec.generate_private_key(ec.SECP256R1())
MIDDLE = authority("middle", parent=TOP, key=MIDDLE_KEY, signed_by=TOP_KEY)
BELOW = authority("line", parent=TOP, signed_by=TOP_KEY, length=0)
FAR_BELOW = authority("line", parent=MIDDLE, signed_by=MIDDLE_KEY, length=0)


async def with_root(*, after: Callable[[Worker], Any] | None = None) -> tuple[Any, FakeService]:
    """Give a worker whose DPS takes any proof, and which has imported the root."""
    service = FakeService()
    subject = Scene(verifiers=(service,)).subject
    if after is not None:
        await after(subject)
    await subject.installation.take_over("root", brought(TOP, key=TOP_KEY), cause="r0")
    return subject, service


@pytest.mark.parametrize(
    ("chain", "signed_by"), [((BELOW, TOP), "root"), ((FAR_BELOW, MIDDLE, TOP), "middle")], ids=["below", "far below"]
)
async def test_a_ca_below_a_root_that_is_here_needs_no_proof_of_its_own(
    chain: tuple[x509.Certificate, ...], signed_by: str
) -> None:
    """Imported, it takes none of the 25 places of the DPS: what is proved for its devices is the root."""
    subject, service = await with_root()
    record = await subject.installation.take_over("line", brought(*chain), cause="r1")
    assert (record.state, record.proof_of_possession, record.signed_by) == (AuthorityState.ACTIVE, None, signed_by)
    assert service.uploads == ["root"]
    loaded = await replace(subject).authorities.loaded("line")
    assert (loaded.anchor, loaded.issuer.chain) == (TOP, chain)


async def test_an_answer_from_a_root_that_is_here_needs_no_proof_of_its_own() -> None:
    """A CA that was signed elsewhere with the key of a root that was imported as well is below that root."""
    subject, service = await with_root()
    await subject.creation.ensure(ORDERED, cause="r1")
    key = x509.load_pem_x509_csr((await subject.authorities.get("line")).signing_request.encode()).public_key()
    answer = authority(
        name_of("line", "Ex"), parent=TOP, key=SimpleNamespace(public_key=lambda: key), signed_by=TOP_KEY, length=0
    )
    record = await subject.installation.install("line", written(answer, TOP).encode())
    assert (record.proof_of_possession, service.uploads) == (None, ["root"])
    assert (await subject.authorities.loaded("line")).anchor == TOP


async def test_a_ca_that_was_here_before_its_root_keeps_its_own_proof() -> None:
    """It was shown to the DPS when nothing above it was known, and stays as it is."""

    async def line(subject: Worker) -> None:
        await subject.installation.take_over("line", brought(BELOW, TOP), cause="r1")

    subject, service = await with_root(after=line)
    assert (await subject.authorities.get("line")).proof_of_possession == "verified"
    assert service.uploads == ["line", "root"]
    assert (await subject.authorities.loaded("line")).anchor == BELOW


# --- services that have no place, or take no proof ---

FULL = (
    "name: the DPS has 25 CA certificates and takes 25, so it can't be shown possession of {!r}; delete one there that is "
    "not needed any more"
)


def full_service() -> FakeService:
    taken = UploadedAuthority(verified=True, etag="1", thumbprint="AB")
    return FakeService(certificates={f"ca-{number}": taken for number in range(25)})


async def test_a_ca_that_the_dps_has_no_place_for_leaves_no_trace() -> None:
    """Imported, made here, or signed elsewhere: it is refused before a name or a key is taken."""
    service = full_service()
    scene = Scene(verifiers=[service])
    with pytest.raises(Rejected) as refused:
        await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    assert str(refused.value) == FULL.format("corporate")
    with pytest.raises(Rejected) as refused:
        await scene.root("dpsCa")
    assert str(refused.value) == FULL.format("dpsCa")
    assert (scene.names(), scene.vault.keys) == ([], {})
    await scene.subject.creation.ensure(ORDERED, cause="r2")
    answer = authority(name_of("line", "Ex"), parent=TOP, key=scene.vault.keys["line"], signed_by=TOP_KEY, length=0)
    with pytest.raises(Rejected) as refused:
        await scene.subject.installation.install("line", written(answer, TOP).encode())
    assert str(refused.value) == FULL.format("line")
    assert (await scene.subject.authorities.get("line")).state is AuthorityState.AWAITING_CERTIFICATE
    del service.certificates["ca-0"]
    assert (
        await scene.subject.installation.install("line", written(answer, TOP).encode())
    ).state is AuthorityState.ACTIVE


async def test_a_name_that_the_dps_has_for_another_ca_is_refused_before_it_is_taken() -> None:
    """Both thumbprints are named where there are two; in the DPS names do not differ by case."""
    other = UploadedAuthority(verified=True, etag="1", thumbprint="AB12")
    scene = Scene(verifiers=[FakeService(certificates={"Corporate": other})])
    for attempt, rest in (
        (scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1"), f" and not {thumbprint(ROOT)}"),
        (scene.root("corporate"), ""),
    ):
        with pytest.raises(Conflict) as refused:
            await attempt
        assert str(refused.value) == (
            f"name: the DPS holds another CA certificate named 'corporate', of thumbprint AB12{rest}; delete it there, or "
            "give this CA another name"
        )
    assert (scene.names(), scene.vault.keys) == ([], {})


async def test_a_ca_whose_proof_is_refused_is_not_opened_and_says_why() -> None:
    """The last place went to others in between. When there is one again, the same request finishes what was begun."""
    service = FakeService(refusal="no place is left")
    scene = Scene(verifiers=[service])
    with pytest.raises(Rejected, match="no place is left"):
        await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    begun = await scene.subject.authorities.get("corporate")
    assert (begun.state, begun.proof_of_possession, begun.problem) == ("signed", "pending", "no place is left")
    with pytest.raises(Rejected) as refused:
        await scene.subject.possession.check_proved("corporate")
    assert str(refused.value) == (
        "issuer: DPS would refuse every device below 'corporate', possession of whose key is not proved: no place is left. "
        "When that is put right, ask for 'corporate' again as before"
    )
    assert scene.queues.sent == []
    service.refusal = ""
    taken = await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    assert (taken.state, taken.proof_of_possession, taken.problem) == ("active", "verified", None)
    await scene.subject.possession.check_proved("corporate")


@dataclass
class AskingService(FakeService):
    """A service that asks for proof by a code.

    Attributes:
        proofs: the CNs of the certificates that it was shown, by the names of the CAs.
        takes: whether it takes a proof.
        rival: changes the place of a CA before a proof is looked at.
        first: what another worker uploads before an upload.
    """

    proofs: dict[str, str] = field(default_factory=dict)
    takes: bool = True
    rival: bool = False
    first: UploadedAuthority | None = None

    async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
        if self.first is not None:
            self.certificates[name] = self.first
            raise PreconditionFailed.because("it is there")
        uploaded = await super().upload(name, certificate)
        self.certificates[name] = replace(uploaded, verified=False)
        return self.certificates[name]

    async def verification_code(self, name: str, etag: str) -> tuple[str, str]:
        if self.rival:
            raise PreconditionFailed.because("another one has asked for a code")
        return f"code-of-{name}", etag

    async def verify(self, name: str, proof: x509.Certificate, _etag: str) -> UploadedAuthority:
        self.proofs[name] = common_name(proof.subject)
        self.certificates[name] = replace(self.certificates[name], verified=self.takes)
        return self.certificates[name]


async def test_a_proof_that_a_service_takes_and_does_not_verify_is_an_error() -> None:
    """Its CA is not opened: every device below it would be refused."""
    service = AskingService(takes=False)
    scene = Scene(verifiers=[service])
    with pytest.raises(
        RuntimeError, match=r"^the DPS took the proof of possession of 'corporate' and did not verify it$"
    ):
        await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    with pytest.raises(Deferred, match=r"^possession of the CA 'corporate' is being proved$"):
        await scene.subject.possession.check_proved("corporate")
    service.takes = True
    assert await scene.subject.converger.sweep() == 1
    assert service.proofs == {"corporate": "code-of-corporate"}
    await scene.subject.possession.check_proved("corporate")


async def test_who_proves_at_the_same_time_is_waited_for() -> None:
    """A second code makes the first one void."""
    service = AskingService(rival=True)
    scene = Scene(verifiers=[service])
    with pytest.raises(Deferred, match=r"^possession of 'corporate' is being proved by others$"):
        await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    service.rival = False
    assert await scene.subject.converger.sweep() == 1


async def test_a_ca_that_another_worker_has_uploaded_meanwhile_is_proved_and_another_one_refused() -> None:
    mine = UploadedAuthority(verified=False, etag="1", thumbprint=thumbprint(ROOT))
    service = AskingService(first=mine)
    scene = Scene(verifiers=[service])
    taken = await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    assert taken.state is AuthorityState.ACTIVE
    service = AskingService(first=replace(mine, thumbprint="AB12"))
    scene = Scene(verifiers=[service])
    with pytest.raises(Conflict, match="holds another CA certificate named 'corporate', of thumbprint AB12"):
        await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    assert service.proofs == {}


async def test_possession_is_proved_again_in_every_place_of_a_certificate_that_is_valid() -> None:
    """What a DPS has forgotten of a root that was renewed; an expired certificate is left out, since it takes none."""
    service = AskingService()
    scene = Scene(verifiers=[service])
    await scene.root("dpsCa")
    renewal = parse(AuthorityAct, {"requestId": "renew", "name": "dpsCa", "action": "renew"})
    scene.now += timedelta(days=1)
    await scene.subject.acts.carry_out(renewal)
    record = await scene.subject.authorities.get("dpsCa")
    places = set(places_of(record))
    assert len(places) == 2
    service.certificates.clear()
    service.proofs.clear()
    await scene.subject.possession.prove_again(record, scene.now)
    assert set(service.proofs) == set(service.certificates) == places
    service.certificates.clear()
    service.proofs.clear()
    former = places_of(record)["dpsCa"]
    await scene.subject.possession.prove_again(record, former.not_valid_after_utc + timedelta(seconds=1))
    assert set(service.proofs) == places - {"dpsCa"}


async def test_the_place_of_a_ca_that_others_are_changing_is_freed_later() -> None:
    """Nothing tells whose CA is there then."""

    class Restless(AskingService):
        async def delete(self, _name: str, _etag: str) -> None:
            raise PreconditionFailed.because("it has changed")

    service = Restless()
    scene = Scene(verifiers=[service])
    await scene.root("dpsCa")
    with pytest.raises(Deferred, match=r"^the place 'dpsCa' in the DPS is being changed by others$"):
        await scene.subject.possession.withdraw(await scene.subject.authorities.get("dpsCa"))


async def test_a_certificate_for_a_ca_that_waits_for_none_is_refused_or_has_to_wait() -> None:
    """One that is being made here never takes it; one that is to be signed elsewhere has no request yet."""
    scene = Scene()
    record = authority_record("line", scene.now, state=AuthorityState.REQUESTED, wanted=WantedAuthority())
    known = await scene.records.try_insert(record)
    assert known is not None
    with pytest.raises(Conflict) as refused:
        await scene.subject.installation.install("line", written(BELOW, TOP).encode())
    assert str(refused.value) == "'line' needs no certificate from elsewhere: it was not made with externallySigned"
    await scene.records.replace(known, known.record.changed(wanted=WantedAuthority(externally_signed=True)))
    with pytest.raises(Deferred, match="'line' is being made"):
        await scene.subject.installation.install("line", written(BELOW, TOP).encode())


async def test_a_root_is_not_imported_into_custody_outside_of_the_vault() -> None:
    scene = Scene()
    with pytest.raises(Rejected, match=r"^custody: a root's key stays in the vault; leave custody out$"):
        await scene.subject.installation.take_over("corporate", brought(ROOT, custody=KeyCustody.WRAPPED), cause="r1")
    assert (scene.names(), scene.vault.keys) == ([], {})


async def test_a_ca_is_imported_from_a_pfx() -> None:
    scene = Scene()
    pfx = serialize_key_and_certificates(b"corporate", KEY, ROOT, None, BestAvailableEncryption(b"secret"))
    wanted = AuthorityImport(pfx=SecretStr(b64encode(pfx).decode()), password=SecretStr("secret"))
    record = await scene.subject.installation.take_over("corporate", wanted, cause="r1")
    assert (record.state, record.thumbprint) == (AuthorityState.ACTIVE, thumbprint(ROOT))
    wrong = AuthorityImport(pfx=SecretStr(b64encode(pfx).decode()), password=SecretStr("another"))
    with pytest.raises(Rejected, match=r"^pfx: "):
        await Scene().subject.installation.take_over("corporate", wrong, cause="r1")


async def test_a_ca_that_broke_off_is_finished_by_the_sweep() -> None:
    """Nobody has to ask again: when the DPS has a place, or answers, it is proved, announced and opened."""
    service = FakeService(refusal="no place is left")
    scene = Scene(verifiers=[service])
    with pytest.raises(Rejected):
        await scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1")
    assert await scene.subject.converger.sweep() == 0
    service.refusal = ""
    assert [await scene.subject.converger.sweep(), await scene.subject.converger.sweep()] == [1, 0]
    record = await scene.subject.authorities.get("corporate")
    assert (record.state, record.proof_of_possession, record.problem) == ("active", "verified", None)
    assert [event["subject"] for _, event, _ in scene.queues.sent] == ["corporate"]


async def test_one_ca_that_can_not_be_finished_does_not_stop_the_others() -> None:
    """What failed is raised when all were tried."""
    scene = Scene(verifiers=[FakeService(refusal="no")])
    for name in ("first", "second"):
        with pytest.raises(Rejected):
            await scene.subject.installation.take_over(name, brought(authority(name)), cause=name)

    class Failing(FakeService):
        async def upload(self, name: str, certificate: x509.Certificate) -> UploadedAuthority:
            if name == "first":
                raise ConnectionError("no answer")
            return await super().upload(name, certificate)

    scene.verifiers = [Failing()]
    with pytest.raises(ExceptionGroup, match="CAs could not be finished"):
        await scene.subject.converger.sweep()
    assert [record.state async for record in scene.subject.authorities.list()] == ["signed", "active"]


async def test_a_key_of_others_leaves_no_trace() -> None:
    """A vault that others use as well has a key of that name: nothing is taken, whoever makes the CA."""
    scene = Scene()
    scene.vault.foreign.add("corporate")
    for attempt in (
        scene.subject.installation.take_over("corporate", brought(ROOT), cause="r1"),
        scene.root("corporate"),
    ):
        with pytest.raises(Conflict, match="the vault has a key 'corporate' already"):
            await attempt
    assert scene.names() == []


# --- one CA, several certificates ---

OWN = authority("corporate")
CROSS = authority("corporate", parent=TOP, signed_by=TOP_KEY)
IN_CAPITALS = authority("CORPORATE")


@pytest.mark.parametrize(
    "further", [(RENEWED,), (CROSS, TOP), (IN_CAPITALS,)], ids=["renewed", "cross-certified", "spelled otherwise"]
)
async def test_a_further_certificate_of_a_ca_is_taken_in_under_that_ca(further: tuple[x509.Certificate, ...]) -> None:
    """By import or by installation; under another name it is refused with the right one. Devices keep their chain."""
    scene = Scene()
    await scene.subject.installation.take_over("corporate", brought(OWN), cause="r1")
    with pytest.raises(Conflict, match="name: this CA is here as 'corporate'"):
        await scene.subject.installation.take_over("other", brought(*further), cause="r2")
    by_import = await scene.subject.installation.take_over("corporate", brought(*further), cause="r3")
    again = await scene.subject.installation.install("corporate", written(*further).encode())
    assert by_import == again
    assert (by_import.certificate, by_import.further_certificates) == (written(OWN), written(further[0]))
    assert (scene.names(), (await scene.subject.authorities.load("corporate")).chain) == (["corporate"], (OWN,))
    entered = await scene.certificates.get(f"{further[0].serial_number:040x}")
    assert entered is not None
    signed_by = "top" if further[0] == CROSS else "corporate"
    assert (entered.record.subject, entered.record.issuer, entered.record.state) == ("corporate", signed_by, "active")


async def test_a_ca_below_a_renewed_certificate_is_below_the_ca_that_is_here() -> None:
    """Its chain names the renewed certificate, and possession of the key was proved with the first one."""
    service = FakeService()
    scene = Scene(verifiers=[service])
    await scene.subject.installation.take_over("corporate", brought(OWN), cause="r1")
    await scene.subject.installation.take_over("corporate", brought(RENEWED), cause="r2")
    line_key = ec.generate_private_key(ec.SECP256R1())
    line = authority("line", parent=RENEWED, key=line_key, signed_by=KEY, length=0)
    record = await scene.subject.installation.take_over("line", brought(line, RENEWED, key=line_key), cause="r3")
    assert (record.parent, record.proof_of_possession, service.uploads) == ("corporate", None, ["corporate"])
    assert await scene.subject.authorities.above("line") == "corporate"


async def test_a_renewed_certificate_is_its_issuers_in_the_ledger() -> None:
    """OCSP answers by the name that the issuer has here, whatever its CN is."""
    scene = Scene()
    await scene.subject.installation.take_over("ours", brought(OWN), cause="r1")
    line_key = ec.generate_private_key(ec.SECP256R1())
    for number in range(2):
        line = authority("line", parent=OWN, key=line_key, signed_by=KEY, length=0)
        await scene.subject.installation.take_over("line", brought(line, OWN, key=line_key), cause=f"r{number}")
        entered = await scene.certificates.get(f"{line.serial_number:040x}")
        assert entered is not None
        assert (entered.record.subject, entered.record.issuer) == ("line", "ours")


async def test_a_ca_that_was_made_here_is_certified_by_others() -> None:
    """Its key is in the vault and needs not be brought: the certificate that others gave it is installed."""
    scene = Scene()
    await scene.root("dpsCa")
    own = x509.load_pem_x509_certificate(((await scene.subject.authorities.get("dpsCa")).certificate or "").encode())
    cross = authority(own.subject, parent=TOP, key=scene.vault.keys["dpsca"], signed_by=TOP_KEY)
    record = await scene.subject.installation.install("dpsCa", written(cross, TOP).encode())
    assert record.further_certificates == written(cross)
    stranger = authority("other", parent=TOP, key=scene.vault.keys["dpsca"], signed_by=TOP_KEY)
    with pytest.raises(Rejected) as refused:
        await scene.subject.installation.install("dpsCa", written(stranger, TOP).encode())
    assert str(refused.value) == (
        "certificate: the certificate's subject is 'CN=other'; it must be 'CN=dpsCa,O=Ex', which is the CA's"
    )
