"""Decryption by RC2 in CBC mode (RFC 2268), with keys of less than 128 bits, which cryptography does not have.

Java before 16 and OpenSSL before 3 encrypt the certificates of PKCS#12 so, with 40 bits. Nothing is protected by it.
"""

from __future__ import annotations

_TABLE = bytes.fromhex(
    "d978f9c419ddb5ed28e9fd794aa0d89dc67e37832b76538e624c6488448bfba2179a59f587b34f1361456d8d09817d32bd8f40eb86b77b0b"
    "f09521225c6b4e8254d66593ce60b21c7356c014a78cf1dc1275ca1f3bbee4d1423dd430a33cb6266fbf0eda4669075727f21d9bbc944303"
    "f811c7f690ef3ee706c3d52fc8661ed708e8eade8052eef784aa72ac354d6a2a961ad2715a1549744b9fd05e0418a4ecc2e0416e0f51cbcc"
    "2491af50a1f47039997c3a8523b8b47afc02365b255597312d5dfa98e38a92ae05df2910676cbac9d300e6cfe19ea82c6316013f58e289a9"
    "0d38341bab33ffb0bb480c5fb9b1cd2ec5f3db47e5a59c770aa62068fe7fc1ad"
)
"""A permutation of the octets (section 2)."""

_SHIFTS = 1, 2, 3, 5
_BLOCK, _WORD = 8, 0xFFFF


def decrypt_rc2(ciphertext: bytes, key: bytes, vector: bytes) -> bytes:
    """Decrypt whole blocks of 8 octets, under a key all of whose bits are effective.

    Raises:
        ValueError: the last block is cut off.
    """
    if len(ciphertext) % _BLOCK:
        raise ValueError("the last block is cut off")
    words, before, opened = _expanded(key), vector, bytearray()
    for at in range(0, len(ciphertext), _BLOCK):
        block = ciphertext[at : at + _BLOCK]
        opened += bytes(one ^ other for one, other in zip(_decrypted(block, words), before, strict=True))
        before = block
    return bytes(opened)


def _expanded(key: bytes) -> list[int]:
    """Make 64 words of a key (section 2)."""
    octets = [*key, *bytes(128 - len(key))]
    for at in range(len(key), 128):
        octets[at] = _TABLE[(octets[at - 1] + octets[at - len(key)]) & 0xFF]
    octets[128 - len(key)] = _TABLE[octets[128 - len(key)]]
    for at in reversed(range(128 - len(key))):
        octets[at] = _TABLE[octets[at + 1] ^ octets[at + len(key)]]
    return [octets[at] | octets[at + 1] << 8 for at in range(0, 128, 2)]


def _decrypted(block: bytes, words: list[int]) -> bytes:
    """Undo 16 rounds of mixing, with a mashing after the fifth and the eleventh (section 4)."""
    r = [int.from_bytes(block[at : at + 2], "little") for at in range(0, _BLOCK, 2)]
    for number in reversed(range(16)):
        for i in reversed(range(4)):
            turned = (r[i] >> _SHIFTS[i] | r[i] << 16 - _SHIFTS[i]) & _WORD
            chosen = (r[i - 1] & r[i - 2]) + (~r[i - 1] & r[i - 3])
            r[i] = (turned - words[4 * number + i] - chosen) & _WORD
        if number in {5, 11}:
            for i in reversed(range(4)):
                r[i] = (r[i] - words[r[i - 1] & 63]) & _WORD
    return b"".join(each.to_bytes(2, "little") for each in r)
