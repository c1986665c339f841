"""The emulator's store and its TLS files."""

from __future__ import annotations

import os
import ssl
import stat
import uuid
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from emulator.platform.store import Store
from emulator.platform.tls import ensure_tls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of the test's own."""
    kept = Store(tmp_path / "store.sqlite3")
    yield kept
    kept.close()


def test_documents_are_kept_by_kind_and_key(store: Store) -> None:
    """Put replaces, get finds by kind and key, delete says whether there was something."""
    store.put("a", "1", {"n": 1})
    store.put("b", "1", {"n": 2})
    store.put("a", "1", {"n": 3, "text": "\ud800"})
    assert store.get("a", "1") == {"n": 3, "text": "\ud800"}
    assert store.get("b", "1") == {"n": 2}
    assert store.get("a", "2") is None
    assert [store.delete("a", "1"), store.delete("a", "1")] == [True, False]
    assert [store.count("a"), store.count("b")] == [0, 1]


def test_a_scan_goes_in_key_order_from_where_it_left(store: Store) -> None:
    """Prefix, start and limit of a scan hold, across its pages."""
    keys = [f"g/{number:04}" for number in range(600)]
    with store.transaction():
        for key in (*reversed(keys), "f", "g", "h/0001"):
            store.put("kind", key, {"key": key})
    assert [key for key, _ in store.scan("kind", prefix="g/")] == keys
    assert [key for key, _ in store.scan("kind", prefix="g/", after="g/0299", limit=290)] == keys[300:590]
    assert [key for key, _ in store.scan("kind", limit=2)] == ["f", "g"]
    assert list(store.scan("kind", limit=0)) == []
    assert store.count("kind", prefix="g/") == 600


TEXT = st.text(st.sampled_from("ab\ud7ff\ue000\U0010fffe\U0010ffff"), min_size=1, max_size=3)


@pytest.fixture(scope="module")
def shared_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """One store for many examples, each under a kind of its own."""
    with closing(Store(tmp_path_factory.mktemp("store") / "store.sqlite3")) as kept:
        yield kept


@settings(max_examples=300, deadline=None)
@given(keys=st.sets(TEXT), prefix=st.just("") | TEXT)
def test_a_prefix_finds_what_starts_with_it(shared_store: Store, keys: set[str], prefix: str) -> None:
    """Whatever the characters, a scan gives the keys with the prefix in code point order, and count agrees."""
    kind = uuid.uuid4().hex
    with shared_store.transaction():
        for key in keys:
            shared_store.put(kind, key, {})
    expected = sorted(key for key in keys if key.startswith(prefix))
    assert [key for key, _ in shared_store.scan(kind, prefix=prefix)] == expected
    assert shared_store.count(kind, prefix=prefix) == len(expected)


def test_a_transaction_is_all_or_nothing(store: Store) -> None:
    """An error undoes every write of the outermost transaction, inner ones included."""
    store.put("kind", "kept", {})
    with pytest.raises(RuntimeError, match="stop"), store.transaction():  # noqa: PT012  the writes before the error are the point
        store.put("kind", "undone", {})
        with store.transaction():
            store.delete("kind", "kept")
        raise RuntimeError("stop")
    assert [key for key, _ in store.scan("kind")] == ["kept"]


def test_a_new_name_gets_a_new_certificate_from_the_same_authority(tmp_path: Path) -> None:
    """The server certificate is kept while it fits, made anew when a name is missing; the CA stays."""
    first = ensure_tls(tmp_path, ["localhost", "127.0.0.1"])
    authority, certificate = first.ca_file.read_bytes(), first.certificate_file.read_bytes()
    assert ensure_tls(tmp_path, ["127.0.0.1"]).certificate_file.read_bytes() == certificate
    second = ensure_tls(tmp_path, ["localhost", "127.0.0.1", "127.9.9.9"])
    assert second.certificate_file.read_bytes() != certificate
    assert second.ca_file.read_bytes() == authority
    names = x509.load_pem_x509_certificate(second.certificate_file.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [str(name.value) for name in names.value] == ["localhost", "127.0.0.1", "127.9.9.9"]
    assert second.key_file.stat().st_mode & 0o077 == 0


def test_half_written_files_are_replaced(tmp_path: Path) -> None:
    """A key that does not belong to the certificate, as a crash may leave it, is not served."""
    files = ensure_tls(tmp_path / "a", ["localhost"])
    other = ensure_tls(tmp_path / "b", ["localhost"])
    files.key_file.write_bytes(other.key_file.read_bytes())
    ensure_tls(tmp_path / "a", ["localhost"])
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate_file, files.key_file)


def test_an_authority_of_another_kind_is_made_anew(tmp_path: Path) -> None:
    """Earlier versions had ECDSA keys; one RSA chain takes their place, from the CA down."""
    old = trustme.CA(key_type=trustme.KeyType.ECDSA)
    leaf = old.issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    for name, content in (
        ("ca.pem", old.cert_pem.bytes()),
        ("ca.key", old.private_key_pem.bytes()),
        ("server.pem", leaf.cert_chain_pems[0].bytes()),
        ("server.key", leaf.private_key_pem.bytes()),
    ):
        (tmp_path / name).write_bytes(content)
    files = ensure_tls(tmp_path, ["localhost"])
    [authority] = x509.load_pem_x509_certificates(files.ca_file.read_bytes())
    certificate = x509.load_pem_x509_certificate(files.certificate_file.read_bytes())
    assert isinstance(authority.public_key(), rsa.RSAPublicKey)
    assert isinstance(certificate.public_key(), rsa.RSAPublicKey)
    certificate.verify_directly_issued_by(authority)


def test_what_is_kept_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the umask, folders are 0700 and files 0600: the database and its log, keys and certificates."""
    before = os.umask(0)
    try:
        with closing(Store(tmp_path / "new" / "state" / "store.sqlite3")) as store:
            store.put("kind", "key", {})
            ensure_tls(tmp_path / "tls", ["localhost"])
            state = tmp_path / "new" / "state"
            assert {each.name: mode(each) for each in state.iterdir()} == {
                "store.sqlite3": 0o600,
                "store.sqlite3-wal": 0o600,
            }
            assert {mode(each) for each in (tmp_path / "tls").iterdir()} == {0o600}
            assert (mode(state), mode(tmp_path / "tls")) == (0o700, 0o700)
    finally:
        os.umask(before)


def test_a_database_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    """One of an earlier version gets the mode of a new one."""
    path = tmp_path / "store.sqlite3"
    path.touch()
    path.chmod(0o644)
    with closing(Store(path)):
        assert mode(path) == 0o600


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
