"""CAs and devices whose certificates OpenSSL reads and cryptography does not, and what the emulated DPS makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from emulator.tests.odd_parties import FORMS, Change, owned, pem_of, signed_anew
from tests.contract.chains import INVALID, NOT_FOUND, Party, Row, ca, enrolled, holding, identifier_of, leaf


@dataclass(frozen=True)
class OddParty(Party):
    """Its ``certificate`` is what it was made of."""

    encoded: bytes = b""

    @property
    def pem(self) -> str:
        return pem_of(self.encoded)


def odd(party: Party, signer: Party, change: Change) -> OddParty:
    """Rewrite a certificate and sign it anew."""
    return OddParty(party.certificate, party.key, signed_anew(party.certificate, signer.key, [change]))


def _pki(form: str) -> tuple[OddParty, OddParty, OddParty]:
    """Make a root, a CA below it, and another root of the same name."""
    _, change = FORMS[form]
    root, namesake = (ca(owned(form, f"{form} root"), None) for _ in range(2))
    line = ca(owned(form, f"{form} line"), root, identifier_of(root), length=0)
    return odd(root, root, change), odd(line, root, change), odd(namesake, namesake, change)


PKI = {form: _pki(form) for form in FORMS}
ODD_VERIFIED = {f"odd-{form}": root for form, (root, _, _) in PKI.items()}
ODD_GROUPS = {f"odd-{form}": holding(line) for form, (_, line, _) in PKI.items()}


def _leaf(form: str, device: str, *, signer: Party | None = None) -> OddParty:
    _, line, _ = PKI[form]
    return odd(leaf(device, line), signer or line, FORMS[form][1])


def _rows(form: str) -> list[Row]:
    root, line, namesake = PKI[form]
    return [
        Row(f"{form}-whole", _leaf(form, f"{form}-whole"), (line,), f"odd-{form}"),
        Row(f"{form}-with-root", _leaf(form, f"{form}-with-root"), (line, root), f"odd-{form}"),
        Row(f"{form}-swapped", _leaf(form, f"{form}-swapped"), (root, line), f"odd-{form}", ("misordered",)),
        Row(f"{form}-bare", _leaf(form, f"{form}-bare"), (), NOT_FOUND),
        Row(f"{form}-forged", _leaf(form, f"{form}-forged", signer=namesake), (line,), NOT_FOUND),
        Row(f"{form}-other-name", _leaf(form, "another"), (line,), INVALID),
    ]


_OWN = leaf("under_score", None)
_UNDER_SCORE = odd(_OWN, _OWN, (b"\x0c\x0bunder_", b"\x13\x0bunder_"))
ODD_ROWS = [
    *(row for form in FORMS for row in _rows(form)),
    Row("under_score", _UNDER_SCORE, (), "itself", enrollment=enrolled(_UNDER_SCORE)),
]
