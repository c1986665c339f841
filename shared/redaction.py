"""Secrets in what others send: the one place that finds them, by their look or by their field's name.

Each is replaced by a mark that says what stood there. Everything else stays as it was. What is kept (rejections,
reasons), said (answers, events) or logged passes through here; a private key is refused before a queue takes it.

Found by their look: private keys in PEM under every label, encrypted or not; PKCS#8 (RFC 5958), PKCS#1 (RFC 8017), SEC1
(RFC 5915) and PKCS#12 (RFC 7292) as DER, base64 or hexadecimal; base64 of PEM; private JWKs (RFC 7517); shared access
signatures and keys of Azure; bearer tokens; secrets of webhooks. Found by name: passwords, secrets, keys and tokens.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


class Secret(StrEnum):
    """What can stand in a text and is not kept."""

    PRIVATE_KEY = "a private key"
    PASSWORD = "a password"  # noqa: S105 - a word, and no password
    KEY = "a secret key"
    SIGNATURE = "a shared access signature"
    TOKEN = "a token"  # noqa: S105 - as above

    @property
    def mark(self) -> str:
        """What stands in its place."""
        return f"[{self.value} was here, and is not kept]"


MARK = re.compile(r"\[(?:" + "|".join(Secret) + r") was here, and is not kept\]")
_LEVELS = 64
_HEAD = 32
"""Characters of base64 that are decoded to see what begins there: 24 octets."""

_SHORTEST = 24
"""Characters below which no text holds a key: "BEGIN PRIVATE KEY" and some base64."""

_SHORTEST_JWK = len('{"kty":0,"d":""}')
"""Characters below which no JSON text holds a private JWK."""

_PEM = re.compile(
    r"-{0,5} ?BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-{0,5}(?=(?:\s|\\{1,8}[rn])*[A-Za-z0-9+/])"
    r"[^\"']*?(?:-{0,5} ?END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-{0,5}|(?=\\{0,8}[\"'])|\Z)"
)
_PUTTY = re.compile(r"PuTTY-User-Key-File-\d[^\"']*")
_ENCODED = re.compile(
    r"M(?=(?:[A-H]|I[A-P])[A-Za-z0-9+/_\-]{30})"  # a SEQUENCE in base64, by the first bits of its length
    r"|LS0tLS1CRUdJTi(?=[A-Za-z0-9+/_\-])"  # "-----BEGIN"
    r"|b3BlbnNzaC1rZXktdjEA"  # OpenSSH's private key format
    r"|/u3\+7Q(?=[A-Za-z0-9+/])"  # a Java key store
)
_RUN = re.compile(r"(?:[A-Za-z0-9+/_=\-]|\s|\\{1,8}[rn])*")
_HEXADECIMAL = re.compile(r"(?<![0-9A-Fa-f])30(?:(?:[\s:]|\\{1,8}[rn])*[0-9A-Fa-f]{2}){23,}")
"""A SEQUENCE of at least 24 octets, which is what is looked at."""

_STANDARD = str.maketrans("-_", "+/")
_SYMBOL = re.compile(r"\\{1,8}[rn]|\s|(.)", re.DOTALL)
_KEY_IDENTIFIERS = tuple(
    bytes.fromhex(each)
    for each in (
        "06092a864886f70d0101",  # RSA (RFC 8017)
        "06072a8648ce3d0201",  # EC (RFC 5480)
        "06072a8648ce380401",  # DSA
        "06092a864886f70d0103",  # Diffie-Hellman
        "06032b65",  # Ed25519, X25519 and their kin (RFC 8410)
        "0609608648016503",  # ML-DSA and ML-KEM (RFC 9881)
    )
)
_PROTECTED = tuple(bytes.fromhex(each) for each in ("06092a864886f70d0105", "060a2a864886f70d010c01"))
_CONTENT = bytes.fromhex("06092a864886f70d0107")  # PKCS#7's content types, which a PFX begins with

_NAME_ENDS = {
    "password": Secret.PASSWORD,
    "passwd": Secret.PASSWORD,
    "passphrase": Secret.PASSWORD,
    "passcode": Secret.PASSWORD,
    "pwd": Secret.PASSWORD,
    "secret": Secret.PASSWORD,
    "privatekey": Secret.PRIVATE_KEY,
    "accesskey": Secret.KEY,
    "accountkey": Secret.KEY,
    "apikey": Secret.KEY,
    "functionkey": Secret.KEY,
    "hostkey": Secret.KEY,
    "masterkey": Secret.KEY,
    "presharedkey": Secret.KEY,
    "primarykey": Secret.KEY,
    "secondarykey": Secret.KEY,
    "secretkey": Secret.KEY,
    "sharedkey": Secret.KEY,
    "signingkey": Secret.KEY,
    "symmetrickey": Secret.KEY,
    "connectionstring": Secret.KEY,
    "token": Secret.TOKEN,
}
_NAMES = {
    "key": Secret.KEY,
    "keys": Secret.KEY,
    "pass": Secret.PASSWORD,
    "psk": Secret.KEY,
    "pfx": Secret.PRIVATE_KEY,
    "pkcs12": Secret.PRIVATE_KEY,
    "sas": Secret.SIGNATURE,
    "sig": Secret.SIGNATURE,
    "authorization": Secret.TOKEN,
}
_JWK_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""RFC 7518 section 6: what a JWK has beyond the public key."""

_BASE64URL = re.compile(r"[\w\-]{20,}", re.ASCII)
"""A part of a key: the shortest, of P-256 and Ed25519, has 43 characters."""

_QUOTED = re.compile(r"(?P<before>\\{0,8}[\"'](?P<name>[A-Za-z][\w.\-]*)\\{0,8}[\"']\s*:\s*(?P<quote>\\{0,8}[\"']))"
                     r"(?P<value>(?:(?!(?P=quote))(?:[^\\]|\\.))*)", re.DOTALL)  # fmt: skip
_ASSIGNED = re.compile(
    r"(?P<before>(?<![\w\-])(?P<name>[A-Za-z][\w\-]{0,80})(?:=|%3D|>))(?P<value>[^\s;&<>,\"'\\]+)", re.IGNORECASE
)
_LOOKS: tuple[tuple[str, re.Pattern[str], Secret], ...] = (
    ("bearer", re.compile(r"(?P<before>\bBearer\s+)(?P<value>[A-Za-z0-9._~+/\-]{16,}=*)", re.IGNORECASE), Secret.TOKEN),
    ("basic", re.compile(r"(?P<before>\bBasic\s+)(?P<value>[A-Za-z0-9+/]{16,}=*)", re.IGNORECASE), Secret.PASSWORD),
    ("eyj", re.compile(r"(?P<before>(?<![\w\-]))(?P<value>eyJ[\w\-]{8,}\.[\w\-]{8,}\.[\w\-]*)"), Secret.TOKEN),
    ("code=", re.compile(r"(?P<before>[?&]code=)(?P<value>[^&\s\"'\[]+)"), Secret.KEY),
    ("whsec_", re.compile(r"(?P<before>\bwhsec_)(?P<value>[A-Za-z0-9+/=]+)"), Secret.KEY),
    ("://", re.compile(r"(?P<before>://[^/\s:@\"']*:)(?P<value>[^/\s@\"'\[]+)(?=@)"), Secret.PASSWORD),
)
"""Each with a part of it in lower case, without which there is none: to look for that is quicker."""


def without_secrets(text: str) -> str:
    """Give a text, or a JSON text, with a mark for each secret; one without any comes back as it is."""
    if text.lstrip("\ufeff \t\r\n")[:1] in {"{", "["}:
        with suppress(ValueError, RecursionError):
            given = json.loads(text.lstrip("\ufeff"), object_pairs_hook=_once)
            kept = _kept(given, None, _LEVELS)
            return text if kept == given else json.dumps(kept, ensure_ascii=False)
    return _without_looks(text)


def without_secrets_in(content: bytes) -> bytes:
    """Give octets with a mark for each secret; those without any come back as they are.

    What is not UTF-8 is looked through as UTF-16, if it has NULs, and otherwise octet by octet.
    """
    if _is_key(content[:_HEAD]) or content.startswith(b"\xfe\xed\xfe\xed"):
        return Secret.PRIVATE_KEY.mark.encode()
    for encoding in ("utf-16", "utf-16-le", "utf-16-be") if b"\0" in content else ("utf-8", "latin-1"):
        with suppress(UnicodeDecodeError):
            text = content.decode(encoding)
            kept = without_secrets(text)
            if kept != text:
                return kept.encode("utf-8" if encoding != "latin-1" else "latin-1", errors="replace")
            if not encoding.startswith("utf-16"):
                return content
    return content


def private_keys(value: Any, place: str = "") -> Iterator[str]:
    """Give the place of each private key in decoded JSON, as in ``devices[3].csr``."""
    waiting = [(place, value)]
    while waiting:
        at, each = waiting.pop()
        if isinstance(each, str):
            if has_private_key(each):
                yield at
        elif isinstance(each, dict):
            if _is_private_jwk(each):
                yield at
                continue
            waiting += [
                (f"{at}.{name}" if at else str(name), item) for name, item in reversed(each.items()) if _can_hold(item)
            ]
        elif isinstance(each, list):
            waiting += [
                (f"{at}[{index}]", each[index]) for index in reversed(range(len(each))) if _can_hold(each[index])
            ]


def _can_hold(value: Any) -> bool:
    """Tell whether a value is long enough for a private key, or has others in it: most of a long list is neither."""
    return len(value) >= _SHORTEST_JWK if isinstance(value, str) else isinstance(value, dict | list)


def has_private_key(text: str) -> bool:
    """Tell whether a private key stands in a text, in whatever form."""
    if text.lstrip()[:1] in {"{", "["}:
        with suppress(ValueError, RecursionError):
            return next(private_keys(json.loads(text)), None) is not None
    return _without_keys(text) != text


def is_marked(value: Any) -> bool:
    """Tell whether a secret was taken out of decoded JSON."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str) and MARK.search(each):
            return True
        waiting += [*each, *each.values()] if isinstance(each, dict) else each if isinstance(each, list) else ()
    return False


# --- decoded JSON ---


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with a name twice: of two values one would not be looked at."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError
    return found


def _kept(value: Any, named: Secret | None, levels: int) -> Any:
    """Give a decoded value without its secrets; ``named`` is what the name of its field says that it is."""
    if not levels:
        raise RecursionError
    if isinstance(value, dict):
        private = _JWK_PRIVATE if _is_private_jwk(value) else frozenset()
        return {
            _without_looks(name): _kept(
                item,
                Secret.PRIVATE_KEY if name in private else (named or _named(name)),
                levels - 1,
            )
            if name != "data_base64"
            else _kept_encoded(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_kept(item, named, levels - 1) for item in value]
    if named is not None and value not in {None, "", True, False}:
        return value if isinstance(value, str) and MARK.fullmatch(value) else named.mark
    return without_secrets(value) if isinstance(value, str) else value


def _kept_encoded(value: Any) -> Any:
    """Look into ``data_base64`` of a CloudEvent."""
    if isinstance(value, str):
        with suppress(ValueError):
            content = b64decode("".join(value.split()), validate=True)
            kept = without_secrets_in(content)
            return value if kept == content else b64encode(kept).decode()
    return value


def _is_private_jwk(value: dict[str, Any]) -> bool:
    private = [value[name] for name in _JWK_PRIVATE if isinstance(value.get(name), str | list)]
    if "kty" in value:
        return bool(private)
    # One that lost its kty; north, east and down are not key.
    public = "crv" in value or {"n", "e"} <= value.keys()
    return public and any(isinstance(each, str) and _BASE64URL.fullmatch(each) for each in private)


def _named(name: str) -> Secret | None:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    ends = (kind for end, kind in _NAME_ENDS.items() if plain.endswith(end))
    return _NAMES.get(plain) or next(ends, None)


# --- text ---


def _without_looks(text: str) -> str:
    text = _without_keys(text)
    small = text.lower()
    for part, pattern, kind in _LOOKS:
        if part in small:
            text = pattern.sub(rf"\g<before>{kind.mark}", text)
    if ":" in text:
        text = _QUOTED.sub(_without_value, text)
    if "=" in text or ">" in text or "%3d" in small:
        text = _ASSIGNED.sub(_without_value, text)
    return text


def _without_value(match: re.Match[str]) -> str:
    name, value = match["name"], match["value"]
    kind = _named(name)
    if kind is None and name in _JWK_PRIVATE and _BASE64URL.fullmatch(value):
        kind = Secret.PRIVATE_KEY
    # A mark has spaces, at which an assigned value ends.
    if kind is None or not value or value.startswith("[a"):
        return match[0]
    return match["before"] + kind.mark


def _without_keys(text: str) -> str:
    if len(text) < _SHORTEST:
        return text
    if "PRIVATE KEY" in text:
        text = _PEM.sub(Secret.PRIVATE_KEY.mark, text)
    if "PuTTY" in text:
        text = _PUTTY.sub(Secret.PRIVATE_KEY.mark, text)
    text = _HEXADECIMAL.sub(_without_hexadecimal, text)
    parts, end = [], 0
    for match in _ENCODED.finditer(text):
        if match.start() < end:
            continue
        size = _key_size(text, match.start())
        if size:
            parts += [text[end : match.start()], Secret.PRIVATE_KEY.mark]
            end = match.start() + size
    return "".join([*parts, text[end:]])


def _without_hexadecimal(match: re.Match[str]) -> str:
    digits = re.sub(r"\\{1,8}[rn]|[\s:]", "", match[0])[: 2 * _HEAD]
    return Secret.PRIVATE_KEY.mark if _is_key(bytes.fromhex(digits)) else match[0]


def _key_size(text: str, start: int) -> int:
    """Give the characters of the key in base64 that begins here, 0 if none does."""
    head = text[start : start + _HEAD].translate(_STANDARD)
    if head.startswith("LS0t"):
        begin = re.sub(r"\\{1,8}[rn]|\s|=", "", text[start : start + 2 * _HEAD])
        if b"PRIVATE KEY" not in b64decode(begin[: len(begin) // 4 * 4].translate(_STANDARD)):
            return 0
    octets = b64decode(head) if head.startswith("M") else b""
    if octets and not _is_key(octets):
        return 0
    run = _RUN.match(text, start)
    if run is None:
        return 0
    if not octets:
        return len(run[0].rstrip())
    length, content = _length(octets)
    wanted = -(-(length + content) // 3) * 4 if length else len(run[0])
    for match in _SYMBOL.finditer(run[0]):
        wanted -= match[1] is not None
        if not wanted:
            return match.end()
    return len(run[0].rstrip())


def _length(octets: bytes) -> tuple[int, int]:
    """Read length and place of what a tag begins; a length of 0 for one that BER leaves open."""
    first = octets[1] if len(octets) > 1 else 0
    if first < 0x80:  # noqa: PLR2004 - the short form ends here (X.690 section 8.1.3)
        return first, 2
    places = first & 0x7F
    return int.from_bytes(octets[2 : 2 + places], "big"), 2 + places


def _within(octets: bytes) -> bytes:
    """Give what a SEQUENCE holds, as far as it is there; nothing if it is not one."""
    return octets[_length(octets)[1] :] if octets[:1] == b"\x30" else b""


def _is_key(octets: bytes) -> bool:
    """Tell by its first octets whether DER is a private key, or a PFX, which has one."""
    inner = _within(octets)
    version, rest = inner[:3], inner[3:]
    if version in {b"\x02\x01\x00", b"\x02\x01\x01"} and _within(rest).startswith(_KEY_IDENTIFIERS):
        return True  # PKCS#8
    if version == b"\x02\x01\x00" and rest[:1] == b"\x02":
        return True  # PKCS#1, and OpenSSL's DSA
    if version == b"\x02\x01\x01" and rest[:1] == b"\x04":
        return True  # SEC1
    if version == b"\x02\x01\x03" and _within(rest).startswith(_CONTENT):
        return True  # PKCS#12
    return _within(inner).startswith(_PROTECTED)  # encrypted PKCS#8
