"""Input for the properties: damaged files, well-formed ones that ask for too much, strange names, numbers and times."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import strategies as st

from shared.pki import der
from shared.pki.revocation_lists import REASON_CODES
from shared.pki.signing_keys import KeyAlgorithm
from shared.rules.registration_ids import same_registration_id
from tests.pki.hierarchy import NOW
from tests.unit.pki import seeds
from tests.unit.pki.mutations import ANY_KIND, MOSTLY_READABLE, edits, mutated, signed
from tests.unit.pki.pfx_files import PASSWORD, pfx_of, safe_of, shrouded
from tests.unit.pki.picks import any_picks
from tests.unit.pki.properties import PASSWORDS, Request, Sent, armoured
from tests.unit.pki.seeds import NAME

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.unit.pki.picks import Picks
    from tests.unit.pki.seeds import Seed


# --- names, numbers, times -------------------------------------------------------------------------------------------

NASTY = (
    "", " ", NAME, NAME.upper(), "*", "*.example.com", "a" * 64, "a" * 65, "é" * 64, "\U0001f525" * 64, "a\0b",
    "a\r\nSet-Cookie: x", "CN=root,O=x", "a/../b", "\u202egnp", "\u212a-1", "ß", "ﬁ", "\ud800", "a" * 100_000, "-", ".",
    "a.", "xn--", "' OR 1=1", "${jndi:x}", "\ufeffpress", "press\u00ad-1",
)  # fmt: skip

any_text: st.SearchStrategy[str] = (
    st.sampled_from(NASTY) | st.text(st.characters(), max_size=80) | st.text("abz09-._:A ", min_size=1, max_size=66)
)
any_time: st.SearchStrategy[datetime] = st.datetimes(timezones=st.just(UTC)) | st.sampled_from(
    (NOW, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), datetime(1950, 1, 1, tzinfo=UTC))
)
any_number: st.SearchStrategy[int] = st.integers(-(2**170), 2**170) | st.sampled_from(
    (0, -1, 1, 2**158, 2**159 - 1, 2**159, 2**160)
)
any_reason: st.SearchStrategy[str] = st.sampled_from((*REASON_CODES, "removeFromCRL", "", "keycompromise"))
good_names: st.SearchStrategy[str] = st.text("abz09-._:", min_size=1, max_size=64)
near_times: st.SearchStrategy[datetime] = st.integers(0, 2000).map(lambda days: NOW + timedelta(days=days))
good_numbers: st.SearchStrategy[int] = st.integers(1, 2**159 - 1)
passwords: st.SearchStrategy[str | None] = st.sampled_from((*[PASSWORD] * 12, *PASSWORDS))


# --- damaged files ---------------------------------------------------------------------------------------------------


def damaged(content: bytes, picks: Picks) -> bytes:
    """Damage a file: its signature or MAC then hardly ever fits."""
    return mutated(content, edits(picks, ANY_KIND, 3), picks.one_of(seeds.donors()))


def changed(content: bytes, picks: Picks) -> bytes:
    """Have a file say something else; most of what comes out is readable."""
    return mutated(content, edits(picks, MOSTLY_READABLE, 2), picks.one_of(seeds.donors()))


def resigned(seed: Seed, picks: Picks) -> bytes:
    """Change a certificate or a request and sign it anew: what it says is believed."""
    return signed(changed(seed.content, picks), seed.key)


def any_form_of(seed: Seed, picks: Picks) -> bytes:
    """Give a certificate changed and signed anew, damaged, or as it is; in this proportion."""
    kind = picks.below(8)
    if kind == 0:
        return seed.der
    return damaged(seed.der, picks) if kind == 1 else resigned(seed, picks)


def request_files(picks: Picks) -> bytes:
    """Choose a request that was damaged, or changed and signed anew."""
    seed = picks.one_of(seeds.requests())
    return damaged(seed.der, picks) if picks.below(3) == 0 else resigned(seed, picks)


def ocsp_request(picks: Picks) -> bytes:
    """Damage a question."""
    content = seeds.ocsp_request()
    return damaged(content, picks) if picks.below(3) == 0 else changed(content, picks)


# --- requests that are well-formed -----------------------------------------------------------------------------------

_SET, _UTF8, _ATTRIBUTES = 0x31, 0x0C, 0xA0
_MAIL, _DNS_NAME, _URI = 0x81, 0x82, 0x86


def asking_request(picks: Picks, text: str) -> Request:
    """Write a request whose signature fits, for names, usages and keys that a device may have, or may not."""
    key, known = picks.one_of(_keys())
    names = picks.mostly((NAME,), (NAME.upper(),), (), (NAME, NAME), (text,), (text,))
    extensions, allowed = _asked_extensions(picks)
    owner, owner_only = picks.mostly(((), True), (_OWNERS, True), (_STRANGERS, False))
    attributes = [_requested(extensions)] if extensions else []
    # Two attributes, the second one Microsoft's: whoever reads one of them does not see the other.
    twice = picks.mostly((), (_EXTENSION_REQUEST,), (_MICROSOFT_REQUEST,))
    attributes += [_requested([_CA_WISH], kind) for kind in twice]
    allowed &= owner_only and len(attributes) <= 1 and not twice
    content = der.sequence(
        der.integer(0),
        der.sequence(*owner, *map(_common_name, names)),
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        der.tagged(_ATTRIBUTES, *sorted(attributes)),
    )
    own_name = len(names) == 1 and same_registration_id(names[0], NAME)
    return Request(signed(content, key), allowed=known and own_name and allowed)


asking_requests: st.SearchStrategy[Request] = st.builds(asking_request, any_picks, any_text)


@cache
def _keys() -> Sequence[tuple[Any, bool]]:
    """Give keys, and whether DPS takes them; those that it takes more often."""
    good = [(seeds.fixed_key(algorithm), True) for algorithm in seeds.ALGORITHMS]
    return [*good * 6, *((key, False) for key in seeds.refused_keys())]


_NAME_OCTETS = 5000
_EXTENSION_REQUEST, _MICROSOFT_REQUEST = "1.2.840.113549.1.9.14", "1.3.6.1.4.1.311.2.1.14"
_CA_WISH = der.extension("2.5.29.19", der.sequence(der.TRUE))


def _common_name(text: str) -> bytes:
    return _name_part("2.5.4.3", text.encode(errors="replace")[:_NAME_OCTETS])


def _name_part(kind: str, text: bytes) -> bytes:
    return der.tagged(_SET, der.sequence(der.object_identifier(kind), der.tagged(_UTF8, text)))


_OWNERS = (_name_part("2.5.4.6", b"DE"), _name_part("2.5.4.10", b"Plant"), _name_part("2.5.4.11", b"Line"))
_STRANGERS = (_name_part("2.5.4.10", b"Plant"), _name_part("1.2.840.113549.1.9.1", b"a@b.example"))


def _requested(extensions: Sequence[bytes], kind: str = _EXTENSION_REQUEST) -> bytes:
    return der.sequence(der.object_identifier(kind), der.tagged(_SET, der.sequence(*extensions)))


def _asked_extensions(picks: Picks) -> tuple[list[bytes], bool]:
    """Choose some, and tell whether a device may ask for all of them."""
    written, allowed = [], True
    if picks.flip():
        is_ca = picks.below(10) == 0
        length = der.integer(0) if is_ca and picks.flip() else b""
        written.append(der.extension("2.5.29.19", der.sequence(der.TRUE if is_ca else b"", length)))
        allowed &= not is_ca
    if picks.flip():
        others: tuple[str, ...] = picks.mostly((), ("bank.example",), (NAME, "x"))
        tag = picks.one_of((_DNS_NAME, _MAIL, _URI))
        names = [der.tagged(tag, name.encode()) for name in (NAME, *others)]
        written.append(der.extension("2.5.29.17", der.sequence(*names)))
        allowed &= not others
    if picks.flip():
        # digitalSignature alone, and with keyEncipherment, keyCertSign, cRLSign: bits from the left.
        unused, bits = picks.mostly((7, 0x80), (5, 0xA0), (2, 0x84), (1, 0x82))
        written.append(der.extension("2.5.29.15", bytes((3, 2, unused, bits)), critical=True))
        allowed &= not bits & 0x06
    if picks.below(4):
        written.append(der.extension("1.2.3.4", der.integer(picks.below(1 << 16)), critical=picks.flip()))
    return written, allowed


# --- an owner's CA, as PFX and PEM -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Parts:
    """An owner's CA: its key, encrypted or not, and certificates."""

    key: bytes
    encrypted: bool
    certificates: tuple[bytes, ...]

    def to_pfx(self) -> bytes:
        return pfx_of(self.to_safe())

    def to_safe(self) -> bytes:
        return safe_of(self.key, self.certificates, encrypted=self.encrypted)

    def to_pem(self) -> bytes:
        label = "ENCRYPTED PRIVATE KEY" if self.encrypted else "PRIVATE KEY"
        return armoured(self.key, label) + self.to_answer()

    def to_answer(self) -> bytes:
        return b"".join(armoured(each, "CERTIFICATE") for each in self.certificates)


@cache
def whole_authority(*, encrypted: bool) -> Parts:
    """Give the owner's CA undamaged."""
    key = seeds.pkcs8(seeds.owned().key)
    return Parts(shrouded(key) if encrypted else key, encrypted, tuple(seed.der for seed in seeds.owned_chain()))


def authority_parts(picks: Picks) -> Parts:
    """Damage one part of the owner's CA, put something beside it, or change the order."""
    whole = whole_authority(encrypted=picks.flip())
    own, root = seeds.owned_chain()
    which = picks.below(8)
    key = changed(whole.key, picks) if which == 0 else whole.key
    certificates = [
        any_form_of(own, picks) if 1 <= which <= 5 else own.der,
        any_form_of(root, picks) if which > 5 else root.der,
        *picks.mostly((), (seeds.chain()[1].der,), (own.der,), seeds.donors()[:3]),
    ]
    turn = picks.mostly(0, 1, 2)
    return Parts(key, whole.encrypted, (*certificates[turn:], *certificates[:turn]))


def pfx_file(picks: Picks) -> bytes:
    """Choose a PFX of damaged parts, with damage inside of the MAC, or anywhere."""
    kind = picks.below(4)
    if kind < 2:
        return authority_parts(picks).to_pfx()
    whole = whole_authority(encrypted=picks.flip())
    return pfx_of(changed(whole.to_safe(), picks)) if kind == 2 else damaged(whole.to_pfx(), picks)


def pem_file(picks: Picks) -> bytes:
    """Choose PEM of damaged parts, or with damage to its text."""
    if picks.below(4):
        return authority_parts(picks).to_pem()
    return damaged(whole_authority(encrypted=picks.flip()).to_pem(), picks)


def answer_file(picks: Picks) -> bytes:
    """Choose PEM that answers the owner's request: certificates alone."""
    return authority_parts(picks).to_answer()


# --- chains ----------------------------------------------------------------------------------------------------------


def damaged_chain(picks: Picks) -> Sent:
    """Damage a certificate of the device's chain: in it, in the group, or among the verified CAs."""
    good = [seed.der for seed in seeds.chain()]
    position = picks.below(4)
    damage = any_form_of(seeds.chain()[position], picks)
    chain = [*good]
    chain[position] = damage
    sent = tuple(chain[: 3 + picks.below(2)])
    kept = picks.below(8)
    if kept == 0:
        return Sent(tuple(good[:3]), (damage,), (good[3],))
    if kept == 1:
        return Sent(tuple(good[:3]), (good[1],), (damage,))
    # The owner has uploaded the same damaged one, or has the right ones.
    return Sent(sent, (chain[1],), (chain[3],)) if kept < 5 or position == 3 else Sent(sent, (good[1],), (good[3],))


def issuer_chain(picks: Picks) -> tuple[bytes, ...]:
    """Damage one certificate of the line's chain up to the root."""
    chain = [seed.der for seed in seeds.chain()[1:]]
    position = picks.below(3)
    chain[position] = any_form_of(seeds.chain()[1 + position], picks)
    return tuple(chain)


def built_chain(picks: Picks) -> Sent:
    """Build a chain of up to three CAs, each signed by the one above, in which now and then something is wrong."""
    labels = ["root", *("factory", "line")[: picks.below(3)], NAME]
    made = [_built(picks, label, above) for above, label in pairwise(["root", *labels])]
    made.reverse()
    sent = made if picks.flip() else made[:-1]
    sent = picks.mostly(sent, made[::-1], [made[0], *made], made[:1], made[1:], [*made, *made[1:]])
    group = picks.mostly(made[1:2], made[-1:], made[:1], [], [seeds.chain()[1].der])
    verified = picks.mostly(made[-1:], made[1:2], [], [seeds.chain()[3].der], made)
    return Sent(tuple(sent), tuple(group), tuple(verified))


def _built(picks: Picks, label: str, above: str) -> bytes:
    """Write and sign one certificate; about half of all are right."""
    fault = picks.below(12)
    own = seeds.fixed_key(KeyAlgorithm.EC_P256, label).public_key()
    signer = picks.one_of(("stranger", label)) if fault == 0 else above
    begins = NOW + timedelta(days=picks.one_of((1, 2, 900)) if fault == 1 else -picks.below(900))
    ends = NOW + timedelta(days=picks.one_of((1, 0, -1)) if fault == 2 else 1 + picks.below(900))
    content = der.sequence(
        der.explicit(0, der.integer(2)),
        der.integer(picks.one_of((0, 1 << 159, 1)) if fault == 3 else 1 << 150 | picks.below(1 << 16)),
        der.sequence(der.object_identifier("1.2.840.10045.4.3.2")),
        der.sequence(_common_name(picks.one_of((NAME, "", "other")) if fault == 4 else above)),
        der.sequence(der.time(begins), der.time(ends)),
        der.sequence(_common_name(picks.one_of(("root", above, "*")) if fault == 5 else label)),
        own.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        der.explicit(3, der.sequence(*_built_extensions(picks, label, above, wrong=fault == 6))),
    )
    return signed(content, seeds.fixed_key(KeyAlgorithm.EC_P256, signer))


_LEAF, _ANY_DEPTH, _NOTHING = der.sequence(), der.sequence(der.TRUE), der.sequence()
_DEPTHS = [der.sequence(der.TRUE, der.integer(depth)) for depth in (0, 1, 2)]
_SIGNS, _SIGNS_CERTIFICATES = b"\3\2\7\x80", b"\3\2\1\6"
_CLIENT, _SERVER, _ANY_PURPOSE = (
    der.sequence(der.object_identifier(dotted)) for dotted in ("1.3.6.1.5.5.7.3.2", "1.3.6.1.5.5.7.3.1", "2.5.29.37.0")
)


def _built_extensions(picks: Picks, label: str, above: str, *, wrong: bool) -> list[bytes]:
    is_leaf = label == NAME
    values: dict[str, bytes | None] = {
        "2.5.29.19": picks.one_of((_LEAF, None)) if is_leaf else picks.one_of((_ANY_DEPTH, _DEPTHS[2], _DEPTHS[1])),
        "2.5.29.15": picks.one_of((_SIGNS if is_leaf else _SIGNS_CERTIFICATES, None)),
        "2.5.29.37": picks.one_of((_CLIENT, _ANY_PURPOSE, None)),
        "2.5.29.35": der.sequence(der.tagged(0x80, above.encode())),
        "2.5.29.14": der.octet_string(label.encode()),
    }
    if wrong:
        values |= picks.one_of(
            (
                {"2.5.29.19": picks.one_of((_LEAF, _ANY_DEPTH, _DEPTHS[0], None))},
                {"2.5.29.15": picks.one_of((_SIGNS, _SIGNS_CERTIFICATES, b"\3\1\0"))},
                {"2.5.29.37": picks.one_of((_SERVER, _NOTHING))},
                {"2.5.29.35": der.sequence(der.tagged(0x80, picks.one_of((b"another", b""))))},
                {"1.2.3.4": b"\5\0"},
            )
        )
    return [der.extension(oid, value, critical=picks.flip()) for oid, value in values.items() if value is not None]
