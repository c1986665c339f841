"""Finds the CAs of ours in what outlives a ledger: the vault has their keys, others have their certificates.

Certificates come from the DPS, which shows those that are verified, and sometimes those of its entries; from bundles;
and from files. A CA is ours if the vault has the key of its certificate, and its chain goes up to a root.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509

from shared.domain.attestations import certificate_of, held_certificates
from shared.pki import names
from shared.pki.certificates import issued_by
from shared.pki.issuers import Issuer, IssuerError
from shared.pki.list_checks import ListError, is_signed, read_list
from shared.pki.public_keys import fingerprint
from shared.pki.readable import load_certificates
from shared.workflows.authorities.keys import WRAPPING_KEY
from shared.workflows.devices.bundles import BUNDLES, Bundle
from shared.workflows.status.revocation_lists import CRLS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from shared.ports.blobs import Blobs
    from shared.ports.ca_certificates import DpsCaCertificates
    from shared.ports.provisioning import ProvisioningService
    from shared.ports.vault import VaultKeys
    from shared.workflows.authorities.keys import AuthorityKeys


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """What whoever repairs brings along: what the services do not have.

    Attributes:
        certificates: of CAs, such as a root of others, and of devices.
        lists: the last CRLs, in DER.
        lists_are_lost: whether CAs are taken over although their last list is nowhere.
    """

    certificates: tuple[x509.Certificate, ...] = ()
    lists: tuple[bytes, ...] = ()
    lists_are_lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAuthority:
    """A CA of ours, as vault and DPS have it.

    Attributes:
        name: of its key in the vault, and so its own.
        certificate: that DPS knows it by.
        further: other certificates of the same key.
        crl: its last list; ``None`` if that is nowhere.
    """

    name: str
    key_id: str
    certificate: x509.Certificate
    further: tuple[x509.Certificate, ...]
    chain: tuple[x509.Certificate, ...]
    issuer: Issuer
    crl: bytes | None = None


@dataclass(slots=True, kw_only=True)
class FoundAuthorities:
    """What there is of CAs and groups.

    Attributes:
        resource: the DPS as an Azure resource; ``None`` where the app has no access to it.
        is_of_ca: tells of a key of the vault, by its name, whether it is a CA's.
        places: names under which DPS has verified certificates, by their SHA-1 thumbprint.
        entries: of the groups in DPS.
        key_names: of the keys in the vault that CAs may have.
    """

    keys: AuthorityKeys
    vault: VaultKeys
    blobs: Blobs
    provisioning: ProvisioningService
    resource: DpsCaCertificates | None
    brought: Brought
    is_of_ca: Callable[[str], bool]
    places: dict[str, str] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    key_names: list[str] = field(default_factory=list)

    @property
    def takes_proofs(self) -> bool:
        """Whether the app can prove to the DPS that it has a CA's key."""
        return self.resource is not None

    async def find(self) -> tuple[list[FoundAuthority], list[str]]:
        """Find the CAs whose key is in the vault, those above others first, and say what is in the way of the rest."""
        return await self._match(await self._certificates())

    async def _certificates(self) -> list[x509.Certificate]:
        """Give every certificate of a CA that can be had, each once."""
        verified = await self.resource.verified() if self.resource is not None else []
        self.places = {each.thumbprint: each.name for each in verified}
        self.entries = [each async for each in self.provisioning.list_groups()]
        of_groups = [each.certificate for entry in self.entries for each in held_certificates(entry).values()]
        found = [*map(certificate_of, (each.certificate for each in verified)), *of_groups, *self.brought.certificates]
        pool = dict.fromkeys(each for each in found if each is not None)
        return list(pool | dict.fromkeys(await self._of_bundles(set(map(names.sha256_thumbprint, pool)))))

    async def _of_bundles(self, known: Collection[str]) -> list[x509.Certificate]:
        """Read the chains of bundles, until every CA of a group is among them: DPS may show of these no more than info.

        Args:
            known: SHA-256 thumbprints of what is known without them.
        """
        missing = {each for entry in self.entries for each in held_certificates(entry)} - set(known)
        found = dict[str, x509.Certificate]()
        for name in await self.blobs.names(BUNDLES, "") if missing else []:
            stored = await self.blobs.get(BUNDLES, name)
            bundle = Bundle.found(stored.content) if stored else None
            if bundle is not None:
                chain = load_certificates(bundle.pem)[1:]
                found |= {names.sha256_thumbprint(each): each for each in chain}
            if missing <= found.keys():
                break
        return list(found.values())

    async def _match(self, pool: Sequence[x509.Certificate]) -> tuple[list[FoundAuthority], list[str]]:
        found, problems = list[FoundAuthority](), list[str]()
        self.key_names = [each for each in await self.vault.own_names() if self.is_of_ca(each)]
        for name in self.key_names:
            versions = {fingerprint(key): key_id for key_id, key in await self.vault.versions(name)}
            own = [each for each in pool if fingerprint(each.public_key()) in versions]  # type: ignore[arg-type]
            if name.lower() == WRAPPING_KEY:
                problems.append(
                    "not known: the keys of CAs in custody 'wrapped'. They were in the ledger, and are lost"
                )
            elif not own:
                problems.append(
                    f"not known: the certificate of the CA whose key is {name!r}. Give it in a file, or ask for "
                    "the CA again under this name"
                )
            else:
                try:
                    found.append(await self._found(name, own, versions, pool))
                except IssuerError as error:
                    problems.append(f"not known: the chain of the CA {name!r}: {error}. Give what is missing in a file")
        return sorted(found, key=lambda each: len(each.chain)), problems

    async def _found(
        self,
        name: str,
        own: Sequence[x509.Certificate],
        versions: Mapping[str, str],
        pool: Sequence[x509.Certificate],
    ) -> FoundAuthority:
        in_dps = {each for entry in self.entries for each in held_certificates(entry)}

        def rank(certificate: x509.Certificate) -> tuple[bool, Any]:
            known = names.sha256_thumbprint(certificate) in in_dps or names.thumbprint(certificate) in self.places
            return known, certificate.not_valid_after_utc

        certificate, *further = sorted(own, key=rank, reverse=True)
        key = certificate.public_key()
        key_id = versions[fingerprint(key)]  # type: ignore[arg-type]
        same = tuple(each for each in further if each.public_key() == key)
        chain = tuple(_chain(certificate, pool))
        issuer = Issuer(
            certificate, await self.keys.opened(key_id), chain
        )  # refuses another key, and a chain with a gap
        return FoundAuthority(
            name=name,
            key_id=key_id,
            certificate=certificate,
            further=same,
            chain=chain,
            issuer=issuer,
            crl=await self._last_list(name, issuer),
        )

    async def _last_list(self, name: str, issuer: Issuer) -> bytes | None:
        stored = await self.blobs.get(CRLS, f"{name}.crl")
        offered = [*self.brought.lists, *([stored.content] if stored else [])]
        numbered = [(number, each) for each in offered if (number := number_of(each, issuer)) is not None]
        return max(numbered)[1] if numbered else None


def _chain(certificate: x509.Certificate, pool: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
    """Give a certificate, and those above it, as far as they are there."""
    seen = set[x509.Certificate]()
    present: x509.Certificate | None = certificate
    while present is not None and present not in seen:
        yield present
        seen.add(present)
        below = present
        if issued_by(below, below):
            return
        present = next((each for each in pool if each not in seen and issued_by(below, each)), None)


def number_of(crl: bytes, issuer: Issuer) -> int | None:
    """Give the number of a list; ``None`` if the CA has not signed it."""
    try:
        number = read_list(crl, issuer).number
    except ListError:
        return None
    return number if is_signed(crl, issuer) else None
