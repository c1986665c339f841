"""Requests about certificates and their authorities."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar, LiteralString, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_core import PydanticCustomError

from shared.contracts.base import Contract, Flag, with_example
from shared.contracts.ids import (
    AuthorityName,
    EnrollmentGroupId,
    RegistrationId,
    RequestId,
    SigningRequest,
    checked_authority_name,
    checked_registration_id,
)
from shared.contracts.messages import MESSAGE_LIMIT
from shared.domain.words import CertificateKind, KeyCustody
from shared.rules.key_algorithms import KeyAlgorithm

if TYPE_CHECKING:
    from collections.abc import Iterator


class CertificateRequest(Contract):
    """A request for one certificate (queue ``certificate-requests``).

    ``name`` is the CA's name, or the registration id of a device; a verification certificate is named by its code.
    ``externallySigned`` asks for an issuing CA whose certificate is signed elsewhere, by an offline or corporate root:
    its signing request can be fetched, and the answer installed. ``rootThumbprint`` pins it to its root: a chain that
    ends elsewhere is not installed. It is the root's SHA-256 in hexadecimal, with or without colons.
    """

    model_config = with_example(
        {"requestId": "ca-1", "kind": "intermediate", "name": "factory-1", "issuer": "dpsCa", "pathLength": 1}
    )

    added_later: ClassVar[frozenset[str]] = frozenset({"rootThumbprint"})

    request_id: RequestId
    kind: CertificateKind
    name: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    issuer: AuthorityName | None = None
    csr: SigningRequest | None = None
    key_algorithm: KeyAlgorithm | None = None
    validity_days: Annotated[int, Field(strict=True, ge=1, le=7305)] | None = None
    path_length: Annotated[int, Field(strict=True, ge=0, le=5)] | None = None
    custody: KeyCustody | None = None
    externally_signed: Flag = False
    root_thumbprint: Annotated[str, StringConstraints(max_length=100)] | None = None
    verification_code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,64}$")] | None = None

    @field_validator("root_thumbprint")
    @classmethod
    def _plain_thumbprint(cls, value: str | None) -> str | None:
        plain = value.replace(":", "").upper() if value is not None else None
        if plain is not None and not _SHA256.fullmatch(plain):
            raise PydanticCustomError(
                "thumbprint", "is not a SHA-256 fingerprint, which has 64 hexadecimal digits, with or without colons"
            )
        return plain

    @model_validator(mode="after")
    def _fields_of_kind(self) -> Self:
        if self.kind in _CA_KINDS:
            checked_authority_name(self.name)
        if self.kind is CertificateKind.DEVICE:
            checked_registration_id(self.name)
        for broken, code, rule in self._rules_of_kind():
            if broken:
                raise PydanticCustomError(code, rule)
        return self

    def _rules_of_kind(self) -> Iterator[tuple[bool, LiteralString, LiteralString]]:
        """Give each rule: whether it is broken, a word for it, and its text."""
        kind, external = self.kind, self.externally_signed
        intermediate, verification = kind is CertificateKind.INTERMEDIATE, kind is CertificateKind.VERIFICATION
        yield (
            kind is CertificateKind.ROOT and self.issuer is not None,
            "root_issuer",
            "a root signs itself; leave issuer out, or ask for 'intermediate'",
        )
        yield (
            kind is CertificateKind.DEVICE and self.issuer is None,
            "device_issuer",
            "a device certificate needs issuer, the name of its issuing CA",
        )
        yield (
            verification and (self.issuer is None or self.verification_code is None),
            "verification",
            "a verification certificate needs issuer (the CA to be verified) and verificationCode",
        )
        yield (
            not verification and self.verification_code is not None,
            "code",
            "verificationCode belongs to kind 'verification' only",
        )
        yield (
            kind is not CertificateKind.DEVICE and self.csr is not None,
            "csr",
            "csr belongs to kind 'device' only; a CA's key is made in the vault",
        )
        yield (
            self.custody is not None and kind not in _CA_KINDS,
            "custody",
            "custody belongs to the kinds 'root' and 'intermediate' only",
        )
        yield (
            self.custody is KeyCustody.WRAPPED and not intermediate,
            "custody",
            "custody 'wrapped' is for issuing CAs; a root's key stays in the vault",
        )
        yield (
            external and (not intermediate or self.issuer is not None),
            "externally_signed",
            "externallySigned is for kind 'intermediate' without issuer: another CA signs it",
        )
        yield (
            self.root_thumbprint is not None and not external,
            "root_thumbprint",
            "rootThumbprint belongs to externallySigned; leave it out for what is signed here",
        )
        yield (
            external and self.validity_days is not None,
            "externally_signed",
            "with externallySigned the CA that signs decides the life; leave validityDays out",
        )


_SHA256 = re.compile("[0-9A-F]{64}")
_CA_KINDS = frozenset({CertificateKind.ROOT, CertificateKind.INTERMEDIATE})


class AuthorityImport(Contract):
    """Body of ``POST /certificate-authorities/{name}/import``: an owner's root or issuing CA, with its key.

    Either ``pfx`` (PKCS#12 in base64) or ``pem`` (key and certificates), with the chain up to the root. The key goes
    into the vault, or is wrapped by a key of it, and is kept nowhere else.
    """

    model_config = with_example({"pfx": "MIIK...", "password": "secret"})

    pfx: SecretStr | None = None
    pem: SecretStr | None = None
    password: SecretStr | None = None
    custody: KeyCustody | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.pfx is None) == (self.pem is None):
            raise PydanticCustomError("one_form", "give either pfx or pem, and not both")
        return self


class AuthorityCertificate(Contract):
    """Body of ``PUT /certificate-authorities/{name}/certificate``: the answer to its signing request.

    ``certificate`` is PEM: the CA's certificate, and the chain above it up to and including the root.
    """

    model_config = with_example({"certificate": "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n"})

    certificate: Annotated[str, StringConstraints(min_length=1, max_length=65_536)]


class EnrollmentCheck(Contract):
    """Body of ``POST /enrollment-groups/{id}/check``: a device as it would come to DPS.

    ``chain`` is what it would send, in PEM: the leaf first, then each one's issuer.
    """

    model_config = with_example(
        {"registrationId": "press-1", "chain": "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n"}
    )

    registration_id: RegistrationId
    chain: Annotated[str, StringConstraints(min_length=1, max_length=MESSAGE_LIMIT)]


class CertificateCheck(EnrollmentCheck):
    """Body of ``POST /certificates/check``. ``enrollmentGroup`` is the one meant; without it, any that DPS finds."""

    model_config = with_example(
        {
            "registrationId": "press-1",
            "enrollmentGroup": "line-1",
            "chain": "-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n",
        }
    )

    enrollment_group: EnrollmentGroupId | None = None


class VerificationCode(Contract):
    """Body of ``POST /certificate-authorities/{name}/verification-certificates``."""

    model_config = with_example({"verificationCode": "75E51F2C2B0D3A9C"})

    verification_code: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]{1,64}$")]
